"""Recent frames, bounded in bytes and encrypted: an operator's "missed" comes after the frame, and must find it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edgewise.ports import Frame

KEY_BYTES = 32


@dataclass(slots=True)  # neither frozen nor holding a frame: one is made at every frame, and that takes twice as long
class _Sealed:
    number: int  # in the order of arrival, over all lanes
    name: str
    data: bytes  # encrypted
    media_type: str
    taken_at: datetime
    group: str
    facts: Mapping[str, Any]

    @property
    def nonce(self) -> bytes:
        return _nonce(self.number)

    def frame(self, data: bytes = b"") -> Frame:
        """The frame with these bytes."""
        return Frame(
            name=self.name,
            data=data,
            media_type=self.media_type,
            taken_at=self.taken_at,
            group=self.group,
            facts=self.facts,
        )


@dataclass(slots=True)
class _Lane:
    frames: OrderedDict[str, _Sealed] = field(default_factory=OrderedDict)  # by name, oldest first
    bytes: int = 0

    def add(self, sealed: _Sealed) -> None:
        old = self.frames.pop(sealed.name, None)
        self.frames[sealed.name] = sealed
        self.bytes += len(sealed.data) - (len(old.data) if old else 0)

    def drop_oldest(self) -> None:
        _, gone = self.frames.popitem(last=False)
        self.bytes -= len(gone.data)


class Ring:
    """The newest frames in memory; the oldest go when the bound is reached. Nothing here is ever queued by itself.

    Each pipeline has a *lane*. What goes is the oldest frame of the lane that holds the most bytes, so that a camera at
    full speed cannot push out the frames of a slow one: a lane within its even share of the bound loses nothing.

    The key lives as long as the ring: what swap or a crash dump shows of it cannot be read, and a restart forgets it.

    Args:
        bytes_max: of frames held, over all lanes.
        key: 32 random bytes, for AES-256-GCM.

    >>> from datetime import UTC, datetime
    >>> ring = Ring(bytes_max=100, key=bytes(32))
    >>> ring.put(Frame(name="f1", data=b"pixels", media_type="image/png", taken_at=datetime(2026, 1, 1, tzinfo=UTC)))
    >>> ring.get("f1").data
    b'pixels'
    """

    def __init__(self, *, bytes_max: int, key: bytes) -> None:
        self.bytes_max = bytes_max
        self._cipher = AESGCM(key)
        self._count = 0
        self._lanes: dict[str, _Lane] = {}
        self._lock = threading.Lock()

    def put(self, frame: Frame, lane: str = "main") -> None:
        """Remember a frame; one that is larger than the whole ring is not remembered."""
        if len(frame.data) > self.bytes_max:
            return
        with self._lock:
            # A counter never repeats under one key; a repeated nonce would give AES-GCM away.
            self._count += 1
            number = self._count
        data = self._cipher.encrypt(_nonce(number), frame.data, frame.name.encode())
        sealed = _Sealed(number, frame.name, data, frame.media_type, frame.taken_at, frame.group, frame.facts)
        with self._lock:
            if lane not in self._lanes:
                self._lanes[lane] = _Lane()
            self._lanes[lane].add(sealed)
            while self._held() > self.bytes_max and sum(len(one.frames) for one in self._lanes.values()) > 1:
                max(self._lanes.values(), key=lambda one: one.bytes).drop_oldest()

    def get(self, name: str) -> Frame | None:
        """The frame, None when it is no longer here."""
        with self._lock:
            sealed = next((lane.frames[name] for lane in self._lanes.values() if name in lane.frames), None)
        if sealed is None:
            return None
        return sealed.frame(self._cipher.decrypt(sealed.nonce, sealed.data, name.encode()))

    def forget(self, match: Callable[[Frame], bool]) -> int:
        """Forget the frames that match, which come without their bytes; the count."""
        gone = 0
        with self._lock:
            for lane in self._lanes.values():
                for name in [name for name, sealed in lane.frames.items() if match(sealed.frame())]:
                    lane.bytes -= len(lane.frames.pop(name).data)
                    gone += 1
        return gone

    def newest(self) -> str | None:
        """The name of the newest frame."""
        with self._lock:
            last = [next(reversed(lane.frames.values())) for lane in self._lanes.values() if lane.frames]
            return max(last, key=lambda sealed: sealed.number).name if last else None

    @property
    def bytes_held(self) -> int:
        with self._lock:
            return self._held()

    def _held(self) -> int:
        return sum([lane.bytes for lane in self._lanes.values()])


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
