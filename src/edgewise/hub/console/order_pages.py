"""Pages of orders: the list, one with its candidate and what the gate found, and the step before one is cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response

from edgewise.hub import orders, scope, usecases
from edgewise.hub._hub import Hub
from edgewise.hub.access import Person
from edgewise.hub.api.auth import Operator, ThisHub
from edgewise.hub.api.models import CancelIn
from edgewise.hub.api.orders import cancel_order
from edgewise.hub.console._render import page
from edgewise.hub.console._router import router
from edgewise.hub.console.cases import Case, case_page
from edgewise.hub.console.label_data import names
from edgewise.hub.console.login import Visitor
from edgewise.hub.console.paging import asked, made
from edgewise.hub.console.rollout_pages import Reason, VisitingOperator, done
from edgewise.hub.order_states import STATES
from edgewise.hub.store import lists, releases, verdicts
from edgewise.hub.store.orders import UNFINISHED, OrderRow
from edgewise.wire import NotValid

KINDS = ("train", "score", "adapt")
MEANS = {
    "open": "It waits for a worker. Start one where there is room to train: edgewise learn worker.",
    "claimed": "A worker is at it. When the worker falls silent for longer than its lease, the order opens again.",
    "returned": "A worker answered it; what it made stands below.",
    "failed": "It was tried as often as it may be. Read the error, mend its cause and make another order.",
    "cancelled": "A person ended it before it was answered.",
}


@router.get("/orders")
def orders_list(request: Request, hub: ThisHub, who: Visitor) -> Response:
    """The orders of a use case, newest first."""
    return case_page(request, hub, who, "orders.html", lambda case: _list(request, case), active="orders", whole=True)


def _list(request: Request, case: Case) -> Mapping[str, Any]:
    wish = asked(request, case.name, "state", "kind")
    found = lists.orders_page(
        case.connection,
        case.name,
        state=wish["state"],
        kind=wish["kind"],
        before=wish.place(),
        limit=case.rows + 1,
    )
    page_of = wish.page(found, case.rows, made)
    words = {row.id: verdicts.newest_on(case.connection, row.bundle) for row in page_of.rows if row.bundle}
    return {
        "asked": wish,
        "page": page_of,
        "verdicts": words,
        "unfinished": UNFINISHED,
        "fields": [("state", "state", STATES), ("kind", "kind", KINDS)],
    }


@router.get("/orders/{order}")
def order_page(hub: ThisHub, who: Visitor, order: str) -> Response:
    """One order: why it was made, who works on it, its candidate and what the gate found."""
    return page(hub, who, "order.html", lambda: _one(hub, who, order))


@router.get("/orders/{order}/cancel")
def confirm_cancel(hub: ThisHub, who: VisitingOperator, order: str) -> Response:
    """What cancelling will do, before it is done."""

    def values() -> Mapping[str, Any]:
        found = _one(hub, who, order)
        if not found["can_cancel"]:
            state = found["order"].state
            raise NotValid(f"order {order} is {state}, so there is nothing to cancel any more", code="order_state")
        return found

    return page(hub, who, "order_cancel.html", values)


@router.post("/orders/{order}/cancel")
def cancel(hub: ThisHub, who: Operator, order: str, reason: Reason = "") -> Response:
    """Cancel it, and back to its page."""
    back = f"/orders/{quote(order)}"

    def do() -> str:
        if not reason.strip():
            raise NotValid("cancelling needs its reason; go back and write one", code="reason_missing")
        cancel_order(order, CancelIn(reason=reason.strip()), hub, who)
        return back

    return done(who, do, back=back)


def _one(hub: Hub, who: Person, name: str) -> dict[str, Any]:
    with hub.store.read() as connection:
        row = orders.need(connection, name)
        scope.check_whole(connection, who, row.use_case, f"order {name}")
        word = verdicts.newest_on(connection, row.bundle) if row.bundle else None
        asked_to_sign = verdicts.requests(connection, bundle=row.bundle, limit=1) if row.bundle else []
        return {
            "names": names(connection, who),
            "active": "orders",
            "usecase": usecases.need(connection, row.use_case),
            "order": row,
            "means": MEANS.get(row.state, ""),
            "can_cancel": row.state in UNFINISHED,
            "minutes": minutes(row),
            "verdict": None if word is None else word.verdict,
            "request": next(iter(asked_to_sign), None),
            "releases": releases.of_bundle(connection, row.bundle) if row.bundle else [],
        }


def minutes(row: OrderRow) -> float | None:
    """How long the worker says that it took; None where it has not answered, or answered without a bundle."""
    returned = row.returned
    return None if returned is None else returned.seconds / 60
