"""Failures counted by who makes them, so that guessing is slow and the audit log stays bounded."""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from datetime import datetime, timedelta

from edgewise.wire import NotNow


class TooMany(NotNow):
    """Somebody asks or fails too often; HTTP says 429 and when to come again."""

    def __init__(self, text: str, *, retry_s: int, code: str = "too_many_attempts") -> None:
        super().__init__(text, code=code, retry_s=retry_s)


class Attempts:
    """Failures of each key in a window that begins with the first of them. One process counts for itself.

    Args:
        failures_max: how many are let through in one window.
        keys_max: how many keys are remembered; the one that was quiet for longest is forgotten first.
    """

    def __init__(self, *, failures_max: int, window_s: float, keys_max: int) -> None:
        self.failures_max = failures_max
        self.window = timedelta(seconds=window_s)
        self._keys_max = keys_max
        self._seen: OrderedDict[str, tuple[datetime, int]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, key: str, now: datetime) -> None:
        """Raises TooMany while the key has used up its window."""
        with self._lock:
            since, count = self._current(key, now)
        if count >= self.failures_max:
            retry_s = max(1, int((since + self.window - now).total_seconds()))
            raise TooMany(
                f"{count} attempts with a wrong token came from {key}, at most {self.failures_max} are taken in "
                f"{self.window.total_seconds():.0f} s; try again in {retry_s} s",
                retry_s=retry_s,
            )

    def failed(self, key: str, now: datetime) -> int:
        """Count one failure; comes back with how many the window holds."""
        with self._lock:
            since, count = self._current(key, now)
            self._seen[key] = (since, count + 1)
            self._seen.move_to_end(key)
            while len(self._seen) > self._keys_max:
                self._seen.popitem(last=False)
            return count + 1

    def _current(self, key: str, now: datetime) -> tuple[datetime, int]:
        since, count = self._seen.get(key, (now, 0))
        return (since, count) if now - since < self.window else (now, 0)


def network(address: str) -> str:
    """What of an address tells callers apart: all of IPv4, the first 64 bits of IPv6, which one caller has whole.

    >>> network("192.0.2.7"), network("2001:db8::1:2"), network("unix")
    ('192.0.2.7', '2001:db8::/64', 'unix')
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))
