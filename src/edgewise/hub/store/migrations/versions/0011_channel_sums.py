"""Sums by channel that devices told, for site variants."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import Json, UtcDateTime

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "channel_sums",
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("site", sa.String(length=160), nullable=False),
        sa.Column("device", sa.String(length=160), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("why", sa.String(length=160), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("told", Json, nullable=True),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("event", name=op.f("pk_channel_sums")),
    )
    op.create_index(op.f("ix_channel_sums_use_case_bundle"), "channel_sums", ["use_case", "bundle"], unique=False)
    op.create_index(op.f("ix_channel_sums_device"), "channel_sums", ["device"], unique=False)
