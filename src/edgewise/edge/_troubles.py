"""What stands in a device's way beside its update: clock, certificate, metadata, disk, link; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from edgewise.edge._contact_memory import ContactNote
from edgewise.edge._story import moment

CLOCK_OFF_MAX = timedelta(minutes=5)  # between this device's clock and the hub's: the usual bound of Kerberos and JWTs
DISK_FREE_MB_MIN = 50.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What this device knows for certain, to compare its clock and files with."""

    certificate: tuple[datetime, datetime] | None = None  # from when to when it holds
    metadata_expires_at: datetime | None = None
    contact: ContactNote = field(default_factory=ContactNote)
    lived: datetime | None = None  # the newest moment written down here


def clock_trouble(now: datetime, known: Known) -> str | None:
    """Why the clock cannot be right, with what to do; None where nothing speaks against it.

    It names only what is certain: a clock behind a moment that was here already, before the certificate's start, or
    apart from the hub's at the last contact.

    >>> from datetime import UTC
    >>> lived = datetime(2026, 3, 1, tzinfo=UTC)
    >>> clock_trouble(datetime(2016, 3, 1, tzinfo=UTC), Known(lived=lived))
    "this device's clock says 2016-03-01 00:00 UTC, but 2026-03-01 00:00 UTC was here already; set the clock"
    """
    says = f"this device's clock says {moment(now)}"
    if known.certificate is not None and now < known.certificate[0] - CLOCK_OFF_MAX:
        return f"{says}, but its certificate begins at {moment(known.certificate[0])}; set the clock"
    if known.lived is not None and now < known.lived - CLOCK_OFF_MAX:
        return f"{says}, but {moment(known.lived)} was here already; set the clock"
    note = known.contact
    if note.last_at is not None and note.hub_at is not None:
        off = note.last_at - note.hub_at
        if abs(off) > CLOCK_OFF_MAX:
            way = "ahead of" if off > timedelta() else "behind"
            return f"{says}; at the last contact it was {_long(abs(off))} {way} the hub's; set the clock"
    return None


def troubles(now: datetime, known: Known, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Everything that stands in the way, most basic first, as sentences without a full stop."""
    found = []
    clock = clock_trouble(now, known)
    if clock is not None:
        found.append(clock[0].upper() + clock[1:])
    if known.certificate is not None and now >= known.certificate[1]:
        found.append(
            f"The certificate ended at {moment(known.certificate[1])}: the device asks for the next one with its key "
            "as soon as the hub answers"
        )
    if known.metadata_expires_at is not None and now >= known.metadata_expires_at:
        found.append(
            f"The release metadata ended at {moment(known.metadata_expires_at)}: nothing new is installed until the "
            "hub gives newer ones, decisions go on"
        )
    free = facts.get("disk_free_mb")
    if isinstance(free, int | float) and free < DISK_FREE_MB_MIN:
        found.append(f"Only {free:g} MB are free on the disk: downloads and samples wait, decisions go on")
    if known.contact.failures:
        since = f" since {moment(known.contact.last_at)}" if known.contact.last_at else ""
        found.append(f"No contact came through{since}: {known.contact.error}")
    return tuple(found)


def _long(span: timedelta) -> str:
    if span >= timedelta(days=730):
        return f"{span.days / 365.25:.0f} years"
    if span >= timedelta(days=2):
        return f"{span.days} days"
    hours = span.total_seconds() / 3600
    return f"{hours:.0f} hours" if hours >= 2 else f"{hours * 60:.0f} minutes"
