"""Downloading a bundle piece by piece: what came over the link stays, and the next try goes on from there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from edgewise.edge._fetch_delta import Base, DeltaFetch, Tell
from edgewise.edge._update_state import UpdateLimits
from edgewise.ports import Link, disk_error, sync_folder
from edgewise.wire import Blob, Manifest, NotNow, NotTrusted, digest

SPARE_BYTES = 20_000_000  # left free on the disk whatever is downloaded: the outbox and the logs need it
Checkpoint = Callable[[str], None]
Bases = Mapping[str, Sequence[Base]]


def _untold(_what: str, _text: str, **_data: object) -> None:
    return None


class Download:
    """Blobs on their way, in a folder of their own.

    Args:
        folder: holds ``<sha256>.part`` while a blob grows and ``<sha256>`` when it is whole and verified; what belongs
            to a delta lies beside them.
        checkpoint: called by name where a power cut would matter.
        limits: for deltas.
        tell: told of what the hub should hear of.
    """

    def __init__(
        self, folder: Path, checkpoint: Checkpoint, limits: UpdateLimits | None = None, tell: Tell = _untold
    ) -> None:
        self.folder = folder
        self._checkpoint = checkpoint
        bounds = limits or UpdateLimits()
        self._deltas = DeltaFetch(
            folder,
            self.grow,
            tell=tell,
            checkpoint=checkpoint,
            bytes_min=bounds.delta_bytes_min,
            asks_max=bounds.delta_asks_max,
        )

    def advance(
        self, link: Link, manifest: Manifest, held: Collection[str], bytes_max: int, bases: Bases | None = None
    ) -> int:
        """Fetch up to about this many more bytes; comes back with how many are still missing, 0 when all is there.

        Args:
            held: blobs that the device has already, by digest; they are not fetched.
            bases: what a blob may be made from, by its digest.
        Raises:
            NotNow: the link or the disk; what came so far stays. NotTrusted: the bytes are not what they should be.
        """
        wanted = {blob.sha256: blob for blob in manifest.blobs.values() if blob.sha256 not in held}
        self._make_folder(sum(self._space(blob) for blob in wanted.values()))
        for blob in wanted.values():
            if bytes_max <= 0:
                break
            bytes_max -= self._fetch(link, blob, bytes_max, (bases or {}).get(blob.sha256, ()))
        return sum(self._missing(blob) for blob in wanted.values())

    def blobs(self, manifest: Manifest, held: Mapping[str, bytes]) -> dict[str, bytes]:
        """The bytes of all blobs, once nothing is missing; each is checked where it is used."""
        names = {blob.sha256 for blob in manifest.blobs.values()}
        return {name: held[name] if name in held else (self.folder / name).read_bytes() for name in names}

    def fetched_bytes(self, manifest: Manifest) -> int:
        """Bytes that came over the link for this manifest's blobs."""
        return sum(self._fetched(name) for name in {blob.sha256 for blob in manifest.blobs.values()})

    def _fetched(self, name: str) -> int:
        whole = self.folder / name
        by_delta = self._deltas.fetched_bytes(name, done=whole.exists())
        if by_delta is not None:
            return by_delta
        size = self._deltas.wasted_bytes(name)
        for file in (whole, self.folder / f"{name}.part"):
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
            if file.name.partition(".")[0] not in names:
                file.unlink(missing_ok=True)

    def _missing(self, blob: Blob) -> int:
        if (self.folder / blob.sha256).exists():
            return 0
        by_delta = self._deltas.missing(blob)
        if by_delta is not None:
            return by_delta
        with contextlib.suppress(FileNotFoundError):
            return max(1, blob.size_bytes - self._part(blob).stat().st_size)
        return max(1, blob.size_bytes)

    def _part(self, blob: Blob) -> Path:
        return self.folder / f"{blob.sha256}.part"

    def _space(self, blob: Blob) -> int:
        """Free bytes that a blob still needs: twice what is missing, once as downloaded, once in the slot."""
        missing = self._missing(blob)
        if missing and self._deltas.missing(blob) is not None:
            return missing + 2 * blob.size_bytes
        return 2 * missing

    def _make_folder(self, space: int) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise disk_error(error, self.folder) from error
        if space and free < space + SPARE_BYTES:
            raise NotNow(
                f"the bundle needs {space + SPARE_BYTES} free bytes, {self.folder} has {free}; free some",
                code="disk_full",
            )

    def _fetch(self, link: Link, blob: Blob, bytes_max: int, bases: Sequence[Base]) -> int:
        """Fetch some of one blob; comes back with how many bytes came."""
        whole, part = self.folder / blob.sha256, self._part(blob)
        if whole.exists():
            return 0
        came = 0
        try:
            if not part.exists() and self._deltas.may(blob, bases):
                came = self._deltas.advance(link, blob, bases, bytes_max)
                if came >= bytes_max or whole.exists() or self._deltas.may(blob, bases):
                    return came
            grown = self.grow(link, blob.sha256, blob.size_bytes, part, bytes_max - came)
            if grown < bytes_max - came or part.stat().st_size >= blob.size_bytes:
                self._finish(part, whole, blob)
        except OSError as error:
            raise disk_error(error, part) from error
        return came + grown

    def grow(self, link: Link, sha256: str, size_bytes: int, part: Path, bytes_max: int) -> int:
        """Fetch some more of a blob into a file, which goes on where it ends; comes back with how many bytes came."""
        came = 0
        with part.open("ab") as file:
            offset = file.tell()
            pieces = link.get_blob(sha256, offset=offset, bytes_max=bytes_max) if offset < size_bytes else iter(())
            try:
                for piece in pieces:
                    file.write(piece)
                    came += len(piece)
                    self._checkpoint("piece_fetched")
                    if offset + came > size_bytes or came >= bytes_max:
                        break
            finally:
                with contextlib.suppress(AttributeError):
                    pieces.close()  # type: ignore[attr-defined]
                file.flush()
                os.fsync(file.fileno())
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
