"""Routes for what a person decides about one device: pins, and conflicts to resolve."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import ConfigDict, Field

from edgewise.hub import conflicts, pins
from edgewise.hub.access import Person
from edgewise.hub.api.auth import Operator, ThisHub
from edgewise.hub.api.models import DeviceOut
from edgewise.hub.api.problems import responses
from edgewise.hub.body import Body
from edgewise.hub.conflicts import Resolution
from edgewise.hub.store import devices
from edgewise.hub.store.devices import DeviceRow
from edgewise.wire import NotValid
from edgewise.wire._record import Name

router = APIRouter()


class PinIn(Body):
    reason: str = Field(min_length=1, max_length=500)
    release: Name | None = Field(None, description="the one that it is expected to run now")

    model_config = ConfigDict(json_schema_extra={"example": {"reason": "audit week", "release": "parts@3"}})


class ResolveIn(Body):
    how: Literal["adopt", "reassign"] = Field(
        description="adopt: it stays at what it runs, pinned there; reassign: what this hub wants is told once more"
    )
    reason: str = Field(min_length=1, max_length=500)

    model_config = ConfigDict(json_schema_extra={"example": {"how": "adopt", "reason": "the backup was a day old"}})


@router.put("/devices/{device}/pin", tags=["devices"], responses=responses(404, 409))
def pin(device: str, wish: PinIn, hub: ThisHub, who: Operator) -> DeviceOut:
    """Keep a device at the release that it runs: rollouts leave it alone, and say so."""
    with hub.store.write() as connection:
        row = _device(connection, who, device)
        pins.pin(
            connection,
            row,
            release=wish.release,
            who=who.name,
            why=wish.reason,
            hub_epoch=hub.hub_epoch,
            now=hub.now(),
        )
        return DeviceOut.model_validate(devices.get(connection, device))


@router.delete("/devices/{device}/pin", tags=["devices"], responses=responses(404))
def unpin(device: str, hub: ThisHub, who: Operator) -> DeviceOut:
    """Let rollouts have the device again."""
    with hub.store.write() as connection:
        pins.unpin(connection, _device(connection, who, device), who=who.name, now=hub.now())
        return DeviceOut.model_validate(devices.get(connection, device))


@router.post("/devices/{device}/resolve", tags=["devices"], responses=responses(404, 409))
def resolve(device: str, wish: ResolveIn, hub: ThisHub, who: Operator) -> DeviceOut:
    """Decide about a device that reports what this hub does not know; until then it is left alone."""
    with hub.store.write() as connection:
        conflicts.resolve(
            connection,
            _device(connection, who, device),
            Resolution(how=wish.how, who=who.name, why=wish.reason),
            blobs=hub.store.blobs,
            hub_epoch=hub.hub_epoch,
            now=hub.now(),
        )
        return DeviceOut.model_validate(devices.get(connection, device))


def _device(connection: sa.Connection, who: Person, device: str) -> DeviceRow:
    row = devices.get(connection, device)
    if row is None:
        raise NotValid(f"there is no device {device[:80]!r}; see GET /api/v1/devices", code="device_unknown")
    who.check_sites([row.site], f"device {device}")
    return row
