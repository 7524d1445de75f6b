"""An assignment that a person, not a rollout, gives to one device."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from edgewise.hub import audit, erasures, usecases
from edgewise.hub.store import devices
from edgewise.hub.store.devices import DeviceRow
from edgewise.wire import Assignment


def assign(
    connection: sa.Connection,
    device: DeviceRow,
    *,
    kind: Literal["run", "revert"],
    release: str | None,
    bundle: str | None,
    reason: str,
    hub_epoch: str,
    now: datetime,
    number: int | None = None,
    evidence: str | None = None,
) -> Assignment:
    """Make this the device's desired state, in the caller's write; it waits for no window and no condition.

    Args:
        number: of the assignment; None: one above the last.
    """
    usecase = usecases.need(connection, device.use_case)
    made = Assignment(
        device=device.id,
        number=number or device.assignment_number + 1,
        hub_epoch=hub_epoch,
        use_case=device.use_case,
        kind=kind,
        release=release,
        bundle=bundle,
        trial_s=usecase.rollout.trial_s,
        policy_version=usecase.data.version,
        reason=reason,
        evidence=evidence,
        issued_at=now,
        erasures=erasures.open_for(connection, device),
    )
    devices.assign(connection, made)
    data = {"number": made.number, "kind": kind, "release": release, "reason": reason, "evidence": evidence}
    audit.note(connection, actor="controller", action="device.assigned", subject=device.id, data=data, now=now)
    return made
