"""The order in which segments came, for the lake, and notes of what goes there in no segment."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import Json, Position

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    # Added plainly: copying the table, as a batch would on SQLite, copies every segment ever received.
    op.add_column("segments", sa.Column("position", sa.BigInteger(), nullable=True))
    op.add_column("segments", sa.Column("repeated", Json, nullable=True))
    op.execute(
        "UPDATE segments SET position = ranked.place FROM ("
        "SELECT device, epoch, number, row_number() OVER (ORDER BY received_at, device, epoch, number) AS place"
        " FROM segments WHERE body IS NOT NULL) AS ranked"
        " WHERE segments.device = ranked.device AND segments.epoch = ranked.epoch AND segments.number = ranked.number"
    )
    op.create_index(op.f("ix_segments_position"), "segments", ["position"], unique=True)
    op.create_table(
        "lake_notes",
        sa.Column("position", Position, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=160), nullable=False),
        sa.Column("sample", sa.String(length=32), nullable=True),
        sa.Column("data", Json, nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_lake_notes")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_lake_notes_sample"), "lake_notes", ["sample"], unique=False)
