"""The start of an updater: files and stored state are made to agree, whatever the power cut into."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from edgewise.edge._failures import failure
from edgewise.edge._installed import Installed
from edgewise.edge._last_words import forget_last_words, read_last_words
from edgewise.edge._release_fetch import ReleaseFetch
from edgewise.edge._slots import Slots, other_slot
from edgewise.edge._trial import Trial
from edgewise.edge._update_choices import good_slot
from edgewise.edge._update_journal import Journal
from edgewise.edge._update_state import Phase


class UpdateStart:
    """Lets run again what ran, or what may.

    Args:
        folder: of the device, with the last words of the process before this one.
        boot: the machine's boot id; empty where there is none.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        installed: Installed,
        slots: Slots,
        trial: Trial,
        fetch: ReleaseFetch,
        *,
        boot: str,
    ) -> None:
        self._folder = folder
        self._journal = journal
        self._installed = installed
        self._slots = slots
        self._trial = trial
        self._fetch = fetch
        self._boot = boot

    @property
    def _phase(self) -> Phase:
        return self._journal.state.phase

    def recover(self, now: datetime) -> None:
        """Make the files agree with the stored state."""
        planned, words = self._journal.state.stopped, read_last_words(self._folder)
        if planned:
            self._journal.save(stopped=False)
        match self._phase:
            case Phase.TRIAL:
                self._trial.resume(now, planned=planned, words=words)
            case Phase.REVERTING:
                pass
            case _:
                self._run_current(now)
                self._trial.started(now, boot=self._boot, planned=planned, words=words)
        if words is not None:
            forget_last_words(self._folder)  # only now: until the state is stored they count again
        if self._phase is Phase.REVERTING:
            self._trial.finish_revert(now)
        self._installed.sweep()
        if self._phase is not Phase.FETCHING:
            self._fetch.clear()
        self._installed.refresh_shadow()

    def _run_current(self, now: datetime) -> None:
        name = self._slots.pointer()
        if name is not None:
            self._installed.run(name)
        if name is None or self._installed.running is not None:
            return
        # The slot that should run is damaged: run the other one, and fetch this one again.
        fallback = good_slot(self._journal.state, other_slot(name))
        if self._phase is Phase.COMMITTED:
            self._journal.save(back_to=fallback)
            text = f"slot {name} is damaged"
            found = failure("slot_damaged", text, phase=self._phase.value, now=now)
            self._trial.fail(now, found, remember=False)
            return
        self._installed.run(fallback)
        text = f"slot {name} is damaged; slot {fallback} runs instead"
        self._journal.tell("slot_damaged", text, self._journal.state.assignment)
