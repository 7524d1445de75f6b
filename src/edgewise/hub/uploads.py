"""Blobs that devices send in pieces: a broken upload goes on at the last byte that is durable here.

Bounded by count, bytes and age, for each device and for the hub; a blob appears only when all its bytes are here and
its digest holds. Whoever asks how far an upload is ends what was under way: a connection that nobody hears of any more
must not write behind the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from edgewise.hub.limits import Limits
from edgewise.ports import Blobs, Part, Parts, owner_name
from edgewise.wire import NotNow, NotTrusted, NotValid

PIECE_BYTES = 256 << 10  # of one upload, held in memory before they are written


class Uploads:
    """All uploads of one hub process. Threads may share it.

    Args:
        parts: where unfinished blobs lie.
        blobs: where whole ones go.
        now: the hub's clock.
    """

    def __init__(self, parts: Parts, blobs: Blobs, limits: Limits, now: Callable[[], datetime]) -> None:
        self._parts = parts
        self._blobs = blobs
        self._limits = limits
        self._now = now
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, str], Session] = {}

    def offset(self, device: str, sha256: str) -> int | None:
        """How many bytes of the blob are durable here; None when it is whole."""
        if self._blobs.has(sha256):
            return None
        owner = owner_name(device)
        self._supersede(owner, sha256)
        return self._parts.size(owner, sha256)

    def begin(self, device: str, sha256: str, *, offset: int, size_bytes: int) -> Session:
        """An upload of the bytes from `offset` on, of a blob of this size.

        Raises:
            NotValid: too big; with code ``offset_wrong`` when other bytes are here, so ask for the offset again.
            NotNow: as many unfinished uploads are here as may be, or no space.
        """
        if not 0 <= size_bytes <= self._limits.blob_bytes_max:
            raise NotValid(
                f"blob {sha256[:12]}… has {size_bytes} bytes, at most {self._limits.blob_bytes_max} are taken",
                code="too_big",
            )
        owner = owner_name(device)
        self._supersede(owner, sha256)
        here = self._parts.size(owner, sha256)
        if here > size_bytes:  # of this nothing can come any more
            self._parts.drop(owner, sha256)
            here = 0
        if offset != here:
            raise NotValid(
                f"of blob {sha256[:12]}… {here} bytes are here, these begin at {offset}; ask how far it is",
                code="offset_wrong",
            )
        session = Session(self._parts, self._blobs, owner, sha256, offset=offset, size_bytes=size_bytes, now=self._now)
        with self._lock:
            self._make_room(session, is_new=not here)
            self._under_way[owner, sha256] = session
        return session

    def end(self, session: Session) -> int:
        """Nothing more comes over this connection. Comes back with how many bytes are here. Raises as `Session.end`."""
        try:
            return session.end()
        finally:
            with self._lock:
                if self._under_way.get((session.owner, session.sha256)) is session:
                    del self._under_way[session.owner, session.sha256]

    def put(self, device: str, sha256: str, data: bytes, *, offset: int, size_bytes: int) -> int:
        """Take these bytes at once; comes back with how many are here. Raises as `begin` and `Session`."""
        session = self.begin(device, sha256, offset=offset, size_bytes=size_bytes)
        try:
            session.write(data)
        finally:
            here = self.end(session)
        return here

    def _supersede(self, owner: str, sha256: str) -> None:
        with self._lock:
            former = self._under_way.pop((owner, sha256), None)
        if former is not None:
            former.cut()

    def _make_room(self, session: Session, *, is_new: bool) -> None:
        """Forget what is too old, and refuse what would be too much: of one device, or of all."""
        limits, mine = self._limits, (session.owner, session.sha256)
        parts = self._sweep() if is_new else self._parts.parts(session.owner)  # all of them for a new one only
        sizes = {(part.owner, part.sha256): part.size_bytes for part in parts}
        sizes |= {key: one.size_bytes for key, one in self._under_way.items() if is_new or key[0] == session.owner}
        sizes.pop(mine, None)
        own = [size for (owner, _), size in sizes.items() if owner == session.owner]
        _refuse_over(own, session.size_bytes, limits.parts_device_max, limits.parts_device_bytes_max, "of this device")
        _refuse_over(list(sizes.values()), session.size_bytes, limits.parts_max, limits.parts_bytes_max, "at this hub")

    def _sweep(self) -> list[Part]:
        oldest, left = self._now() - timedelta(seconds=self._limits.parts_age_s), []
        for part in self._parts.parts():
            if part.changed_at < oldest:
                self._parts.drop(part.owner, part.sha256)
            else:
                left.append(part)
        return left


def _refuse_over(sizes: list[int], size_bytes: int, count_max: int, bytes_max: int, whose: str) -> None:
    if len(sizes) >= count_max or sum(sizes) + size_bytes > bytes_max:
        raise NotNow(
            f"{len(sizes)} unfinished uploads {whose} hold {sum(sizes)} bytes, at most {count_max} with {bytes_max} "
            "are kept; try again later",
            code="uploads_full",
        )


class Session:
    """One connection that brings bytes of one blob."""

    def __init__(
        self,
        parts: Parts,
        blobs: Blobs,
        owner: str,
        sha256: str,
        *,
        offset: int,
        size_bytes: int,
        now: Callable[[], datetime],
    ) -> None:
        self.owner = owner
        self.sha256 = sha256
        self.size_bytes = size_bytes
        self._parts = parts
        self._blobs = blobs
        self._now = now
        self._turn = threading.Lock()
        self._here = offset  # in the part
        self._held = bytearray()  # came, and is not written yet
        self._is_cut = False

    @property
    def came(self) -> int:
        return self._here + len(self._held)

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            NotValid: more than the blob has, or the device goes on over another connection. NotNow: no space.
        """
        with self._turn:
            if self._is_cut:
                raise NotValid("this upload goes on over another connection", code="offset_wrong")
            came = self.came + len(data)
            if came > self.size_bytes:
                text = f"blob {self.sha256[:12]}… has {self.size_bytes} bytes, {came} came"
                raise NotValid(text, code="too_big")
            self._held += data
            if len(self._held) >= PIECE_BYTES:
                self._flush()

    def cut(self) -> None:
        """Another connection goes on; what came over this one is kept."""
        with self._turn:
            self._is_cut = True
            self._flush()

    def end(self) -> int:
        """Nothing more comes; the blob appears if it is whole. Comes back with how many bytes are here.

        Raises:
            NotTrusted: all bytes are here, and they are others than announced; they are forgotten. NotNow: no space.
        """
        with self._turn:
            if self._is_cut or self.came < self.size_bytes:
                self._flush()
            else:
                self._finish()
            return self._here

    def _finish(self) -> None:
        at_once = self._here == 0  # a small blob, or one over a good link: no file of its own is needed
        data = bytes(self._held) if at_once else self._parts.read(self.owner, self.sha256) + self._held
        try:
            self._blobs.put_as(self.sha256, data)
        except NotTrusted:
            self._parts.drop(self.owner, self.sha256)
            raise
        if not at_once:
            self._parts.drop(self.owner, self.sha256)
        self._here = self.size_bytes
        self._held.clear()

    def _flush(self) -> None:
        if self._held:
            self._parts.append(self.owner, self.sha256, self._here, bytes(self._held), self._now())
            self._here += len(self._held)
            self._held.clear()
