"""Orders of kind `score`: a later bundle looks at samples that wait for a label, so that people start from its word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from edgewise.hub import audit, usecases
from edgewise.hub.limits import Limits
from edgewise.hub.order_states import Event, after
from edgewise.hub.orders import mine
from edgewise.hub.store import Store, champions, predictions, samples
from edgewise.hub.store import orders as rows
from edgewise.hub.store import usecases as usecase_rows
from edgewise.hub.store.predictions import PredictionRow
from edgewise.ports import Chance
from edgewise.wire import NotValid, Order, Scored, ToScore

UNREADABLE = ""  # the label of a sample that the bundle could not look at: never asked for again, no suggestion
PAGE = 100  # samples that a worker gets at once
KIND = "score"
SCORED_MAX = 5_000  # samples of one order; what is left then waits for the next one


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """What a worker says of the samples that it was given."""

    scored: Sequence[Scored] = ()
    unreadable: Sequence[str] = ()

    def all(self) -> Iterator[tuple[str, str, float, float]]:
        """Sample, label, confidence and margin."""
        yield from ((one.sample, one.label, one.confidence, one.margin) for one in self.scored)
        yield from ((sample, UNREADABLE, 0.0, 0.0) for sample in self.unreadable)


def tick(store: Store, now: datetime, *, chance: Chance, limits: Limits) -> None:
    """Make an order where a use case wants suggestions and its champion has not seen what waits."""
    with store.write() as connection:
        for name in usecase_rows.names(connection):
            usecase = usecases.need(connection, name)
            if not usecase.labelling.suggest or rows.unfinished(connection, name, KIND) is not None:
                continue
            champion = champions.champion(connection, name)
            if champion is not None and predictions.left(connection, name, champion.bundle, 1):
                _make(connection, name, champion.bundle, "a new champion", "trigger", now, chance, limits)


def create(store: Store, use_case: str, *, why: str, who: str, now: datetime, chance: Chance, limits: Limits) -> Order:
    """An order for the champion's word on all that waits for a label.

    Raises:
        NotValid: no such use case, no champion yet, nothing waits, or such an order is unfinished.
    """
    with store.write() as connection:
        usecases.need(connection, use_case)
        waiting = rows.unfinished(connection, use_case, KIND)
        if waiting is not None:
            raise NotValid(
                f"order {waiting.id} of {use_case} is {waiting.state} already; one at a time, wait for it",
                code="order_open",
            )
        champion = champions.champion(connection, use_case)
        if champion is None:
            raise NotValid(f"{use_case} has no champion yet that could be asked; train one first", code="no_champion")
        if not predictions.left(connection, use_case, champion.bundle, 1):
            raise NotValid(
                f"no sample of {use_case} waits for a label that {champion.id} has not seen; there is nothing to do",
                code="nothing_to_score",
            )
        return _make(connection, use_case, champion.bundle, why, who, now, chance, limits)


def take(store: Store, order: str, worker: str, words: Words, *, now: datetime, limits: Limits) -> tuple[ToScore, ...]:
    """Keep a worker's words and give it the next samples; none are left: the order is done.

    Words on samples that are gone, or labelled by now, are dropped. The same words again change nothing.

    Raises:
        NotValid: there is no such order, it is no score order, or not this worker's.
    """
    with store.write() as connection:
        row = mine(connection, order, worker)
        if row.kind != KIND or row.order.base is None:
            raise NotValid(f"order {order} is a {row.kind} order; answer it with a candidate", code="order_kind")
        bundle = row.order.base
        named = [sample for sample, *_ in words.all()]
        there = samples.these(connection, named)
        before = {name for name, one in predictions.of(connection, named).items() if one.bundle == bundle}
        champion = champions.champion(connection, row.use_case)
        release = champion.id if champion is not None and champion.bundle == bundle else None
        kept = [
            PredictionRow(
                sample=sample,
                use_case=row.use_case,
                bundle=bundle,
                release=release,
                label=label,
                confidence=confidence,
                margin=margin,
                at=now,
            )
            for sample, label, confidence, margin in words.all()
            if sample in there and there[sample].use_case == row.use_case
        ]
        predictions.put(connection, kept)
        fresh = [one for one in kept if one.sample not in before]
        done = int(row.order.config.get("done", 0)) + len(fresh)
        unreadable = int(row.order.config.get("unreadable", 0)) + sum(one.label == UNREADABLE for one in fresh)
        left = predictions.left(connection, row.use_case, bundle, PAGE) if done < SCORED_MAX else []
        body = row.body | {"config": {"done": done, "unreadable": unreadable}}
        if left:
            until = now + timedelta(seconds=limits.order_lease_s)
            rows.change(connection, row.id, now=now, lease_until=until, body=body)
        else:
            state = after(row.id, row.state, Event.RETURN)
            rows.change(connection, row.id, now=now, state=state, lease_until=None, error=None, body=body)
            data = {"order": row.id, "bundle": bundle, "samples": done, "unreadable": unreadable}
            audit.note(connection, actor=worker, action="order.returned", subject=row.use_case, data=data, now=now)
        return tuple(ToScore(sample=one.id, blob=one.blob, media_type=one.media_type) for one in left)


def _make(
    connection: sa.Connection,
    use_case: str,
    bundle: str,
    why: str,
    who: str,
    now: datetime,
    chance: Chance,
    limits: Limits,
) -> Order:
    # It trains on nothing, so its revision is the bundle itself.
    order = Order(id=chance.id(), kind="score", use_case=use_case, revision=bundle, base=bundle, made_at=now, why=why)
    rows.add(connection, order, labels_position=0, attempts_max=limits.order_attempts_max)
    data = {"order": order.id, "kind": KIND, "bundle": bundle, "why": why}
    audit.note(connection, actor=who, action="order.made", subject=use_case, data=data, now=now)
    return order
