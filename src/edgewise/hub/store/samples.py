"""Questions about samples: what was kept, what to label next, what may be trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from edgewise.hub.store._rows import chunks, columns, insert_new, many, of_sites, one
from edgewise.hub.store.tables import feedback, groups, samples
from edgewise.wire import Annotation, LabelledSample

# The labelling queue, most urgent first; `why` alone decides unless an operator spoke about the frame.
PRIORITY = {"alarm": 0, "feedback": 1, "disagreement": 2, "audit": 3, "margin": 4, "novelty": 4, "import": 5}


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleRow:
    id: str
    use_case: str
    site: str
    device: str | None
    frame: str
    group: str
    taken_at: datetime
    kept_at: datetime
    received_at: datetime
    why: str
    inclusion_probability: float
    blob: str
    size_bytes: int
    media_type: str
    decision: dict[str, Any] | None
    shadow: dict[str, Any] | None
    rollout: str | None
    facts: dict[str, Any] | None
    priority: int
    label: str | None
    annotation: dict[str, Any] | None
    labelled_at: datetime | None
    purpose: str | None


class WindowRow(NamedTuple):
    """What finding a window's target takes."""

    id: str
    site: str
    device: str | None
    taken_at: datetime
    blob: str
    size_bytes: int
    label: str | None


def add(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Store samples that are not there yet; comes back with the ids that were new."""
    return insert_new(connection, samples, rows)


def get(connection: sa.Connection, sample: str) -> SampleRow | None:
    return one(connection, SampleRow, columns(samples, SampleRow).where(samples.c.id == sample))


def sites_of_blob(connection: sa.Connection, blob: str) -> set[str]:
    """Sites of the samples with this content; none where it is no sample's."""
    statement = sa.select(samples.c.site).where(samples.c.blob == blob).distinct()
    return set(connection.execute(statement).scalars())


def these(connection: sa.Connection, ids: Iterable[str]) -> dict[str, SampleRow]:
    """The samples with these ids, by id; unknown ids are left out."""
    found: dict[str, SampleRow] = {}
    for some in chunks(ids):
        rows = many(connection, SampleRow, columns(samples, SampleRow).where(samples.c.id.in_(some)))
        found.update({row.id: row for row in rows})
    return found


def page(
    connection: sa.Connection,
    *,
    use_case: str | None = None,
    site: str | None = None,
    device: str | None = None,
    labelled: bool | None = None,
    sites: Collection[str] | None = None,
    after: tuple[datetime, str] | None = None,
    limit: int = 100,
) -> list[SampleRow]:
    """Samples in the order in which the hub received them.

    Args:
        sites: only of these; None for all.
        after: the (received_at, id) of the last one seen.
    """
    statement = columns(samples, SampleRow).order_by(samples.c.received_at, samples.c.id).limit(limit)
    for column, value in ((samples.c.use_case, use_case), (samples.c.site, site), (samples.c.device, device)):
        if value is not None:
            statement = statement.where(column == value)
    statement = statement.where(*of_sites(samples.c.site, sites))
    if labelled is not None:
        statement = statement.where(samples.c.label.is_not(None) if labelled else samples.c.label.is_(None))
    if after is not None:
        later = sa.and_(samples.c.received_at == after[0], samples.c.id > after[1])
        statement = statement.where(sa.or_(samples.c.received_at > after[0], later))
    return many(connection, SampleRow, statement)


def unlabelled(
    connection: sa.Connection, use_case: str, *, limit: int, sites: Collection[str] | None = None
) -> list[SampleRow]:
    """The labelling queue: alarms, feedback, disagreements, audit, then the least certain decisions."""
    order = (samples.c.priority, samples.c.rank, samples.c.received_at, samples.c.id)
    where = (samples.c.use_case == use_case, samples.c.label.is_(None), *of_sites(samples.c.site, sites))
    return many(connection, SampleRow, columns(samples, SampleRow).where(*where).order_by(*order).limit(limit))


def make_urgent(connection: sa.Connection, device: str, frames: Sequence[str]) -> None:
    """An operator spoke about these frames: their samples go up the queue, in arrival order.

    A pair of two bundles stays where it is: what an operator overrides is what acted, so its place in the queue would
    make the labelled pairs speak against that one.
    """
    for some in chunks(frames):
        where = (
            samples.c.device == device,
            samples.c.frame.in_(some),
            samples.c.priority > PRIORITY["feedback"],
            samples.c.shadow.is_(None),
        )
        connection.execute(sa.update(samples).where(*where).values(priority=PRIORITY["feedback"], rank=0))


def frames_spoken_of(connection: sa.Connection, device: str, frames: Sequence[str]) -> set[str]:
    """Those of the frames about which an operator has given feedback."""
    found: set[str] = set()
    for some in chunks(frames):
        where = (feedback.c.device == device, feedback.c.frame.in_(some))
        found.update(connection.execute(sa.select(feedback.c.frame).where(*where)).scalars())
    return found


def labelled(connection: sa.Connection, use_case: str, purpose: str) -> list[LabelledSample]:
    """All labelled samples of this purpose, ``train`` or ``evaluation``, in a stable order."""
    return [line_of(row) for row in labelled_rows(connection, use_case, purpose)]


def labelled_rows(connection: sa.Connection, use_case: str, purpose: str) -> list[SampleRow]:
    """The same samples with everything that is known of them."""
    where = (samples.c.use_case == use_case, samples.c.purpose == purpose, samples.c.label.is_not(None))
    return many(connection, SampleRow, columns(samples, SampleRow).where(*where).order_by(samples.c.id))


def windows(connection: sa.Connection, use_case: str, *, media_type: str, limit: int) -> list[WindowRow]:
    """The newest samples of this type, by when they came."""
    fields = [samples.c[name] for name in WindowRow._fields]
    where = (samples.c.use_case == use_case, samples.c.media_type == media_type)
    order = (samples.c.received_at.desc(), samples.c.id)
    statement = sa.select(*fields).where(*where).order_by(*order).limit(limit)
    return [WindowRow(*row) for row in connection.execute(statement)]


def line_of(row: SampleRow) -> LabelledSample:
    """A labelled sample as a line of a revision."""
    return LabelledSample(
        sample=row.id,
        blob=row.blob,
        label=row.label or "",
        site=row.site,
        group=row.group,
        weight=1.0,
        media_type=row.media_type,
        annotation=None if row.annotation is None else Annotation.model_validate(row.annotation),
    )


def pairs(connection: sa.Connection, rollout: str) -> list[SampleRow]:
    """Labelled samples of this rollout on which both bundles spoke, in the order of their labels.

    Those that were kept, or came up the queue, because an operator spoke about them are left out.
    """
    where = (
        samples.c.rollout == rollout,
        samples.c.label.is_not(None),
        samples.c.shadow.is_not(None),
        samples.c.why != "feedback",
        samples.c.priority != PRIORITY["feedback"],
    )
    order = (samples.c.labelled_at, samples.c.id)
    return many(connection, SampleRow, columns(samples, SampleRow).where(*where).order_by(*order))


def taken_between(
    connection: sa.Connection,
    use_case: str,
    *,
    site: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[SampleRow]:
    """Samples of a use case taken in this time, both ends included."""
    statement = columns(samples, SampleRow).where(samples.c.use_case == use_case).order_by(samples.c.id)
    if site is not None:
        statement = statement.where(samples.c.site == site)
    if since is not None:
        statement = statement.where(samples.c.taken_at >= since)
    if until is not None:
        statement = statement.where(samples.c.taken_at <= until)
    return many(connection, SampleRow, statement)


def blobs_held(connection: sa.Connection, blobs: Collection[str]) -> set[str]:
    """Those of the contents that a sample holds."""
    found: set[str] = set()
    for some in chunks(sorted(blobs)):
        found.update(connection.execute(sa.select(samples.c.blob).where(samples.c.blob.in_(some))).scalars())
    return found


def apart_to_label(
    connection: sa.Connection, rollouts: Sequence[str], *, limit: int, sites: Collection[str] | None = None
) -> list[SampleRow]:
    """Frames without a label on which the bundles of these rollouts disagree, in an order that nothing else decides.

    Their ids are random. In the order of arrival the first devices would be labelled and no others.
    """
    where = (_apart(rollouts), samples.c.label.is_(None), *of_sites(samples.c.site, sites))
    return many(connection, SampleRow, columns(samples, SampleRow).where(*where).order_by(samples.c.id).limit(limit))


def apart_labelled(connection: sa.Connection, rollouts: Sequence[str], *, since: datetime) -> int:
    """How many of them were labelled since then."""
    where = (_apart(rollouts), samples.c.labelled_at >= since)
    return int(connection.execute(sa.select(sa.func.count()).select_from(samples).where(*where)).scalar_one())


def _apart(rollouts: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.and_(samples.c.rollout.in_(rollouts), samples.c.why == "disagreement", samples.c.shadow.is_not(None))


def set_label(
    connection: sa.Connection,
    sample: str,
    *,
    label: str,
    annotation: dict[str, Any] | None = None,
    purpose: str,
    now: datetime,
) -> None:
    values = {"label": label, "annotation": annotation, "purpose": purpose, "labelled_at": now}
    connection.execute(sa.update(samples).where(samples.c.id == sample).values(**values))


def take_label_away(connection: sa.Connection, sample: str) -> None:
    """The sample waits for a label again; what it is for stays as it was said."""
    values = {"label": None, "annotation": None, "labelled_at": None}
    connection.execute(sa.update(samples).where(samples.c.id == sample).values(**values))


def purpose(connection: sa.Connection, use_case: str, site: str, group: str) -> str | None:
    """What this group is for; None before its first label."""
    where = (groups.c.use_case == use_case, groups.c.site == site, groups.c.group == group)
    return connection.execute(sa.select(groups.c.purpose).where(*where)).scalar_one_or_none()


def set_purpose(
    connection: sa.Connection, use_case: str, site: str, group: str, *, purpose: str, label: str, now: datetime
) -> None:
    """Say once what a group is for; a second time is refused by the table's key."""
    row = {"use_case": use_case, "site": site, "group": group, "purpose": purpose, "label": label, "made_at": now}
    connection.execute(sa.insert(groups).values(**row))


def purpose_counts(connection: sa.Connection, use_case: str, site: str, label: str | None) -> dict[str, int]:
    """Labelled samples of this site and label by purpose; of all labels where none is given."""
    is_wanted = samples.c.label.is_not(None) if label is None else samples.c.label == label
    where = (samples.c.use_case == use_case, samples.c.site == site, is_wanted)
    statement = sa.select(samples.c.purpose, sa.func.count()).where(*where).group_by(samples.c.purpose)
    return {purpose: count for purpose, count in connection.execute(statement) if purpose is not None}


def label_counts(
    connection: sa.Connection, use_case: str, *, sites: Collection[str] | None = None
) -> list[tuple[str, str | None, int]]:
    """(site, label, count) over all samples; label None counts those that wait for one."""
    key = (samples.c.site, samples.c.label)
    where = (samples.c.use_case == use_case, *of_sites(samples.c.site, sites))
    statement = sa.select(*key, sa.func.count()).where(*where).group_by(*key).order_by(*key)
    return [(site, label, count) for site, label, count in connection.execute(statement)]


def bytes_received(connection: sa.Connection, use_case: str, *, sites: Collection[str] | None = None) -> int:
    """Bytes of all samples' contents that devices uploaded, imports apart."""
    where = (samples.c.use_case == use_case, samples.c.device.is_not(None), *of_sites(samples.c.site, sites))
    return int(connection.execute(sa.select(sa.func.sum(samples.c.size_bytes)).where(*where)).scalar_one() or 0)
