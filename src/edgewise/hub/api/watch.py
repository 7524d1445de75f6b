"""Routes for watching a fleet: its health, signs of an attack, and the alerts that people were told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from edgewise.hub import health, scope, threats, usecases
from edgewise.hub.api.auth import Auditor, ThisHub, Watcher
from edgewise.hub.api.problems import responses
from edgewise.hub.store import alerts as alert_rows
from edgewise.wire.alerts import ThreatKind

router = APIRouter()
Hours = Annotated[float, Query(gt=0, le=24 * 90, description="how far back")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Position = Annotated[int | None, Query(ge=1, le=2**53, description="`next` of the page before")]


@router.get("/fleet/health", tags=["overview"], responses=responses(404))
def fleet_health(
    hub: ThisHub,
    who: Watcher,
    use_case: Annotated[str | None, Query(max_length=160)] = None,
    hours: Hours = 24,
    behind_hours: Hours = health.BEHIND_HOURS,
) -> dict[str, Any]:
    """Failures by category, component, code, release and site, over time; devices that are silent or behind."""
    with hub.store.read() as connection:
        if use_case is not None:
            usecases.need(connection, use_case)
            scope.check_some(connection, who, use_case, f"use case {use_case}")
        return health.fleet_health(
            connection, hub.now(), sites=who.sites, use_case=use_case, hours=hours, behind_hours=behind_hours
        )


@router.get("/fleet/health/{which}", tags=["overview"], responses=responses(404))
def late_devices(
    which: Literal["silent", "behind"],
    hub: ThisHub,
    who: Watcher,
    use_case: Annotated[str | None, Query(max_length=160)] = None,
    behind_hours: Hours = health.BEHIND_HOURS,
    after: Annotated[str, Query(max_length=160, description="`next` of the page before")] = "",
    limit: Limit = 100,
) -> dict[str, Any]:
    """The devices behind these counts, by name."""
    with hub.store.read() as connection:
        if use_case is not None:
            usecases.need(connection, use_case)
            scope.check_some(connection, who, use_case, f"use case {use_case}")
        return health.late_devices(
            connection,
            which,
            hub.now(),
            sites=who.sites,
            use_case=use_case,
            behind_hours=behind_hours,
            after=after,
            limit=limit,
        )


@router.get("/threats", tags=["audit"], responses=responses())
def list_threats(
    hub: ThisHub,
    who: Auditor,
    hours: Hours = 24,
    kind: ThreatKind | None = None,
    before: Position = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Signs of an attack by kind, and whom they came from, newest first; of somebody's own sites only their devices."""
    with hub.store.read() as connection:
        return threats.threats(
            connection, hub.now(), hours=hours, kind=kind, sites=who.sites, before=before, limit=limit
        )


@router.get("/alerts", tags=["audit"], responses=responses())
def list_alerts(hub: ThisHub, who: Auditor, before: Position = None, limit: Limit = 100) -> dict[str, Any]:
    """What people were told, by which way, and whether it was taken; newest first."""
    who.check_everywhere("the alerts")
    with hub.store.read() as connection:
        found = alert_rows.page(connection, before=before, limit=limit + 1)
    shown = found[:limit]
    told = [
        {
            "position": row.position,
            "channel": row.channel,
            "state": row.state,
            "attempts": row.attempts,
            "error": row.error,
            "sent_at": row.sent_at,
            "alert": row.body,
        }
        for row in shown
    ]
    return {"alerts": told, "next": shown[-1].position if len(found) > limit else None}
