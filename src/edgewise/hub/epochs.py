"""After a restore: a new hub epoch, devices that are met again one by one, and what was lost in between.

A restore leaves every device alone until it is heard (`conflicts.unheard`). The first word of a device tells whether it
knows more than the backup: then it waits for a person. Otherwise what the hub wants of it is told again in the new
epoch, so that the numbers of the lost hub mean nothing any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub import audit
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import devices
from edgewise.hub.store import erasures as erasure_rows
from edgewise.hub.store import intake as rows
from edgewise.hub.store.devices import DeviceRow
from edgewise.wire import ERASURES_MAX, UploadHeader

RESTORED, GAP, ERASED = "hub.restored", "device.gap", "device.erased_more"
NAMED_MAX = 1000  # devices that one answer names


@dataclass(frozen=True, kw_only=True, slots=True)
class GapOf:
    """What one device had sent to the lost hub, and this one never got."""

    device: str
    epoch: str
    stored: int  # everything up to this number is here
    acked: int  # and the device was told that everything up to this one was

    @property
    def lost(self) -> int:
        return self.acked - self.stored


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """The last restore, and what is known of its gap by now."""

    at: datetime
    data: dict[str, Any]  # of the audit entry
    unheard: int  # devices
    gaps: list[GapOf] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)  # devices that wait for a person
    erased_more: list[str] = field(default_factory=list)  # devices that did erasures which the backup does not have

    @property
    def lost(self) -> int:
        """Segments that were acknowledged and are not here."""
        return sum(gap.lost for gap in self.gaps)


def heard(connection: sa.Connection, device: DeviceRow, *, hub_epoch: str, now: datetime) -> bool:
    """Tell a device in the new epoch what was wanted of it; True when that took a new assignment.

    Args:
        device: as it is after its report was looked at.
    """
    wanted = device.wanted
    if wanted is None or wanted.hub_epoch == hub_epoch or device.in_conflict:
        return False
    number = device.assignment_number + 1
    erasures = tuple(row.record for row in erasure_rows.open_for(connection, device, ERASURES_MAX))
    update = {"number": number, "hub_epoch": hub_epoch, "issued_at": now, "erasures": erasures}
    devices.assign(connection, wanted.model_copy(update=update))
    data = {"number": number, "earlier_epoch": wanted.hub_epoch}
    audit.note(connection, actor="controller", action="device.assigned", subject=device.id, data=data, now=now)
    return True


def note_gap(connection: sa.Connection, header: UploadHeader, now: datetime) -> None:
    """Count what a device was told is stored, and is not; the same gap is noted once."""
    stored = rows.watermark(connection, header.device, header.epoch)
    if header.acked <= stored:
        return
    data = {"epoch": header.epoch, "stored": stored, "acked": header.acked}
    newest = audit_rows.newest_of(connection, GAP, subject=header.device, limit=1)
    if not newest or newest[0]["data"] != data:
        actor = f"device {header.device}"
        audit.note(connection, actor=actor, action=GAP, subject=header.device, data=data, now=now)


def note_erased_more(connection: sa.Connection, header: UploadHeader, hub_epoch: str, now: datetime) -> None:
    """Tell people, once, that a device did erasures of the lost hub which the backup does not have."""
    report = header.report
    if report.erased_of in (None, hub_epoch) or not report.erased:
        return
    last = _last(connection)
    if last is None or last["data"]["earlier_epoch"] != report.erased_of or report.erased <= last["data"]["erasures"]:
        return
    if audit_rows.newest_of(connection, ERASED, subject=header.device, limit=1, after=last["index"]):
        return
    data = {"erased": report.erased, "known": last["data"]["erasures"]}
    actor = f"device {header.device}"
    audit.note(connection, actor=actor, action=ERASED, subject=header.device, data=data, now=now)


def restored(connection: sa.Connection) -> Restored | None:
    """The last restore of this hub with its gap as known now; None where it never was."""
    last = _last(connection)
    if last is None:
        return None
    newest: dict[tuple[str, str], GapOf] = {}
    for row in audit_rows.newest_of(connection, GAP, limit=NAMED_MAX, after=last["index"]):
        gap = GapOf(device=row["subject"], **row["data"])
        newest.setdefault((gap.device, gap.epoch), gap)  # they come newest first
    erased = audit_rows.newest_of(connection, ERASED, limit=NAMED_MAX, after=last["index"])
    return Restored(
        at=last["at"],
        data=last["data"],
        unheard=devices.unheard(connection),
        gaps=list(newest.values()),
        conflicts=devices.conflicted(connection, limit=NAMED_MAX),
        erased_more=sorted({row["subject"] for row in erased}),
    )


def _last(connection: sa.Connection) -> dict[str, Any] | None:
    found = audit_rows.newest_of(connection, RESTORED, limit=1)
    return found[0] if found else None
