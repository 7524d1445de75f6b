"""Opinions of each person beside the settled label, acts that can be undone, claims, and answers to operators."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import Json, Position, UtcDateTime

revision = "0007"
down_revision = "0006"

# What was labelled before counts as the opinion of whoever said it last; the first word on a sample was given blind.
BACKFILL = """
INSERT INTO opinions (sample, use_case, who, label, annotation, at, kind, blind, current, settled, differs)
SELECT sample, use_case, who, label, annotation, at, 'label',
  CASE WHEN position IN (SELECT min(position) FROM labels GROUP BY sample) THEN {true} ELSE {false} END,
  {true}, {true}, {false}
FROM labels WHERE position IN (SELECT max(position) FROM labels GROUP BY sample, who) ORDER BY position
"""


def upgrade() -> None:
    op.add_column("labels", sa.Column("taken_back_by", sa.Text(), nullable=True))
    op.add_column("labels", sa.Column("stands_for", sa.BigInteger(), nullable=True))
    op.create_table(
        "opinions",
        sa.Column("position", Position, autoincrement=True, nullable=False),
        sa.Column("sample", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("label", sa.String(length=160), nullable=False),
        sa.Column("annotation", Json, nullable=True),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("kind", sa.String(length=160), nullable=False),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("differs", sa.Boolean(), nullable=False),
        sa.Column("act", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_opinions")),
    )
    op.create_table(
        "label_acts",
        sa.Column("position", Position, autoincrement=True, nullable=False),
        sa.Column("act", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=160), nullable=False),
        sa.Column("before", Json, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("undone_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_label_acts")),
        sa.UniqueConstraint("act", name=op.f("uq_label_acts_act")),
    )
    op.create_table(
        "label_claims",
        sa.Column("sample", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sample", name=op.f("pk_label_claims")),
    )
    op.create_table(
        "answers",
        sa.Column("feedback", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("verdict", sa.String(length=160), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("act", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("feedback", name=op.f("pk_answers")),
    )
    indexes = {
        "opinions": (["sample"], ["use_case", "at"]),
        "label_acts": (["use_case", "who", "position"],),
        "label_claims": (["use_case", "until"], ["who"]),
        "answers": (["act"],),
        "feedback": (["use_case", "given_at"],),
    }
    for table, wanted in indexes.items():
        for columns in wanted:
            op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns, unique=False)
    op.execute(backfill(op.get_bind().dialect.name))


def backfill(dialect: str) -> str:
    """The statement in the words of this database."""
    yes, no = ("true", "false") if dialect == "postgresql" else ("1", "0")
    return BACKFILL.format(true=yes, false=no)
