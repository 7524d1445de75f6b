"""Orders: work for a worker, made by triggers or by hand, leased, tried a bounded number of times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from pydantic import Field

from edgewise.hub import adapt_orders, audit, likeness, revisions, usecases
from edgewise.hub.body import Body
from edgewise.hub.labels import TRAIN
from edgewise.hub.limits import Limits
from edgewise.hub.order_states import Event, after
from edgewise.hub.store import Store, bundles, champions, labels, samples
from edgewise.hub.store import likeness as likeness_rows
from edgewise.hub.store import orders as rows
from edgewise.hub.store import usecases as usecase_rows
from edgewise.hub.store.orders import CANCELLED, CLAIMED, OPEN, RETURNED, OrderRow
from edgewise.plan import variant_faults
from edgewise.ports import Chance
from edgewise.wire import Candidate, Manifest, NotValid, Order, UseCase
from edgewise.wire._record import Name
from edgewise.wire.trace import trace_id

ERROR_CHARACTERS_MAX = 2000


class OrderWish(Body):
    """An order made by hand."""

    use_case: Name
    why: str = Field(default="by hand", max_length=500)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    base: str = Field(
        default="champion", description="champion, none, or the digest of a bundle to start from", max_length=64
    )
    trainer: Name | None = None
    config: dict[str, str | float | int | bool] = Field(default={}, max_length=100)
    variants: tuple[Literal["fp16", "int8"], ...] | None = Field(
        default=None, max_length=2, description="smaller forms to make; without it those of the use case"
    )


def tick(store: Store, now: datetime, *, chance: Chance, limits: Limits) -> None:
    """Return orders whose worker went silent, and make the orders that are due."""
    with store.write() as connection:
        for row in rows.overdue(connection, now):
            _give_up(connection, row, f"worker {row.worker} went silent", now)
        for name in usecase_rows.names(connection):
            usecase = usecases.need(connection, name)
            why = due(connection, usecase, now)
            if why is not None:
                make(
                    connection, OrderWish(use_case=name, why=why), who="trigger", now=now, chance=chance, limits=limits
                )


def due(connection: sa.Connection, usecase: UseCase, now: datetime) -> str | None:
    """Why a training order is due now, None when it is not: enough new labels, or enough time with any new label."""
    if rows.unfinished(connection, usecase.name) is not None:
        return None
    last = rows.newest(connection, usecase.name)
    count = len(labels.labelled_after(connection, usecase.name, 0 if last is None else last.labels_position))
    if count and likeness_rows.left(connection, usecase.name):
        return None  # pictures whose copies may be on the other side; they are looked at within some ticks
    if count >= usecase.retrain.labels_min:
        # The first labels may all belong to groups of the evaluation share; then there is nothing to train on yet.
        if not samples.labelled(connection, usecase.name, TRAIN):
            return None
        return f"{count} new labels, an order is made at {usecase.retrain.labels_min}"
    daily = _daily(usecase, last, now) if count else None
    if daily is not None:
        return f"it is past {daily}, {count} new labels"
    hours = usecase.retrain.every_hours
    if hours is not None and last is not None and count > 0 and now - last.made_at >= timedelta(hours=hours):
        return f"{hours:g} hours since the last order, {count} new labels"
    return None


def _daily(usecase: UseCase, last: OrderRow | None, now: datetime) -> str | None:
    """The time of day, where it has come since the last order."""
    retrain = usecase.retrain
    if retrain.daily_at is None or last is None:
        return None
    here = now.astimezone(ZoneInfo(retrain.zone))
    hour, minute = map(int, retrain.daily_at.split(":"))
    newest = here.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if newest > here:
        newest -= timedelta(days=1)
    return f"{retrain.daily_at} {retrain.zone}" if last.made_at < newest else None


def create(store: Store, wish: OrderWish, *, who: str, now: datetime, chance: Chance, limits: Limits) -> Order:
    """A new training order on a frozen revision.

    Raises:
        NotValid: no such use case or base, nothing to train on, or an order is unfinished.
    """
    while likeness.tick(store):
        continue  # each tick takes some pictures off what is left
    with store.write() as connection:
        return make(connection, wish, who=who, now=now, chance=chance, limits=limits)


def make(
    connection: sa.Connection, wish: OrderWish, *, who: str, now: datetime, chance: Chance, limits: Limits
) -> Order:
    """`create` inside the caller's write."""
    usecase = usecases.need(connection, wish.use_case)
    waiting = rows.unfinished(connection, wish.use_case)
    if waiting is not None:
        raise NotValid(
            f"order {waiting.id} of {wish.use_case} is {waiting.state} since {waiting.updated_at.isoformat()}; "
            "one order at a time, wait for it",
            code="order_open",
        )
    base = _base(connection, wish)
    variants = usecase.retrain.variants if wish.variants is None else wish.variants
    revision, frozen = revisions.freeze(connection, wish.use_case, now=now)
    order = Order(
        id=chance.id(),
        use_case=wish.use_case,
        revision=revision,
        base=base,
        seed=wish.seed if wish.seed is not None else 0,
        trainer=wish.trainer or usecase.retrain.trainer or _usual_trainer(usecase),
        config={**_asked(usecase), **usecase.retrain.config, **wish.config},
        base_int8=_int8_of(connection, wish.use_case, base) if "int8" in variants else None,
        variants=variants,
        good_labels=usecase.outcome.good_labels,
        robustness=True if usecase.gate.robustness == "report" else None,
        made_at=now,
        why=wish.why,
        trace=rows.trace_of_newest(connection, wish.use_case) or trace_id(),
    )
    position = labels.position(connection, wish.use_case)
    rows.add(connection, order, labels_position=position, attempts_max=limits.order_attempts_max)
    data = {
        "order": order.id,
        "revision": revision,
        "samples": len(frozen.samples),
        "new": len(frozen.new),
        "why": wish.why,
    }
    audit.note(connection, actor=who, action="order.made", subject=wish.use_case, data=data, now=now)
    return order


def _asked(usecase: UseCase) -> dict[str, str | float]:
    """What a target asks of the trainer; nothing where the use case has classes."""
    target = usecase.outcome.target
    if target is None:
        return {}
    about = {"unit": target.unit, "above": target.above, "below": target.below, "horizon_s": target.horizon_s}
    told = {name: value for name, value in about.items() if value not in (None, "")}
    return {"target": target.name, "coverage": target.coverage, **told}


def _usual_trainer(usecase: UseCase) -> str:
    if usecase.outcome.target is not None:
        return "regression" if usecase.outcome.target.horizon_s is None else "forecast"
    return "tabular" if usecase.data.data_class == "measurement" else "vision"


def _base(connection: sa.Connection, wish: OrderWish) -> str | None:
    if wish.base == "none":
        return None
    if wish.base == "champion":
        champion = champions.champion(connection, wish.use_case)
        return None if champion is None else champion.bundle
    if bundles.get(connection, wish.base) is None:
        raise NotValid(
            f"there is no bundle {wish.base[:80]!r} to start from; see GET /api/v1/bundles", code="bundle_unknown"
        )
    return wish.base


def _int8_of(connection: sa.Connection, use_case: str, base: str | None) -> str | None:
    """The int8 form that was released beside a base; None where there is none."""
    champion = champions.champion(connection, use_case)
    if champion is None or champion.bundle != base:
        return None
    found = champion.body["bundles"].get("int8")
    return None if found is None else str(found)


def claim(store: Store, worker: str, kinds: Sequence[str], *, now: datetime, limits: Limits) -> Order | None:
    """The oldest open order of these kinds, leased to this worker; None when there is nothing to do."""
    with store.write() as connection:
        row = rows.oldest_open(connection, kinds)
        if row is None:
            return None
        until = now + timedelta(seconds=limits.order_lease_s)
        rows.change(
            connection,
            row.id,
            now=now,
            state=after(row.id, row.state, Event.CLAIM),
            worker=worker,
            lease_until=until,
            attempts=row.attempts + 1,
        )
        data = {"order": row.id, "attempt": row.attempts + 1}
        audit.note(connection, actor=worker, action="order.claimed", subject=row.use_case, data=data, now=now)
        return row.order


def heartbeat(store: Store, order: str, worker: str, *, now: datetime, limits: Limits) -> datetime:
    """Prolong a worker's lease; comes back with its new end.

    Raises:
        NotValid: there is no such order, or it is not this worker's any more: it must stop.
    """
    with store.write() as connection:
        row = mine(connection, order, worker)
        until = now + timedelta(seconds=limits.order_lease_s)
        rows.change(connection, row.id, now=now, lease_until=until)
        return until


def cancel(store: Store, order: str, *, reason: str, who: str, now: datetime) -> OrderRow:
    """A person wants it no more: its worker learns it at its next heartbeat and stops. Again changes nothing.

    Raises:
        NotValid: there is no such order, no reason, or it has ended otherwise.
    """
    if not reason.strip():
        raise NotValid("a cancelled order needs a reason; say why with --reason", code="reason_missing")
    with store.write() as connection:
        row = need(connection, order)
        if row.state == CANCELLED:
            return row
        text = f"cancelled by {who}: {reason.strip()}"[:ERROR_CHARACTERS_MAX]
        state = after(row.id, row.state, Event.CANCEL)
        rows.change(connection, row.id, now=now, state=state, worker=None, lease_until=None, error=text)
        data = {"order": row.id, "reason": reason.strip()[:500], "worker": row.worker}
        audit.note(connection, actor=who, action="order.cancelled", subject=row.use_case, data=data, now=now)
        return need(connection, order)


def fail(store: Store, order: str, worker: str, error: str, *, planned: bool = False, now: datetime) -> OrderRow:
    """The worker could not do it: open again, or failed for good after the last attempt.

    Args:
        planned: the worker was told to stop, which says nothing about the order; the attempt does not count.

    Raises:
        NotValid: there is no such order, or it is not this worker's.
    """
    with store.write() as connection:
        _give_up(connection, mine(connection, order, worker), error, now, planned=planned)
        return need(connection, order)


def take_candidate(store: Store, order: str, worker: str, candidate: Candidate, *, now: datetime) -> OrderRow:
    """Take a worker's bundle for its order. The same one again changes nothing.

    Raises:
        NotValid: there is no such order, it is another worker's by now, a bundle is not stored, does not say that it
            was made for this order on this revision, or is no variant of the other.
    """
    with store.write() as connection:
        row = need(connection, order)
        if row.state == RETURNED and row.bundle == candidate.bundle:
            return row
        if row.state != OPEN and not (row.state == CLAIMED and row.worker == worker):
            raise _lost(row, worker)
        _check_candidate(connection, row, candidate)
        rows.take_candidate(connection, row.id, candidate, now)
        for bundle in (candidate.bundle, *candidate.variants.values()):
            bundles.answers(connection, bundle, order=row.id, use_case=row.use_case)
        data = {"order": row.id, "bundle": candidate.bundle, "seconds": candidate.seconds}
        if candidate.variants:
            data["variants"] = dict(candidate.variants)
        audit.note(connection, actor=worker, action="order.returned", subject=row.use_case, data=data, now=now)
        return need(connection, order)


def need(connection: sa.Connection, order: str) -> OrderRow:
    """The order.

    Raises:
        NotValid: there is none.
    """
    row = rows.get(connection, order)
    if row is None:
        raise NotValid(f"there is no order {order[:80]!r}; see GET /api/v1/orders", code="order_unknown")
    return row


def _check_candidate(connection: sa.Connection, row: OrderRow, candidate: Candidate) -> None:
    if candidate.order != row.id:
        raise NotValid(f"the candidate answers order {candidate.order}, this is order {row.id}", code="wrong_order")
    if row.kind == adapt_orders.KIND:
        adapt_orders.check_candidate(connection, row, candidate)
        return
    manifest = _manifest(connection, candidate.bundle)
    for name, bundle in candidate.variants.items():
        faults = variant_faults(_manifest(connection, bundle), name, manifest, candidate.bundle)
        if faults:
            raise NotValid(
                f"bundle {bundle[:12]}… is no variant {name} of {candidate.bundle[:12]}…: {'; '.join(faults)}",
                code="variant_wrong",
            )
    made = manifest.provenance
    if made.order != row.id or made.revision != row.revision:
        raise NotValid(
            f"bundle {candidate.bundle[:12]}… says that it was made for order {made.order} on revision "
            f"{str(made.revision)[:12]}…, this is order {row.id} on {row.revision[:12]}…: it could not be traced back",
            code="provenance",
        )


def _manifest(connection: sa.Connection, bundle: str) -> Manifest:
    manifest = bundles.manifest(connection, bundle)
    if manifest is None:
        raise NotValid(
            f"bundle {bundle[:12]}… is not stored; put its blobs and POST /api/v1/bundles before", code="bundle_unknown"
        )
    return manifest


def mine(connection: sa.Connection, order: str, worker: str) -> OrderRow:
    """The order, where this worker holds it.

    Raises:
        NotValid: there is none, or it is not its.
    """
    row = need(connection, order)
    if row.state != CLAIMED or row.worker != worker:
        raise _lost(row, worker)
    return row


def _lost(row: OrderRow, worker: str) -> NotValid:
    held = f" by {row.worker}" if row.state == CLAIMED else ""
    return NotValid(
        f"order {row.id} is {row.state}{held}, not claimed by {worker}; stop and claim again", code="order_lost"
    )


def _give_up(connection: sa.Connection, row: OrderRow, error: str, now: datetime, *, planned: bool = False) -> None:
    last = row.attempts >= row.attempts_max and not planned
    text = error[:ERROR_CHARACTERS_MAX]
    state = after(row.id, row.state, Event.FAIL if last else Event.REOPEN)
    attempts = row.attempts - 1 if planned else row.attempts
    rows.change(connection, row.id, now=now, state=state, worker=None, lease_until=None, error=text, attempts=attempts)
    action = "order.failed" if last else "order.reopened"
    data = {"order": row.id, "attempt": row.attempts, "of": row.attempts_max, "error": text[:500]}
    audit.note(connection, actor=row.worker or "hub", action=action, subject=row.use_case, data=data, now=now)
