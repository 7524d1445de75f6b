"""Failures of devices, pins and conflicts, and operators' overrides in telemetry."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import Json, Position, UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "failures",
        sa.Column("position", Position, autoincrement=True, nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("site", sa.String(length=160), nullable=False),
        sa.Column("device", sa.String(length=160), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("phase", sa.String(length=160), nullable=False),
        sa.Column("component", sa.String(length=160), nullable=False),
        sa.Column("category", sa.String(length=160), nullable=True),
        sa.Column("code", sa.String(length=160), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("rollout", sa.String(length=32), nullable=True),
        sa.Column("release", sa.String(length=160), nullable=True),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_failures")),
    )
    for columns in (["use_case", "position"], ["device", "position"], ["rollout", "position"]):
        op.create_index(op.f(f"ix_failures_{'_'.join(columns)}"), "failures", columns, unique=False)
    op.add_column("devices", sa.Column("pin", Json, nullable=True))
    op.add_column("devices", sa.Column("conflict", Json, nullable=True))
    op.add_column("telemetry", sa.Column("alarms_told", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("telemetry", sa.Column("overrides", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_telemetry_device_start"), "telemetry", ["device", "start"], unique=False)
