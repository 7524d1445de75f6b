"""Readings and telemetry from devices that are as they were: many contacts in one commit, a handful of statements.

Most of what a fleet sends changes nothing but two tables. Such a contact is opened and checked where it arrives, by the
same rules as any other (`segments`); it then waits for the commit that is under way and joins the next one. What is
asked of the store is asked once for all that share it. Everything else – samples, events, a first contact, an erasure
in force, a report of something new – takes the long way through `intake`, as does what turned out otherwise meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.known import Known, KnownDevices
from edgewise.hub.limits import Limits
from edgewise.hub.segments import Records, open_segment
from edgewise.hub.store import Store
from edgewise.hub.store import intake as rows
from edgewise.ports import Chance
from edgewise.wire import NotNow, NotValid, UploadHeader
from edgewise.wire.trace import trace_id

# Of one contact that is opened where it arrives; what is larger must not keep others waiting there.
INFLATED_BYTES_MAX = 256 << 10
READINGS_MAX = 10_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Contact:
    """One contact on its way into a commit."""

    known: Known
    header: UploadHeader
    payloads: Sequence[bytes]
    opened: Sequence[Records]
    now: datetime
    trace: str | None  # of the contact, for its segments
    answer: Future[bytes | None] = field(default_factory=Future)


class Streams:
    """The short way for readings and telemetry of devices that `known` holds.

    Args:
        limits: how many contacts may wait, and how many share a commit.
    """

    def __init__(self, store: Store, known: KnownDevices, limits: Limits, *, hub_epoch: str, chance: Chance) -> None:
        self._store = store
        self._known = known
        self._limits = limits
        self._small = replace(limits, inflated_bytes_max=INFLATED_BYTES_MAX, readings_max=READINGS_MAX)
        self._hub_epoch = hub_epoch
        self._chance = chance
        self._lock = threading.Lock()
        self._waiting: deque[_Contact] = deque()
        self._is_busy = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="streams")  # its thread begins with the first contact

    def close(self) -> None:
        """End when all that was taken is stored."""
        self._writer.shutdown()

    @property
    def waiting(self) -> int:
        """Contacts that no commit has taken up yet."""
        return len(self._waiting)

    def offer(self, header: UploadHeader, payloads: Sequence[bytes], now: datetime) -> Future[bytes | None] | None:
        """The promise of the Receipt's bytes, or of None where it must take the long way after all; None: at once so.

        It waits for nothing itself. The promise raises `NotNow` when the store cannot take it; nothing was changed.
        """
        known = self._known.streams(header)
        if known is None or self.waiting >= self._limits.streams_waiting_max:
            return None
        try:
            opened = [
                open_segment(segment, payload, site=known.site, policies=known.policies, limits=self._small)
                for segment, payload in zip(header.segments, payloads, strict=True)
            ]
        except NotValid:
            return None  # the long way says what is wrong, and writes it down
        if not all(one.is_plain for one in opened):
            return None
        contact = _Contact(known=known, header=header, payloads=payloads, opened=opened, now=now, trace=trace_id())
        with self._lock:
            self._waiting.append(contact)
            begin, self._is_busy = not self._is_busy, True
        if begin:
            self._writer.submit(self._store_waiting)
        return contact.answer

    def _store_waiting(self) -> None:
        while some := self._next():
            going = [one for one in some if one.answer.set_running_or_notify_cancel()]
            if going:  # else all of these callers went away
                self._commit(going)

    def _next(self) -> list[_Contact]:
        """What shares the next commit; without any the writer's turn is over."""
        with self._lock:
            count = min(len(self._waiting), self._limits.streams_commit_max)
            self._is_busy = count > 0
            return [self._waiting.popleft() for _ in range(count)]

    def _commit(self, some: Sequence[_Contact]) -> None:
        """Store what can be stored and answer everybody."""
        try:
            with self._store.write() as connection:
                taken = self._take(connection, some)
        except NotNow as error:
            for one in some:
                one.answer.set_exception(error)
            return
        except Exception:
            # One of them holds what the database refuses: the long way finds out which, and says why.
            taken = frozenset()
        for one in some:
            if one not in taken:
                one.answer.set_result(None)
                continue
            self._known.stored(one.known, one.header, one.now)
            number = one.header.segments[-1].number
            one.answer.set_result(
                one.known.receipt(number, one.now, hub_epoch=self._hub_epoch, chance=self._chance, limits=self._limits)
            )

    def _take(self, connection: sa.Connection, some: Sequence[_Contact]) -> frozenset[_Contact]:
        """Store what is as it was when it came; comes back with those contacts."""
        if self._store.is_behind(connection):
            return frozenset()
        self._known.looked(some[-1].now)
        marks = rows.watermarks_at(connection, {one.known.id for one in some})
        going: dict[str, _Contact] = {}
        for one in some:
            known = one.known
            if marks.get((known.id, known.epoch)) == known.watermark and self._known.is_held(known):
                going.setdefault(known.id, one)
        if going:
            _store(connection, list(going.values()))
            self._store.counters.committed(len(going))
        return frozenset(going.values())


def _store(connection: sa.Connection, some: Sequence[_Contact]) -> None:
    windows: list[dict[str, Any]] = []
    blocks: list[dict[str, Any]] = []
    for one in some:
        of = one.known.use_case, one.known.id
        for records in one.opened:
            windows += [rows.telemetry_row(*of, record, one.now) for record in records.telemetry]
            blocks += [rows.readings_row(*of, record, start, one.now) for record, start in records.readings]
    new = {"telemetry": rows.add_telemetry(connection, windows), "readings": rows.add_readings(connection, blocks)}
    segments = []
    for one in some:
        for header, payload, records in zip(one.header.segments, one.payloads, one.opened, strict=True):
            mine = {
                "telemetry": {record.id for record in records.telemetry},
                "readings": {record.id for record, _ in records.readings},
            }
            duplicates = header.count - sum(len(ids & new[kind]) for kind, ids in mine.items())
            repeated = records.but(new) if duplicates else ()
            told: dict[str, Any] = {"duplicates": duplicates, "repeated": repeated, "trace": one.trace}
            for kind, ids in mine.items():
                new[kind] -= ids  # of two records of one id the first is the new one
            segments.append(rows.segment_row(one.known.id, one.known.epoch, header, body=payload, now=one.now, **told))
    rows.add_segments(connection, segments)
    moved = [(one.known.id, one.known.epoch, one.header.segments[-1].number) for one in some]
    rows.move_watermarks(connection, moved, some[0].now)
