"""What a use case costs: bytes, labels, minutes of workers and storage; money only where the use case names a price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from edgewise.hub.api.auth import ThisHub
from edgewise.hub.console._router import router
from edgewise.hub.console.cases import Case, case_page
from edgewise.hub.console.login import Visitor
from edgewise.hub.console.paging import asked
from edgewise.hub.previews import GB
from edgewise.hub.store import costs, lists


@router.get("/cost")
def cost(request: Request, hub: ThisHub, who: Visitor) -> Response:
    """Sums by site and class, what people and workers did, what is kept, and each device's share."""
    return case_page(request, hub, who, "cost.html", lambda case: _cost(request, case), active="cost")


def _cost(request: Request, case: Case) -> Mapping[str, Any]:
    sites = case.who.sites
    up = costs.up_by_class(case.connection, case.name, sites=sites)
    down = costs.down_by_site(case.connection, case.name, sites=sites)
    wish = asked(request, case.name, "site")
    found = lists.devices_page(
        case.connection, case.name, sites=sites, site=wish["site"], after=wish.cursor, limit=case.rows + 1
    )
    page = wish.page(found, case.rows, lambda row: row.id)
    moved = sum(row[3] for row in up) + sum(row[2] for row in down)
    link = case.usecase.connectivity
    workers = costs.worker_seconds(case.connection, case.name) if case.whole else []
    labels = costs.labels_by_person(case.connection, case.name, sites=sites)
    kept = costs.kept(case.connection, case.name, sites=sites)
    return {
        "up": up,
        "down": down,
        "up_bytes": sum(row[3] for row in up),
        "down_bytes": sum(row[2] for row in down),
        "saved_bytes": sum(max(row[3] - row[2], 0) for row in down),
        "money": None if link.price_per_gb is None else moved / GB * link.price_per_gb,
        "price": link.price_per_gb,
        "currency": link.currency or "",
        "labels": labels,
        "labels_total": sum(count for _, count in labels),
        "workers": workers,
        "minutes": sum(seconds for *_, seconds in workers) / 60,
        "kept": kept,
        "kept_bytes": sum(one.size_bytes for one in kept),
        "asked": wish,
        "page": page,
        "sent": costs.of_devices(case.connection, [row.id for row in page.rows]),
        "fields": [("site", "site", case.mine)],
    }
