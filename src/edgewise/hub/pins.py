"""Pins: an operator keeps one device at the release that it runs; every rollout leaves it alone and says so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub import audit, by_hand
from edgewise.hub.store import devices, releases
from edgewise.hub.store.devices import DeviceRow
from edgewise.wire import NotValid


def pin(
    connection: sa.Connection,
    device: DeviceRow,
    *,
    release: str | None,
    who: str,
    why: str,
    hub_epoch: str,
    now: datetime,
) -> None:
    """Keep the device at what it runs, in the caller's write. An update that is under way there is called off.

    Args:
        release: the one that it is expected to run; None: whatever it runs.
    Raises:
        NotValid: it runs nothing, something else, something withdrawn, or what this hub does not know.
    """
    if device.in_conflict:
        raise NotValid(f"device {device.id} is in conflict: {device.in_conflict}; resolve that first", code="conflict")
    if device.release is None or device.bundle is None:
        raise NotValid(f"device {device.id} runs no release yet, so it cannot be pinned to one", code="nothing_to_pin")
    if release not in (None, device.release):
        raise NotValid(
            f"device {device.id} runs {device.release}, not {release}; a pin keeps a device where it is, and a rollout "
            "that names it brings it elsewhere",
            code="pin_elsewhere",
        )
    row = releases.get(connection, device.release)
    if row is not None and row.withdrawn_at is not None:
        raise NotValid(f"{device.release} was withdrawn by its signers; no device is pinned to it", code="withdrawn")
    if device.pin is not None and device.pin["release"] == device.release:
        return
    keep(connection, device, device.release, who=who, why=why, now=now)
    wanted = device.wanted
    aims = wanted is not None and (wanted.release, wanted.bundle) == (device.release, device.bundle)
    if wanted is None or not aims or wanted.bake or wanted.shadow:
        reason = f"pinned by {who}: {why}"
        by_hand.assign(
            connection,
            device,
            kind="run",
            release=device.release,
            bundle=device.bundle,
            reason=reason,
            hub_epoch=hub_epoch,
            now=now,
        )


def keep(connection: sa.Connection, device: DeviceRow, release: str, *, who: str, why: str, now: datetime) -> None:
    """Write the pin down; what the device is told is the caller's affair."""
    devices.change(connection, device.id, pin={"release": release, "who": who, "why": why, "at": now.isoformat()})
    data = {"release": release, "why": why}
    audit.note(connection, actor=who, action="device.pinned", subject=device.id, data=data, now=now)


def unpin(connection: sa.Connection, device: DeviceRow, *, who: str, now: datetime) -> None:
    """Let rollouts have the device again, in the caller's write; a device without a pin stays as it is."""
    if device.pin is not None:
        devices.change(connection, device.id, pin=None)
        data = {"release": device.pin["release"]}
        audit.note(connection, actor=who, action="device.unpinned", subject=device.id, data=data, now=now)


def pin_text(pinned: Mapping[str, Any] | None) -> str:
    """What a rollout says of a pinned device; empty without a pin.

    >>> pin_text({"release": "parts@3", "who": "ann", "why": "audit week", "at": "2026-05-04T08:00:00+00:00"})
    'pinned to parts@3 by ann since 2026-05-04: audit week'
    """
    if pinned is None:
        return ""
    return f"pinned to {pinned['release']} by {pinned['who']} since {pinned['at'][:10]}: {pinned['why']}"
