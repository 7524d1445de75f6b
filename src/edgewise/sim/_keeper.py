"""The keeper of all offline keys of a hub in the same process: the ceremony, and releases signed on order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from edgewise.hub import Hub, bundles, repository_view
from edgewise.hub.online_keys import ASSIGNMENT
from edgewise.hub.store import releases as release_rows
from edgewise.signer import Desk, Holders, begin, delegate, publish_release
from edgewise.trust import PrivateKey
from edgewise.trust.roles import crypto_signer, plain_key, public_key
from edgewise.wire import Release, plain


class NearHub:
    """What `signer.Desk` asks of a hub, without HTTP; errors come as they are."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def get(self, path: str, **query: Any) -> Any:
        match path.strip("/").split("/"):
            case ["trust"]:
                return repository_view.state(self._hub.store, self._hub.online)
            case ["releases"]:
                with self._hub.store.read() as connection:
                    return [{"version": row.version} for row in release_rows.find(connection, **query)]
        raise AssertionError(f"nobody asks for {path} here")

    def get_bytes(self, path: str) -> bytes:
        match path.strip("/").split("/"):
            case ["tuf", *names]:
                return repository_view.need_file(self._hub.store, "/".join(names))
            case ["trust", "waiting", role]:
                return repository_view.waiting_document(self._hub.store, role)
            case ["bundles", bundle, "manifest"]:
                return bundles.need_manifest(self._hub.store, bundle)
        raise AssertionError(f"nobody asks for {path} here")

    def get_blob(self, sha256: str) -> bytes:
        return self._hub.store.blobs.get(sha256)

    def post(self, path: str, body: Any = None) -> Any:
        match path.strip("/").split("/"):
            case ["trust", "publish"]:
                return self._publish(**body)
            case ["trust", "online-keys", name]:
                key = self._hub.online.make(name)
                return plain(key.public) if name == ASSIGNMENT else plain_key(public_key(key))
        raise AssertionError(f"nobody posts to {path} here")

    def _publish(self, documents: Mapping[str, str], files: Mapping[str, str], why: str = "") -> dict[str, Any]:
        done = self._hub.publish(
            {role: text.encode() for role, text in documents.items()},
            {path: text.encode() for path, text in files.items()},
            who="signer",
            why=why,
        )
        return {
            "published": dict(done.roles),
            "waiting": {role: found.missing for role, found in done.waiting.items()},
            "releases": [plain(release) for release in done.releases],
            "withdrawn": list(done.withdrawn),
        }


class Keeper:
    """Holds root, targets and release keys that follow from a seed.

    Args:
        seed: the keys are as secret as it is.
        use_cases: whose releases are signed.
        release_keys: how many there are; `threshold` of them have to sign.
    """

    def __init__(
        self,
        hub: Hub,
        seed: bytes,
        use_cases: Sequence[str],
        *,
        release_keys: int = 1,
        threshold: int = 1,
        now: datetime,
    ) -> None:
        self.hub = hub
        self.root = [_key(seed, "root")]
        self.targets = [_key(seed, "targets")]
        self.releases = [_key(seed, f"release {number}") for number in range(release_keys)]
        self.threshold = threshold
        self.desk = Desk(NearHub(hub))
        if self.desk.state()["roles"]:
            return
        begin(
            self.desk,
            root=_holders(self.root),
            targets=_holders(self.targets),
            releases=_holders(self.releases, threshold),
            use_cases=use_cases,
            now=now,
        )

    @property
    def release_key(self) -> Any:
        """The first release key."""
        return self.releases[0]

    def take_on(self, use_case: str, now: datetime) -> None:
        """Sign one more use case's releases."""
        delegate(self.desk, use_case, _holders(self.releases, self.threshold), self.targets, now=now)

    def sign(self, release: Release, now: datetime) -> Release:
        """Publish a release with as many signatures as it needs."""
        publish_release(self.desk, release, self.releases[: self.threshold], now=now)
        return release


def _key(seed: bytes, name: str) -> Any:
    return crypto_signer(PrivateKey.generate(seed=seed + b"/" + name.encode()))


def _holders(signers: Sequence[Any], threshold: int = 1) -> Holders:
    return Holders(keys=[signer.public_key for signer in signers], signers=signers, threshold=threshold)
