"""The trial of a bundle that acts, the watch over a committed one, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from edgewise.edge._installed import Installed
from edgewise.edge._slots import Running, Slots, other_slot
from edgewise.edge._update_choices import after_failure, after_success, good_slot, trial_slot
from edgewise.edge._update_journal import Journal
from edgewise.edge._update_state import Event, Phase, UpdateLimits, UpdateState
from edgewise.edge._watch import Watch, try_out
from edgewise.ports import Clock
from edgewise.wire import Assignment, NotTrusted, NotValid


class Trial:
    """Judges the bundle that decides.

    Args:
        journal: what the update remembers.
        installed, slots: what lies here.
        watch: what the decision loop tells.
        clock: for the latency of golden inputs.
        checkpoint: called by name where a power cut would matter.
    """

    def __init__(
        self,
        journal: Journal,
        installed: Installed,
        slots: Slots,
        watch: Watch,
        *,
        clock: Clock,
        limits: UpdateLimits,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._installed = installed
        self._slots = slots
        self.watch = watch
        self._clock = clock
        self.limits = limits
        self._checkpoint = checkpoint

    @property
    def state(self) -> UpdateState:
        return self._journal.state

    @property
    def phase(self) -> Phase:
        return self.state.phase

    @property
    def running(self) -> Running | None:
        return self._installed.running

    def _working(self) -> Assignment:
        assert self.state.working is not None, "nothing is on trial"
        return self.state.working

    def begin(self, now: datetime) -> None:
        """Point at the slot, make sure that the bundle answers as it must, then let it decide.

        Until that is sure the former bundle goes on deciding.
        """
        name = trial_slot(self.state)
        self._slots.point_at(name)
        self._checkpoint("switched")
        try:
            self._installed.running = try_out(self._installed.open(name), self._clock, self.limits)
            self.watch.clear()
        except (NotTrusted, NotValid) as error:
            self.fail(now, str(error))

    def judge(self, now: datetime) -> str | None:
        """Commit, or go back; comes back with what is waited for, None once the phase has moved."""
        working, began = self._working(), self.state.trial_at or now
        if self.running is None or self.running.slot != trial_slot(self.state):
            self.begin(now)  # the disk failed when it was begun
            return None
        complaint = self.watch.complaint(self.limits)
        if complaint is not None:
            self.fail(now, complaint)
            return None
        left_s = working.trial_s - (now - began).total_seconds()
        if left_s > 0:
            return f"the trial of {working.release}, which ends in {left_s:.0f} s"
        passed = f"{self.state.slots[trial_slot(self.state)].release} passed its trial"
        self._journal.move(Event.HEALTHY, now, passed, **after_success(self.state, self.limits))
        return None

    def guard(self, now: datetime) -> bool:
        """The device's own watch after the trial: a bundle that stops working goes back, offline too."""
        complaint = self.watch.complaint(self.limits)
        if complaint is None or self.running is None:
            return False
        back = good_slot(self.state, other_slot(self.running.slot))
        if self.phase in (Phase.COMMITTED, Phase.FETCHING) and back is not None:
            self._journal.save(back_to=back)
            self.fail(now, complaint)
            return True
        self._journal.save(last_failure=complaint)  # nothing to return to: a bundle that limps is better than none
        self.watch.clear()
        self._journal.tell(
            "bundle_unhealthy", f"{complaint}; there is no other bundle to return to", self.state.assignment
        )
        return False

    def fail(self, now: datetime, reason: str, *, remember: bool = True) -> None:
        """The bundle under trial, or committed before, goes back and is remembered as bad here."""
        self._journal.move(
            Event.UNHEALTHY,
            now,
            reason,
            **after_failure(
                self.state,
                reason,
                self.limits,
                remember=remember,
                running=self.running.bundle if self.running else None,
            ),
        )

    def finish_revert(self, now: datetime) -> None:
        """Point back, and let the former bundle decide."""
        back = self.state.back_to
        self._slots.point_at(back)
        self._checkpoint("reverted")
        self._installed.run(back)
        self.watch.clear()
        self._journal.move(
            Event.SWITCHED, now, f"back on {self.running.release if self.running else 'nothing'}", back_to=None
        )

    def resume(self, now: datetime, *, planned: bool) -> None:
        """Go on with a trial after a start of the agent; too many that nobody planned are the bundle's fault."""
        starts = self.state.trial_starts + (0 if planned else 1)
        # Counted before the bundle is opened: one that takes the process down is counted as well.
        self._journal.save(trial_starts=starts)
        if starts > self.limits.trial_starts_max:
            self.fail(now, f"the agent was started {starts} times within the trial of {self._working().release}")
            return
        self.begin(now)
