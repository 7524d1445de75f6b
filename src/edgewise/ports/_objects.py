"""Blobs in an object store: a local folder, a bucket of an S3-compatible service, or memory; all through obstore."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from edgewise.ports._blobs import (
    DIGEST,
    PIECE_BYTES,
    FolderBlobs,
    check_bytes,
    check_digest,
    checked_pieces,
    missing,
)
from edgewise.wire import NotNow, digest

if TYPE_CHECKING:
    from obstore.store import ObjectStore

UPLOAD_PART_BYTES = 8 << 20  # of a content that goes up in parts; services ask for at least 5 MiB
UPLOADS_MAX = 2  # parts on their way at once: together with the one being filled, all that is held in memory


class ObjectBlobs:
    """Blobs as objects ``<prefix>/ab/ab12…``.

    Args:
        store: any obstore store that lists objects in the order of their names, as S3, GCS and Azure do.
        prefix: first part of every object's name.
    """

    def __init__(self, store: ObjectStore, *, prefix: str = "blobs") -> None:
        self._store = store
        self._prefix = prefix.strip("/")
        # A bucket answers when an object is durable. obstore's local store renames before the bytes are on disk, so a
        # power cut could leave a name with other bytes behind it: there we write ourselves, in the same places.
        root = store.prefix if isinstance(store, LocalStore) else None
        self._folder = None if root is None else FolderBlobs(Path(root) / self._prefix)

    def _name(self, sha256: str) -> str:
        return f"{self._prefix}/{check_digest(sha256)[:2]}/{sha256}"

    def put(self, data: bytes) -> str:
        if self._folder is not None:
            return self._folder.put(data)
        sha256 = digest(data)
        self._put(sha256, data)
        return sha256

    def put_as(self, sha256: str, data: bytes) -> None:
        if self._folder is not None:
            self._folder.put_as(sha256, data)
        else:
            self._put(sha256, check_bytes(sha256, data))

    def _put(self, sha256: str, data: bytes) -> None:
        if self._size(sha256) != len(data):
            with _families():
                obstore.put(self._store, self._name(sha256), data)

    def put_pieces(self, sha256: str, pieces: Iterable[bytes]) -> None:
        if self._folder is not None:
            self._folder.put_pieces(sha256, pieces)
            return
        name, coming, first = self._name(sha256), checked_pieces(sha256, pieces), bytearray()
        for piece in coming:
            first += piece
            if len(first) > UPLOAD_PART_BYTES:
                break
        else:
            self._put(sha256, bytes(first))
            return
        parts = _joined([bytes(first)], coming)
        with _families():
            # What is raised while parts are made calls the upload off, and no object appears.
            obstore.put(
                self._store,
                name,
                parts,
                use_multipart=True,
                chunk_size=UPLOAD_PART_BYTES,
                max_concurrency=UPLOADS_MAX,
            )

    def get(self, sha256: str) -> bytes:
        try:
            with _families():
                data = bytes(obstore.get(self._store, self._name(sha256)).bytes())
        except FileNotFoundError as error:
            raise missing(sha256) from error
        return check_bytes(sha256, data)

    def pieces(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        size = self.size(sha256)
        stop = size if end is None else min(size, end)
        if start >= stop:
            return
        try:
            with _families():
                found = obstore.get(self._store, self._name(sha256), options={"range": (start, stop)})
                for piece in found.stream(min_chunk_size=PIECE_BYTES):
                    yield bytes(piece)
        except FileNotFoundError as error:
            raise missing(sha256) from error

    def has(self, sha256: str) -> bool:
        return self._size(sha256) is not None

    def delete(self, sha256: str) -> None:
        with contextlib.suppress(FileNotFoundError), _families():
            obstore.delete(self._store, self._name(sha256))

    def digests(self) -> Iterator[str]:
        if self._folder is not None:
            yield from self._folder.digests()  # the only store that lists in no order
            return
        with _families():
            for page in obstore.list(self._store, prefix=self._prefix):
                names = (item["path"].rpartition("/")[2] for item in page)
                yield from (name for name in names if DIGEST.fullmatch(name))

    def size(self, sha256: str) -> int:
        size = self._size(sha256)
        if size is None:
            raise missing(sha256)
        return size

    def _size(self, sha256: str) -> int | None:
        try:
            with _families():
                return int(obstore.head(self._store, self._name(sha256))["size"])
        except FileNotFoundError:
            return None


def _joined(first: Iterable[bytes], rest: Iterable[bytes]) -> Iterator[bytes]:
    yield from first
    yield from rest


@contextlib.contextmanager
def _families() -> Iterator[None]:
    """What the library raises, in our families; that something is not there is the caller's to name."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        raise not_reachable(error) from error


def not_reachable(error: Exception) -> NotNow:
    """A store that does not answer, or not as it should; the library's own words up to its dump of values."""
    return NotNow(f"the object store does not answer: {first_line(error)}", code="store_unreachable")


def first_line(error: Exception) -> str:
    """What happened, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else repr(error)
