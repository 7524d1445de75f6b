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

VERSIONS = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))


def migrate(connection: sa.Connection) -> None:
    """Bring the schema to this version, inside the caller's transaction.

    An empty database gets the tables as they are now, one of an older version the steps that it lacks; a test holds
    that both ways end at the same schema.

    Raises:
        NotValid: the database was made by a newer edgewise.
    """
    names = sa.inspect(connection).get_table_names()
    if not names:
        make(connection)
    elif VERSIONS.name not in names or connection.scalar(sa.select(VERSIONS.c.version_num)) != newest():
        upgrade(connection)


def make(connection: sa.Connection) -> None:
    """All tables in an empty database, marked as of the newest version."""
    for statement in _statements(connection.dialect.name):
        connection.exec_driver_sql(statement)
    VERSIONS.create(connection)
    connection.execute(sa.insert(VERSIONS).values(version_num=newest()))


def upgrade(connection: sa.Connection, to: str = "head") -> None:
    """Take the steps from the version found to the one named.

    Raises:
        NotValid: the version found is not known here.
    """
    from alembic import command
    from alembic.util.exc import CommandError

    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise NotValid(
            f"the hub's database was made by a newer edgewise ({error}); run that version, or restore a backup",
            code="database_version",
        ) from error


@cache
def newest() -> str:
    """The version that this code works with."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "no version lies in the package"
    return head


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
