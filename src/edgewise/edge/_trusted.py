"""What the release repository vouches for, as far as this device has verified it.

Three questions, kept apart. May this be installed now: only by fresh metadata. Is a release still vouched for, so that
the device may be ordered back to it: by the newest metadata verified here, however old. May the bundle in a slot run:
by the documents that vouched for it when it was installed, whatever came later; decisions never wait (invariant 7).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from edgewise.edge._update_state import Proof
from edgewise.ports import (
    METADATA_URL,
    TARGETS_URL,
    Clock,
    Link,
    LinkFetcher,
    RoleState,
    TufClient,
    disk_error,
    local_name,
    start_trust,
)
from edgewise.trust.roles import (
    DIRECTOR,
    ROOT,
    TARGETS,
    TIMESTAMP,
    director_in,
    follow_roots,
    manifest_path,
    parse,
    proven_release,
    read_release,
    release_path,
    role_of,
    version_of,
)
from edgewise.wire import NotNow, NotTrusted, PublicKey, Release, digest

# What a use case without any release yet answers.
NOTHING_YET = frozenset({"target_unknown", "metadata_missing"})


class Trusted:
    """The verified metadata in ``tuf``, and what they say.

    Args:
        folder: of the device.
        root: the root pinned at enrolment.
        use_case: whose releases count here.
        clock: the time that expiry is judged by.
    """

    def __init__(self, folder: Path, *, root: str, use_case: str, clock: Clock) -> None:
        self._folder = folder / "tuf"
        self._root = root.encode()
        self._use_case = use_case
        self._clock = clock
        self._keys: tuple[PublicKey, ...] = ()
        self._states: tuple[RoleState, ...] = ()
        self._vouched: dict[str, str] = {}
        self._client = self._open(None)
        self.version = 0  # of the newest timestamp, once everything that belongs to it is here
        self.named = 0  # what the hub says is the newest
        self.refused: NotTrusted | None = None  # why the last refresh came to nothing
        self._start()

    # -- refreshing --------------------------------------------------------------------------------------------------

    @property
    def is_behind(self) -> bool:
        """Whether the hub has named metadata that are not here."""
        return self.named > self.version

    @property
    def expires_at(self) -> datetime | None:
        """When the first of the verified documents ends; None before the first refresh."""
        return min((state.expires for state in self._states), default=None)

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def refresh(self, link: Link) -> None:
        """Bring the metadata up to date: two requests where nothing is new.

        Raises:
            NotTrusted: they were refused; what was verified before stays. NotNow: the link or the disk.
        """
        self._client = self._open(link)
        try:
            self._client.refresh()
            self._complete()
        except NotTrusted as error:
            self.refused = error
            self._client = self._open(None)
            raise
        self.refused = None

    def need_fresh(self, link: Link, now: datetime) -> None:
        """Refresh where that is needed before something is installed.

        Raises:
            NotNow: there is nothing fresh. What is refused here is the metadata, not the assignment: it is tried again.
        """
        if self.version and not self.is_behind and not self.is_expired(now):
            return
        try:
            self.refresh(link)
        except NotTrusted as error:
            raise NotNow(f"no update is installed: {error}", code=error.code) from error

    # -- what they say -----------------------------------------------------------------------------------------------

    def keys(self) -> Sequence[PublicKey]:
        """The keys of assignments. NotNow: nothing was refreshed yet."""
        if not self._keys:
            raise NotNow("the release repository was not read here yet, so no assignment can be checked")
        return self._keys

    def release(self, link: Link, release_id: str) -> Release:
        """The release, vouched for now.

        Raises:
            NotTrusted: it is not. NotNow: the link or the disk.
        """
        version = version_of(release_id, self._use_case)
        data = self._target(link, release_path(self._use_case, version))
        return read_release(data, use_case=self._use_case, version=version)

    def manifest(self, link: Link, release: Release, bundle: str) -> bytes:
        """The manifest of one of the release's bundles, vouched for now.

        Raises:
            NotTrusted: the repository names another one. NotNow: the link or the disk.
        """
        variant = next(name for name, named in release.bundles.items() if named == bundle)
        data = self._target(link, manifest_path(self._use_case, release.version, variant))
        if digest(data) != bundle:
            raise NotTrusted(
                f"release {release.id} names bundle {bundle[:12]}…, the repository {digest(data)[:12]}… for it",
                code="not_released",
            )
        return data

    def vouches_for(self, release_id: str, proof: Proof) -> bool:
        """Whether the newest metadata verified here still vouch for an installed release, without regard to expiry."""
        version = version_of(release_id, self._use_case)
        return self._vouched.get(release_path(self._use_case, version)) == digest(proof.release.encode())

    # -- what is installed -------------------------------------------------------------------------------------------

    def proof(self, release: Release) -> Proof:
        """The documents that vouch for a release now, to be kept with its bundle."""
        path = self._targets / local_name(release_path(self._use_case, release.version))
        first, last = (parse(data, ROOT).signed.version for data in (self._root, self._client.kept(ROOT)))
        return Proof(
            roots=tuple(self._client.kept_root(version).decode() for version in range(first + 1, last + 1)),
            targets=self._client.kept(TARGETS).decode(),
            role=self._client.kept(role_of(self._use_case)).decode(),
            release=path.read_text(),
        )

    def open(self, proof: Proof, release_id: str) -> Release:
        """The release that a proof vouches for, from the pinned root on, offline and without regard to expiry.

        Raises:
            NotTrusted: it does not hold.
        """
        return proven_release(
            follow_roots(self._root, [text.encode() for text in proof.roots]),
            proof.targets.encode(),
            proof.role.encode(),
            proof.release.encode(),
            use_case=self._use_case,
            version=version_of(release_id, self._use_case),
        )

    # -- small parts -------------------------------------------------------------------------------------------------

    @property
    def _targets(self) -> Path:
        return self._folder / "targets"

    def _open(self, link: Link | None) -> TufClient:
        return TufClient(self._folder, METADATA_URL, fetcher=LinkFetcher(link), clock=self._clock)

    def _start(self) -> None:
        if not self._holds_a_root():
            # Damaged, or of another repository: the device begins again at the root that it was enrolled with.
            shutil.rmtree(self._folder, ignore_errors=True)
            start_trust(self._folder, self._root)
        try:
            self._client.load()
            self._states = self._client.states()
            self._complete()
        except (NotTrusted, NotNow):
            return  # nothing refreshed yet, or a refresh broke off: the next one completes it

    def _holds_a_root(self) -> bool:
        """Whether the kept root follows from the pinned one."""
        try:
            held = self._client.kept(ROOT)
            first, last = (parse(data, ROOT).signed.version for data in (self._root, held))
            return follow_roots(self._root, [self._client.kept_root(n) for n in range(first + 1, last + 1)]) == held
        except (NotTrusted, NotNow):
            return False

    def _complete(self) -> None:
        """Read the use case's role and the director; from then on this state of the repository is known here."""
        try:
            self._client.find(release_path(self._use_case, 0))
        except NotTrusted as error:
            if error.code not in NOTHING_YET:
                raise
        file = self._client.download(DIRECTOR, TARGETS_URL, self._targets)
        self._keys = director_in(self._client.kept(TARGETS), file.read_bytes()).keys
        self._states = self._client.states()
        self._vouched = self._released()
        self.version = next(state.version for state in self._states if state.role == TIMESTAMP)

    def _released(self) -> dict[str, str]:
        """The digests of all release records that the use case's role lists."""
        role = role_of(self._use_case)
        if all(state.role != role for state in self._states):
            return {}
        targets = parse(self._client.kept(role), role).signed.targets
        return {path: target.hashes["sha256"] for path, target in targets.items() if path.endswith("/release.json")}

    def _need_loaded(self) -> None:
        if not self._client.states():
            self._client.load()

    def _target(self, link: Link, name: str) -> bytes:
        self._need_loaded()
        self._client.use(LinkFetcher(link))
        file = self._client.download(name, TARGETS_URL, self._targets)
        try:
            return file.read_bytes()
        except OSError as error:
            raise disk_error(error, file) from error

    def forget_targets(self) -> None:
        """Remove the files of releases that were fetched; what is installed has its proof."""
        for file in self._targets.iterdir() if self._targets.is_dir() else ():
            if file.name != DIRECTOR:
                file.unlink(missing_ok=True)
