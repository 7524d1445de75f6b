"""Devices that report what this hub does not know, such as after a restore from a backup: left alone until resolved.

Rollouts do not touch such a device. A person decides: `adopt` takes what it runs as what it should run and pins it
there, `reassign` repeats what this hub wants under a number that the device accepts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from edgewise.hub import audit, by_hand, pins
from edgewise.hub.store import devices, releases
from edgewise.hub.store.devices import DeviceRow
from edgewise.hub.store.releases import ReleaseRow
from edgewise.hub.versions import version_of
from edgewise.ports import Blobs
from edgewise.wire import NotValid, Report, canonical

NUMBER_MAX = 2**53 - 2  # the number above it must still have a canonical form


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """What a person decides about a device in conflict."""

    how: Literal["adopt", "reassign"]
    who: str
    why: str


def unheard(text: str, now: datetime) -> dict[str, Any]:
    """The conflict of a device that nobody has heard since a restore: what it runs may be news to this hub.

    It ends, or becomes a conflict proper, with the device's next contact.
    """
    return {"text": text, "since": now.isoformat(), "place": [None, None], "resolved": None, "unheard": True}


def why_conflict(device: DeviceRow, report: Report, release: ReleaseRow | None) -> str | None:
    """What a device reports and this hub does not know, as a sentence; None where all is known.

    Args:
        device: as the hub knew it before.
        release: the one that it reports, None where the hub has no such release.
    """
    if report.assignment > device.assignment_number:
        return (
            f"it has assignment {report.assignment}, the newest that this hub gave it is {device.assignment_number}: "
            "this hub was restored from a backup, or another one gives it assignments"
        )
    if report.release is not None and release is None:
        return f"it runs {report.release}, which this hub does not know"
    if report.bundle is not None and release is not None and report.bundle not in release.body["bundles"].values():
        return f"it runs bundle {report.bundle[:12]}… as {release.id}, which does not hold it"
    return None


def look(connection: sa.Connection, device: DeviceRow, report: Report, now: datetime) -> None:
    """Note that a conflict began or ended with this report, in the caller's write; the audit log is told once.

    Args:
        device: as it was before this report.
    """
    same = (report.release, report.bundle) == (device.release, device.bundle)
    if same and device.conflict is None and report.assignment <= device.assignment_number:
        return  # the usual contact asks the store nothing
    release = releases.get(connection, report.release) if report.release is not None else None
    text = why_conflict(device, report, release)
    before, place = device.conflict, [report.release, report.bundle]
    if text is None:
        if before is not None and before.get("unheard"):
            devices.change(connection, device.id, conflict=None)  # told once for all of them, by the restore
        elif before is not None:
            _store(connection, device, None, "device.conflict_ended", {"text": before["text"]}, now)
    elif before is None or before.get("unheard") or (before["resolved"] is not None and before["place"] != place):
        fresh = {"text": text, "since": now.isoformat(), "place": place, "resolved": None}
        _store(connection, device, fresh, "device.conflict", {"text": text}, now)


def resolve(
    connection: sa.Connection,
    device: DeviceRow,
    resolution: Resolution,
    *,
    blobs: Blobs,
    hub_epoch: str,
    now: datetime,
) -> None:
    """Carry out what a person decided, in the caller's write: the device gets an assignment that it accepts.

    Raises:
        NotValid: there is no conflict, or what is asked for cannot be; the text says what can.
    """
    report, conflict = device.last_report, device.conflict
    if conflict is not None and conflict.get("unheard"):
        raise NotValid(
            f"device {device.id} was not heard since this hub was restored; wait for its next contact",
            code="no_conflict",
        )
    if report is None or conflict is None or conflict["resolved"] is not None:
        raise NotValid(
            f"device {device.id} reports nothing that this hub does not know; nothing is to be resolved",
            code="no_conflict",
        )
    number = max(report.assignment, device.assignment_number) + 1
    if number > NUMBER_MAX:
        raise NotValid(
            f"device {device.id} says that it has assignment {report.assignment}, and no number is above; shut it out "
            "and enrol it anew",
            code="number_exhausted",
        )
    wish = _adopted(connection, device, report) if resolution.how == "adopt" else _repeated(connection, device, report)
    document = {"device": device.id, "conflict": conflict["text"], "how": resolution.how, "why": resolution.why}
    document |= {"release": report.release, "bundle": report.bundle}
    evidence = blobs.put(canonical(document))
    reason = f"{resolution.how} by {resolution.who}: {resolution.why}"
    by_hand.assign(
        connection, device, **wish, number=number, reason=reason, evidence=evidence, hub_epoch=hub_epoch, now=now
    )
    done = {"how": resolution.how, "who": resolution.who, "why": resolution.why, "at": now.isoformat()}
    # Kept while the device still runs it: it has not heard of its new assignment yet.
    devices.change(connection, device.id, conflict={**conflict, "resolved": done})
    if resolution.how == "adopt" and report.release is not None:
        # An older rollout that finished would take it back at once to what it wants of the whole fleet.
        pins.keep(connection, device, report.release, who=resolution.who, why=f"adopted: {resolution.why}", now=now)
    data = {"text": conflict["text"], "how": resolution.how, "why": resolution.why, "number": number}
    audit.note(connection, actor=resolution.who, action="device.resolved", subject=device.id, data=data, now=now)


def _adopted(connection: sa.Connection, device: DeviceRow, report: Report) -> dict[str, Any]:
    if report.release is None:
        return {"kind": "run", "release": None, "bundle": None}
    release = releases.get(connection, report.release)
    if release is None or release.use_case != device.use_case or report.bundle not in release.body["bundles"].values():
        raise NotValid(
            f"device {device.id} runs {report.release}, which this hub does not have; bring the signed release and its "
            "bundle here first (POST /api/v1/trust/publish), or reassign",
            code="release_unknown_here",
        )
    return {"kind": "run", "release": report.release, "bundle": report.bundle}


def _repeated(connection: sa.Connection, device: DeviceRow, report: Report) -> dict[str, Any]:
    wanted = device.wanted
    if wanted is None or wanted.release is None or wanted.bundle is None:
        return {"kind": "run", "release": None, "bundle": None}  # rollouts say what it runs
    if version_of(report.release) <= version_of(wanted.release):
        return {"kind": "run", "release": wanted.release, "bundle": wanted.bundle}
    once = {commit.bundle for commit in devices.commits_of(connection, device=device.id)}
    if wanted.bundle not in once:
        raise NotValid(
            f"device {device.id} runs {report.release} and would refuse to go back to {wanted.release}, which never "
            f"ran there; sign that bundle as a release newer than {report.release}, or adopt",
            code="revert_unproven",
        )
    return {"kind": "revert", "release": wanted.release, "bundle": wanted.bundle}


def _store(
    connection: sa.Connection,
    device: DeviceRow,
    conflict: dict[str, Any] | None,
    action: str,
    data: dict[str, Any],
    now: datetime,
) -> None:
    devices.change(connection, device.id, conflict=conflict)
    actor = f"device {device.id}"
    audit.note(connection, actor=actor, action=action, subject=device.id, data=data, now=now)
