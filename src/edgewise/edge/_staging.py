"""The way of an assigned bundle into the spare slot: fetched, checked, opened for the first time, written whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgewise.edge._installed import Installed
from edgewise.edge._release_fetch import Offer, ReleaseFetch
from edgewise.edge._update_choices import with_bad
from edgewise.edge._update_journal import Journal
from edgewise.edge._update_state import UpdateLimits
from edgewise.ports import Link, Runtime, vet_bundle
from edgewise.wire import Assignment, NotTrusted


class Staging:
    """Fills the spare slot, a step at a time. The slot counts only once the caller has stored that it is whole.

    Args:
        fetch: brings what an assignment names.
        installed: what lies in the slots.
        journal: remembers a bundle that is refused.
        runtime: opens the networks, in a process of their own.
    """

    def __init__(
        self, fetch: ReleaseFetch, installed: Installed, journal: Journal, *, runtime: Runtime, limits: UpdateLimits
    ) -> None:
        self._fetch = fetch
        self._installed = installed
        self._journal = journal
        self._runtime = runtime
        self._limits = limits

    def advance(self, link: Link, working: Assignment, now_s: float) -> Offer | str:
        """What lies whole in the spare slot now, or what is still waited for.

        Args:
            now_s: by the monotonic clock.
        Raises:
            NotNow: the link or the disk. NotTrusted: it may not run here. NotValid: it cannot.
        """
        allowed = self._fetch.bytes_allowed(working, now_s)
        if not allowed:
            return self._fetch.text(working)
        offer = self._fetch.offer(link, working, self._journal.state, self._installed.slot)
        if self._installed.lies_in(self._installed.spare, offer.bundle):
            return offer
        bases = self._installed.bases(offer.manifest)
        names = self._installed.names_held(offer.bundle, offer.manifest)
        missing = self._fetch.advance(link, offer, names, allowed, bases)
        held = {} if missing else self._installed.held(offer.manifest)
        # Once more, for a slot may have been damaged since its blobs were looked at.
        missing = missing or self._fetch.advance(link, offer, held, 0, bases)
        if missing:
            return self._fetch.text(working, missing)
        self._vet(offer, working)
        self._installed.stage(offer.data, self._fetch.blobs(offer, held))
        return offer

    def _vet(self, offer: Offer, working: Assignment) -> None:
        """Open the networks for the first time, in a process of their own; what is refused is bad here for good."""
        places = [self._fetch.folder, *self._installed.blob_folders()]
        try:
            vet_bundle(offer.manifest, lambda name: _first_file(places, name), self._runtime)
        except NotTrusted as error:
            self._journal.save(known_bad=with_bad(self._journal.state, offer.bundle, str(error), self._limits))
            self._journal.tell("bundle_refused", str(error), working, code=error.code)
            self._fetch.clear()
            raise


def _first_file(folders: Iterable[Path], name: str) -> Path:
    """The file of this name in the first folder that has it, which was checked before."""
    return next(folder / name for folder in folders if (folder / name).is_file())
