"""What a device refused – a bundle, a delta, metadata, an assignment – joins the hub's own audit chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub import audit
from edgewise.wire import Event

NOTED_MAX = 50  # a device in wrong hands could tell of refusals without end: the rest of a segment is one entry
CHARACTERS_MAX = 1000
SUFFIX = "_refused"  # how a device names what it would not take


def note_refusals(connection: sa.Connection, device: str, events: Sequence[Event], now: datetime) -> None:
    """Add the refusals among a segment's events to the chain, in the caller's write.

    Args:
        device: that told of them, as its certificate says.
        events: that this device has not told of before.
    """
    refused = [event for event in events if event.what.endswith(SUFFIX)]
    for event in refused[:NOTED_MAX]:
        _note(connection, device, event.what, _told(event), now)
    if len(refused) > NOTED_MAX:
        _note(connection, device, f"more{SUFFIX}", {"more": len(refused) - NOTED_MAX}, now)


def _told(event: Event) -> dict[str, Any]:
    told = {"id": event.id, "at": event.at.isoformat(), "text": event.text[:CHARACTERS_MAX]}
    code = event.data.get("code")
    return told | ({"code": code[:CHARACTERS_MAX]} if isinstance(code, str) else {})


def _note(connection: sa.Connection, device: str, what: str, data: Mapping[str, Any], now: datetime) -> None:
    actor = f"device {device}"
    audit.note(connection, actor=actor, action=f"device.{what}", subject=device, data=data, now=now)
