"""Bundles as folders: ``manifest.json`` and ``blobs/<sha256>``."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgewise.ports._blobs import check_bytes
from edgewise.ports._files import disk_error, sync_folder, write_new
from edgewise.wire import Manifest, NotTrusted, NotValid, canonical, decode, digest, encode, loads

MANIFEST = "manifest.json"
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


def read_bundle(folder: Path) -> StoredBundle:
    """A bundle from its folder, with every byte checked.

    Raises:
        NotValid: there is no bundle here. NotTrusted: it is damaged or was changed; the message names what.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise NotValid(
            f"{folder} is not a bundle: it has no {MANIFEST}; make one with `edgewise learn train`",
            code="bundle_missing",
        )
    data = _read(file, MANIFEST_BYTES_MAX)
    manifest, identity = open_manifest(data)
    blobs = {}
    for blob in manifest.blobs.values():
        place = folder / "blobs" / blob.sha256
        blobs[blob.sha256] = _checked(
            blob.sha256, blob.size_bytes, _read(place, blob.size_bytes) if place.is_file() else None
        )
    return StoredBundle(manifest=manifest, digest=identity, blobs=blobs, manifest_bytes=data)


def _read(file: Path, bytes_max: int) -> bytes:
    """The file's bytes, at most one more than allowed: enough to see that it is too long."""
    try:
        with file.open("rb") as handle:
            return handle.read(bytes_max + 1)
    except OSError as error:
        raise disk_error(error, file) from error


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
