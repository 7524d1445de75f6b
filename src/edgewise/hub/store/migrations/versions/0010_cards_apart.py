"""A device's card stands beside its report, which changes with every contact."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import Json

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    with op.batch_alter_table("devices") as batch:
        batch.add_column(sa.Column("card_told", Json, nullable=True))
