"""Day sketches of devices, and the alarms of drift made from them."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import Json, UtcDateTime

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "day_sketches",
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("device", sa.String(length=160), nullable=False),
        sa.Column("pipeline", sa.String(length=160), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("event", name=op.f("pk_day_sketches")),
    )
    op.create_index(op.f("ix_day_sketches_use_case_day"), "day_sketches", ["use_case", "day"], unique=False)
    op.create_index(op.f("ix_day_sketches_device_day"), "day_sketches", ["device", "day"], unique=False)
    op.create_table(
        "drift_alarms",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("kind", sa.String(length=160), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("pipeline", sa.String(length=160), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("began", sa.String(length=10), nullable=False),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("closed_at", UtcDateTime(), nullable=True),
        sa.Column("closed_why", sa.Text(), nullable=True),
        sa.Column("data", Json, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drift_alarms")),
    )
    op.create_index(op.f("ix_drift_alarms_use_case_closed_at"), "drift_alarms", ["use_case", "closed_at"], unique=False)
    op.create_index(op.f("ix_drift_alarms_subject"), "drift_alarms", ["subject"], unique=False)
    op.create_table(
        "drift_states",
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("kind", sa.String(length=160), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("pipeline", sa.String(length=160), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("data", Json, nullable=True),
        sa.PrimaryKeyConstraint("use_case", "kind", "subject", "pipeline", name=op.f("pk_drift_states")),
    )
