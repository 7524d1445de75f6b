"""Schema versions, inside the package and run at start, so that nobody needs an ``alembic.ini``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from edgewise.wire import NotValid

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "alembic_version"


def migrate(connection: sa.Connection, revision: str = "head") -> None:
    """Bring the schema to this version, inside the caller's transaction.

    Args:
        revision: an older one, for rows that were written out then.
    Raises:
        NotValid: the database was made by a newer edgewise.
    """
    from alembic import command
    from alembic.util.exc import CommandError

    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise NotValid(
            f"the hub's database was made by a newer edgewise ({error}); run that version, or restore a backup",
            code="database_version",
        ) from error


def known_revisions() -> list[str]:
    """All versions of the schema, newest first."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def revision_of(connection: sa.Connection) -> str | None:
    """The version of a database's schema; None where it has none."""
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def need_current(connection: sa.Connection) -> None:
    """Nothing where the schema is of this version; whoever only reads must not change it under a hub that runs.

    Raises:
        NotValid: it is of another version, or there is none.
    """
    found, newest = revision_of(connection), known_revisions()[0]
    if found != newest:
        raise NotValid(
            f"the hub's database has schema {found or 'none'}, this edgewise needs {newest}; use the edgewise that "
            "serves this hub, or start the hub once with this one",
            code="database_version",
        )


def leave(_connection: sa.Connection) -> None:
    """Change nothing: the caller brings the schema with the rows."""


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config
