"""Day sketches as they come in: told by an event, kept by device and day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import sqlalchemy as sa

from edgewise.hub import audit
from edgewise.hub.store import drift as rows
from edgewise.hub.store.devices import DeviceRow
from edgewise.wire import DaySketch, Event, NotValid

DAY_SKETCH = "day_sketch"  # what an event with a sketch is called


def take(connection: sa.Connection, device: DeviceRow, events: Sequence[Event], now: datetime) -> None:
    """Put the sketches among a device's new events where they are looked at; one that cannot be read is audited."""
    found = []
    for event in events:
        if event.what != DAY_SKETCH:
            continue
        try:
            sketch = DaySketch.of_text(str(event.data["sketch"]))
            day = date.fromisoformat(str(event.data["day"])).isoformat()
            bundle, pipeline = str(event.data["bundle"])[:64], str(event.data.get("pipeline", "main"))[:128]
        except (KeyError, ValueError, NotValid) as error:
            data = {"event": event.id, "reason": str(error)[:200]}
            audit.note(
                connection,
                actor=f"device {device.id}",
                action="drift.sketch_refused",
                subject=device.id,
                data=data,
                now=now,
            )
            continue
        found.append({
            "event": event.id, "use_case": device.use_case, "device": device.id, "pipeline": pipeline,
            "bundle": bundle, "day": day, "sketch": sketch.encode(), "received_at": now,
        })  # fmt: skip
    if found:
        rows.add_sketches(connection, found)
