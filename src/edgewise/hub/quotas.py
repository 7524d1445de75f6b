"""How much one device may ask of the hub: token buckets for contacts and bytes, so that one cannot starve the others.

A bucket holds at most its burst and fills at its rate; a device that has used it up is told when enough is there again.
One process counts for itself: n replicas let through at most n times as much.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from edgewise.hub import audit
from edgewise.hub.attempts import TooMany
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store

NOTED_S = 3600  # a device over its quota is written down no more often


@dataclass(kw_only=True, slots=True)
class _Account:
    """What one device has left."""

    contacts: float
    bytes: float
    at: datetime
    noted_at: datetime | None = None


class OverQuota(TooMany):
    """One device asks too much; `is_news` where this was not written down lately."""

    def __init__(self, text: str, *, device: str, retry_s: int, is_news: bool) -> None:
        super().__init__(text, retry_s=retry_s, code="over_quota")
        self.device = device
        self.is_news = is_news


class Quotas:
    """The accounts of the devices that called last, at most `Limits.known_devices_max`. Threads may share it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, device: str, now: datetime, *, contacts: int = 0, size_bytes: int = 0) -> None:
        """Let a device go on while something is left on its account, and use it up; the last use may overdraw it.

        Raises:
            OverQuota: nothing is left of one of the two; nothing was used up.
        """
        limits = self._limits
        with self._lock:
            account = self._current(device, now)
            empty_s = max(-account.contacts / limits.device_contacts_per_s, -account.bytes / limits.device_bytes_per_s)
            if empty_s < 0:
                account.contacts -= contacts
                account.bytes -= size_bytes
                return
            is_news = account.noted_at is None or now - account.noted_at >= timedelta(seconds=NOTED_S)
            account.noted_at = now if is_news else account.noted_at
        retry_s = math.floor(empty_s) + 1
        raise OverQuota(
            f"device {device} asks for more than {limits.device_contacts_per_s:g} contacts and "
            f"{limits.device_bytes_per_s:,} bytes a second; it may go on in {retry_s} s",
            device=device,
            retry_s=retry_s,
            is_news=is_news,
        )

    def _current(self, device: str, now: datetime) -> _Account:
        limits = self._limits
        account = self._accounts.get(device)
        if account is None:
            account = _Account(contacts=limits.device_contacts_burst, bytes=limits.device_bytes_burst, at=now)
            self._accounts[device] = account
            while len(self._accounts) > limits.known_devices_max:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(device)
        passed_s = max(0.0, (now - account.at).total_seconds())
        filled = account.contacts + passed_s * limits.device_contacts_per_s
        account.contacts = min(limits.device_contacts_burst, filled)
        account.bytes = min(limits.device_bytes_burst, account.bytes + passed_s * limits.device_bytes_per_s)
        account.at = now
        return account


def note(store: Store, error: OverQuota, now: datetime) -> None:
    """Write down that a device was over its quota, once an hour."""
    if error.is_news:
        with store.write() as connection:
            actor, data = f"device {error.device}", {"text": str(error)}
            audit.note(connection, actor=actor, action="device.over_quota", subject=error.device, data=data, now=now)
