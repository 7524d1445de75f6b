"""The page of the audit log: its entries with filters, and a check of the whole chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from edgewise.hub import audit
from edgewise.hub._hub import Hub
from edgewise.hub.access import Action, Person
from edgewise.hub.api.auth import Auditor, ThisHub
from edgewise.hub.audit import Checked
from edgewise.hub.console._render import page
from edgewise.hub.console._router import router
from edgewise.hub.console.label_data import names
from edgewise.hub.console.login import Visits
from edgewise.hub.console.paging import asked
from edgewise.hub.store import lists

VisitingAuditor = Annotated[Person, Depends(Visits((Action.AUDIT,)))]
# Where a value of an entry's data leads, by its key.
LEADS = {
    "order": "/orders/",
    "rollout": "/rollouts/",
    "release": "/releases/",
    "device": "/devices/",
    "bundle": "/ledger/",
    "revision": "/ledger/",
    "sample": "/ledger/",
    "candidate": "/ledger/",
}


@router.get("/audit")
def audit_page(request: Request, hub: ThisHub, who: VisitingAuditor) -> Response:
    """Entries, newest first."""
    return page(hub, who, "audit.html", lambda: _entries(request, hub, who, None))


@router.post("/audit/verify")
def verify(request: Request, hub: ThisHub, who: Auditor) -> Response:
    """Check every entry of the chain, and say what was found above the newest ones."""
    who.check_everywhere("the audit log")
    return page(hub, who, "audit.html", lambda: _entries(request, hub, who, audit.verify(hub.store)))


def _entries(request: Request, hub: Hub, who: Person, checked: Checked | None) -> Mapping[str, Any]:
    who.check_everywhere("the audit log")
    wish = asked(request, request.query_params.get("use_case", ""), "actor", "action", "subject")
    wish = wish if checked is None else wish.at("/audit")
    most = hub.limits.console_rows_max
    with hub.store.read() as connection:
        equal = {name: value for name, value in wish.filters.items() if value}
        found = lists.audit_page(connection, equal=equal, before=wish.number(), limit=most + 1)
        actions = lists.audit_actions(connection)
        known = names(connection, who)
    kinds = sorted({action.partition(".")[0] + "." for action in actions})
    return {
        "names": known,
        "active": "audit",
        "asked": wish,
        "page": wish.page(found, most, lambda row: row["index"]),
        "fields": [("action", "action", [*kinds, *actions]), ("actor", "who", None), ("subject", "about", None)],
        "leads": LEADS,
        "checked": checked,
    }
