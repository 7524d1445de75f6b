"""Recent frames, bounded in bytes and encrypted: an operator's "missed" comes after the frame, and must find it."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edgewise.ports import Frame

KEY_BYTES = 32
NONCE_BYTES = 12


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
        return self.number.to_bytes(NONCE_BYTES, "big")

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
        self._numbers = itertools.count(1)  # one never repeats: a repeated nonce would give AES-GCM away
        self._lanes: dict[str, _Lane] = {}
        self._held = 0  # bytes, over all lanes
        self._lock = threading.Lock()

    def put(self, frame: Frame, lane: str = "main") -> None:
        """Remember a frame; one that is larger than the whole ring is not remembered."""
        name, plain = frame.name, frame.data
        if len(plain) > self.bytes_max:
            return
        number = next(self._numbers)
        data = self._cipher.encrypt(number.to_bytes(NONCE_BYTES, "big"), plain, name.encode())
        sealed = _Sealed(number, name, data, frame.media_type, frame.taken_at, frame.group, frame.facts)
        with self._lock:
            held = self._lanes.get(lane)
            if held is None:
                held = self._lanes[lane] = _Lane()
            if name in held.frames:
                self._drop(held, name)
            held.frames[name] = sealed
            held.bytes += len(data)
            self._held += len(data)
            while self._held > self.bytes_max and self._held > len(data):  # the newest frame stays
                fullest = held if len(self._lanes) == 1 else max(self._lanes.values(), key=_bytes_of)
                self._drop(fullest, next(iter(fullest.frames)))

    def _drop(self, lane: _Lane, name: str) -> None:
        size = len(lane.frames.pop(name).data)
        lane.bytes -= size
        self._held -= size

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
                    self._drop(lane, name)
                    gone += 1
        return gone

    def newest(self) -> str | None:
        """The name of the newest frame."""
        with self._lock:
            last = [next(reversed(lane.frames.values())) for lane in self._lanes.values() if lane.frames]
            return max(last, key=lambda sealed: sealed.number).name if last else None

    @property
    def bytes_held(self) -> int:
        return self._held


def _bytes_of(lane: _Lane) -> int:
    return lane.bytes
