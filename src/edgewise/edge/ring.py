"""Recent frames, bounded in bytes and encrypted: an operator's "missed" comes after the frame, and must find it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edgewise.ports import Frame

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class _Sealed:
    frame: Frame  # without its data
    nonce: bytes
    data: bytes


class Ring:
    """The newest frames in memory; the oldest go when the bound is reached. Nothing here is ever queued by itself.

    The key lives as long as the ring: what swap or a crash dump shows of it cannot be read, and a restart forgets it.

    Args:
        bytes_max: of frames held.
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
        self._held: OrderedDict[str, _Sealed] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, frame: Frame) -> None:
        """Remember a frame; one that is larger than the whole ring is not remembered."""
        if len(frame.data) > self.bytes_max:
            return
        # A counter never repeats under one key; a repeated nonce would give AES-GCM away.
        self._count += 1
        nonce = self._count.to_bytes(12, "big")
        data = self._cipher.encrypt(nonce, frame.data, frame.name.encode())
        with self._lock:
            old = self._held.pop(frame.name, None)
            self._bytes -= len(old.data) if old else 0
            self._held[frame.name] = _Sealed(replace(frame, data=b""), nonce, data)
            self._bytes += len(data)
            while self._bytes > self.bytes_max and len(self._held) > 1:
                _, gone = self._held.popitem(last=False)
                self._bytes -= len(gone.data)

    def get(self, name: str) -> Frame | None:
        """The frame, None when it is no longer here."""
        with self._lock:
            sealed = self._held.get(name)
        if sealed is None:
            return None
        return replace(sealed.frame, data=self._cipher.decrypt(sealed.nonce, sealed.data, name.encode()))

    def forget(self, match: Callable[[Frame], bool]) -> int:
        """Forget the frames that match, which come without their bytes; the count."""
        with self._lock:
            gone = [name for name, sealed in self._held.items() if match(sealed.frame)]
            for name in gone:
                self._bytes -= len(self._held.pop(name).data)
        return len(gone)

    def newest(self) -> str | None:
        """The name of the newest frame."""
        with self._lock:
            return next(reversed(self._held), None)

    @property
    def bytes_held(self) -> int:
        return self._bytes
