"""Routes for reading the whole: overview, telemetry, audit."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from edgewise.hub import audit, overview, usecases
from edgewise.hub.api.auth import Admin, ThisHub
from edgewise.hub.api.models import AuditChecked, AuditOut
from edgewise.hub.api.problems import responses
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import intake

router = APIRouter()


@router.get("/overview", tags=["overview"], responses=responses())
def get_overview(hub: ThisHub, _who: Admin) -> dict[str, Any]:
    """The loop at a glance."""
    return overview.overview(hub.store, hub.now())


@router.get("/telemetry", tags=["overview"], responses=responses(404))
def get_telemetry(hub: ThisHub, _who: Admin, use_case: str) -> list[dict[str, Any]]:
    """Sums of what devices counted, for each site and release."""
    with hub.store.read() as connection:
        usecases.need(connection, use_case)
        return [dict(row) for row in intake.telemetry_sums(connection, use_case)]


@router.get("/audit", tags=["audit"], responses=responses())
def list_audit(
    hub: ThisHub,
    _who: Admin,
    after: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[AuditOut]:
    """Entries of the audit log with an index above `after`, oldest first."""
    with hub.store.read() as connection:
        return [AuditOut.model_validate(row) for row in audit_rows.page(connection, after=after, limit=limit)]


@router.get("/audit/verify", tags=["audit"], responses=responses())
def verify_audit(hub: ThisHub, _who: Admin) -> AuditChecked:
    """Check the whole hash chain."""
    return AuditChecked.model_validate(audit.verify(hub.store))
