"""A link that costs money: what may go over it, what it has cost, and what the next contact would cost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edgewise.ports import Link
from edgewise.wire import CLASSES, Connectivity, Metered, loads

ALWAYS = ("alarm",)  # goes over any link, whatever it costs
DAYS_MAX = 62  # of which sums are remembered: this month and the one before
CONTACT_BYTES = 1_500  # of a contact that brings nothing: report, receipt and their headers; our measurement
GB = 1e9


def may_send(terms: Metered | None, *, is_metered: bool, spent_bytes: int) -> tuple[str, ...]:
    """The classes that may go over the link now, most urgent first.

    Args:
        terms: of the use case; None puts no bound on a metered link.
        spent_bytes: over metered links, today.

    >>> may_send(Metered(classes=("audit",), bytes_per_day=1000), is_metered=True, spent_bytes=999)
    ('alarm', 'audit')
    >>> may_send(Metered(classes=("audit",), bytes_per_day=1000), is_metered=True, spent_bytes=1000)
    ('alarm',)
    """
    if not is_metered or terms is None:
        return CLASSES
    allowed = {*ALWAYS, *(terms.classes if spent_bytes < terms.bytes_per_day else ())}
    return tuple(name for name in CLASSES if name in allowed)


class Meter:
    """Bytes that went over metered links, by day. Threads may share it.

    Args:
        is_metered: whether the link is one now.
        now: the device's clock.
    """

    def __init__(self, is_metered: Callable[[], bool], now: Callable[[], datetime], days: Mapping[str, int]) -> None:
        self._is_metered = is_metered
        self._now = now
        self._days = dict(days)
        self._lock = threading.Lock()

    def count(self, size_bytes: int) -> None:
        """So much went over the link, either way."""
        if size_bytes and self._is_metered():
            day = self._now().date().isoformat()
            with self._lock:
                self._days[day] = self._days.get(day, 0) + size_bytes
                for old in sorted(self._days)[:-DAYS_MAX]:
                    del self._days[old]

    def may_send(self, terms: Metered | None, now: datetime, more: int) -> tuple[str, ...]:
        """The classes that may go now, after so many bytes more."""
        return may_send(terms, is_metered=self._is_metered(), spent_bytes=self.today(now) + more)

    def cost(self, totals: Sequence[Sequence[int]], connectivity: Connectivity, now: datetime) -> dict[str, Any]:
        """See `cost`."""
        days = self.plain()
        return cost(waits_of(totals), connectivity, is_metered=self._is_metered(), days=days, now=now)

    def today(self, now: datetime) -> int:
        with self._lock:
            return self._days.get(now.date().isoformat(), 0)

    def plain(self) -> dict[str, int]:
        with self._lock:
            return dict(self._days)


def days_of(counts: bytes | None) -> dict[str, int]:
    """The sums that were stored among the device's counts."""
    found = loads(counts).get("metered", {}) if counts else {}
    return {str(day): int(size) for day, size in found.items()}


class MeteredLink:
    """A link whose bytes are counted; headers and TLS are not, about a kilobyte a contact and five a new connection."""

    def __init__(self, link: Link, count: Callable[[int], None]) -> None:
        self._link = link
        self._count = count

    def exchange(self, body: bytes) -> bytes:
        self._count(len(body))
        reply = self._link.exchange(body)
        self._count(len(reply))
        return reply

    def put_blob(self, sha256: str, data: bytes, *, offset: int = 0) -> None:
        self._count(len(data) - offset)
        self._link.put_blob(sha256, data, offset=offset)

    def blob_offset(self, sha256: str) -> int | None:
        return self._link.blob_offset(sha256)

    def has_blob(self, sha256: str) -> bool:
        return self._link.has_blob(sha256)

    def get_blob(self, sha256: str, *, offset: int = 0, bytes_max: int | None = None) -> Iterator[bytes]:
        yield from self._counted(self._link.get_blob(sha256, offset=offset, bytes_max=bytes_max))

    def get_delta(self, sha256: str, *, base: str, codec: int) -> bytes:
        reply = self._link.get_delta(sha256, base=base, codec=codec)
        self._count(len(reply))
        return reply

    def get_file(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        yield from self._counted(self._link.get_file(path, offset=offset))

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._count(len(piece))
            yield piece


@dataclass(frozen=True, kw_only=True, slots=True)
class Waits:
    """What is not at the hub yet, of one class."""

    records: int
    size_bytes: int


def waits_of(totals: Sequence[Sequence[int]]) -> dict[str, Waits]:
    """What waits or is sealed, by class, from the sums that the outbox keeps."""
    return {
        CLASSES[row[0]]: Waits(records=row[1] + row[3], size_bytes=row[2] + row[4]) for row in totals if row[1] + row[3]
    }


def cost(
    waiting: Mapping[str, Waits],
    connectivity: Connectivity,
    *,
    is_metered: bool,
    days: Mapping[str, int],
    now: datetime,
) -> dict[str, Any]:
    """What waits, what was spent and what the next contact would take, in bytes and money.

    Records are packed when they are sealed, so what waits and the next contact are upper bounds. Money is None where
    the use case names no price; over a link that is not metered the next contact costs nothing.
    """
    today = now.date().isoformat()
    spent = days.get(today, 0)
    terms = connectivity.metered
    classes = may_send(terms, is_metered=is_metered, spent_bytes=spent)
    next_bytes = CONTACT_BYTES + _next_bytes(waiting, classes, terms if is_metered else None, spent)
    month = sum(size for day, size in days.items() if day[:7] == today[:7])

    def money(size_bytes: int) -> float | None:
        return None if connectivity.price_per_gb is None else round(size_bytes / GB * connectivity.price_per_gb, 6)

    def priced(size_bytes: int) -> dict[str, Any]:
        return {"bytes": size_bytes, "cost": money(size_bytes)}

    return {
        "network_metered": is_metered,
        "currency": connectivity.currency,
        "price_per_gb": connectivity.price_per_gb,
        "waiting": {name: {"records": one.records} | priced(one.size_bytes) for name, one in waiting.items()},
        "today": priced(spent),
        "this_month": priced(month),
        "next_contact": {
            "bytes": next_bytes,
            "cost": money(next_bytes) if is_metered else 0.0,
            "classes": list(classes),
        },
        "waits_for_a_free_link": sorted(set(waiting) - set(classes), key=CLASSES.index),
        "bytes_left_today": max(0, terms.bytes_per_day - spent) if is_metered and terms else None,
    }


def _next_bytes(waiting: Mapping[str, Waits], classes: Collection[str], terms: Metered | None, spent: int) -> int:
    always = sum(one.size_bytes for name, one in waiting.items() if name in ALWAYS)
    others = sum(one.size_bytes for name, one in waiting.items() if name in classes and name not in ALWAYS)
    return always + (others if terms is None else min(others, max(0, terms.bytes_per_day - spent)))


def why_waiting(told: Mapping[str, Any]) -> str | None:
    """One sentence on what a metered link holds back, None where it holds back nothing."""
    held = told["waits_for_a_free_link"]
    if not held:
        return None
    count = sum(told["waiting"][name]["records"] for name in held)
    size = sum(told["waiting"][name]["bytes"] for name in held)
    left = told["bytes_left_today"]
    budget = "" if left else "; today's bytes for a metered link are used up"
    return f"a link that is not metered: {count} records of {', '.join(held)} wait, {size} bytes{budget}"
