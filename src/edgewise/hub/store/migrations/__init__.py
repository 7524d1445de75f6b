"""Schema versions, inside the package and run at start, so that nobody needs an ``alembic.ini``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from edgewise.hub.store.tables import metadata
from edgewise.wire import NotValid

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "alembic_version"
VERSIONS = sa.Table(VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))


def migrate(connection: sa.Connection, revision: str | None = None) -> None:
    """Bring the schema to this version, inside the caller's transaction.

    An empty database gets the tables as they are now, one of an older version the steps that it lacks; a test holds
    that both ways end at the same schema.

    Args:
        revision: an older one, for rows that were written out then.
    Raises:
        NotValid: the database was made by a newer edgewise.
    """
    names = sa.inspect(connection).get_table_names()
    if revision not in (None, newest()):
        upgrade(connection, revision)
    elif not names:
        make(connection)
    elif VERSIONS.name not in names or connection.scalar(sa.select(VERSIONS.c.version_num)) != newest():
        upgrade(connection)


def make(connection: sa.Connection) -> None:
    """All tables in an empty database, marked as of the newest version."""
    for statement in _statements(connection.dialect.name):
        connection.exec_driver_sql(statement)
    VERSIONS.create(connection)
    connection.execute(sa.insert(VERSIONS).values(version_num=newest()))


def upgrade(connection: sa.Connection, to: str | None = None) -> None:
    """Take the steps from the version found to the one named.

    Raises:
        NotValid: the version found is not known here.
    """
    from alembic import command
    from alembic.util.exc import CommandError

    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to or "head")
    except CommandError as error:
        raise NotValid(
            f"the hub's database was made by a newer edgewise ({error}); run that version, or restore a backup",
            code="database_version",
        ) from error


def newest() -> str:
    """The version that this code works with."""
    return known_revisions()[0]


@cache
def known_revisions() -> tuple[str, ...]:
    """All versions of the schema, newest first."""
    from alembic.script import ScriptDirectory

    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def revision_of(connection: sa.Connection) -> str | None:
    """The version of a database's schema; None where it has none."""
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def need_current(connection: sa.Connection) -> None:
    """Nothing where the schema is of this version; whoever only reads must not change it under a hub that runs.

    Raises:
        NotValid: it is of another version, or there is none.
    """
    found = revision_of(connection)
    if found != newest():
        raise NotValid(
            f"the hub's database has schema {found or 'none'}, this edgewise needs {newest()}; use the edgewise that "
            "serves this hub, or start the hub once with this one",
            code="database_version",
        )


def leave(_connection: sa.Connection) -> None:
    """Change nothing: the caller brings the schema with the rows."""


@cache
def _statements(dialect: str) -> tuple[str, ...]:
    """What makes the tables; put into words once a process, because that takes longer than the making."""
    engine = sa.create_mock_engine(f"{dialect}://", lambda *_: None)
    tables = metadata.sorted_tables
    elements: list[ExecutableDDLElement] = [
        *(CreateTable(table) for table in tables),
        *(CreateIndex(index) for table in tables for index in sorted(table.indexes, key=lambda index: str(index.name))),
    ]
    return tuple(str(element.compile(dialect=engine.dialect)) for element in elements)


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config
