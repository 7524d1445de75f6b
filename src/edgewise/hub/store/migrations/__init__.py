"""Schema versions, inside the package and run at start, so that nobody needs an ``alembic.ini``."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from edgewise.wire import NotValid


def migrate(connection: sa.Connection) -> None:
    """Bring the schema to this version, inside the caller's transaction.

    Raises:
        NotValid: the database was made by a newer edgewise.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise NotValid(
            f"the hub's database was made by a newer edgewise ({error}); run that version, or restore a backup",
            code="database_version",
        ) from error
