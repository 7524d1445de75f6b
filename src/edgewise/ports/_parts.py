"""Blobs on their way in: what has come so far of each, kept over broken links and restarts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from edgewise.ports._blobs import check_digest
from edgewise.ports._files import disk_error, sync_file
from edgewise.wire import NotValid, digest

OWNER = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One blob that is not whole."""

    owner: str  # an `owner_name`
    sha256: str
    size_bytes: int  # so far
    changed_at: datetime


class Parts(Protocol):
    """First bytes of blobs, of each sender apart: what one sends never changes what another has sent.

    An owner is an `owner_name`. Each call raises NotNow where the disk is full or fails, and NotValid for a name that
    is no owner's, or no digest.
    """

    def size(self, owner: str, sha256: str) -> int:
        """How many bytes are here and durable; 0 where nothing came yet."""

    def append(self, owner: str, sha256: str, offset: int, data: bytes, at: datetime) -> None:
        """Add bytes; they are durable once `size` counts them. NotValid with ``offset_wrong``: it ends elsewhere."""

    def read(self, owner: str, sha256: str) -> bytes:
        """All that came."""

    def drop(self, owner: str, sha256: str) -> None:
        """Forget it; what is not here is fine."""

    def parts(self, owner: str | None = None) -> list[Part]:
        """What is here, of one sender or of all."""


def owner_name(sender: str) -> str:
    """A sender's name as part of a path: any text is safe.

    >>> owner_name("../press 4")
    'd935eaec34b3f9955b8c10e7e3ce79db'
    """
    return digest(sender.encode())[:32]


def _check_owner(owner: str) -> str:
    if not OWNER.fullmatch(owner):
        raise NotValid(f"{owner[:80]!r} is not an owner's name", code="owner_invalid")
    return owner


def _check_offset(sha256: str, offset: int, size: int) -> None:
    if offset != size:
        raise NotValid(f"of blob {sha256[:12]}… {size} bytes are here, these begin at {offset}", code="offset_wrong")


class MemoryParts:
    """Parts in a dictionary."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], tuple[bytes, datetime]] = {}

    def size(self, owner: str, sha256: str) -> int:
        return len(self._bytes(owner, sha256))

    def append(self, owner: str, sha256: str, offset: int, data: bytes, at: datetime) -> None:
        held = self._bytes(owner, sha256)
        _check_offset(sha256, offset, len(held))
        self._held[owner, sha256] = (held + bytes(data), at)

    def read(self, owner: str, sha256: str) -> bytes:
        return self._bytes(owner, sha256)

    def drop(self, owner: str, sha256: str) -> None:
        self._held.pop((_check_owner(owner), check_digest(sha256)), None)

    def parts(self, owner: str | None = None) -> list[Part]:
        return [
            Part(owner=name, sha256=sha256, size_bytes=len(data), changed_at=at)
            for (name, sha256), (data, at) in self._held.items()
            if owner in (None, name)
        ]

    def _bytes(self, owner: str, sha256: str) -> bytes:
        held = self._held.get((_check_owner(owner), check_digest(sha256)))
        return b"" if held is None else held[0]


class FolderParts:
    """Parts as files ``<owner>/<digest>`` in a folder, which is made when it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.path) from error

    def _file(self, owner: str, sha256: str) -> Path:
        return self.path / _check_owner(owner) / check_digest(sha256)

    def size(self, owner: str, sha256: str) -> int:
        file = self._file(owner, sha256)
        try:
            # What is told as here must be here after a power cut too, so it is only counted once it is on disk.
            sync_file(file)
            return file.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise disk_error(error, file) from error

    def append(self, owner: str, sha256: str, offset: int, data: bytes, at: datetime) -> None:
        file = self._file(owner, sha256)
        try:
            file.parent.mkdir(exist_ok=True)
            with file.open("ab") as handle:
                _check_offset(sha256, offset, handle.tell())
                handle.write(data)
            os.utime(file, (at.timestamp(), at.timestamp()))
        except OSError as error:
            raise disk_error(error, file) from error

    def read(self, owner: str, sha256: str) -> bytes:
        file = self._file(owner, sha256)
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise disk_error(error, file) from error

    def drop(self, owner: str, sha256: str) -> None:
        file = self._file(owner, sha256)
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, file) from error

    def parts(self, owner: str | None = None) -> list[Part]:
        folders = [self.path / _check_owner(owner)] if owner is not None else list(self._folders())
        return [part for folder in folders for part in self._in(folder)]

    def _folders(self) -> Iterator[Path]:
        with os.scandir(self.path) as entries:
            yield from (Path(entry.path) for entry in entries if entry.is_dir())

    def _in(self, folder: Path) -> Iterator[Part]:
        if not folder.is_dir():
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                about = entry.stat()
                yield Part(
                    owner=folder.name,
                    sha256=entry.name,
                    size_bytes=about.st_size,
                    changed_at=datetime.fromtimestamp(about.st_mtime, UTC),
                )
