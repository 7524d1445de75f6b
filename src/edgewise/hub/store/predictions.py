"""Questions about what a later bundle says of samples that nobody has labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.store._rows import chunks, columns, many
from edgewise.hub.store.samples import SampleRow
from edgewise.hub.store.tables import predictions, samples


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionRow:
    """The newest word of a bundle on a sample."""

    sample: str
    use_case: str
    bundle: str
    release: str | None
    label: str
    confidence: float
    margin: float
    at: datetime


def left(connection: sa.Connection, use_case: str, bundle: str, limit: int) -> list[SampleRow]:
    """Samples without a label of which this bundle has said nothing: neither here nor on the device. Newest first."""
    said = sa.select(predictions.c.sample).where(predictions.c.use_case == use_case, predictions.c.bundle == bundle)
    decided = samples.c.decision["bundle"].as_string()
    where = (
        samples.c.use_case == use_case,
        samples.c.label.is_(None),
        sa.or_(samples.c.decision.is_(None), decided.is_(None), decided != bundle),
        samples.c.id.not_in(said),
    )
    newest = (samples.c.received_at.desc(), samples.c.id)
    return many(connection, SampleRow, columns(samples, SampleRow).where(*where).order_by(*newest).limit(limit))


def put(connection: sa.Connection, rows: Sequence[PredictionRow]) -> None:
    """Keep these words in place of what other bundles said of the samples before."""
    for some in chunks([row.sample for row in rows]):
        connection.execute(sa.delete(predictions).where(predictions.c.sample.in_(some)))
    if rows:
        fields = PredictionRow.__dataclass_fields__
        connection.execute(sa.insert(predictions), [{name: getattr(row, name) for name in fields} for row in rows])


def of(connection: sa.Connection, ids: Sequence[str]) -> dict[str, PredictionRow]:
    """The words on these samples, by sample."""
    found: dict[str, PredictionRow] = {}
    for some in chunks(ids):
        rows = many(
            connection, PredictionRow, columns(predictions, PredictionRow).where(predictions.c.sample.in_(some))
        )
        found.update({row.sample: row for row in rows})
    return found
