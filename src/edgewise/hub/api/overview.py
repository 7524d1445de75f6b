"""Routes for reading the whole: overview, telemetry, audit."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from edgewise.hub import audit, overview, scope, usecases
from edgewise.hub.api.auth import Auditor, ThisHub, Watcher
from edgewise.hub.api.models import AuditChecked, AuditOut
from edgewise.hub.api.problems import responses
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import intake

router = APIRouter()


@router.get("/overview", tags=["overview"], responses=responses())
def get_overview(hub: ThisHub, who: Watcher) -> dict[str, Any]:
    """The loop at a glance."""
    return overview.overview(hub.store, who, hub.now())


@router.get("/telemetry", tags=["overview"], responses=responses(404))
def get_telemetry(hub: ThisHub, who: Watcher, use_case: str) -> list[dict[str, Any]]:
    """Sums of what devices counted, for each site and release."""
    with hub.store.read() as connection:
        usecases.need(connection, use_case)
        scope.check_some(connection, who, use_case, f"use case {use_case}")
        return [dict(row) for row in intake.telemetry_sums(connection, use_case) if who.sees(row["site"])]


@router.get("/audit", tags=["audit"], responses=responses())
def list_audit(
    hub: ThisHub,
    who: Auditor,
    after: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[AuditOut]:
    """Entries of the audit log with an index above `after`, oldest first."""
    who.check_everywhere("the audit log")
    with hub.store.read() as connection:
        return [AuditOut.model_validate(row) for row in audit_rows.page(connection, after=after, limit=limit)]


@router.get("/audit/verify", tags=["audit"], responses=responses())
def verify_audit(hub: ThisHub, who: Auditor) -> AuditChecked:
    """Check the whole hash chain."""
    who.check_everywhere("the audit log")
    return AuditChecked.model_validate(audit.verify(hub.store))
