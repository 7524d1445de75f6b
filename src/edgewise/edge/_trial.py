"""The trial of a bundle that acts, the watch over a committed one, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from edgewise.edge._failures import failure, failure_of
from edgewise.edge._installed import Installed
from edgewise.edge._last_words import LastWords
from edgewise.edge._shadow_phase import ShadowPhase
from edgewise.edge._slots import Running, Slots, other_slot
from edgewise.edge._update_choices import (
    after_failure,
    after_success,
    crashes_in_a_row,
    good_slot,
    trial_slot,
    with_bad,
)
from edgewise.edge._update_journal import Journal
from edgewise.edge._update_state import Event, Phase, UpdateLimits, UpdateState
from edgewise.edge._watch import Complaint, Watch, try_out
from edgewise.ports import Clock, Footprint
from edgewise.wire import Assignment, Failure, NotNow, NotTrusted, NotValid


class Trial:
    """Judges the bundle that decides.

    Args:
        journal: what the update remembers.
        installed, slots: what lies here.
        watch: what the decision loop tells.
        shadow: refuses the bundle that shadows, where a start shows that it is to blame.
        clock: for the latency of golden inputs.
        checkpoint: called by name where a power cut would matter.
        footprint: tells the memory held; None leaves memory out.
        own_mb: of that memory, what the agent's own bounded buffers hold.
    """

    def __init__(
        self,
        journal: Journal,
        installed: Installed,
        slots: Slots,
        watch: Watch,
        shadow: ShadowPhase,
        *,
        clock: Clock,
        limits: UpdateLimits,
        checkpoint: Callable[[str], None],
        footprint: Footprint | None = None,
        own_mb: Callable[[], float] = float,
    ) -> None:
        self._journal = journal
        self._installed = installed
        self._slots = slots
        self.watch = watch
        self._shadow = shadow
        self._clock = clock
        self.limits = limits
        self._checkpoint = checkpoint
        self._footprint = footprint
        self._own_mb = own_mb
        self._weighed_s: float | None = None
        self._started_s = clock.monotonic_s()
        self._trial_s = 0.0  # when this process began to try the bundle, by the monotonic clock
        self._limped: tuple[str, float] | None = None  # the bundle, and when the hub was told

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
        name, self._trial_s = trial_slot(self.state), self._clock.monotonic_s()
        self._slots.point_at(name)
        self._checkpoint("switched")
        try:
            self._installed.running = try_out(self._installed.open(name), self._clock, self.limits)
            self.watch.clear()
        except (NotTrusted, NotValid) as error:
            self.fail(now, failure_of(error, phase=self.phase.value, now=now, component="trial"))

    def judge(self, now: datetime) -> str | None:
        """Commit, or go back; comes back with what is waited for, None once the phase has moved."""
        working, now_s = self._working(), self._clock.monotonic_s()
        if self.running is None or self.running.slot != trial_slot(self.state):
            self.begin(now)  # the disk failed when it was begun
            return None
        complaint = self._complaint(trial=True)
        if complaint is not None:
            self.fail(now, self._failure(*complaint, now, "trial"))
            return None
        left_s = working.trial_s - (now_s - self._trial_s)
        if left_s > 0:
            return f"the trial of {working.release}, which ends in {left_s:.0f} s"
        passed = f"{self.state.slots[trial_slot(self.state)].release} passed its trial"
        self._journal.move(Event.HEALTHY, now, passed, **after_success(self.state, self.limits))
        return None

    def guard(self, now: datetime) -> bool:
        """The device's own watch after the trial: a bundle that stops working goes back, offline too."""
        if self.state.crashes and self._clock.monotonic_s() - self._started_s >= self.limits.guard.calm_s:
            self._journal.save(crashes=0)
        remark = self.watch.remark()
        if remark is not None:
            self._journal.tell("bundle_late", remark, self.state.assignment)
        complaint = self._complaint(trial=False)
        if complaint is None or self.running is None:
            return False
        return self._send_back(self.running, now, self._failure(*complaint, now, "guard"))

    def _failure(self, code: str, text: str, now: datetime, component: str) -> Failure:
        return failure(code, text, phase=self.phase.value, now=now, component=component)

    def _complaint(self, *, trial: bool) -> Complaint | None:
        self._weigh()
        second = self._installed.second
        other = second.release if second is not None else "the former bundle"
        complaint = self.watch.complaint(trial=trial, other=other)
        self._installed.refresh_second(wanted=self.watch.wants_opinion and complaint is None)
        return complaint

    def _weigh(self) -> None:
        now_s = self._clock.monotonic_s()
        due = self._weighed_s is None or now_s - self._weighed_s >= self.limits.guard.memory_every_s
        if self._footprint is None or self.running is None or not due:
            return
        self._weighed_s, running = now_s, self.running
        held_mb = self._footprint.private_mb(running.worker_pids)
        if held_mb is not None:
            self.watch.weighed(held_mb, own_mb=self._own_mb(), needs_mb=running.pipeline.manifest.needs.ram_mb)

    def _send_back(self, running: Running, now: datetime, found: Failure) -> bool:
        """Return to the other slot's bundle; where there is none, limp on and say so."""
        back = good_slot(self.state, other_slot(running.slot))
        if self.phase in (Phase.COMMITTED, Phase.FETCHING) and back is not None:
            self._journal.save(back_to=back)
            self.fail(now, found)
            return True
        self._journal.save(failure=found)  # nothing to return to: a bundle that limps is better than none
        self.watch.clear()
        self._tell_limping(running, found.text)
        return False

    def _tell_limping(self, running: Running, complaint: str) -> None:
        now_s, every_s = self._clock.monotonic_s(), self.limits.guard.limping_every_s
        if self._limped is not None and self._limped[0] == running.bundle and now_s - self._limped[1] < every_s:
            return
        self._limped = (running.bundle, now_s)
        text = f"{complaint}; there is no other bundle to return to"
        self._journal.tell("bundle_unhealthy", text, self.state.assignment)

    def fail(self, now: datetime, found: Failure, *, remember: bool = True) -> None:
        """The bundle under trial, or committed before, goes back and is remembered as bad here."""
        running = self.running.bundle if self.running else None
        changes = after_failure(self.state, found, self.limits, remember=remember, running=running)
        self._journal.move(Event.UNHEALTHY, now, found.text, **changes)

    def finish_revert(self, now: datetime) -> None:
        """Point back, and let the former bundle decide."""
        back = self.state.back_to
        self._slots.point_at(back)
        self._checkpoint("reverted")
        self._installed.run(back)
        self.watch.clear()
        text = f"back on {self.running.release if self.running else 'nothing'}"
        self._journal.move(Event.SWITCHED, now, text, back_to=None, crashes=0)

    def resume(self, now: datetime, *, planned: bool, words: LastWords | None) -> None:
        """Go on with a trial after a start of the agent; too many that nobody planned are the bundle's fault."""
        starts = self.state.trial_starts + (0 if planned else 1)
        # Counted before the bundle is opened: one that takes the process down is counted as well.
        self._journal.save(trial_starts=starts, trial_at=now)
        if words is not None and words.bundle == self._working().bundle:
            self.fail(now, self._failure("hang", words.text, now, "trial"))
        elif starts > self.limits.trial_starts_max:
            text = f"the agent was started {starts} times within the trial of {self._working().release}"
            self.fail(now, self._failure("trial_restarts", text, now, "trial"))
        else:
            self.begin(now)

    def started(self, now: datetime, *, boot: str, planned: bool, words: LastWords | None) -> None:
        """Count a start of the agent outside a trial, and what the process before it said, against a bundle."""
        if self.phase in (Phase.TRIAL, Phase.REVERTING):
            return  # a trial counts for itself, and what goes back already is judged
        crashes, most = crashes_in_a_row(self.state, boot=boot, planned=planned), self.limits.guard.crashes_max
        if (crashes, boot) != (self.state.crashes, self.state.boot):
            self._journal.save(crashes=crashes, boot=boot)
        running = self.running
        if words is not None and (running is None or words.bundle != running.bundle):
            self._blame_other(words, now)
        elif words is not None and running is not None:
            self._send_back(running, now, self._failure("hang", words.text, now, "guard"))
        elif crashes >= most and self.phase is Phase.SHADOW:
            text = f"the agent crashed {crashes} times while {self._working().release} shadowed"
            self._shadow.refuse(now, self._failure("crash_loop", text, now, "shadow"))
        elif crashes == most and running is not None:
            text = f"the agent crashed {crashes} times in a row while {running.release} decided"
            self._send_back(running, now, self._failure("crash_loop", text, now, "guard"))

    def _blame_other(self, words: LastWords, now: datetime) -> None:
        """It was the bundle that decided beside the running one: never shadowed and never returned to again."""
        if self.phase is Phase.SHADOW and words.bundle == self._working().bundle:
            self._shadow.refuse(now, self._failure("hang", words.text, now, "shadow"))
            return
        self._journal.save(known_bad=with_bad(self.state, words.bundle, words.text, self.limits))
        self._journal.tell("bundle_unhealthy", words.text, self.state.assignment)

    def stopped(self) -> None:
        """A planned stop: the next start is no crash (invariant 8)."""
        with suppress(NotNow):  # a full disk: then the start counts as a crash, and one alone does nothing
            self._journal.save(stopped=True)
