"""Annotations beside labels: boxes, spans, values, masks."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import Json

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("labels", sa.Column("annotation", Json, nullable=True))
    op.add_column("samples", sa.Column("annotation", Json, nullable=True))
