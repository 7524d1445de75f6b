"""What is left of erased samples that had a label, and how labelled pictures look."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import Json, UtcDateTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "tombstones",
        sa.Column("sample", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("site", sa.String(length=160), nullable=False),
        sa.Column("purpose", sa.String(length=160), nullable=False),
        sa.Column("labels", sa.Integer(), nullable=False),
        sa.Column("erasure", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sample", name=op.f("pk_tombstones")),
    )
    op.create_index(op.f("ix_tombstones_use_case"), "tombstones", ["use_case"], unique=False)
    op.create_table(
        "fingerprints",
        sa.Column("sample", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("mark", sa.LargeBinary(), nullable=True),
        sa.Column("nearest", sa.Float(), nullable=True),
        sa.Column("near", Json, nullable=True),
        sa.PrimaryKeyConstraint("sample", name=op.f("pk_fingerprints")),
    )
    op.create_index(op.f("ix_fingerprints_use_case"), "fingerprints", ["use_case"], unique=False)
