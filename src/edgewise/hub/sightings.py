"""Signs of an attack as they are seen, summed up in memory and written with the next round: a flood costs few rows."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.counters import Counters
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store, devices
from edgewise.hub.store import threats as rows
from edgewise.wire.alerts import ThreatKind

OTHERS = "others"  # stands for all subjects beyond the bound
TEXT_MAX = 300
# What the doors refuse, by code. Other codes are mistakes or load, and no signs of an attack.
KINDS: dict[str, ThreatKind] = {
    "no_certificate": "failed_authentication",
    "certificate_invalid": "failed_authentication",
    "certificate_untrusted": "failed_authentication",
    "wrong_device": "failed_authentication",
    "token_unknown": "failed_authentication",
    "token_expired": "failed_authentication",
    "too_many_attempts": "failed_authentication",
    "certificate_validity": "clock",
    "token_used": "replay",
    "unknown_device": "unknown_device",
    "device_revoked": "unknown_device",
    "grace_over": "unknown_device",
    "key_replaced": "cloned_key",
    "cloned_key": "cloned_key",
}


@dataclass(slots=True)
class _Seen:
    """What was seen of one kind and subject since the last flush."""

    count: int
    first_at: datetime
    last_at: datetime
    text: str


class Sightings:
    """Collects signs from any thread; `flush` writes them down.

    Args:
        limits: how many subjects are told apart.
        counters: hear of each.
    """

    def __init__(self, limits: Limits, counters: Counters) -> None:
        self._limits = limits
        self._counters = counters
        self._lock = threading.Lock()
        self._seen: dict[tuple[ThreatKind, str], _Seen] = {}

    def refused(self, code: str, subject: str, text: str, now: datetime) -> None:
        """A door refused somebody; not every code is a sign of an attack."""
        kind = KINDS.get(code)
        if kind is not None:
            self.add(kind, subject, text, now)

    def add(self, kind: ThreatKind, subject: str, text: str, now: datetime) -> None:
        """Note one sign.

        Args:
            subject: the device where one is known, else who asked: an address or a name.
        """
        self._counters.threat(kind)
        with self._lock:
            key = (kind, subject[:160])
            if key not in self._seen and len(self._seen) >= self._limits.threats_held_max:
                key = (kind, OTHERS)
            held = self._seen.setdefault(key, _Seen(count=0, first_at=now, last_at=now, text=""))
            held.count, held.last_at, held.text = held.count + 1, now, text[:TEXT_MAX]

    def flush(self, store: Store) -> None:
        """Write down what was seen since the last time.

        Raises:
            NotNow: the store cannot take it now; it is kept.
        """
        with self._lock:
            seen, self._seen = self._seen, {}
        if not seen:
            return
        try:
            with store.write() as connection:
                for (kind, subject), one in seen.items():
                    self._write(connection, kind, subject, one)
        except BaseException:
            with self._lock:
                for key, one in seen.items():
                    newer = self._seen.setdefault(key, one)
                    if newer is not one:
                        newer.count, newer.first_at = newer.count + one.count, one.first_at
            raise

    def _write(self, connection: sa.Connection, kind: ThreatKind, subject: str, one: _Seen) -> None:
        device = devices.get(connection, subject)
        sign = rows.Sign(
            kind=kind,
            subject=subject,
            site=None if device is None else device.site,
            use_case=None if device is None else device.use_case,
            count=one.count,
            first_at=one.first_at,
            last_at=one.last_at,
            text=one.text,
        )
        rows.add(connection, sign, others=OTHERS, subjects_max=self._limits.threats_hour_max)
