"""A bundle as one file: a zip archive of stored entries whose every byte follows from the bundle.

``manifest.json`` comes first, then ``blobs/<sha256>`` in order; no compression, no extra fields, one date. So the same
bundle is always the same file, any tool can open it, and reading needs no judgement: what differs is refused.

Source of the layout: APPNOTE.TXT of the zip format, sections 4.3.7, 4.3.12 and 4.3.16.
"""

from __future__ import annotations

import os
import re
import secrets
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from edgewise.ports._blobs import PIECE_BYTES
from edgewise.ports._files import disk_error, sync_folder
from edgewise.ports._foreign import HEAD_BYTES, foreign
from edgewise.wire import Manifest, NotTrusted, NotValid

ENTRIES_MAX = 1001  # the manifest and as many blobs as it may name
INDEX_BYTES_MAX = ENTRIES_MAX * 256
PACKED_BYTES_MAX = (1 << 32) - 1  # above, zip needs other headers

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
LOCAL_MAGIC, CENTRAL_MAGIC, END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
VERSION = 20  # zip 2.0
MADE_BY = 3 << 8 | VERSION  # on Unix, so that the mode below counts
DATE = 0x21  # 1 January 1980, the first day that zip knows
MODE = 0o100644
KINDS = {0o120000: "a symbolic link", 0o040000: "a folder", 0o100000: "a file"}
MANIFEST_ENTRY = "manifest.json"
BLOB_ENTRY = re.compile(r"blobs/[0-9a-f]{64}")

Pieces = Callable[[str], Iterator[bytes]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file in the archive."""

    name: str
    crc: int
    size_bytes: int
    offset: int  # of its header


def is_packed(path: Path) -> bool:
    """Whether this is a file that begins like a packed bundle."""
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(4) in (LOCAL_MAGIC, END_MAGIC)
    except OSError:
        return False


def write_packed(file: Path, manifest_bytes: bytes, manifest: Manifest, pieces: Pieces) -> None:
    """Write a packed bundle, all or nothing. ``pieces`` gives a blob's bytes by its SHA-256, and is asked twice.

    Raises:
        NotTrusted: a blob has other bytes. NotValid: another file is there, or it would be too large. NotNow: no space.
    """
    names = sorted({blob.sha256: blob.size_bytes for blob in manifest.blobs.values()}.items())
    total = len(manifest_bytes) + sum(size for _, size in names) + (len(names) + 1) * 512
    if total > PACKED_BYTES_MAX:
        raise NotValid(f"the bundle has {total} bytes, one file holds {PACKED_BYTES_MAX}", code="bundle_huge")
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "wb") as out:
            entries = [_write_entry(out, MANIFEST_ENTRY, len(manifest_bytes), lambda: iter((manifest_bytes,)))]
            for name, size in names:
                entries.append(_write_entry(out, f"blobs/{name}", size, lambda name=name: pieces(name)))  # type: ignore[misc]
            out.write(index_bytes(entries, out.tell()))
            out.flush()
            os.fsync(out.fileno())
        if file.exists() and not _same_bytes(part, file):
            raise NotValid(f"{file} exists and holds something else; name a new file", code="file_taken")
        part.replace(file)
        sync_folder(file.parent)
    except OSError as error:
        raise disk_error(error, file) from error
    finally:
        part.unlink(missing_ok=True)


def _write_entry(out: BinaryIO, name: str, size: int, pieces: Callable[[], Iterator[bytes]]) -> Entry:
    crc = 0
    for piece in pieces():
        crc = zlib.crc32(piece, crc)
    entry = Entry(name=name, crc=crc, size_bytes=size, offset=out.tell())
    out.write(local_header(entry))
    for piece in pieces():
        out.write(piece)
    return entry


def _same_bytes(one: Path, other: Path) -> bool:
    if not other.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        return all(left.read(PIECE_BYTES) == piece for piece in iter(lambda: right.read(PIECE_BYTES), b""))


def local_header(entry: Entry) -> bytes:
    """The bytes before an entry's contents."""
    name, size = entry.name.encode(), entry.size_bytes
    return LOCAL.pack(LOCAL_MAGIC, VERSION, 0, 0, 0, DATE, entry.crc, size, size, len(name), 0) + name


def index_bytes(entries: list[Entry], start: int) -> bytes:
    """The bytes behind the last entry: the index, and its end. start: where they begin."""
    index = b"".join(_index_line(entry) for entry in entries)
    return index + END.pack(END_MAGIC, 0, 0, len(entries), len(entries), len(index), start, 0)


def _index_line(entry: Entry) -> bytes:
    name, size = entry.name.encode(), entry.size_bytes
    numbers = (MADE_BY, VERSION, 0, 0, 0, DATE, entry.crc, size, size, len(name), 0, 0, 0, 0, MODE << 16, entry.offset)
    return CENTRAL.pack(CENTRAL_MAGIC, *numbers) + name


class PackedFile:
    """A packed bundle that is open for reading. Its index is checked, its contents when they are read.

    Args:
        file: open for reading in binary.
        path: for messages.
    Raises:
        NotTrusted: any byte of the index is not what a packed bundle has there; the message names the entry.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._size = os.fstat(file.fileno()).st_size
        self.entries: Mapping[str, Entry] = {entry.name: entry for entry in self._read_index()}

    def pieces(self, name: str) -> Iterator[bytes]:
        """The contents of an entry, at most ``PIECE_BYTES`` at a time.

        Raises:
            NotTrusted: the archive's checksum is wrong; it comes after the last piece.
        """
        entry = self.entries[name]
        self._file.seek(entry.offset + LOCAL.size + len(name))
        left, crc = entry.size_bytes, 0
        while left:
            piece = self._file.read(min(left, PIECE_BYTES))
            if not piece:
                raise self._refused(f"entry {name} ends {left} bytes too early", "bundle_corrupt")
            left, crc = left - len(piece), zlib.crc32(piece, crc)
            yield piece
        if crc != entry.crc:
            raise self._refused(f"entry {name} has checksum {crc:08x}, needs {entry.crc:08x}", "bundle_corrupt")

    def _read_index(self) -> list[Entry]:
        if self._size > PACKED_BYTES_MAX:
            raise self._refused(f"it has {self._size} bytes, at most {PACKED_BYTES_MAX} are read", "bundle_huge")
        end = self._read(self._size - END.size, END.size)
        if len(end) < END.size or not end.startswith(END_MAGIC):
            what = foreign(self._read(0, HEAD_BYTES))
            seen = f"; the file is {what}" if what is not None else ""
            raise self._refused(f"its end is not that of a packed bundle: it is cut short or has a comment{seen}")
        _, _, _, _, count, length, start, _ = END.unpack(end)
        if not 1 <= count <= ENTRIES_MAX or length > INDEX_BYTES_MAX or start + length + END.size != self._size:
            raise self._refused(
                f"its index of {count} entries and {length} bytes does not fit; at most {ENTRIES_MAX} entries are read"
            )
        index = self._read(start, length)
        entries = self._entries(index, start)
        if index_bytes(entries, start) != index + end:
            raise self._refused("its index has fields that a packed bundle does not have")
        for entry in entries:
            header = local_header(entry)
            if self._read(entry.offset, len(header)) != header:
                raise self._refused(f"the header of entry {entry.name} says something else than the index")
        return entries

    def _entries(self, index: bytes, start: int) -> list[Entry]:
        entries: list[Entry] = []
        at, offset = 0, 0
        while at < len(index):
            if at + CENTRAL.size > len(index) or not index.startswith(CENTRAL_MAGIC, at):
                raise self._refused(f"its index is broken at entry {len(entries) + 1}")
            line = CENTRAL.unpack_from(index, at)
            method, crc, packed, size, name_size, extra, comment = line[4], *line[7:13]
            raw = index[at + CENTRAL.size : at + CENTRAL.size + name_size]
            at += CENTRAL.size + name_size + extra + comment
            name = self._name(raw, entries)
            self._check_line(name, method=method, flags=line[3], packed=packed, size=size, mode=line[15] >> 16)
            if line[16] != offset:
                raise self._refused(
                    f"entry {name} begins at byte {line[16]}, needs {offset}: entries overlap or leave gaps"
                )
            entry = Entry(name=name, crc=crc, size_bytes=size, offset=offset)
            entries.append(entry)
            offset += LOCAL.size + len(raw) + size
        if offset != start:
            raise self._refused(f"its entries end at byte {offset}, its index begins at {start}")
        return entries

    def _name(self, raw: bytes, before: list[Entry]) -> str:
        """The name of the next entry: the manifest first, then blobs in order, so none can come twice."""
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._refused(f"an entry's name is not UTF-8: {raw[:80]!r}", "entry_name") from error
        if not before and name == MANIFEST_ENTRY:
            return name
        if before and BLOB_ENTRY.fullmatch(name) and name > before[-1].name.replace(MANIFEST_ENTRY, ""):
            return name
        raise self._refused(
            f"entry {len(before) + 1} is {name[:80]!r}{_why(name, [entry.name for entry in before])}; "
            f"needs {MANIFEST_ENTRY} first, then blobs/<sha256> in order",
            "entry_name",
        )

    def _check_line(self, name: str, *, method: int, flags: int, packed: int, size: int, mode: int) -> None:
        if mode != MODE:
            kind = {0o120000: "a symbolic link", 0o040000: "a folder", 0o100000: "a file"}.get(
                mode & 0o170000, "special"
            )
            raise self._refused(
                f"entry {name} is {kind} of mode {mode:o}, needs a file of mode {MODE:o}", "entry_special"
            )
        if flags & 1:
            raise self._refused(f"entry {name} is encrypted; needs plain bytes", "entry_compressed")
        if method or packed != size:
            raise self._refused(
                f"entry {name} is compressed ({packed} bytes for {size}, method {method}); needs plain bytes",
                "entry_compressed",
            )

    def _read(self, at: int, size: int) -> bytes:
        if at < 0:
            return b""
        self._file.seek(at)
        return self._file.read(size)

    def _refused(self, what: str, code: str = "packed_invalid") -> NotTrusted:
        return NotTrusted(f"{self._path} is refused: {what}; pack it again with `edgewise bundle pack`", code=code)


def _why(name: str, before: list[str]) -> str:
    """What is wrong with a name, beside that it is not the one that belongs there."""
    plain = name.replace("\\", "/")
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
        return ", an absolute path"
    if ".." in plain.split("/"):
        return ", a path out of the folder"
    if name in before:
        return ", which is there already"
    folded = {unicodedata.normalize("NFKC", other).casefold() for other in (*before, MANIFEST_ENTRY)}
    if unicodedata.normalize("NFKC", name).casefold() in folded:
        return ", which some systems take for another entry's name"
    return ""


def checked(pieces: Iterator[bytes], name: str, size_bytes: int) -> Iterator[bytes]:
    """The same pieces. NotTrusted, after the last one: they are other bytes than ``name``, their SHA-256, says."""
    seen, total = sha256(), 0
    for piece in pieces:
        seen.update(piece)
        total += len(piece)
        yield piece
    if total != size_bytes or seen.hexdigest() != name:
        raise NotTrusted(
            f"blob {name[:12]}… of this bundle came as {total} bytes with SHA-256 {seen.hexdigest()[:12]}…, "
            f"needs {size_bytes} bytes; fetch the bundle again",
            code="bundle_corrupt",
        )
