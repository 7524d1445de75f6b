"""A TUF client: which target files the repository's keys vouch for now, and their bytes.

python-tuf's client workflow does the work. Around it: every file and number is bounded, downloads go on where they
broke off, what is on disk is whole, and each refusal is one of our errors with its reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from tuf.api import exceptions
from tuf.api.metadata import (  # type: ignore[attr-defined]  # its public names come from a private module
    TargetFile,
)

from edgewise.ports._clock import Clock, SystemClock
from edgewise.ports._files import disk_error, replace_file, sync_folder
from edgewise.ports._tuf_fetch import Fetcher, HttpFetcher, continue_file
from edgewise.ports._tuf_link import LinkFetcher
from edgewise.ports._tuf_trusted import RoleState, TrustedRoles
from edgewise.ports._tuf_updater import TrustedUpdater, TufBounds, refusals
from edgewise.wire import NotNow, NotTrusted, NotValid

BEGINNING = datetime.min.replace(tzinfo=UTC)
NAME_BYTES_MAX = 200  # of a file name; most file systems end at 255


@dataclass(frozen=True, kw_only=True, slots=True)
class VouchedTarget:
    """What the repository's keys say about a target file."""

    name: str
    size_bytes: int
    hashes: Mapping[str, str]
    custom: Mapping[str, Any] = field(default_factory=dict)


def start_trust(folder: Path, root: bytes) -> None:
    """Make a metadata folder that trusts this root. No request is made.

    Args:
        folder: made if missing; one client at a time uses it.
        root: root metadata from the enrolment or another safe way.
    Raises:
        NotTrusted: it is no root, or not signed by its own keys.
        NotValid: the folder trusts another root already.
    """
    with refusals():
        TrustedRoles(
            root, datetime.max.replace(tzinfo=UTC), 0
        )  # an expired root may start: newer ones follow at the first refresh
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "root.json"
        if path.exists() and path.read_bytes() != root:
            raise NotValid(
                f"{path} holds another trusted root; remove {folder} first if this device shall change its repository",
                code="root_exists",
            )
        replace_file(path, root)


class TufClient:
    """A client with its own metadata folder: ``root.json``, ``timestamp.json``, ... as last verified.

    Args:
        folder: as ``start_trust`` made it.
        metadata_url: where the repository's metadata lie.
        fetcher: reads from servers; over HTTP if None.
        clock: the time that expiry is judged by.
        bounds: the most that is taken.
    """

    def __init__(
        self,
        folder: Path,
        metadata_url: str,
        *,
        fetcher: Fetcher | None = None,
        clock: Clock | None = None,
        bounds: TufBounds | None = None,
    ) -> None:
        self._folder = folder
        self._url = metadata_url
        self._clock = clock or SystemClock()
        self._own = HttpFetcher(clock=self._clock)
        self._fetcher = fetcher or self._own
        self._bounds = bounds or TufBounds()
        self._updater: TrustedUpdater | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; a fetcher that was given stays as it is."""
        self._own.close()

    def refresh(self) -> tuple[RoleState, ...]:
        """Bring the four top-level roles up to date, verify them and keep them on disk.

        Returns:
            Root, timestamp, snapshot and targets, with version and expiry.
        Raises:
            NotTrusted: a role was refused; what was trusted before stays. With code ``metadata_expired`` nothing was
                forged: a device reports it, installs nothing new, and keeps deciding.
            NotNow: the server is down, too slow, or lacks a file. NotValid: the folder trusts no root yet.
        """
        self._updater = None  # after a failure nothing older may answer for the repository as it is now
        with refusals():
            updater = TrustedUpdater(self._folder, self._url, self._fetcher, self._clock.now(), self._bounds)
            updater.refresh()
        self._updater = updater
        return updater.states()

    def load(self) -> tuple[RoleState, ...]:
        """Verify what the folder keeps, without any request and without regard to expiry.

        Returns:
            The four top-level roles, as last refreshed.
        Raises:
            NotNow: nothing was refreshed yet, or a refresh broke off. NotTrusted: what is kept does not hold.
            NotValid: the folder trusts no root yet.
        """
        self._updater = None
        with refusals():
            # At the beginning of time nothing has expired.
            updater = TrustedUpdater(self._folder, self._url, LinkFetcher(None), BEGINNING, self._bounds)
            updater.load()
        self._updater = updater
        return updater.states()

    def use(self, fetcher: Fetcher) -> None:
        """Read from somewhere else from now on."""
        self._fetcher = fetcher

    def states(self) -> tuple[RoleState, ...]:
        """Every role verified since the last refresh or load."""
        return self._updater.states() if self._updater is not None else ()

    def kept(self, role: str) -> bytes:
        """The bytes of a role's document as last verified. NotNow: none is kept."""
        return self._kept(self._folder / f"{quote(role, safe='')}.json")

    def kept_root(self, version: int) -> bytes:
        """The bytes of a root of the past. NotNow: it is not kept."""
        return self._kept(self._folder / "root_history" / f"{version}.root.json")

    def _kept(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise NotNow(f"{path} is not kept here; it comes with the next refresh", code="never_refreshed") from error
        except OSError as error:
            raise disk_error(error, path) from error

    def find(self, name: str) -> VouchedTarget:
        """What the most trusted role that knows this target says about it; refreshes first if that was not done yet.

        Raises:
            NotTrusted: no role vouches for it (``target_unknown``), or a role on the way was refused.
            NotNow, NotValid: as ``refresh``.
        """
        target = self._target(name)
        return VouchedTarget(
            name=name, size_bytes=target.length, hashes=dict(target.hashes), custom=dict(target.custom or {})
        )

    def download(self, name: str, base_url: str, folder: Path) -> Path:
        """The verified target file; one that is there already with the right bytes is not fetched again.

        After ``NotNow`` a part file stays, and the next call goes on from its end.

        Args:
            name: the target's path in the repository.
            base_url: where the repository's target files lie.
            folder: made if missing. The file's name in it is always the same, and never leaves the folder.
        Raises:
            NotTrusted: other bytes than vouched for (``target_corrupt``); nothing is kept. Else as ``find``.
        """
        target = self._target(name)
        with refusals():
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / local_name(name)
            if not _holds(path, target):
                self._fetch(target, base_url, path)
        return path

    def _target(self, name: str) -> TargetFile:
        if self._updater is None:
            self.refresh()
        assert self._updater is not None
        with refusals():
            target = self._updater.get_targetinfo(name)
        if target is None:
            raise NotTrusted(
                f"no role of {self._url} vouches for target {name!r}; needs one that lists it", code="target_unknown"
            )
        return target

    def _fetch(self, target: TargetFile, base_url: str, path: Path) -> None:
        if target.length > self._bounds.target_bytes_max:
            raise NotTrusted(
                f"target {target.path} has {target.length} bytes, {self._bounds.target_bytes_max} are the most taken",
                code="target_too_long",
            )
        assert self._updater is not None
        url = _with_slash(base_url) + self._updater.remote_name(target)
        part = _part_file(path, target)
        had = continue_file(self._fetcher, url, part, target.length, f"target {target.path}")
        if had and not _holds(part, target):
            part.unlink()  # the earlier bytes may be the wrong ones: once more, from the beginning
            continue_file(self._fetcher, url, part, target.length, f"target {target.path}")
        if not _holds(part, target):
            refusal = _corrupt(part, target)
            part.unlink()
            raise refusal
        part.replace(path)
        sync_folder(path.parent)


def local_name(name: str) -> str:
    """The file name under which a target or role is kept: always the same one, always inside its folder.

    >>> local_name("a/../b c"), local_name("..")
    ('a%2F..%2Fb%20c', '%2E.')
    """
    quoted = quote(name, safe="")
    if len(quoted) > NAME_BYTES_MAX:
        return hashlib.sha256(name.encode()).hexdigest()
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


def _with_slash(url: str) -> str:
    return url if url.endswith("/") else url + "/"


def _part_file(path: Path, target: TargetFile) -> Path:
    """The part file of these very bytes; parts of older bytes under the same name go away."""
    prefix = "." + hashlib.sha256(path.name.encode()).hexdigest()[:24]
    content = hashlib.sha256(repr(sorted(target.hashes.items())).encode()).hexdigest()[:16]
    part = path.with_name(f"{prefix}.{content}.part")
    for other in path.parent.glob(f"{prefix}.*.part"):
        if other != part:
            other.unlink(missing_ok=True)
    return part


def _holds(path: Path, target: TargetFile) -> bool:
    try:
        with path.open("rb") as file:
            target.verify_length_and_hashes(file)
    except (FileNotFoundError, exceptions.LengthOrHashMismatchError):
        return False
    return True


def _corrupt(part: Path, target: TargetFile) -> NotTrusted:
    with part.open("rb") as file:
        seen = hashlib.file_digest(file, "sha256").hexdigest()
    needed = " and ".join(f"{name} {value}" for name, value in target.hashes.items())
    return NotTrusted(
        f"target {target.path} came as {part.stat().st_size} bytes with SHA-256 {seen}, needs {target.length} bytes "
        f"with {needed}; it was thrown away",
        code="target_corrupt",
    )
