"""Blobs that lie encrypted in a folder, in pieces, so that a part of one can be read alone."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edgewise.ports._blobs import STALE_PART_S, check_bytes, check_digest, missing, sweep_parts
from edgewise.ports._files import disk_error, replace_file, sync_folder
from edgewise.ports._safe import NONCE_BYTES, SALT_BYTES, TAG_BYTES, Safe
from edgewise.wire import NotTrusted, digest

MAGIC = b"EWB1"
HEAD = struct.Struct(f">4s{SALT_BYTES}sQ")  # magic, salt, bytes of the content
CHUNK_BYTES = 1 << 16
FOLDERS = 256
BLOB_BYTES_MAX = CHUNK_BYTES << 32  # a chunk's number must fit its nonce


class SealedBlobs:
    """A folder of encrypted blobs; keeps the promise of `Blobs`, and reads ranges.

    A file is named by the keyed name of the digest, so neither name nor bytes can be compared with known content. Each
    file has a key of its own; a piece's nonce is its number, and its associated data are the file's head and the
    digest: pieces can be neither swapped nor left out, nor moved to another file.

    Args:
        path: made when missing.
        safe: the device's data key.
        sweep: remove at once what power cuts left half-written. It looks at every file, so whoever has many and must
            start fast says no, and takes one folder after another by `sweep_folder`.
    """

    def __init__(self, path: Path, safe: Safe, *, sweep: bool = True) -> None:
        self.path = Path(path)
        self._safe = safe
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.path) from error
        if sweep:
            sweep_parts(self.path, STALE_PART_S)

    def put(self, data: bytes) -> str:
        sha256 = digest(data)
        self._store(sha256, data)
        return sha256

    def put_as(self, sha256: str, data: bytes) -> None:
        self._store(sha256, check_bytes(sha256, data))

    def put_pieces(self, sha256: str, pieces: Iterable[bytes]) -> None:
        # The head of a sealed file names its size, and a device's contents fit in its memory: they were made there.
        self.put_as(sha256, b"".join(pieces))

    def get(self, sha256: str) -> bytes:
        return self.read(sha256, 0, BLOB_BYTES_MAX)

    def read(self, sha256: str, start: int, length: int) -> bytes:
        """So many bytes from there on, fewer at the end; only the pieces that hold them are decrypted.

        Raises:
            NotValid: code ``blob_missing``. NotTrusted: damaged. NotNow: the disk fails.
        """
        return b"".join(self._pieces(sha256, start, length))

    def pieces(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        return self._pieces(sha256, start, max(0, (BLOB_BYTES_MAX if end is None else end) - start))

    def has(self, sha256: str) -> bool:
        return self._file(sha256).is_file()

    def delete(self, sha256: str) -> None:
        try:
            self._file(sha256).unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, self._file(sha256)) from error

    def digests(self) -> Iterator[str]:
        names = [file.name for folder in self.path.iterdir() if folder.is_dir() for file in folder.iterdir()]
        yield from sorted(found for name in names if (found := self._digest_of(name)) is not None)

    def sweep_folder(self, number: int) -> list[str]:
        """The digests in one of the `FOLDERS` folders, after what power cuts left half-written there was removed."""
        folder = self.path / f"{number:02x}"
        if not folder.is_dir():
            return []
        sweep_parts(self.path, STALE_PART_S, folder.name)
        return [found for file in folder.iterdir() if (found := self._digest_of(file.name)) is not None]

    def size(self, sha256: str) -> int:
        try:
            return _content_bytes(self._file(sha256).stat().st_size)
        except FileNotFoundError as error:
            raise missing(sha256) from error

    # -- inside ----------------------------------------------------------------------------------------------------

    def _file(self, sha256: str) -> Path:
        name = self._safe.hide(check_digest(sha256)).hex()
        return self.path / name[:2] / name

    def _digest_of(self, name: str) -> str | None:
        try:
            return self._safe.show(bytes.fromhex(name))
        except (ValueError, NotTrusted):
            return None  # half-written, or a stranger's

    def _store(self, sha256: str, data: bytes) -> None:
        file = self._file(sha256)
        try:
            if file.is_file() and file.stat().st_size == _file_bytes(len(data)):
                sync_folder(file.parent)  # whoever wrote it may have died before its name was on disk
                return
            if not file.parent.is_dir():
                file.parent.mkdir(mode=0o700, exist_ok=True)
                sync_folder(self.path)
        except OSError as error:
            raise disk_error(error, file) from error
        replace_file(file, self._sealed(sha256, data), mode=0o600)

    def _sealed(self, sha256: str, data: bytes) -> bytes:
        salt = secrets.token_bytes(SALT_BYTES)
        head = HEAD.pack(MAGIC, salt, len(data))
        cipher, bound = self._safe.blob_cipher(salt), head + bytes.fromhex(sha256)
        view, parts = memoryview(data), [head]
        for number in range(_chunks(len(data))):
            piece = view[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
            parts.append(cipher.encrypt(number.to_bytes(NONCE_BYTES, "big"), piece, bound))
        return b"".join(parts)

    def _pieces(self, sha256: str, start: int, length: int) -> Iterator[bytes]:
        file = self._file(sha256)
        try:
            with file.open("rb") as handle:
                head = handle.read(HEAD.size)
                cipher, size, bound = self._opened(sha256, head)
                end = min(size, start + length)
                # An empty blob has one piece too, so that it is checked as others are.
                for number in range(start // CHUNK_BYTES, _chunks(end) if start < end or not size else 0):
                    handle.seek(HEAD.size + number * (CHUNK_BYTES + TAG_BYTES))
                    sealed = handle.read(min(CHUNK_BYTES, size - number * CHUNK_BYTES) + TAG_BYTES)
                    piece = cipher.decrypt(number.to_bytes(NONCE_BYTES, "big"), sealed, bound)
                    yield piece[max(0, start - number * CHUNK_BYTES) : end - number * CHUNK_BYTES]
        except FileNotFoundError as error:
            raise missing(sha256) from error
        except InvalidTag as error:
            raise _damaged(sha256) from error
        except OSError as error:
            raise disk_error(error, file) from error

    def _opened(self, sha256: str, head: bytes) -> tuple[AESGCM, int, bytes]:
        if len(head) != HEAD.size:
            raise _damaged(sha256)
        magic, salt, size = HEAD.unpack(head)
        if magic != MAGIC or size > BLOB_BYTES_MAX:
            raise _damaged(sha256)
        return self._safe.blob_cipher(salt), size, head + bytes.fromhex(sha256)


def _chunks(size_bytes: int) -> int:
    return -(-size_bytes // CHUNK_BYTES) or 1


def _file_bytes(content_bytes: int) -> int:
    return HEAD.size + content_bytes + TAG_BYTES * _chunks(content_bytes)


def _content_bytes(file_bytes: int) -> int:
    body = max(file_bytes - HEAD.size, TAG_BYTES)
    return body - TAG_BYTES * -(-body // (CHUNK_BYTES + TAG_BYTES))


def _damaged(sha256: str) -> NotTrusted:
    return NotTrusted(f"blob {sha256[:12]}… is damaged on disk; what it held is lost", code="blob_corrupt")
