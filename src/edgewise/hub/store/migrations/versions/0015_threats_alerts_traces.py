"""Threats counted by hour, alerts that wait to be told, and the trace of the contact that brought a segment."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import Json, Position, UtcDateTime

revision = "0015"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "threats",
        sa.Column("position", Position, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=160), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("site", sa.String(length=160), nullable=True),
        sa.Column("use_case", sa.String(length=160), nullable=True),
        sa.Column("hour", UtcDateTime(), nullable=False),
        sa.Column("count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("first_at", UtcDateTime(), nullable=False),
        sa.Column("last_at", UtcDateTime(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_threats")),
    )
    op.create_index(op.f("ix_threats_kind_subject_hour"), "threats", ["kind", "subject", "hour"], unique=True)
    op.create_index(op.f("ix_threats_hour"), "threats", ["hour"], unique=False)
    op.create_table(
        "alerts",
        sa.Column("position", Position, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("cause", sa.String(length=160), nullable=False),
        sa.Column("key", sa.String(length=160), nullable=False),
        sa.Column("window_at", UtcDateTime(), nullable=False),
        sa.Column("channel", sa.String(length=160), nullable=False),
        sa.Column("body", Json, nullable=False),
        sa.Column("state", sa.String(length=160), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("sent_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_alerts")),
    )
    op.create_index(op.f("ix_alerts_key_window_at_channel"), "alerts", ["key", "window_at", "channel"], unique=True)
    op.create_index(op.f("ix_alerts_state_next_at"), "alerts", ["state", "next_at"], unique=False)
    with op.batch_alter_table("segments") as batch:
        batch.add_column(sa.Column("trace", sa.String(length=32), nullable=True))
