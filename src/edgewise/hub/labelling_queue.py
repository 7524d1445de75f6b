"""Which sample a person looks at next, in the order of their choice, and nobody else at the same time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from edgewise.hub import clusters, labels, scope, usecases
from edgewise.hub.access import Person
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store, opinions, samples
from edgewise.hub.store.samples import SampleRow
from edgewise.hub.suggestions import Order, Seen, ordered, suggestions
from edgewise.wire import NotValid

POOL_MAX = 400  # samples that an order chooses from


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
        return seen(connection, clusters.next_group(store, free)[:limit])
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
    if order == "cluster":
        with store.read() as connection:
            # Pictures are decoded before the write, which holds up everybody else; it compares what is remembered.
            queue(store, connection, use_case, order, who=who, now=now, skipped=skipped, limit=clusters.SHOWN_MAX)
    with store.write() as connection:
        usecases.need(connection, use_case)
        opinions.drop_claims(connection, use_case, who=who.name, now=now)
        if sample is not None:
            row = need_sample(connection, use_case, sample)
            scope.check_samples(connection, who, [sample])
            found = [blinded(row)] if order == "second" else seen(connection, [row])
        else:
            most = clusters.SHOWN_MAX if order == "cluster" else limit
            found = queue(store, connection, use_case, order, who=who, now=now, skipped=skipped, limit=most)
        taken = opinions.claimed(connection, [one.row.id for one in found], now=now)
        mine = [one.row.id for one in found if one.row.id not in taken]
        until = now + timedelta(seconds=limits.label_claim_s)
        opinions.claim(connection, use_case, mine, who=who.name, until=until)
    return found


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
