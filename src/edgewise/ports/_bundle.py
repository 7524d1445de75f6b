"""Bundles as folders (``manifest.json`` and ``blobs/<sha256>``) and as packed files."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from edgewise.ports._blobs import PIECE_BYTES, check_bytes
from edgewise.ports._files import disk_error, sync_folder, write_new
from edgewise.ports._packed import MANIFEST_ENTRY, PackedFile, checked, write_packed
from edgewise.ports._runtime import Runtime
from edgewise.ports._vet import VetLimits, vet_bundle
from edgewise.wire import Manifest, NotTrusted, NotValid, canonical, decode, digest, encode, loads

MANIFEST = MANIFEST_ENTRY
MANIFEST_VALUES_MAX = 100_000  # records and lists of small values take many times their bytes
MANIFEST_BYTES_MAX = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredBundle:
    """A whole bundle in memory.

    The manifest's exact bytes stay: a newer edgewise may write the same record with one field more, and the bundle
    would have another identity.
    """

    manifest: Manifest
    digest: str  # SHA-256 of the manifest's bytes: the bundle's identity
    blobs: Mapping[str, bytes]  # by SHA-256
    manifest_bytes: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if not self.manifest_bytes:
            object.__setattr__(self, "manifest_bytes", encode(self.manifest))

    def read_blob(self, sha256: str) -> bytes:
        """A blob by its digest. NotValid with code ``blob_missing``: not part of this bundle."""
        if sha256 not in self.blobs:
            raise NotValid(f"blob {sha256[:12]}… is not part of bundle {self.digest[:12]}…", code="blob_missing")
        return self.blobs[sha256]


def open_manifest(data: bytes) -> tuple[Manifest, str]:
    """A manifest and the bundle's identity, from the manifest's exact bytes.

    Raises:
        NotTrusted: not the canonical bytes of a manifest, so the identity could not be computed again.
    """
    if len(data) > MANIFEST_BYTES_MAX:
        raise _manifest_huge(len(data))
    values = sum(data.count(mark) for mark in (b",", b"[", b"{"))
    if values > MANIFEST_VALUES_MAX:
        raise NotTrusted(
            f"this manifest has about {values} values, at most {MANIFEST_VALUES_MAX} are read", code="manifest_huge"
        )
    try:
        manifest = decode(Manifest, data)
        same = canonical(loads(data)) == data
    except NotValid as error:
        raise NotTrusted(
            f"this manifest cannot be read: {error}; fetch the bundle again", code="bundle_corrupt"
        ) from error
    if not same:
        raise NotTrusted("this manifest is not canonical JSON; it was changed, fetch it again", code="bundle_corrupt")
    return manifest, digest(data)


def write_bundle(folder: Path, manifest: Manifest | bytes, blobs: Mapping[str, bytes]) -> str:
    """Write a bundle, all or nothing: the folder appears only when all its bytes are on disk.

    Args:
        folder: made by this call; if it holds the same bundle already, nothing happens.
        manifest: a manifest, or its exact bytes where they exist already.
        blobs: the bytes of every blob that the manifest names, by SHA-256.
    Returns:
        The bundle's digest.
    Raises:
        NotTrusted: a blob is missing or has other bytes. NotValid: something else is in the folder, or it cannot be
        written. NotNow: no space.
    """
    data = encode(manifest) if isinstance(manifest, Manifest) else manifest
    record, identity = open_manifest(data)
    if _is_taken(folder, identity):
        return identity
    # A name with a random part: two writers never share it, and what a power cut leaves is recognised as .part.
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        (part / "blobs").mkdir(parents=True)
        for blob in record.blobs.values():
            _write_blob(part / "blobs" / blob.sha256, _checked(blob.sha256, blob.size_bytes, blobs.get(blob.sha256)))
        write_new(part / MANIFEST, data)
        sync_folder(part / "blobs")
        sync_folder(part)
        part.rename(folder)  # fails where a full folder is, so nothing is ever replaced
        sync_folder(folder.parent)
    except OSError as error:
        raise disk_error(error, folder) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return identity


def _write_blob(file: Path, data: bytes) -> None:
    if not file.exists():  # two names of a manifest may mean the same bytes
        write_new(file, data)


def _is_taken(folder: Path, identity: str) -> bool:
    """Whether the folder holds this very bundle. NotValid: it holds something else."""
    if not folder.exists():
        return False
    if folder.is_dir() and not any(folder.iterdir()):
        return False
    try:
        held = read_bundle(folder).digest
    except (NotTrusted, NotValid):
        held = ""
    if held != identity:
        raise NotValid(f"{folder} exists and holds something else; name a new folder", code="folder_taken")
    return True


class OpenBundle:
    """A bundle in its place: the manifest is read and checked, blobs are read when they are asked for.

    Args:
        path: for messages.
        manifest_bytes: exact.
        pieces: the bytes of a blob by its SHA-256, a piece at a time.
    """

    def __init__(self, path: Path, manifest_bytes: bytes, pieces: Callable[[str], Iterator[bytes]]) -> None:
        self.path = path
        self.manifest_bytes = manifest_bytes
        self.manifest, self.digest = open_manifest(manifest_bytes)
        self._pieces = pieces
        self._sizes = {blob.sha256: blob.size_bytes for blob in self.manifest.blobs.values()}

    @property
    def names(self) -> list[str]:
        """The blobs, each once, in order."""
        return sorted(self._sizes)

    def pieces(self, sha256: str) -> Iterator[bytes]:
        """A blob's bytes. NotTrusted, at the latest after the last piece: they are not what the manifest says."""
        return checked(self._pieces(sha256), sha256, self._sizes[sha256])


@contextlib.contextmanager
def open_bundle(path: Path) -> Iterator[OpenBundle]:
    """A bundle, open for reading, in memory that does not grow with it.

    Args:
        path: a bundle's folder, or a packed bundle.
    Raises:
        NotValid: there is no bundle here. NotTrusted: it is damaged or was changed; the message names what.
    """
    if path.is_file():
        with _opened(path) as file:
            yield _open_packed(file, path)
        return
    if not (path / MANIFEST).exists():
        raise NotValid(
            f"{path} is not a bundle: it has no {MANIFEST}, and is no packed bundle; make one with "
            "`edgewise learn train`",
            code="bundle_missing",
        )
    data = b"".join(_file_pieces(path / MANIFEST, MANIFEST_BYTES_MAX + 1))
    yield OpenBundle(path, data, lambda name: _blob_pieces(path, name))


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise disk_error(error, path) from error


def _open_packed(file: BinaryIO, path: Path) -> OpenBundle:
    packed = PackedFile(file, path)
    size = packed.entries[MANIFEST].size_bytes
    if size > MANIFEST_BYTES_MAX:
        raise _manifest_huge(size)
    opened = OpenBundle(path, b"".join(packed.pieces(MANIFEST)), lambda name: packed.pieces(f"blobs/{name}"))
    held = [name.removeprefix("blobs/") for name in packed.entries if name != MANIFEST]
    if held != opened.names:
        odd = min(set(held) ^ set(opened.names))
        where = "its manifest does not name it" if odd in held else "it is not in the file"
        raise NotTrusted(f"{path} and its manifest differ in blob {odd[:12]}…: {where}", code="bundle_corrupt")
    return opened


def read_bundle(path: Path) -> StoredBundle:
    """A bundle from its folder or its packed file, whole in memory, with every byte checked.

    Raises:
        NotValid: there is no bundle here. NotTrusted: it is damaged or was changed; the message names what.
    """
    with open_bundle(path) as opened:
        blobs = {name: b"".join(opened.pieces(name)) for name in opened.names}
        return StoredBundle(
            manifest=opened.manifest, digest=opened.digest, blobs=blobs, manifest_bytes=opened.manifest_bytes
        )


def pack_bundle(path: Path, file: Path) -> str:
    """Write a bundle as one file: the same bundle gives the same bytes everywhere. Comes back with its digest.

    Args:
        path: a bundle's folder, or a packed bundle.
        file: made by this call; if it holds the same bundle already, nothing changes.
    Raises:
        NotTrusted: the bundle is damaged. NotValid: no bundle, or something else is in the file. NotNow: no space.
    """
    with open_bundle(path) as opened:
        write_packed(file, opened.manifest_bytes, opened.manifest, opened.pieces)
        return opened.digest


def verify_bundle(path: Path, runtime: Runtime, limits: VetLimits | None = None) -> OpenBundle:
    """Check every byte of a bundle, then vet its networks in a limited process (see `vet_bundle`).

    Returns:
        What was checked; its blobs cannot be read any more.
    Raises:
        NotValid: there is no bundle here. NotTrusted: it is refused; the message names what, the value seen and the
        value needed. NotNow: this machine cannot check it now.
    """
    with open_bundle(path) as opened, tempfile.TemporaryDirectory(prefix="edgewise-vet-") as name:
        for blob in opened.names:
            for _ in opened.pieces(blob):
                pass
        blob_file = copied_blobs(opened.pieces, Path(name)) if path.is_file() else (path / "blobs").joinpath
        vet_bundle(opened.manifest, blob_file, runtime, limits)
        return opened


def copied_blobs(pieces: Callable[[str], Iterator[bytes]], folder: Path) -> Callable[[str], Path]:
    """Gives the file of a blob by its SHA-256, copied into a folder when it is asked for first."""

    def file_of(sha256: str) -> Path:
        file = folder / sha256
        if not file.exists():
            try:
                with file.open("wb") as out:
                    for piece in pieces(sha256):
                        out.write(piece)
            except OSError as error:
                raise disk_error(error, file) from error
        return file

    return file_of


def _blob_pieces(folder: Path, name: str) -> Iterator[bytes]:
    blobs = folder / "blobs"
    if blobs.is_symlink():
        raise _special(blobs, "a symbolic link")
    if not os.path.lexists(blobs / name):
        raise NotTrusted(
            f"blob {name[:12]}… of this bundle is missing in {folder}; fetch the bundle again", code="bundle_corrupt"
        )
    yield from _file_pieces(blobs / name, None)


def _file_pieces(file: Path, bytes_max: int | None) -> Iterator[bytes]:
    """The bytes of a plain file. A link or a device is not followed: it leads out of the bundle."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if file.is_symlink():
            raise _special(file, "a symbolic link") from error
        raise disk_error(error, file) from error
    with os.fdopen(handle, "rb") as opened:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise _special(file, "a folder" if stat.S_ISDIR(mode) else "a special file")
        left = os.fstat(handle).st_size if bytes_max is None else bytes_max
        while left > 0 and (piece := opened.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece


def _special(file: Path, what: str) -> NotTrusted:
    return NotTrusted(f"{file} is {what}; a bundle holds plain files only, fetch it again", code="entry_special")


def _manifest_huge(size: int) -> NotTrusted:
    return NotTrusted(
        f"this manifest has {size} bytes or more, at most {MANIFEST_BYTES_MAX} are read", code="manifest_huge"
    )


def _checked(sha256: str, size_bytes: int, data: bytes | None) -> bytes:
    if data is None:
        raise NotTrusted(
            f"blob {sha256[:12]}… of this bundle is missing; fetch the bundle again", code="bundle_corrupt"
        )
    if len(data) != size_bytes:
        raise NotTrusted(
            f"blob {sha256[:12]}… of this bundle has not the {size_bytes} bytes that the manifest says; fetch it again",
            code="bundle_corrupt",
        )
    try:
        return check_bytes(sha256, data)
    except NotTrusted as error:
        raise NotTrusted(f"this bundle is damaged: {error}", code="bundle_corrupt") from error
