"""Blobs in an object store: a local folder, a bucket of an S3-compatible service, or memory; all through obstore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from edgewise.ports._blobs import DIGEST, PIECE_BYTES, FolderBlobs, check_bytes, check_digest, missing
from edgewise.wire import NotNow, digest

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class ObjectBlobs:
    """Blobs as objects ``<prefix>/ab/ab12…``.

    Args:
        store: any obstore store.
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
        sha256 = digest(data)
        self._put(sha256, data)
        return sha256

    def put_as(self, sha256: str, data: bytes) -> None:
        self._put(sha256, check_bytes(sha256, data))

    def _put(self, sha256: str, data: bytes) -> None:
        if self._folder is not None:
            self._folder.put_as(sha256, data)
            return
        try:
            if self._size(sha256) != len(data):
                obstore.put(self._store, self._name(sha256), data)
        except (BaseError, OSError) as error:
            raise _not_reachable(error) from error

    def get(self, sha256: str) -> bytes:
        try:
            data = bytes(obstore.get(self._store, self._name(sha256)).bytes())
        except FileNotFoundError as error:
            raise missing(sha256) from error
        except (BaseError, OSError) as error:
            raise _not_reachable(error) from error
        return check_bytes(sha256, data)

    def pieces(self, sha256: str) -> Iterator[bytes]:
        try:
            for piece in obstore.get(self._store, self._name(sha256)).stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)
        except FileNotFoundError as error:
            raise missing(sha256) from error
        except (BaseError, OSError) as error:
            raise _not_reachable(error) from error

    def has(self, sha256: str) -> bool:
        return self._size(sha256) is not None

    def delete(self, sha256: str) -> None:
        try:
            obstore.delete(self._store, self._name(sha256))
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise _not_reachable(error) from error

    def digests(self) -> Iterator[str]:
        try:
            pages = [[item["path"] for item in page] for page in obstore.list(self._store, prefix=self._prefix)]
        except (BaseError, OSError) as error:
            raise _not_reachable(error) from error
        names = (path.rpartition("/")[2] for page in pages for path in page)
        yield from sorted(name for name in names if DIGEST.fullmatch(name))

    def size(self, sha256: str) -> int:
        size = self._size(sha256)
        if size is None:
            raise missing(sha256)
        return size

    def _size(self, sha256: str) -> int | None:
        try:
            return int(obstore.head(self._store, self._name(sha256))["size"])
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise _not_reachable(error) from error


def _not_reachable(error: Exception) -> NotNow:
    first = str(error).strip().splitlines()[:1]
    return NotNow(f"the object store does not answer: {first[0] if first else error!r}", code="store_unreachable")
