"""Which sample a person looks at next, in the order of their choice, and nobody else at the same time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgewise.hub import clusters, labels, scope, usecases
from edgewise.hub.access import Person
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store, opinions, samples
from edgewise.hub.store.samples import SampleRow
from edgewise.hub.suggestions import Order, Seen, ordered, suggestions
from edgewise.wire import NotValid

POOL_MAX = 400  # samples that an order chooses from
LOOK_AHEAD = 20  # more than were asked for: others may take some before the claim
TRIES_MAX = 3


def seen(connection: sa.Connection, rows: Sequence[SampleRow]) -> list[Seen]:
    """The samples with what machines and operators said of them."""
    machines = suggestions(connection, rows)
    frames = [(row.device, row.frame) for row in rows if row.device is not None]
    words = opinions.words_of(connection, frames)
    return [
        Seen(
            row=row,
            suggestions=machines.get(row.id, ()),
            words=tuple(one for one in words if (one.device, one.frame) == (row.device, row.frame)),
        )
        for row in rows
    ]


def queue(
    store: Store,
    connection: sa.Connection,
    use_case: str,
    order: Order,
    *,
    who: Person,
    now: datetime,
    skipped: Collection[str] = (),
    limit: int,
) -> list[Seen]:
    """What this person would look at in this order, first one first; without what others look at now.

    Raises:
        NotValid: no such use case.
    """
    rows = [row for row in _pool(connection, use_case, order, who, now) if row.id not in skipped]
    taken = opinions.claimed(connection, [row.id for row in rows], now=now)
    free = [row for row in rows if taken.get(row.id, who.name) == who.name]
    if order == "cluster":
        return seen(connection, clusters.next_group(store, free)[: min(limit, clusters.SHOWN_MAX)])
    if order == "second":
        return [blinded(row) for row in free[:limit]]
    return ordered(order, seen(connection, free))[:limit]


def blinded(row: SampleRow) -> Seen:
    """The sample without anybody's word on it, a machine's neither: a second opinion must be one."""
    return Seen(row=replace(row, label=None, annotation=None, labelled_at=None, decision=None, shadow=None, why=""))


def take(
    store: Store,
    use_case: str,
    order: Order,
    *,
    who: Person,
    now: datetime,
    limits: Limits,
    skipped: Collection[str] = (),
    sample: str | None = None,
    limit: int = 1,
) -> list[Seen]:
    """The next samples for this person, who has them from now on for `label_claim_s`; of a group all that belong to it.

    What they had before is free again.

    Args:
        sample: this one and no other; somebody else may have it.
    Raises:
        NotValid: no such use case, or no such sample in it. NotTrusted: it is of a site that is not this person's.
    """
    if sample is not None:
        return _take_one(store, use_case, order, sample, who=who, now=now, limits=limits)
    most = clusters.SHOWN_MAX if order == "cluster" else limit
    for _ in range(TRIES_MAX):
        # The question is asked before the write, which holds up everybody else; the write looks at its answer again.
        with store.read() as connection:
            about: dict[str, Any] = {"who": who, "now": now, "skipped": skipped, "limit": most + LOOK_AHEAD}
            found = queue(store, connection, use_case, order, **about)
        with store.write() as connection:
            usecases.need(connection, use_case)
            opinions.drop_claims(connection, use_case, who=who.name, now=now)
            still = _still_open(connection, found, order, now)[:most]
            _claim(connection, use_case, still, who, now, limits)
        if still or not found:
            return still
    return []


def _take_one(
    store: Store, use_case: str, order: Order, sample: str, *, who: Person, now: datetime, limits: Limits
) -> list[Seen]:
    with store.write() as connection:
        row = need_sample(connection, use_case, sample)
        scope.check_samples(connection, who, [sample])
        opinions.drop_claims(connection, use_case, who=who.name, now=now)
        found = [blinded(row)] if order == "second" else seen(connection, [row])
        if sample not in opinions.claimed(connection, [sample], now=now):
            _claim(connection, use_case, found, who, now, limits)
    return found


def _still_open(connection: sa.Connection, found: Sequence[Seen], order: Order, now: datetime) -> list[Seen]:
    """Those that nobody has taken, labelled or erased since they were found."""
    ids = [one.row.id for one in found]
    taken, rows = opinions.claimed(connection, ids, now=now), samples.these(connection, ids)
    labelled = order in ("second", "adjudicate")
    return [
        one
        for one in found
        if one.row.id in rows and one.row.id not in taken and (rows[one.row.id].label is not None) == labelled
    ]


def _claim(
    connection: sa.Connection, use_case: str, found: Sequence[Seen], who: Person, now: datetime, limits: Limits
) -> None:
    until = now + timedelta(seconds=limits.label_claim_s)
    opinions.claim(connection, use_case, [one.row.id for one in found], who=who.name, until=until)


def keep(store: Store, use_case: str, ids: Sequence[str], *, who: Person, now: datetime, limits: Limits) -> int:
    """Hold on to samples while somebody still looks at them; comes back with how many are still theirs."""
    with store.write() as connection:
        taken = opinions.claimed(connection, ids, now=now)
        mine = [one for one in ids if taken.get(one) == who.name]
        until = now + timedelta(seconds=limits.label_claim_s)
        opinions.claim(connection, use_case, mine, who=who.name, until=until)
    return len(mine)


def need_sample(connection: sa.Connection, use_case: str, sample: str) -> SampleRow:
    """The sample. Raises NotValid where this use case has none of that id."""
    row = samples.get(connection, sample)
    if row is None or row.use_case != use_case:
        raise NotValid(f"use case {use_case} has no sample {sample[:40]!r}", code="sample_unknown")
    return row


def _pool(connection: sa.Connection, use_case: str, order: Order, who: Person, now: datetime) -> list[SampleRow]:
    if order == "urgent":
        return labels.queue(connection, use_case, limit=POOL_MAX, now=now, sites=who.sites)
    usecases.need(connection, use_case)
    if order == "second":
        return opinions.for_second(connection, use_case, who.name, limit=POOL_MAX, sites=who.sites)
    if order == "cluster":
        return opinions.newest(connection, use_case, limit=clusters.LOOKED_MAX, sites=who.sites, pictures=True)
    pool = {
        "newest": opinions.newest,
        "uncertain": opinions.uncertain,
        "disagreement": opinions.apart,
        "adjudicate": opinions.disputed,
    }[order]
    return pool(connection, use_case, limit=POOL_MAX, sites=who.sites)
