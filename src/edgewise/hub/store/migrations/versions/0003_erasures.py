"""Erasures, and which devices have carried them out."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=True),
        sa.Column("site", sa.String(length=160), nullable=True),
        sa.Column("since", UtcDateTime(), nullable=True),
        sa.Column("until", UtcDateTime(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_erasures")),
    )
    op.create_index(op.f("ix_erasures_use_case_number"), "erasures", ["use_case", "number"], unique=False)
    op.create_table(
        "erasure_acks",
        sa.Column("device", sa.String(length=160), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("done_at", UtcDateTime(), nullable=False),
        sa.Column("heard_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("device", "number", name=op.f("pk_erasure_acks")),
    )
    op.create_index(op.f("ix_erasure_acks_number"), "erasure_acks", ["number"], unique=False)
