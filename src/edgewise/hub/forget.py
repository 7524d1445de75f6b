"""Forgets what the hub itself holds: samples, their labels and contents, and their lines in dataset revisions.

What has a label leaves a tombstone, so that a revision keeps its identity and counts stay true. All of it is one
transaction; contents that no other sample holds go after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub import audit
from edgewise.hub.order_states import Event, after
from edgewise.hub.segments import without
from edgewise.hub.store import Store, ledger
from edgewise.hub.store import erasures as rows
from edgewise.hub.store import orders as order_rows
from edgewise.hub.store import samples as sample_rows
from edgewise.hub.store.erasures import ErasureRow
from edgewise.hub.store.samples import SampleRow
from edgewise.policy import SUBJECT_FACT
from edgewise.wire import DatasetRevision, Tombstone, record_digest

ACTOR = "hub"
SWEEP_MAX = 1000  # contents that are deleted between two commits


def covered(connection: sa.Connection, erasure: ErasureRow) -> list[SampleRow]:
    """Samples here that fall under an erasure, those of devices and those that were imported."""
    found = sample_rows.taken_between(
        connection, erasure.use_case, site=erasure.site, since=erasure.since, until=erasure.until
    )
    order = erasure.record
    return [
        row
        for row in found
        if order.covers(subject=str((row.facts or {}).get(SUBJECT_FACT, "")), site=row.site, at=row.taken_at)
    ]


def forget(connection: sa.Connection, gone: Sequence[SampleRow], *, erasure: int, now: datetime) -> set[str]:
    """Forget these samples; comes back with digests of contents that nothing holds any more.

    Unfinished orders on a revision that loses a line fail, with the reason: what they would train on is not there.
    """
    if not gone:
        return set()
    labelled = [row for row in gone if row.label is not None]
    for row in labelled:
        rows.bury(connection, row, erasure=erasure, now=now)
    _strip_segments(connection, gone)
    blobs = {row.blob for row in gone} | {mask for row in gone if (mask := (row.annotation or {}).get("mask"))}
    rows.remove_samples(connection, [row.id for row in gone])
    touched = _strip_revisions(connection, labelled, erasure=erasure, now=now)
    for revision, count in sorted(touched.items()):
        _fail_orders(connection, revision, count, erasure=erasure, now=now)
    data = {"erasure": erasure, "samples": len(gone), "labelled": len(labelled), "revisions": len(touched)}
    audit.note(connection, actor=ACTOR, action="erasure.held", subject=gone[0].use_case, data=data, now=now)
    return let_go(connection, blobs, now)


def let_go(connection: sa.Connection, blobs: Collection[str], now: datetime) -> set[str]:
    """Those of the contents that no sample holds any more; `sweep` deletes them once this is committed."""
    loose = set(blobs) - sample_rows.blobs_held(connection, blobs)
    rows.let_go(connection, loose, now)
    return loose


def sweep(store: Store) -> int:
    """Delete contents that erasures left without a holder; comes back with how many there were.

    After the commit, because a content that is gone while its sample is still there would be a hole; and from a list,
    so that a hub which is killed in between goes on with it.
    """
    count = 0
    while True:
        with store.read() as connection:
            names = rows.let_gone(connection, SWEEP_MAX)
            held = sample_rows.blobs_held(connection, names)
        if not names:
            return count
        for name in names:
            if name not in held:
                store.blobs.delete(name)
        with store.write() as connection:
            rows.deleted(connection, names)
        count += len(names)


def _strip_segments(connection: sa.Connection, gone: Iterable[SampleRow]) -> None:
    by_place: dict[tuple[str, str, int], set[str]] = {}
    for row in gone:
        if row.device is None:
            continue
        for epoch, number in rows.segments_of(connection, row.device, [row.id]):
            by_place.setdefault((row.device, epoch, number), set()).add(row.id)
    for (device, epoch, number), ids in sorted(by_place.items()):
        if (body := rows.body(connection, device, epoch, number)) is not None:
            rows.set_body(connection, device, epoch, number, without(body, ids))


def _strip_revisions(
    connection: sa.Connection, gone: Sequence[SampleRow], *, erasure: int, now: datetime
) -> dict[str, int]:
    """Put tombstones into every revision that holds one of these; comes back with how many lines each lost."""
    if not gone:
        return {}
    touched: dict[str, int] = {}
    ids = {row.id for row in gone}
    for name in ledger.revisions_of(connection, gone[0].use_case):
        revision = order_rows.revision(connection, name)
        assert revision is not None
        stripped = with_tombstones(revision, ids, erasure=erasure, now=now)
        if stripped is not None:
            order_rows.set_revision(connection, name, stripped)
            touched[name] = len(revision.samples) - len(stripped.samples)
    return touched


def with_tombstones(
    revision: DatasetRevision, ids: Collection[str], *, erasure: int, now: datetime
) -> DatasetRevision | None:
    """The revision with tombstones in place of these samples' lines; None where it holds none of them.

    One from before revisions had a format keeps no identity without its lines: it is left as it was made and is not
    given out any more.
    """
    lost = [line for line in revision.samples if line.sample in ids]
    if not lost or revision.format is None:
        return None
    stones = [Tombstone(sample=line.sample, line=record_digest(line), erasure=erasure, at=now) for line in lost]
    left = tuple(line for line in revision.samples if line.sample not in ids)
    return revision.model_copy(update={"samples": left, "erased": (*(revision.erased or ()), *stones)})


def _fail_orders(connection: sa.Connection, revision: str, count: int, *, erasure: int, now: datetime) -> None:
    text = (
        f"{count} of the samples of its revision were erased by erasure {erasure}; an order on what is left is made "
        "by the next trigger or by hand"
    )
    for row in order_rows.unfinished_on(connection, revision):
        state = after(row.id, row.state, Event.FAIL)
        order_rows.change(connection, row.id, now=now, state=state, worker=None, lease_until=None, error=text)
        data = {"order": row.id, "error": text}
        audit.note(connection, actor=ACTOR, action="order.failed", subject=row.use_case, data=data, now=now)
