"""What devices say went wrong with their updates: each failure once, for programs and for people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store import failures as rows
from edgewise.hub.store import rollouts
from edgewise.hub.store.devices import DeviceRow
from edgewise.wire import Report

KEPT_MAX = 1000  # of one device
UNTOLD = "untold"  # the code where a device says it in words alone
CHARACTERS_MAX = 1000


def note(connection: sa.Connection, device: DeviceRow, report: Report, now: datetime) -> bool:
    """Keep the failure that a report tells of; True if it is a new one. A device repeats its last one at each contact.

    Args:
        device: as it was before this report.
    """
    if report.failure is not None:
        failure = report.failure
        if rows.is_known(connection, device.id, failure.at, failure.code):
            return False
        told: dict[str, Any] = {name: getattr(failure, name) for name in ("at", "phase", "component", "category")}
        told |= {"code": failure.code, "text": failure.text}
    elif report.last_failure and not _said_before(device, report):
        told = {"at": report.at, "phase": report.phase, "component": "update", "category": None}
        told |= {"code": UNTOLD, "text": report.last_failure[:CHARACTERS_MAX]}
    else:
        return False
    rollout, release = _origin(connection, device, report)
    place = {"use_case": device.use_case, "site": device.site, "device": device.id, "received_at": now}
    rows.add(connection, told | place | {"rollout": rollout, "release": release}, kept_max=KEPT_MAX)
    return True


def _said_before(device: DeviceRow, report: Report) -> bool:
    before = device.last_report
    return before is not None and (before.last_failure, before.failed_rollout) == (
        report.last_failure,
        report.failed_rollout,
    )


def _origin(connection: sa.Connection, device: DeviceRow, report: Report) -> tuple[str | None, str | None]:
    """The rollout and the release that failed; a rollout of another use case is none of this device's."""
    rollout = rollouts.get(connection, report.failed_rollout) if report.failed_rollout else None
    if rollout is not None and rollout.use_case == device.use_case:
        return rollout.id, rollout.release
    wanted = device.wanted
    if wanted is not None and wanted.number == report.assignment and wanted.release is not None:
        return None, wanted.release
    return None, report.release
