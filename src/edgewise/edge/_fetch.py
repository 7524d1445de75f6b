"""Downloading a bundle piece by piece: what came over the link stays, and the next try goes on from there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from edgewise.ports import Link, disk_error, sync_folder
from edgewise.wire import Blob, Manifest, NotNow, NotTrusted, digest

SPARE_BYTES = 20_000_000  # left free on the disk whatever is downloaded: the outbox and the logs need it
Checkpoint = Callable[[str], None]


class Download:
    """Blobs on their way, in a folder of their own.

    Args:
        folder: holds ``<sha256>.part`` while a blob grows and ``<sha256>`` when it is whole and verified.
        checkpoint: called by name where a power cut would matter.
    """

    def __init__(self, folder: Path, checkpoint: Checkpoint) -> None:
        self.folder = folder
        self._checkpoint = checkpoint

    def advance(self, link: Link, manifest: Manifest, held: Collection[str], bytes_max: int) -> int:
        """Fetch up to about this many more bytes; comes back with how many are still missing, 0 when all is there.

        Args:
            held: blobs that the device has already, by digest; they are not fetched.
        Raises:
            NotNow: the link or the disk; what came so far stays. NotTrusted: the bytes are not what they should be.
        """
        wanted = {blob.sha256: blob for blob in manifest.blobs.values() if blob.sha256 not in held}
        self._make_folder(sum(self._missing(blob) for blob in wanted.values()))
        for blob in wanted.values():
            if bytes_max <= 0:
                break
            bytes_max -= self._fetch(link, blob, bytes_max)
        return sum(self._missing(blob) for blob in wanted.values())

    def blobs(self, manifest: Manifest, held: Mapping[str, bytes]) -> dict[str, bytes]:
        """The bytes of all blobs, once nothing is missing; each is checked where it is used."""
        names = {blob.sha256 for blob in manifest.blobs.values()}
        return {name: held[name] if name in held else (self.folder / name).read_bytes() for name in names}

    def size_bytes(self, manifest: Manifest) -> int:
        """Bytes of this manifest's blobs that lie here, whole or in part."""
        size = 0
        for name in {blob.sha256 for blob in manifest.blobs.values()}:
            for file in (self.folder / name, self.folder / f"{name}.part"):
                with contextlib.suppress(FileNotFoundError):
                    size += file.stat().st_size
        return size

    def clear(self, keep: Manifest | None = None) -> None:
        """Forget what was fetched, except the blobs of this manifest."""
        names = {blob.sha256 for blob in keep.blobs.values()} if keep else set()
        if not names:
            if self.folder.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
            return
        for file in self.folder.iterdir() if self.folder.is_dir() else ():
            if file.name.removesuffix(".part") not in names:
                file.unlink(missing_ok=True)

    def _missing(self, blob: Blob) -> int:
        if (self.folder / blob.sha256).exists():
            return 0
        with contextlib.suppress(FileNotFoundError):
            return max(1, blob.size_bytes - self._part(blob).stat().st_size)
        return max(1, blob.size_bytes)

    def _part(self, blob: Blob) -> Path:
        return self.folder / f"{blob.sha256}.part"

    def _make_folder(self, missing: int) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise disk_error(error, self.folder) from error
        # Twice: once as downloaded, once in the slot.
        if missing and free < 2 * missing + SPARE_BYTES:
            raise NotNow(
                f"the bundle needs {2 * missing + SPARE_BYTES} free bytes, {self.folder} has {free}; free some",
                code="disk_full",
            )

    def _fetch(self, link: Link, blob: Blob, bytes_max: int) -> int:
        """Fetch some of one blob; comes back with how many bytes came."""
        whole = self.folder / blob.sha256
        if whole.exists():
            return 0
        part, came = self._part(blob), 0
        try:
            with part.open("ab") as file:
                offset = file.tell()
                pieces = (
                    link.get_blob(blob.sha256, offset=offset, bytes_max=bytes_max)
                    if offset < blob.size_bytes
                    else iter(())
                )
                try:
                    for piece in pieces:
                        file.write(piece)
                        came += len(piece)
                        self._checkpoint("piece_fetched")
                        if offset + came > blob.size_bytes:
                            break
                        if came >= bytes_max and offset + came < blob.size_bytes:
                            return came
                finally:
                    with contextlib.suppress(AttributeError):
                        pieces.close()  # type: ignore[attr-defined]
                    file.flush()
                    os.fsync(file.fileno())
            self._finish(part, whole, blob)
        except OSError as error:
            raise disk_error(error, part) from error
        return came

    def _finish(self, part: Path, whole: Path, blob: Blob) -> None:
        data = part.read_bytes()
        if len(data) < blob.size_bytes:
            raise NotNow(
                f"blob {blob.sha256[:12]}… ended after {len(data)} of {blob.size_bytes} bytes; it goes on later"
            )
        if digest(data) != blob.sha256:
            part.unlink()
            raise NotTrusted(
                f"blob {blob.sha256[:12]}… came as {digest(data)[:12]}… ({len(data)} bytes); it was changed on the way",
                code="blob_corrupt",
            )
        self._checkpoint("blob_fetched")
        part.replace(whole)
        sync_folder(self.folder)
