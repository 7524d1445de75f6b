"""Bytes by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from edgewise.ports._files import disk_error, replace_file, sync_folder
from edgewise.wire import NotTrusted, NotValid, digest

DIGEST = re.compile(r"[0-9a-f]{64}")
PIECE_BYTES = 1 << 20
STALE_PART_S = 3600.0  # a half-written file this old was left by a power cut; no write of a blob takes so long


class Blobs(Protocol):
    """A store of bytes under their own SHA-256; what was put is durable when ``put`` comes back."""

    def put(self, data: bytes) -> str:
        """Store the bytes (once, however often asked); their digest comes back. NotNow: no space, or not reachable."""

    def put_as(self, sha256: str, data: bytes) -> None:
        """Store the bytes under the digest they were announced with. NotTrusted: they are other bytes."""

    def put_pieces(self, sha256: str, pieces: Iterable[bytes]) -> None:
        """The same a piece at a time, never all at once. NotTrusted: they are other bytes, and nothing was stored."""

    def get(self, sha256: str) -> bytes:
        """The bytes. NotValid with code ``blob_missing``: not here. NotTrusted: the store gave other bytes."""

    def pieces(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` to before `end`, a piece at a time and not checked: whoever takes them checks.

        Only these are read, and never all at once. `end` behind the last byte means all that there is.
        """

    def has(self, sha256: str) -> bool:
        """Whether the bytes are here."""

    def delete(self, sha256: str) -> None:
        """Remove the bytes; what is not here is fine."""

    def digests(self) -> Iterator[str]:
        """All digests, in order."""

    def size(self, sha256: str) -> int:
        """How many bytes. NotValid with code ``blob_missing``: not here."""


def check_digest(sha256: str) -> str:
    """The digest itself, checked: it becomes part of a path, so nothing else may pass.

    Raises:
        NotValid: not 64 lower-case hexadecimal characters.
    """
    if not DIGEST.fullmatch(sha256):
        raise NotValid(
            f"{sha256[:80]!r} is not a digest; needs 64 lower-case hexadecimal characters", code="digest_invalid"
        )
    return sha256


def check_bytes(sha256: str, data: bytes) -> bytes:
    """The bytes themselves, checked against the digest.

    Raises:
        NotTrusted: they are other bytes.
    """
    if digest(data) != check_digest(sha256):
        raise NotTrusted(
            f"these {len(data)} bytes are {digest(data)[:12]}…, needs {sha256[:12]}…; fetch them again",
            code="blob_corrupt",
        )
    return data


def checked_pieces(sha256: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces as they come; behind the last one, NotTrusted where together they are not what the digest names."""
    seen, size_bytes = hashlib.sha256(), 0
    for piece in pieces:
        seen.update(piece)
        size_bytes += len(piece)
        yield piece
    if seen.hexdigest() != check_digest(sha256):
        raise NotTrusted(
            f"these {size_bytes} bytes are {seen.hexdigest()[:12]}…, needs {sha256[:12]}…; fetch them again",
            code="blob_corrupt",
        )


def missing(sha256: str) -> NotValid:
    return NotValid(f"blob {sha256[:12]}… is not in this store", code="blob_missing")


def sweep_parts(path: Path, stale_s: float, folder: str = "*") -> None:
    """Remove what power cuts left half-written in a store's folders, or in one of them."""
    old = time.time() - stale_s
    for part in path.glob(f"{folder}/.*.part"):
        try:
            if part.stat().st_mtime < old:
                part.unlink()
        except FileNotFoundError:
            continue  # another process was faster


class MemoryBlobs:
    """Blobs in a dictionary.

    >>> blobs = MemoryBlobs()
    >>> blobs.get(blobs.put(b"pixels"))
    b'pixels'
    """

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        sha256 = digest(data)
        self._held[sha256] = bytes(data)
        return sha256

    def put_as(self, sha256: str, data: bytes) -> None:
        self._held[sha256] = bytes(check_bytes(sha256, data))

    def put_pieces(self, sha256: str, pieces: Iterable[bytes]) -> None:
        self.put_as(sha256, b"".join(pieces))

    def get(self, sha256: str) -> bytes:
        if check_digest(sha256) not in self._held:
            raise missing(sha256)
        return check_bytes(sha256, self._held[sha256])

    def pieces(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        data = self.get(sha256)[start:end]
        return (data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))

    def has(self, sha256: str) -> bool:
        return check_digest(sha256) in self._held

    def delete(self, sha256: str) -> None:
        self._held.pop(check_digest(sha256), None)

    def digests(self) -> Iterator[str]:
        yield from sorted(self._held)

    def size(self, sha256: str) -> int:
        if check_digest(sha256) not in self._held:
            raise missing(sha256)
        return len(self._held[sha256])


class FolderBlobs:
    """Blobs as files ``ab/ab12…`` in a folder, which is made when it is missing.

    A file appears under its name only when all its bytes are on disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.path) from error
        sweep_parts(self.path, STALE_PART_S)

    def _file(self, sha256: str) -> Path:
        return self.path / check_digest(sha256)[:2] / sha256

    def put(self, data: bytes) -> str:
        sha256 = digest(data)
        self._store(sha256, data)
        return sha256

    def put_as(self, sha256: str, data: bytes) -> None:
        self._store(sha256, check_bytes(sha256, data))

    def put_pieces(self, sha256: str, pieces: Iterable[bytes]) -> None:
        file = self._file(sha256)
        part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
        try:
            self._make_folder(file)
            with part.open("xb") as handle:
                for piece in checked_pieces(sha256, pieces):
                    handle.write(piece)
                handle.flush()
                os.fsync(handle.fileno())
            part.replace(file)
            sync_folder(file.parent)
        except OSError as error:
            raise disk_error(error, file) from error
        finally:
            part.unlink(missing_ok=True)

    def _store(self, sha256: str, data: bytes) -> None:
        file = self._file(sha256)
        try:
            if file.is_file() and file.stat().st_size == len(data):
                sync_folder(file.parent)  # whoever wrote it may have died before its name was on disk
                return
            self._make_folder(file)
        except OSError as error:
            raise disk_error(error, file) from error
        replace_file(file, data)

    def _make_folder(self, file: Path) -> None:
        if not file.parent.is_dir():
            file.parent.mkdir(exist_ok=True)
            sync_folder(self.path)

    def get(self, sha256: str) -> bytes:
        try:
            data = self._file(sha256).read_bytes()
        except FileNotFoundError as error:
            raise missing(sha256) from error
        except OSError as error:
            raise disk_error(error, self._file(sha256)) from error
        return check_bytes(sha256, data)

    def pieces(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        left = None if end is None else max(0, end - start)
        try:
            with self._file(sha256).open("rb") as file:
                file.seek(start)
                while piece := file.read(PIECE_BYTES if left is None else min(PIECE_BYTES, left)):
                    left = None if left is None else left - len(piece)
                    yield piece
        except FileNotFoundError as error:
            raise missing(sha256) from error
        except OSError as error:
            raise disk_error(error, self._file(sha256)) from error

    def has(self, sha256: str) -> bool:
        return self._file(sha256).is_file()

    def delete(self, sha256: str) -> None:
        try:
            self._file(sha256).unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, self._file(sha256)) from error

    def digests(self) -> Iterator[str]:
        for folder in sorted(self.path.iterdir()):
            if folder.is_dir():
                yield from sorted(file.name for file in folder.iterdir() if DIGEST.fullmatch(file.name))

    def size(self, sha256: str) -> int:
        try:
            return self._file(sha256).stat().st_size
        except FileNotFoundError as error:
            raise missing(sha256) from error
