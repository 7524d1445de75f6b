"""Contents that an erasure left without a holder, until they are deleted."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import UtcDateTime

revision = "0013"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "loose_contents",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_loose_contents")),
    )
