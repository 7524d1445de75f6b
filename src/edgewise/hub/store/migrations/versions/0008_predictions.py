"""What a later bundle says of samples that wait for a label."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import UtcDateTime

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "predictions",
        sa.Column("sample", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("release", sa.String(length=160), nullable=True),
        sa.Column("label", sa.String(length=160), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("margin", sa.Float(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sample", name=op.f("pk_predictions")),
    )
    op.create_index(op.f("ix_predictions_use_case_bundle"), "predictions", ["use_case", "bundle"])
