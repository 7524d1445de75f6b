"""Questions about dataset revisions and the orders that name them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, one
from edgewise.hub.store.tables import orders, revisions, samples, segments
from edgewise.wire import Candidate, DatasetRevision, Order, decode, encode, plain, revision_digest

OPEN, CLAIMED, RETURNED, FAILED, CANCELLED = "open", "claimed", "returned", "failed", "cancelled"
UNFINISHED = (OPEN, CLAIMED)


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderRow:
    id: str
    use_case: str
    kind: str
    state: str
    body: dict[str, Any]
    revision: str
    made_at: datetime
    updated_at: datetime
    labels_position: int
    worker: str | None
    lease_until: datetime | None
    attempts: int
    attempts_max: int
    error: str | None
    candidate: dict[str, Any] | None
    bundle: str | None

    @property
    def order(self) -> Order:
        return Order.model_validate_json(json.dumps(self.body))

    @property
    def returned(self) -> Candidate | None:
        """What a worker answered."""
        return None if self.candidate is None else Candidate.model_validate_json(json.dumps(self.candidate))


def add_revision(connection: sa.Connection, revision: DatasetRevision) -> str:
    """Store a frozen revision under its digest; the same one twice is stored once."""
    name = revision_digest(revision)
    if revision_bytes(connection, name) is None:
        connection.execute(
            sa.insert(revisions).values(
                digest=name,
                use_case=revision.use_case,
                made_at=revision.made_at,
                parent=revision.parent,
                count=len(revision.samples),
                new=len(revision.new),
                body=encode(revision),
            )
        )
    return name


def revision_bytes(connection: sa.Connection, digest: str) -> bytes | None:
    return connection.execute(sa.select(revisions.c.body).where(revisions.c.digest == digest)).scalar_one_or_none()


def set_revision(connection: sa.Connection, digest: str, revision: DatasetRevision) -> None:
    """Keep a revision with tombstones in place of lines; its digest stays."""
    assert revision_digest(revision) == digest, f"revision {digest} would be another one"
    connection.execute(sa.update(revisions).where(revisions.c.digest == digest).values(body=encode(revision)))


def unfinished_on(connection: sa.Connection, revision: str) -> list[OrderRow]:
    """Orders on this revision that are open or claimed."""
    where = (orders.c.revision == revision, orders.c.state.in_(UNFINISHED))
    return many(connection, OrderRow, columns(orders, OrderRow).where(*where))


def revision(connection: sa.Connection, digest: str) -> DatasetRevision | None:
    body = revision_bytes(connection, digest)
    return None if body is None else decode(DatasetRevision, body)


def add(connection: sa.Connection, order: Order, *, labels_position: int, attempts_max: int) -> None:
    connection.execute(
        sa.insert(orders).values(
            id=order.id,
            use_case=order.use_case,
            kind=order.kind,
            state=OPEN,
            body=plain(order),
            revision=order.revision,
            made_at=order.made_at,
            updated_at=order.made_at,
            labels_position=labels_position,
            attempts=0,
            attempts_max=attempts_max,
        )
    )


def trace_of_newest(connection: sa.Connection, use_case: str) -> str | None:
    """The trace of the contact that brought the sample labelled last; None where it came without one."""
    came_in = sa.and_(
        segments.c.device == samples.c.device,
        segments.c.epoch == samples.c.epoch,
        segments.c.number == samples.c.number,
    )
    statement = sa.select(segments.c.trace).select_from(samples).join(segments, came_in, isouter=True)
    newest_first = (samples.c.labelled_at.desc(), samples.c.received_at.desc())
    where = (samples.c.use_case == use_case, samples.c.label.is_not(None))
    return connection.execute(statement.where(*where).order_by(*newest_first).limit(1)).scalar_one_or_none()


def get(connection: sa.Connection, order: str) -> OrderRow | None:
    return one(connection, OrderRow, columns(orders, OrderRow).where(orders.c.id == order))


def find(
    connection: sa.Connection,
    *,
    use_case: str | None = None,
    states: Sequence[str] = (),
    kind: str | None = None,
    limit: int = 100,
) -> list[OrderRow]:
    """Orders, newest first."""
    statement = columns(orders, OrderRow).order_by(orders.c.made_at.desc(), orders.c.id).limit(limit)
    if use_case is not None:
        statement = statement.where(orders.c.use_case == use_case)
    if states:
        statement = statement.where(orders.c.state.in_(states))
    if kind is not None:
        statement = statement.where(orders.c.kind == kind)
    return many(connection, OrderRow, statement)


def newest(connection: sa.Connection, use_case: str, kind: str = "train") -> OrderRow | None:
    """The last order of this kind, whatever became of it."""
    where = (orders.c.use_case == use_case, orders.c.kind == kind)
    return one(
        connection, OrderRow, columns(orders, OrderRow).where(*where).order_by(orders.c.made_at.desc(), orders.c.id)
    )


def unfinished(connection: sa.Connection, use_case: str, kind: str = "train") -> OrderRow | None:
    """The order that is open or claimed: there is at most one of a kind."""
    where = (orders.c.use_case == use_case, orders.c.kind == kind, orders.c.state.in_(UNFINISHED))
    return one(connection, OrderRow, columns(orders, OrderRow).where(*where))


def oldest_open(connection: sa.Connection, kinds: Sequence[str]) -> OrderRow | None:
    where = (orders.c.state == OPEN, orders.c.kind.in_(kinds))
    return one(connection, OrderRow, columns(orders, OrderRow).where(*where).order_by(orders.c.made_at, orders.c.id))


def overdue(connection: sa.Connection, now: datetime) -> list[OrderRow]:
    """Claimed orders whose lease has ended."""
    where = (orders.c.state == CLAIMED, orders.c.lease_until < now)
    return many(connection, OrderRow, columns(orders, OrderRow).where(*where).order_by(orders.c.made_at))


def change(connection: sa.Connection, order: str, *, now: datetime, **values: Any) -> None:
    connection.execute(sa.update(orders).where(orders.c.id == order).values(updated_at=now, **values))


def take_candidate(connection: sa.Connection, order: str, candidate: Candidate, now: datetime) -> None:
    change(
        connection,
        order,
        now=now,
        state=RETURNED,
        candidate=plain(candidate),
        bundle=candidate.bundle,
        lease_until=None,
        error=None,
    )
