"""Devices as this hub last knew them, in memory: a contact that changes nothing asks the store nothing.

A device calls every minute and mostly says that all is as it was. Such a *quiet* contact is answered from here, and
what it reports is written with the next tick, for all devices at once. Nothing is acknowledged by it, so a hub that is
killed in between forgets at most when it heard a device last. Everything else – records, another phase, a failure, an
assignment that the device does not have, an open erasure – goes through `intake`.

What is held is dropped when anything that it follows from is changed by this process, at once, or by another hub of the
same database, within `Limits.known_s`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from edgewise.hub import repository
from edgewise.hub.limits import Limits
from edgewise.hub.odd import is_skewed
from edgewise.hub.sightings import Sightings
from edgewise.hub.store import Store, devices, erasures, usecases
from edgewise.hub.store import intake as rows
from edgewise.hub.store.devices import DeviceRow, QuietWord
from edgewise.wire import NotTrusted, PublicKey, UploadHeader

# What a report says that somebody acts on. The rest – counts, facts, what it waits for – may differ in a quiet contact.
steady = attrgetter(
    "phase",
    "release",
    "bundle",
    "previous",
    "assignment",
    "known_bad",
    "last_failure",
    "failure",
    "failed_rollout",
    "erased",
    "erased_of",
    "version",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """One device, between two contacts that change something."""

    id: str
    site: str
    key: PublicKey
    assignment_number: int
    steady: tuple[Any, ...]
    card_facts: Mapping[str, Any]
    stretch: int | None  # the row of `commits` that a quiet contact lengthens
    epoch: str
    watermark: int
    metadata: int
    contact_s: float
    told_metadata: int  # that the device said it had verified

    def is_quiet(self, header: UploadHeader) -> bool:
        """Whether this contact changes nothing but when the device was heard, and its counts."""
        return (
            header.epoch == self.epoch
            and header.acked == self.watermark
            and header.has_assignment == self.assignment_number
            and header.report.metadata >= self.told_metadata
            and steady(header.report) == self.steady
        )


class KnownDevices:
    """The devices that called last, at most `Limits.known_devices_max`.

    Args:
        store: what is held follows from it.
        limits: how many are held, and how long another hub's change may go unseen.
        sightings: hear of devices whose clock is wrong.
    """

    def __init__(self, store: Store, limits: Limits, sightings: Sightings) -> None:
        self._store = store
        self.sightings = sightings
        self._limits = limits
        self._lock = threading.Lock()
        self._held: dict[str, Known] = {}
        self._heard: dict[str, QuietWord] = {}
        self._generation = 0  # grows whenever something is dropped
        self._looked_at: datetime | None = None
        store.watch(self._changed)

    def holds(self, device: str, now: datetime) -> bool:
        """Whether a quiet contact of this device would ask the store nothing, now."""
        return device in self._held and not self._is_due(now)

    def quiet(self, header: UploadHeader, now: datetime) -> Known | None:
        """The device where this contact of it is a quiet one, which is then written with the next `flush`; else None.

        Raises:
            NotTrusted: the device is not enrolled, or shut out.
        """
        if header.segments or header.report.card is not None:
            return None
        self._look_for_changes(now)
        known = self._held.get(header.device) or self._load(header)
        if known is None or not known.is_quiet(header):
            return None
        report = header.report
        if report.facts and known.card_facts:
            report = report.model_copy(update={"facts": {**report.facts, **known.card_facts}})
        word = QuietWord(device=known.id, report=report, stretch=known.stretch, sent_at=header.sent_at, at=now)
        with self._lock:
            if self._held.get(known.id) is not known:
                return None  # something changed in this moment
            self._heard[known.id] = word
        if is_skewed(header.sent_at, now, self._limits):
            self.sightings.add("clock", known.id, "its clock is not the hub's", now)
        return known

    def key_of(self, device: str, now: datetime) -> tuple[str, PublicKey]:
        """The site and the key with which a device is enrolled.

        Raises:
            NotTrusted: it is not, or it is shut out.
        """
        self._look_for_changes(now)
        known = self._held.get(device)
        if known is not None:
            return known.site, known.key
        with self._store.read() as connection:
            row = known_device(connection, device)
        return row.site, row.public_key

    def drop(self, device: str) -> None:
        """Forget one device, and what it said that is not written yet: it says more now."""
        with self._lock:
            self._generation += 1
            self._held.pop(device, None)
            self._heard.pop(device, None)

    def flush(self) -> None:
        """Write down what quiet contacts said.

        Raises:
            NotNow: the store cannot take it now; it is kept.
        """
        if not self._heard:
            return
        words: dict[str, QuietWord] = {}
        try:
            with self._store.write() as connection:
                # Inside the write: no contact that says more can be stored between the two steps.
                with self._lock:
                    words, self._heard = self._heard, {}
                devices.heard_quiet(connection, list(words.values()))
        except BaseException:
            with self._lock:
                self._heard = {name: word for name, word in words.items() if name in self._held} | self._heard
            raise

    def _changed(self, names: frozenset[str] | None) -> None:
        with self._lock:
            self._generation += 1
            if names is None:
                self._held.clear()
                return
            for name in names:
                self._held.pop(name, None)

    def _look_for_changes(self, now: datetime) -> None:
        if self._is_due(now):
            self._looked_at = now
            self._store.look_for_changes()

    def _is_due(self, now: datetime) -> bool:
        return self._looked_at is None or abs((now - self._looked_at).total_seconds()) >= self._limits.known_s

    def _load(self, header: UploadHeader) -> Known | None:
        generation = self._generation
        with self._store.read() as connection:
            row = known_device(connection, header.device)
            if row.conflict is not None or erasures.open_for(connection, row, 1):
                return None
            known = _known(connection, row, header.epoch)
        with self._lock:
            if known is None or generation != self._generation:
                return None
            if len(self._held) >= self._limits.known_devices_max:
                self._held.clear()
            self._held[row.id] = known
        return known


def _known(connection: sa.Connection, row: DeviceRow, epoch: str) -> Known | None:
    report = row.last_report
    if report is None:
        return None
    here = devices.stretch(connection, row)
    if here is None and report.phase.lower() == devices.COMMITTED and report.release and report.bundle:
        return None  # the next contact begins a stretch
    usecase, _ = usecases.in_force(connection, row.use_case)
    card = row.card
    return Known(
        id=row.id,
        site=row.site,
        key=row.public_key,
        assignment_number=row.assignment_number,
        steady=steady(report),
        card_facts={} if card is None else card.facts(),
        stretch=here,
        epoch=epoch,
        watermark=rows.watermark(connection, row.id, epoch),
        metadata=repository.newest_metadata(connection),
        contact_s=usecase.connectivity.contact_s,
        told_metadata=report.metadata,
    )


def known_device(connection: sa.Connection, device: str) -> DeviceRow:
    """The device, if it is enrolled and not shut out.

    Raises:
        NotTrusted: it is not.
    """
    row = devices.get(connection, device)
    if row is None:
        raise NotTrusted(
            f"device {device[:80]!r} is not enrolled here; make a token and run `edgewise edge enroll`",
            code="unknown_device",
        )
    if row.revoked_at is not None:
        raise NotTrusted(f"device {device} was shut out at {row.revoked_at.isoformat()}", code="device_revoked")
    return row
