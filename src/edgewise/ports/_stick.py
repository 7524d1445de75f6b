"""One signed part of a courier's stick: a folder with files named by their digests and, written last, their listing.

No path that somebody chose reaches the file system: the listing maps paths to digests, and only digests name files.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from edgewise.ports._files import disk_error, replace_file
from edgewise.wire import NotTrusted, NotValid, decode, digest, encode
from edgewise.wire.courier import FILES_MAX, SealedListing, StickFile

LISTING = "listing.json"
FILES = "files"
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class StickLimits:
    """Every bound of a stick in one record."""

    listing_bytes_max: int = 8 << 20
    file_bytes_max: int = 512 << 20
    small_bytes_max: int = 64 << 20  # of a file that is read whole, such as an upload
    files_max: int = FILES_MAX
    bytes_max: int = 64 << 30  # of one part
    devices_max: int = 1000


LIMITS = StickLimits()


def hub_part(stick: Path) -> Path:
    """The folder of a stick that a hub writes."""
    return Path(stick) / "hub"


def device_part(stick: Path, device: str) -> Path:
    """The folder of a stick that this device writes.

    >>> device_part(Path("usb"), "press:4").as_posix()
    'usb/devices/press%3A4'
    """
    return Path(stick) / "devices" / quote(device, safe="@")


def devices_on(stick: Path, limits: StickLimits = LIMITS) -> list[str]:
    """The devices with a part on a stick. NotTrusted: more than there may be."""
    folder = Path(stick) / "devices"
    try:
        names = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise disk_error(error, folder) from error
    if len(names) > limits.devices_max:
        raise NotTrusted(
            f"{folder} names {len(names)} devices, at most {limits.devices_max} are read", code="stick_too_big"
        )
    return [unquote(name) for name in names if device_part(stick, unquote(name)).name == name and name[0] != "."]


class StickPart:
    """One part. Writing: `put` each file, then `publish`. Reading: `sealed`, then `take` its files, which checks them.

    Args:
        folder: of the part; made when it is written.
    """

    def __init__(self, folder: Path, limits: StickLimits = LIMITS) -> None:
        self.folder = Path(folder)
        self.limits = limits
        self.files: dict[str, StickFile] = {}

    # -- writing -----------------------------------------------------------------------------------------------------

    def put(self, path: str, data: bytes) -> None:
        """Add a file. NotNow: the stick is full. NotValid: it cannot be written, or a bound is reached."""
        name = digest(data)
        held = sum(file.size_bytes for file in self.files.values())
        if len(self.files) >= self.limits.files_max or held + len(data) > self.limits.bytes_max:
            raise NotValid(
                f"{self.folder} would hold over {self.limits.files_max} files or {self.limits.bytes_max} bytes; name "
                "fewer devices",
                code="stick_too_big",
            )
        place = self.folder / FILES
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, place) from error
        _refuse_links(self.folder.parent, self.folder, place)
        if not (place / name).is_file() or _digest_of(place / name) != name:
            replace_file(place / name, data)
        self.files[path] = StickFile(sha256=name, size_bytes=len(data))

    def publish(self, sealed: SealedListing) -> None:
        """Make what was put the whole part: the listing replaces the old one at once, then unlisted files go."""
        replace_file(self.folder / LISTING, encode(sealed))
        kept = {file.sha256 for file in self.files.values()}
        for item in (self.folder / FILES).iterdir():
            if item.name not in kept:
                item.unlink()

    # -- reading -----------------------------------------------------------------------------------------------------

    def sealed(self) -> SealedListing:
        """The listing, not checked yet.

        Raises:
            NotValid: there is no such part. NotTrusted: the part has no listing, or something else in its place.
        """
        file = self.folder / LISTING
        _refuse_links(self.folder.parent, self.folder, self.folder / FILES)
        if not os.path.lexists(file):
            kind = NotTrusted if self.folder.is_dir() else NotValid  # half a copy, or another folder altogether
            raise kind(
                f"{file} does not exist: the stick was not written, or not to its end; export again",
                code="stick_unfinished",
            )
        try:
            return decode(SealedListing, self._whole(file, self.limits.listing_bytes_max))
        except NotValid as error:
            raise NotTrusted(f"{file} is no listing: {error}", code="stick_damaged") from error

    def take(self, files: Mapping[str, StickFile]) -> None:
        """Believe this listing once every file has the bytes that it names.

        Raises:
            NotTrusted: a file is missing, changed, a link, or over a bound; the part is not used.
        """
        total = sum(file.size_bytes for file in files.values())
        biggest = max((file.size_bytes for file in files.values()), default=0)
        if total > self.limits.bytes_max or biggest > self.limits.file_bytes_max:
            raise NotTrusted(
                f"{self.folder} lists {total} bytes, {biggest} in one file; at most {self.limits.bytes_max} and "
                f"{self.limits.file_bytes_max} are read",
                code="stick_too_big",
            )
        for path, file in files.items():
            place = self.folder / FILES / file.sha256
            size_bytes = _regular(place).st_size
            if size_bytes != file.size_bytes or _digest_of(place) != file.sha256:
                raise NotTrusted(
                    f"{path[:200]} on the stick has other bytes than listed ({size_bytes} of {file.size_bytes} bytes); "
                    "it was changed or copied badly, export again",
                    code="stick_damaged",
                )
        self.files = dict(files)

    def pieces(self, path: str, *, offset: int = 0, bytes_max: int | None = None) -> Iterator[bytes]:
        """A file's bytes from one on, piece by piece. KeyError: it is not listed."""
        place = self.folder / FILES / self.files[path].sha256
        left = self.files[path].size_bytes if bytes_max is None else bytes_max
        try:
            with place.open("rb") as file:
                file.seek(offset)
                while left > 0 and (piece := file.read(min(PIECE_BYTES, left))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise disk_error(error, place) from error

    def read(self, path: str) -> bytes:
        """A listed file, whole and checked once more. NotTrusted: it changed, or is too big to be read whole."""
        file = self.files[path]
        data = self._whole(self.folder / FILES / file.sha256, self.limits.file_bytes_max)
        if digest(data) != file.sha256:
            raise NotTrusted(f"{path[:200]} on the stick changed while it was read", code="stick_damaged")
        return data

    def _whole(self, place: Path, bytes_max: int) -> bytes:
        size_bytes = _regular(place).st_size
        if size_bytes > bytes_max:
            raise NotTrusted(f"{place} has {size_bytes} bytes, at most {bytes_max} are read", code="stick_too_big")
        try:
            with place.open("rb") as file:
                return file.read(bytes_max)
        except OSError as error:
            raise disk_error(error, place) from error


def _regular(place: Path) -> os.stat_result:
    """The state of a plain file. NotTrusted: it is missing, a link or something else."""
    try:
        state = place.lstat()
    except OSError as error:
        raise NotTrusted(
            f"{place} is listed and cannot be read ({error.strerror}); the stick was not copied whole, export again",
            code="stick_damaged",
        ) from error
    if not stat.S_ISREG(state.st_mode):
        raise NotTrusted(f"{place} is not a plain file; links are not followed on a stick", code="stick_damaged")
    return state


def _refuse_links(*folders: Path) -> None:
    for folder in folders:
        if folder.is_symlink():
            raise NotTrusted(f"{folder} is a link; links are not followed on a stick", code="stick_damaged")


def _digest_of(place: Path) -> str:
    try:
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise disk_error(error, place) from error
