"""What lies in the two slots, and which of it runs and shadows now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgewise.edge._fetch_delta import Base
from edgewise.edge._slots import Running, Slots, other_slot
from edgewise.edge._update_choices import good_slot, slot_to_shadow
from edgewise.edge._update_journal import Journal
from edgewise.edge._update_state import Phase
from edgewise.wire import Manifest, NotTrusted, NotValid


class Installed:
    """The slots as the journal knows them. Any thread may read ``running``, ``shadow`` and ``second`` at any time.

    ``second`` is a bundle known to be good here whose opinion the guard asks for on the same frames; None mostly.

    Args:
        slots: the bundles on disk.
        journal: what the update remembers; a slot that it does not name holds nothing.
    """

    def __init__(self, slots: Slots, journal: Journal) -> None:
        self._slots = slots
        self._journal = journal
        self.running: Running | None = None
        self.shadow: Running | None = None
        self.second: Running | None = None
        self._held: tuple[str, frozenset[str]] = ("", frozenset())

    @property
    def slot(self) -> str | None:
        """The slot that runs."""
        return self.running.slot if self.running else None

    @property
    def spare(self) -> str:
        """The slot that a new bundle goes into."""
        return other_slot(self.running.slot) if self.running else "a"

    def stage(self, manifest: bytes, blobs: Mapping[str, bytes]) -> None:
        """Write a bundle into the spare slot. What was there is forgotten first: a slot is whole or not named."""
        spare = self.spare
        assert self.slot != spare, "the running slot is never written"
        self.shadow = self.second = None
        self._journal.forget_slot(spare)
        self._slots.write(spare, manifest, blobs)

    def held(self, manifest: Manifest) -> dict[str, bytes]:
        """Blobs of a bundle that lie in the slots already, every byte checked."""
        self._held = ("", frozenset())
        return self._slots.held(manifest, self._journal.state.slots)

    def bases(self, manifest: Manifest) -> dict[str, list[Base]]:
        """What the blobs of a bundle may be made from: those of the running bundle first, then the other slot's."""
        slots = self._journal.state.slots
        return self._slots.bases(manifest, sorted(slots, key=lambda name: (name != self.slot, name)))

    def names_held(self, bundle: str, manifest: Manifest) -> frozenset[str]:
        """Their names, looked up once for a bundle: a slow download asks many times."""
        if self._held[0] != bundle:
            self._held = (bundle, frozenset(self._slots.held(manifest, self._journal.state.slots)))
        return self._held[1]

    def blob_folders(self) -> list[Path]:
        """Where the blobs of both slots lie."""
        return [self._slots.path(name) / "blobs" for name in self._journal.state.slots]

    def lies_in(self, name: str, bundle: str) -> bool:
        """Whether this very bundle lies in the slot, every byte checked."""
        slot = self._journal.state.slots.get(name)
        return slot is not None and slot.bundle == bundle and self._slots.holds(name, bundle)

    def open(self, name: str, *, contained: bool = False) -> Running:
        """The bundle in a slot. Raises NotTrusted: damaged. NotValid: it does not run here."""
        return self._slots.open(name, self._journal.state.slots[name], contained=contained)

    def open_or_drop(self, name: str) -> Running | None:
        """The bundle in a slot; None, told and forgotten where it is damaged."""
        if name not in self._journal.state.slots:
            return None
        try:
            return self.open(name)
        except (NotTrusted, NotValid) as error:
            self._journal.tell("slot_damaged", f"slot {name}: {error}", None)
            self._journal.forget_slot(name)
            return None

    def run(self, name: str | None) -> None:
        """Let the bundle in this slot decide, or nothing."""
        self._slots.point_at(name)
        self.running = self.open_or_drop(name) if name else None

    def refresh_shadow(self) -> None:
        """The other slot's bundle decides on the same frames while baking; before it acts its phase lets it."""
        if self._journal.state.phase is Phase.SHADOW:
            return
        name = slot_to_shadow(self._journal.state, self.running)
        if name is None:
            self.shadow = None
        elif self.shadow is None or self.shadow.slot != name:
            self.shadow = self.open_or_drop(name)

    def refresh_second(self, *, wanted: bool) -> None:
        """The other slot's bundle says what it thinks of the same frames, while the guard wants to know."""
        running, state = self.running, self._journal.state
        name = good_slot(state, other_slot(running.slot)) if wanted and running is not None else None
        if name is None:
            self.second = None
        elif self.shadow is not None and self.shadow.slot == name:
            self.second = self.shadow
        elif self.second is None or self.second.slot != name:
            self.second = self.open_or_drop(name)

    def collect(self) -> None:
        """Delete what neither runs nor ever passed its trial here; last-known-good is never touched."""
        slots = self._journal.state.slots
        keep = {name: slot for name, slot in slots.items() if slot.committed or name == self.slot}
        if len(keep) < len(slots):
            self._journal.save(slots=keep)
            self.sweep()

    def sweep(self) -> None:
        """Remove what power cuts left; a slot that is named in the state, or runs, is never touched."""
        self._slots.sweep(set(self._journal.state.slots) | ({self.running.slot} if self.running else set()))
