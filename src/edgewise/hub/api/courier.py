"""Routes of the courier: what goes onto a stick, and what comes back on one."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.routing import Route

from edgewise.hub import courier
from edgewise.hub._hub import Hub
from edgewise.hub.access import Action
from edgewise.hub.api.auth import Operator, ThisHub
from edgewise.hub.api.device import Answer, Call, RawRoute, route
from edgewise.hub.api.problems import responses
from edgewise.hub.body import Body
from edgewise.wire import NotValid, canonical, decode, plain
from edgewise.wire._record import Name
from edgewise.wire.courier import SealedListing

router = APIRouter()
LISTING_BYTES_MAX = 8 << 20
IMPORT_NEEDS = (Action.OPERATE,)


class CourierIn(Body):
    devices: tuple[Name, ...] = Field(min_length=1, max_length=courier.DEVICES_MAX)


@router.post("/courier/export", tags=["devices"], responses=responses(404))
def export(wish: CourierIn, hub: ThisHub, who: Operator) -> dict[str, Any]:
    """What devices without a link need: a signed listing and all its files but the blobs, as text by path."""
    parcel = courier.export(hub, wish.devices, who)
    return {"sealed": plain(parcel.sealed), "files": {path: data.decode() for path, data in parcel.files.items()}}


def take(call: Call) -> Answer:
    """The body: length of the sealed listing (4 bytes, big-endian), the listing, then the file that `path` names."""
    person = call.device_or_person(*IMPORT_NEEDS)
    assert person is not None, "devices do not have this route"
    size = struct.unpack(">I", call.body[:4])[0] if len(call.body) >= 4 else 0
    if not 0 < size <= min(LISTING_BYTES_MAX, len(call.body) - 4):
        raise NotValid(
            f"the body has {len(call.body)} bytes and names a listing of {size}; needs a listing, then a file",
            code="upload_invalid",
        )
    sealed = decode(SealedListing, call.body[4 : 4 + size])
    path = call.query.get("path") or None
    taken = courier.take(call.hub, sealed, path, call.body[4 + size :], person)
    return Answer(body=canonical(dataclasses.asdict(taken)))


def routes(hub: Hub, *, prefix: str) -> list[Route]:
    """What is no JSON."""
    bytes_max = max(hub.limits.blob_bytes_max, hub.limits.contact_bytes_max) + LISTING_BYTES_MAX + 4
    return [route(f"{prefix}/courier/import", RawRoute(hub, take, for_devices=False, bytes_max=bytes_max), "POST")]
