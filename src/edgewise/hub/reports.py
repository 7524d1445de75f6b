"""What a device says of itself with every contact, and what the hub keeps of it."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from edgewise.hub import conflicts, failures
from edgewise.hub.store import devices
from edgewise.hub.store.devices import DeviceRow
from edgewise.wire import Report


def heard(connection: sa.Connection, device: DeviceRow, report: Report, *, sent_at: datetime, now: datetime) -> None:
    """Keep a report, the failure that it tells of, and whether it contradicts what this hub knows."""
    failures.note(connection, device, report, now)
    conflicts.look(connection, device, report, now)
    devices.heard(connection, device, report, sent_at=sent_at, now=now)
