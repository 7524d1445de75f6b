"""Questions about the gate: candidates that wait, scorecards, verdicts, and requests to sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, one
from edgewise.hub.store.orders import RETURNED
from edgewise.hub.store.tables import orders, revisions, scorecards, signing_requests, verdicts
from edgewise.wire import Scorecard, Verdict, decode, encode, record_digest

WAITING, SIGNED, REFUSED, WITHDRAWN = "waiting", "signed", "refused", "withdrawn"


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictRow:
    digest: str
    use_case: str
    candidate: str
    champion: str | None
    result: str
    order: str | None
    made_at: datetime
    body: bytes

    @property
    def verdict(self) -> Verdict:
        return decode(Verdict, self.body)


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestRow:
    """A request to sign a bundle; `answer` is the signer's reason where it refused."""

    id: str
    use_case: str
    bundle: str
    verdict: str | None
    state: str
    asked_by: str
    why: str
    answered_by: str | None
    answer: str | None
    release: str | None
    made_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingCandidate:
    """A bundle that a worker returned and that the gate has not judged for this order."""

    order: str
    bundle: str
    updated_at: datetime


def unjudged(connection: sa.Connection, use_case: str, *, kind: str = "train") -> list[WaitingCandidate]:
    """Candidates of this kind of order without a verdict, oldest first."""
    judged = sa.select(verdicts.c.order).where(verdicts.c.order.is_not(None))
    where = (
        orders.c.use_case == use_case,
        orders.c.kind == kind,
        orders.c.state == RETURNED,
        orders.c.bundle.is_not(None),
    )
    statement = (
        sa.select(orders.c.id.label("order"), orders.c.bundle, orders.c.updated_at)
        .where(*where, orders.c.id.not_in(judged))
        .order_by(orders.c.updated_at, orders.c.id)
    )
    return many(connection, WaitingCandidate, statement)


def add_scorecard(connection: sa.Connection, use_case: str, scorecard: Scorecard) -> str:
    """Store a scorecard under its digest; the same one twice is stored once."""
    name = record_digest(scorecard)
    known = sa.select(scorecards.c.digest).where(scorecards.c.digest == name)
    if connection.execute(known).first() is None:
        values = {"digest": name, "use_case": use_case, "bundle": scorecard.bundle, "made_at": scorecard.made_at}
        connection.execute(sa.insert(scorecards).values(**values, body=encode(scorecard)))
    return name


def add(connection: sa.Connection, verdict: Verdict, *, order: str | None) -> str:
    """Store a verdict under its digest.

    Args:
        order: whose candidate it is about; None for a variant, which no order waits for.
    """
    name = record_digest(verdict)
    if get(connection, name) is None:
        connection.execute(
            sa.insert(verdicts).values(
                digest=name,
                use_case=verdict.use_case,
                candidate=verdict.candidate,
                champion=verdict.champion,
                result=verdict.result,
                order=order,
                made_at=verdict.made_at,
                body=encode(verdict),
            )
        )
    return name


def get(connection: sa.Connection, digest: str) -> VerdictRow | None:
    return one(connection, VerdictRow, columns(verdicts, VerdictRow).where(verdicts.c.digest == digest))


def find(
    connection: sa.Connection,
    *,
    use_case: str | None = None,
    candidate: str | None = None,
    variants: bool = False,
    limit: int = 100,
) -> list[VerdictRow]:
    """Verdicts on candidates, newest first; on variants, too, where asked for or where one is named."""
    statement = columns(verdicts, VerdictRow).order_by(verdicts.c.made_at.desc(), verdicts.c.digest).limit(limit)
    for column, value in ((verdicts.c.use_case, use_case), (verdicts.c.candidate, candidate)):
        if value is not None:
            statement = statement.where(column == value)
    if candidate is None and not variants:
        statement = statement.where(verdicts.c.order.is_not(None))
    return many(connection, VerdictRow, statement)


def sized(connection: sa.Connection, use_case: str, *, limit: int) -> list[tuple[VerdictRow, int]]:
    """Verdicts on candidates of orders, newest first, each with how many labels the order's revision has."""
    own = [verdicts.c[name] for name in VerdictRow.__dataclass_fields__]
    joined = verdicts.join(orders, orders.c.id == verdicts.c.order).join(
        revisions, revisions.c.digest == orders.c.revision
    )
    statement = sa.select(*own, revisions.c.count.label("labels")).select_from(joined)
    statement = statement.where(verdicts.c.use_case == use_case)
    rows = connection.execute(statement.order_by(verdicts.c.made_at.desc(), verdicts.c.digest).limit(limit)).mappings()
    return [
        (VerdictRow(**{name: row[name] for name in VerdictRow.__dataclass_fields__}), row["labels"]) for row in rows
    ]


def newest_on(connection: sa.Connection, candidate: str) -> VerdictRow | None:
    """The gate's last word on a bundle."""
    found = find(connection, candidate=candidate, limit=1)
    return found[0] if found else None


def add_request(
    connection: sa.Connection,
    request: str,
    *,
    use_case: str,
    bundle: str,
    verdict: str | None,
    asked_by: str,
    why: str,
    now: datetime,
) -> None:
    values = {"id": request, "use_case": use_case, "bundle": bundle, "verdict": verdict, "state": WAITING}
    values |= {"asked_by": asked_by, "why": why}
    connection.execute(sa.insert(signing_requests).values(**values, made_at=now, updated_at=now))


def request(connection: sa.Connection, name: str) -> RequestRow | None:
    return one(connection, RequestRow, columns(signing_requests, RequestRow).where(signing_requests.c.id == name))


def requests(
    connection: sa.Connection,
    *,
    states: Sequence[str] = (),
    use_case: str | None = None,
    bundle: str | None = None,
    limit: int = 100,
) -> list[RequestRow]:
    """Requests to sign, newest first."""
    order = (signing_requests.c.made_at.desc(), signing_requests.c.id)
    statement = columns(signing_requests, RequestRow).order_by(*order).limit(limit)
    if states:
        statement = statement.where(signing_requests.c.state.in_(states))
    for column, value in ((signing_requests.c.use_case, use_case), (signing_requests.c.bundle, bundle)):
        if value is not None:
            statement = statement.where(column == value)
    return many(connection, RequestRow, statement)


def answer_request(
    connection: sa.Connection, name: str, *, state: str, by: str, answer: str, release: str | None, now: datetime
) -> None:
    values = {"state": state, "answered_by": by, "answer": answer, "release": release, "updated_at": now}
    connection.execute(sa.update(signing_requests).where(signing_requests.c.id == name).values(**values))


def scorecard_bytes(connection: sa.Connection, digest: str) -> bytes | None:
    """A scorecard's exact bytes."""
    return connection.execute(sa.select(scorecards.c.body).where(scorecards.c.digest == digest)).scalar_one_or_none()


def scorecard_size(connection: sa.Connection, digest: str) -> int:
    """How many samples a scorecard is about."""
    body = scorecard_bytes(connection, digest)
    return 0 if body is None else len(decode(Scorecard, body).predictions)
