"""Updates as files: what turns one bundle, or one network, into the next, for whoever carries them by hand.

A network's delta is a file of `edgewise.delta`. A bundle's delta is the new manifest and such a delta for each blob
that the old bundle does not hold. The layout is in docs/delta.md.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import Field

from edgewise import delta
from edgewise.ports._bundle import MANIFEST_BYTES_MAX, StoredBundle, open_manifest, read_bundle, write_bundle
from edgewise.ports._files import disk_error, sync_folder
from edgewise.ports._packed import is_packed
from edgewise.wire import NotTrusted, NotValid, Strict, canonical, decode, loads, plain
from edgewise.wire._record import Digest

MAGIC = b"EWB\x01"  # the last byte is the version
HEADER_BYTES_MAX = 1 << 20
_START = struct.Struct("<4sII")


class Part(Strict):
    """One blob that the old bundle does not hold."""

    name: str
    sha256: Digest
    base: Digest | None = None  # the old bundle's blob of the same name
    size_bytes: int = Field(ge=0)  # of its delta


class Header(Strict):
    base: Digest
    target: Digest
    manifest_bytes: int = Field(ge=0, le=MANIFEST_BYTES_MAX)
    parts: tuple[Part, ...] = Field(default=(), max_length=1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Saving:
    """What one file takes as it is and as a delta, in bytes; `delta_bytes` is 0 where nothing changed."""

    name: str
    size_bytes: int
    delta_bytes: int


def make_delta(old: Path, new: Path, file: Path) -> list[Saving]:
    """Write what turns the old bundle or network into the new one; the file appears when all its bytes are on disk.

    Args:
        old, new: two bundles, or two plain files such as ``.onnx``.
        file: must not exist.
    Returns:
        A saving for each part; for bundles the last one is the manifest.
    Raises:
        NotValid: one is a bundle and the other is not, a file is missing, or the output exists. NotTrusted: a bundle
        is damaged. NotNow: no space.
    """
    _refuse_taken(file)
    if _is_bundle(old) != _is_bundle(new):
        kinds = ["a bundle" if _is_bundle(path) else "a plain file" for path in (old, new)]
        raise NotValid(f"{old} is {kinds[0]}, {new} is {kinds[1]}; give two of a kind", code="delta_kinds")
    if not _is_bundle(old):
        data = delta.encode(_read(old), target := _read(new))
        _write(file, [data])
        return [Saving(name=new.name, size_bytes=len(target), delta_bytes=len(data))]
    return _make_bundle_delta(read_bundle(old), read_bundle(new), file)


def apply_delta(old: Path, file: Path, new: Path) -> str:
    """Make the new bundle or network from the old one; comes back with the SHA-256 of what was made.

    The output appears only when every byte of it has the hash that the delta states.

    Args:
        new: must not exist; a folder where the delta is a bundle's.
    Raises:
        NotTrusted: another base, or a damaged delta. NotValid: a file is missing, of another kind or version, or the
        output exists. NotNow: no space.
    """
    _refuse_taken(new)
    with _opened(file) as source:
        if source.read(3) == MAGIC[:3]:
            source.seek(0)
            if not _is_bundle(old):
                raise NotValid(f"{file} is a bundle's delta, {old} is no bundle; give the bundle", code="delta_kinds")
            return _apply_bundle_delta(old, source, file, new)
        source.seek(0)
        if _is_bundle(old):
            raise NotValid(f"{file} is no bundle's delta, {old} is a bundle; give the plain file", code="delta_kinds")
        return _apply_file_delta(old, source, new)


def _make_bundle_delta(old: StoredBundle, new: StoredBundle, file: Path) -> list[Saving]:
    parts: list[Part] = []
    deltas: list[bytes] = []
    savings: dict[str, Saving] = {}
    done: set[str] = set()
    for name, blob in new.manifest.blobs.items():
        savings[name] = Saving(name=name, size_bytes=blob.size_bytes, delta_bytes=0)
        if blob.sha256 in old.blobs or blob.sha256 in done:
            continue
        before = old.manifest.blobs.get(name)
        data = delta.encode(old.blobs[before.sha256] if before else b"", new.blobs[blob.sha256])
        base = before.sha256 if before else None
        parts.append(Part(name=name, sha256=blob.sha256, base=base, size_bytes=len(data)))
        deltas.append(data)
        done.add(blob.sha256)
        savings[name] = Saving(name=name, size_bytes=blob.size_bytes, delta_bytes=len(data))
    manifest = new.manifest_bytes
    header = Header(base=old.digest, target=new.digest, manifest_bytes=len(manifest), parts=tuple(parts))
    text = canonical(plain(header))
    start = _START.pack(MAGIC, len(text), zlib.crc32(text))
    _write(file, [start, text, manifest, *deltas])
    more = len(start) + len(text) + len(manifest)
    return [*savings.values(), Saving(name="manifest", size_bytes=len(manifest), delta_bytes=more)]


def _apply_bundle_delta(old: Path, source: BinaryIO, file: Path, new: Path) -> str:
    header = _read_header(source, file)
    stored = read_bundle(old)
    if stored.digest != header.base:
        raise NotTrusted(
            f"{file} changes bundle {header.base[:12]}…, {old} is {stored.digest[:12]}…; make a delta for this bundle, "
            "or bring the whole new one",
            code="delta_wrong_base",
        )
    data = _exactly(source, header.manifest_bytes, file)
    manifest, identity = open_manifest(data)
    if identity != header.target:
        raise _damaged(file, f"its manifest is {identity[:12]}…, it names {header.target[:12]}…")
    sizes = {blob.sha256: blob.size_bytes for blob in manifest.blobs.values()}
    blobs = {name: data for name, data in stored.blobs.items() if name in sizes}
    for part in header.parts:
        base = stored.blobs.get(part.base, b"") if part.base else b""
        limits = delta.Limits(target_bytes_max=sizes.get(part.sha256, 0))
        made = io.BytesIO()
        told = delta.decode(base, io.BytesIO(_exactly(source, part.size_bytes, file)), made, limits=limits)
        if told.target_sha256 != part.sha256:
            raise _damaged(file, f"the part {part.name} makes {told.target_sha256[:12]}…")
        blobs[part.sha256] = made.getvalue()
    if source.read(1):
        raise _damaged(file, "bytes follow its end")
    return write_bundle(new, data, blobs)


def _read_header(source: BinaryIO, file: Path) -> Header:
    magic, length, crc = _START.unpack(_exactly(source, _START.size, file))
    if magic != MAGIC:
        raise NotValid(f"{file} has version {magic[3]}, this program reads version {MAGIC[3]}", code="delta_version")
    if length > HEADER_BYTES_MAX:
        raise _damaged(file, f"its header has {length} bytes, at most {HEADER_BYTES_MAX} are read")
    text = _exactly(source, length, file)
    if zlib.crc32(text) != crc:
        raise _damaged(file, "the checksum of its header does not hold")
    try:
        loads(text)
        return decode(Header, text)
    except NotValid as error:
        raise _damaged(file, str(error)) from error


def _apply_file_delta(old: Path, source: BinaryIO, new: Path) -> str:
    with _opened(old) as base, _new_file(new) as out:
        return delta.decode(base, source, out).target_sha256


def _write(file: Path, pieces: list[bytes]) -> None:
    with _new_file(file) as out:
        for piece in pieces:
            out.write(piece)


@contextlib.contextmanager
def _new_file(file: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when the block ends well, with all its bytes on disk; nothing stays otherwise."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        _refuse_taken(file)
        part.rename(file)
        sync_folder(file.parent)
    except OSError as error:
        raise disk_error(error, file) from error
    finally:
        part.unlink(missing_ok=True)


def _refuse_taken(path: Path) -> None:
    if os.path.lexists(path):
        raise NotValid(f"{path} exists; name a new one", code="output_taken")


def _is_bundle(path: Path) -> bool:
    return path.is_dir() or is_packed(path)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise disk_error(error, path) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise disk_error(error, path) from error


def _exactly(source: BinaryIO, count: int, file: Path) -> bytes:
    data = source.read(count)
    if len(data) != count:
        raise _damaged(file, f"it ends {count - len(data)} bytes early")
    return data


def _damaged(file: Path, what: str) -> NotTrusted:
    return NotTrusted(f"{file} is damaged: {what}; bring it again", code="delta_corrupt")
