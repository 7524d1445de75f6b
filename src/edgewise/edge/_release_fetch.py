"""A release on its way here: its record, manifest and blobs, verified and compared with what may and can run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewise.edge._bandwidth import Bucket, full, smallest
from edgewise.edge._fetch import Bases, Download
from edgewise.edge._fetch_delta import Tell
from edgewise.edge._trusted import Trusted
from edgewise.edge._update_choices import target
from edgewise.edge._update_state import Proof, UpdateLimits, UpdateState
from edgewise.plan import misfits
from edgewise.ports import Clock, Link
from edgewise.trust import may_install
from edgewise.wire import (
    Assignment,
    Manifest,
    NotTrusted,
    NotValid,
    Release,
    decode,
    digest,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A release that this device may install, and the manifest of the bundle that is meant for it."""

    proof: Proof
    release: Release
    data: bytes  # the manifest as signed
    manifest: Manifest

    @property
    def bundle(self) -> str:
        return digest(self.data)


class ReleaseFetch:
    """Gets what an assignment names, piece by piece, and refuses what must not or cannot run here.

    Args:
        folder: of the device; blobs on their way lie in ``fetch``.
        use_case: what releases must be for.
        trusted: what the release repository vouches for.
        clock: the time that freshness is judged by.
        facts: the device's capability card, compared with a bundle's needs before it is downloaded.
        bytes_per_s_max: this device's cap for downloads, None for none; an assignment may set a smaller one.
        checkpoint: called by name where a power cut would matter.
        tell: told of what the hub should hear of.
    """

    def __init__(
        self,
        folder: Path,
        *,
        use_case: str,
        site: str | None,
        trusted: Trusted,
        clock: Clock,
        facts: Mapping[str, Any],
        limits: UpdateLimits,
        bytes_per_s_max: float | None,
        checkpoint: Callable[[str], None],
        tell: Tell,
    ) -> None:
        self._use_case = use_case
        self._site = site
        self._trusted = trusted
        self._clock = clock
        self.facts = facts  # replaced whole, when more of them were measured
        self._limits = limits
        self._cap = bytes_per_s_max
        self._bucket: Bucket | None = None
        self._download = Download(folder / "fetch", checkpoint, limits, tell)
        self._offered: tuple[tuple[str | None, str | None], Offer] | None = None  # what is fetched now

    def offer(self, link: Link, working: Assignment, state: UpdateState, running: str | None) -> Offer:
        """What the assignment names, verified; the blobs are not there yet.

        Args:
            running: the slot that runs now.
        Raises:
            NotNow: the link. NotTrusted: it may not be installed. NotValid: it cannot run on this device.
        """
        if self._offered is None or self._offered[0] != target(working):
            self._trusted.need_fresh(link, self._clock.now())
            release = self._trusted.release(link, working.release or "")
            self.check_install(working, release, working.bundle or "", state, running)
            data = self._trusted.manifest(link, release, working.bundle or "")
            manifest = decode(Manifest, data)
            proof = self._trusted.proof(release)
            self._offered = target(working), Offer(proof=proof, release=release, data=data, manifest=manifest)
        offer = self._offered[1]
        self.check_install(working, offer.release, offer.bundle, state, running)
        self._check_fit(offer.manifest)
        return offer

    def cap(self, working: Assignment) -> float | None:
        """The bytes a second that count here: the smallest of what anybody says."""
        return smallest(self._cap, working.bytes_per_s_max)

    def bytes_allowed(self, working: Assignment, now_s: float) -> int:
        """How many bytes may come now; 0 means to wait, at most half a second."""
        most, cap = self._limits.fetch_bytes_per_step, self.cap(working)
        if cap is None:
            return most
        if self._bucket is None or self._bucket.bytes_per_s != cap:
            self._bucket = full(cap, now_s)
        self._bucket = self._bucket.at(now_s)
        return min(most, self._bucket.allowed)

    def advance(self, link: Link, offer: Offer, held: Collection[str], bytes_max: int, bases: Bases) -> int:
        """Fetch some more of the blobs; comes back with the bytes still missing, 0 when all is there.

        Leftovers of other bundles are deleted first; what both have in common stays.
        """
        self._download.clear(keep=offer.manifest)
        before = self._download.fetched_bytes(offer.manifest)
        try:
            return self._download.advance(link, offer.manifest, held, bytes_max, bases)
        finally:
            if self._bucket is not None:
                self._bucket = self._bucket.spent(self._download.fetched_bytes(offer.manifest) - before)

    def blobs(self, offer: Offer, held: Mapping[str, bytes]) -> dict[str, bytes]:
        """The bytes of all blobs, once nothing is missing."""
        return self._download.blobs(offer.manifest, held)

    def totals(self, offer: Offer, state: UpdateState) -> dict[str, int]:
        """The state's totals with this offer: bytes that came over the link, and bytes that its bundle has."""
        came = self._download.fetched_bytes(offer.manifest)
        if not came:
            return {}
        full = sum({blob.sha256: blob.size_bytes for blob in offer.manifest.blobs.values()}.values())
        return {"bytes_fetched": state.bytes_fetched + came, "bytes_full": state.bytes_full + full}

    def text(self, working: Assignment, missing: int | None = None) -> str:
        """What is still to come."""
        cap = self.cap(working)
        count = "more bytes" if missing is None else f"{missing} more bytes"
        return f"{count} of {working.release}" + (f", at most {cap:g} a second" if cap is not None else "")

    @property
    def folder(self) -> Path:
        """Where blobs lie as they come."""
        return self._download.folder

    def forget(self) -> None:
        """Nothing is fetched now, or something else."""
        self._offered = None

    def clear(self) -> None:
        """Delete what was downloaded."""
        self._download.clear()
        self._trusted.forget_targets()

    def check_install(
        self, assignment: Assignment, release: Release, manifest_digest: str, state: UpdateState, running: str | None
    ) -> None:
        """Whether the two signed words together allow this bundle here.

        Raises:
            NotTrusted: they do not.
        """
        if release.use_case != self._use_case:
            text = f"release {release.id} is for {release.use_case}, this device for {self._use_case}"
            raise NotTrusted(text, code="use_case_wrong")
        slot = state.slots.get(running) if running else None
        may_install(
            assignment,
            release,
            manifest_digest=manifest_digest,
            known_bad=state.known_bad,
            committed_before=state.committed_before,
            running=self._trusted.open(slot.proof, slot.release) if slot else None,
        )

    def _check_fit(self, manifest: Manifest) -> None:
        made_for = manifest.provenance.site
        if made_for is not None and made_for != self._site:
            text = (
                f"it has the statistics of site {made_for}, this device is at {self._site or 'no site that it knows'}"
            )
            raise NotValid(text, code="site_wrong")
        reasons = misfits(manifest.needs, self.facts, latency_ms_max=self._limits.latency_ms_max)
        if reasons:
            raise NotValid("; ".join(reasons), code="misfit")
