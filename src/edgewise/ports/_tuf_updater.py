"""python-tuf's client workflow with our disk, our bounds and our reasons."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from tuf.api import exceptions
from tuf.api.metadata import (  # type: ignore[attr-defined]  # its public names come from a private module
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from edgewise.ports._files import disk_error, replace_file
from edgewise.ports._tuf_fetch import Fetcher, NotServed, read_bounded
from edgewise.ports._tuf_trusted import Refusal, RoleState, TrustedRoles, not_in_snapshot
from edgewise.wire import NotNow, NotTrusted, NotValid


@dataclass(frozen=True, kw_only=True, slots=True)
class TufBounds:
    """The most that one refresh or download may take.

    The sizes are python-tuf's defaults. A repository that publishes each minute needs 19 years for the jump.
    """

    root_bytes_max: int = 512_000
    timestamp_bytes_max: int = 16_384
    snapshot_bytes_max: int = 2_000_000
    targets_bytes_max: int = 5_000_000
    target_bytes_max: int = 8 << 30
    root_rotations_max: int = 256
    delegations_max: int = 32  # roles asked for one target
    version_jump_max: int = 10_000_000

    def metadata_bytes_max(self, role: str) -> int:
        """Longest metadata file of a role; delegated roles are as long as targets."""
        named = {
            Root.type: self.root_bytes_max,
            Timestamp.type: self.timestamp_bytes_max,
            Snapshot.type: self.snapshot_bytes_max,
        }
        return named.get(role, self.targets_bytes_max)


@contextmanager
def refusals() -> Iterator[None]:
    """Turns python-tuf's errors and the disk's into ours."""
    try:
        yield
    except Refusal as error:
        raise error.as_error() from error
    except Missing as error:
        raise error.reason from None
    except exceptions.RepositoryError as error:
        raise NotTrusted(f"the repository's metadata were refused: {error}", code="metadata_malformed") from error
    except OSError as error:
        raise disk_error(error, Path(error.filename or ".")) from error


class Missing(exceptions.DownloadHTTPError):
    """What the server does not have, as python-tuf expects to hear it: it ends the search for newer roots."""

    def __init__(self, reason: NotServed) -> None:
        super().__init__(str(reason), 404)
        self.reason = reason


class TrustedUpdater(Updater):
    """python-tuf's workflow with our disk, our bounds and our reasons."""

    def __init__(self, folder: Path, url: str, fetcher: Fetcher, now: datetime, bounds: TufBounds) -> None:
        try:
            root = (folder / "root.json").read_bytes()
        except FileNotFoundError as error:
            raise NotValid(f"{folder} trusts no root yet; initialise it with one first", code="root_missing") from error
        trusted = TrustedRoles(root, now, bounds.version_jump_max)
        self._source = fetcher
        self._bounds = bounds
        self._asked = 0
        super().__init__(
            str(folder),
            url,
            fetcher=_NoFetcher(),
            config=UpdaterConfig(
                max_root_rotations=bounds.root_rotations_max,
                max_delegations=bounds.delegations_max,
                root_max_length=bounds.root_bytes_max,
                timestamp_max_length=bounds.timestamp_bytes_max,
                snapshot_max_length=bounds.snapshot_bytes_max,
                targets_max_length=bounds.targets_bytes_max,
            ),
            bootstrap=root,
        )
        self._trusted_set: TrustedRoles = trusted

    def states(self) -> tuple[RoleState, ...]:
        return self._trusted_set.states()

    def load(self) -> None:
        """The roles as they are kept, in place of `refresh`."""
        try:
            self._trusted_set.update_timestamp(self._load_local_metadata(Timestamp.type))
        except FileNotFoundError as error:
            raise NotNow("the release repository was not refreshed here yet", code="never_refreshed") from error
        self._load_snapshot()
        self._load_targets(Targets.type, Root.type)

    def remote_name(self, target: TargetFile) -> str:
        """Where a target lies under the repository's target address."""
        if not self._trusted_set.root.consistent_snapshot:
            return target.path
        folder, slash, name = target.path.rpartition("/")
        return f"{folder}{slash}{next(iter(target.hashes.values()))}.{name}"

    def _load_root(self) -> None:
        first = self._trusted_set.root.version
        super()._load_root()
        if self._trusted_set.root.version - first >= self._bounds.root_rotations_max:
            raise NotNow(
                f"{self._bounds.root_rotations_max} new root versions were accepted, the most in one refresh; there "
                "may be more, so refresh again",
                code="root_rotations",
            )

    def _load_targets(self, role: str, parent_role: str) -> Targets:
        self._asked += 1
        if role != Targets.type and f"{role}.json" not in self._trusted_set.snapshot.meta:
            raise not_in_snapshot(role, self._trusted_set.snapshot.version)
        return super()._load_targets(role, parent_role)

    def _preorder_depth_first_walk(self, target_filepath: str) -> TargetFile | None:
        self._asked = 0
        target = super()._preorder_depth_first_walk(target_filepath)
        if target is None and self._asked > self._bounds.delegations_max:
            raise Refusal(
                f"{self._asked} roles were asked for target {target_filepath} and none lists it; "
                f"{self._bounds.delegations_max} delegations are the most followed",
                "delegations_too_many",
            )
        return target

    def _download_metadata(self, rolename: str, length: int, version: int | None = None) -> bytes:
        bytes_max = self._bounds.metadata_bytes_max(rolename)
        if length > bytes_max:
            raise Refusal(
                f"{rolename} is said to have {length} bytes, {bytes_max} are the most taken here", "metadata_too_long"
            )
        name = quote(rolename, safe="") + ".json"
        url = self._metadata_base_url + (name if version is None else f"{version}.{name}")
        try:
            return read_bounded(self._source, url, length, f"the {rolename} metadata")
        except NotServed as error:
            raise Missing(error) from error

    def _persist_file(self, filename: str, data: bytes) -> None:
        path = Path(filename)
        if not path.exists() or path.read_bytes() != data:  # flash wears out
            replace_file(path, data)

    def _update_root_symlink(self) -> None:
        # A copy: between removing an old link and making a new one a power cut would leave no root at all, and not
        # every file system has links.
        newest = Path(self._dir, "root_history", f"{self._trusted_set.root.version}.root.json")
        self._persist_file(str(Path(self._dir, "root.json")), newest.read_bytes())


class _NoFetcher(FetcherInterface):
    """Stands where python-tuf would make its own HTTP client, which nothing here uses."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise AssertionError(f"{url} must be read by our fetcher")
