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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
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
from edgewise.ports import Chance
from edgewise.wire import DataPolicy, NotTrusted, PublicKey, UploadHeader, canonical

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
    use_case: str
    policies: Sequence[DataPolicy]  # the one in force first
    erasing: bool  # an erasure reaches it, done there or not: its records are looked through

    def is_steady(self, header: UploadHeader) -> bool:
        """Whether this contact says nothing that somebody acts on; it may bring records."""
        return (
            header.epoch == self.epoch
            and header.acked == self.watermark
            and header.has_assignment == self.assignment_number
            and header.report.metadata >= self.told_metadata
            and header.report.card is None
            and steady(header.report) == self.steady
        )

    def word(self, header: UploadHeader, now: datetime) -> QuietWord:
        """What there is to write of such a contact, beside its records."""
        report = header.report
        if report.facts and self.card_facts:
            report = report.model_copy(update={"facts": {**report.facts, **self.card_facts}})
        return QuietWord(device=self.id, report=report, stretch=self.stretch, sent_at=header.sent_at, at=now)

    def receipt(self, watermark: int, now: datetime, *, hub_epoch: str, chance: Chance, limits: Limits) -> bytes:
        """The bytes of a `Receipt` that brings no assignment, refuses nothing and misses nothing."""
        return canonical(
            {
                "watermark": watermark,
                "epoch": self.epoch,
                "hub_epoch": hub_epoch,
                "missing_blobs": [],
                "refused": [],
                "metadata": self.metadata,
                "next_contact_s": next_contact_s(self.contact_s, chance, limits),
                "at": now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            }
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
        self._looking = threading.Lock()
        self._loading: dict[str, object] = {}  # what is read now, until it is dropped meanwhile
        self._looked_at: datetime | None = None
        store.watch(self._changed)

    def holds(self, device: str, now: datetime) -> bool:
        """Whether a quiet contact of this device would ask the store nothing, now."""
        return device in self._held and not self.is_due(now)

    def quiet(self, header: UploadHeader, now: datetime) -> Known | None:
        """The device where this contact of it is a quiet one, which is then written with the next `flush`; else None.

        Raises:
            NotTrusted: the device is not enrolled, or shut out.
        """
        if header.segments or header.report.card is not None:
            return None
        self.look(now)
        known = self._held.get(header.device) or self._load(header)
        if known is None or not known.is_steady(header):
            return None
        word = known.word(header, now)
        with self._lock:
            if self._held.get(known.id) is not known:
                return None  # something changed in this moment
            self._heard[known.id] = word
        self._look_at_clock(header, now)
        return known

    def _look_at_clock(self, header: UploadHeader, now: datetime) -> None:
        if is_skewed(header.sent_at, now, self._limits):
            self.sightings.add("clock", header.device, "its clock is not the hub's", now)

    def streams(self, header: UploadHeader) -> Known | None:
        """The device where this contact brings the next segments and else says what a quiet one does; else None."""
        known = self._held.get(header.device)
        if known is None or known.erasing or not header.segments or not known.is_steady(header):
            return None
        return known if header.segments[0].number == known.watermark + 1 else None

    def is_held(self, known: Known) -> bool:
        """Whether nothing changed since this was given out."""
        return self._held.get(known.id) is known

    def stored(self, known: Known, header: UploadHeader, now: datetime) -> None:
        """Take note of segments that are durable now; what the contact says beside them is written with `flush`."""
        later, word = replace(known, watermark=header.segments[-1].number), known.word(header, now)
        with self._lock:
            if self._held.get(known.id) is known:
                self._held[known.id], self._heard[known.id] = later, word
        self._look_at_clock(header, now)

    def learn(self, header: UploadHeader, now: datetime) -> None:
        """Hold a device whose records were stored just now: the next ones can take the short way."""
        self.look(now)
        if header.report.card is None:
            self._load(header)

    def looked(self, now: datetime) -> None:
        """Take note that the store was asked at this time for changes by others, and there were none."""
        self._looked_at = now

    def key_of(self, device: str, now: datetime) -> tuple[str, PublicKey]:
        """The site and the key with which a device is enrolled.

        Raises:
            NotTrusted: it is not, or it is shut out.
        """
        self.look(now)
        known = self._held.get(device)
        if known is not None:
            return known.site, known.key
        with self._store.read() as connection:
            row = known_device(connection, device)
        return row.site, row.public_key

    def drop(self, device: str) -> None:
        """Forget one device, and what it said that is not written yet: it says more now."""
        with self._lock:
            self._loading.pop(device, None)
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
            if names is None:
                self._loading.clear()
                self._held.clear()
                return
            for name in names:
                self._loading.pop(name, None)
                self._held.pop(name, None)

    def look(self, now: datetime) -> None:
        """Ask the store for changes by other hubs, where nobody did within `Limits.known_s`.

        Raises:
            NotNow: it does not answer.
        """
        with self._looking:
            if self.is_due(now):
                self._store.look_for_changes()
                self._looked_at = now

    def is_due(self, now: datetime) -> bool:
        """Whether what is held may have been changed by another hub too long ago."""
        return self._looked_at is None or abs((now - self._looked_at).total_seconds()) >= self._limits.known_s

    def _load(self, header: UploadHeader) -> Known | None:
        mark, known = object(), None
        with self._lock:
            self._loading[header.device] = mark
        try:
            known = self._read(header)
        finally:
            with self._lock:
                is_as_read = self._loading.get(header.device) is mark
                if is_as_read:
                    del self._loading[header.device]
                if is_as_read and known is not None:
                    if len(self._held) >= self._limits.known_devices_max:
                        self._held.clear()
                    self._held[known.id] = known
        return known if is_as_read else None

    def _read(self, header: UploadHeader) -> Known | None:
        with self._store.read() as connection:
            row = known_device(connection, header.device)
            if row.conflict is not None or erasures.open_for(connection, row, 1):
                return None
            return _known(connection, row, header.epoch)


def _known(connection: sa.Connection, row: DeviceRow, epoch: str) -> Known | None:
    report = row.last_report
    if report is None:
        return None
    here = devices.stretch(connection, row)
    if here is None and report.phase.lower() == devices.COMMITTED and report.release and report.bundle:
        return None  # the next contact begins a stretch
    usecase, policies = usecases.in_force(connection, row.use_case)
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
        use_case=row.use_case,
        policies=policies,
        erasing=bool(erasures.in_force_for(connection, row)),
    )


def next_contact_s(contact_s: float, chance: Chance, limits: Limits) -> float:
    """When a device calls again, s: spread so that a fleet does not call in step."""
    return contact_s * (1 + limits.contact_jitter * (2 * chance.random() - 1))


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
