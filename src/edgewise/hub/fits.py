"""Which variant of a release each device gets, and what it has to fetch for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from edgewise import delta
from edgewise.hub.store import bundles, deltas, releases
from edgewise.hub.store.devices import CommitRow, DeviceRow
from edgewise.plan import Choice, choose, misfits
from edgewise.wire import Manifest


class Fits:
    """Answers about one moment of the store; manifests are read once, and each choice is made once.

    Args:
        latency_ms_max: the deadline where a device's capability card has none.
    """

    def __init__(self, connection: sa.Connection, *, latency_ms_max: float | None) -> None:
        self._connection = connection
        self._latency_ms_max = latency_ms_max
        self._manifests: dict[str, Manifest | None] = {}
        self._variants: dict[str, dict[str, str]] = {}
        self._choices: dict[tuple[str, str], Choice] = {}
        self._deltas: dict[str, dict[tuple[str, str], int]] = {}
        self._to_fetch: dict[tuple[str, frozenset[str]], int] = {}

    def variants(self, release: str) -> Mapping[str, str]:
        """The bundles of a release by the names of its variants."""
        if release not in self._variants:
            row = releases.get(self._connection, release)
            self._variants[release] = {} if row is None else dict(row.body["bundles"])
        return self._variants[release]

    def variant_of(self, release: str, bundle: str | None) -> str | None:
        return next((name for name, digest in self.variants(release).items() if digest == bundle), None)

    def choice(self, release: str, device: DeviceRow, *, held: Collection[str], bad: Collection[str]) -> Choice:
        """What the device gets of a release that it has not been told of.

        Args:
            held: digests of the blobs on the device.
            bad: bundles that failed there.
        """
        key = (release, device.id)
        if key not in self._choices:
            known = {
                name: (bundle, manifest)
                for name, bundle in self.variants(release).items()
                if (manifest := self.manifest(bundle)) is not None
            }
            refused = {bundle: f"bundle {bundle[:12]}… failed here before" for bundle in bad}
            self._choices[key] = choose(
                known,
                device.facts,
                latency_ms_max=self._latency_ms_max,
                held=held,
                refused=refused,
                site=device.site,
            )
        return self._choices[key]

    def misfits(self, bundle: str, device: DeviceRow) -> tuple[str, ...]:
        """Why a bundle that the device was told to take cannot run there. Its disk is its own affair by now."""
        manifest = self.manifest(bundle)
        if manifest is None:
            return ()
        return tuple(misfits(manifest.needs, device.facts, latency_ms_max=self._latency_ms_max))

    def held(self, device: DeviceRow, commits: Sequence[CommitRow]) -> set[str]:
        """Digests of the blobs in the device's two slots, as far as the hub knows."""
        other = next((commit.bundle for commit in reversed(commits) if commit.bundle != device.bundle), None)
        slots = (self.manifest(bundle) for bundle in (device.bundle, other) if bundle is not None)
        return {blob.sha256 for manifest in slots if manifest is not None for blob in manifest.blobs.values()}

    def bytes_to_fetch(self, bundle: str, held: Collection[str]) -> int:
        """Bytes that the device would fetch: blobs that it does not hold, as the smallest delta that is built already.

        Deltas that are not built yet may make them fewer; nothing makes them more.
        """
        key = (bundle, frozenset(held))
        if key not in self._to_fetch:
            manifest = self.manifest(bundle)
            whole = {} if manifest is None else {blob.sha256: blob.size_bytes for blob in manifest.blobs.values()}
            if bundle not in self._deltas:
                self._deltas[bundle] = deltas.sizes(self._connection, whole, delta.VERSION)
            known = self._deltas[bundle]
            self._to_fetch[key] = sum(
                min((known.get((base, sha256), size_bytes) for base in held), default=size_bytes)
                for sha256, size_bytes in whole.items()
                if sha256 not in held
            )
        return self._to_fetch[key]

    def manifest(self, bundle: str) -> Manifest | None:
        if bundle not in self._manifests:
            self._manifests[bundle] = bundles.manifest(self._connection, bundle)
        return self._manifests[bundle]
