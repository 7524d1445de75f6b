"""The phase in which a bundle decides beside the acting one before it may act: opened apart, tried, watched."""

from __future__ import annotations

from datetime import datetime

from edgewise.edge._failures import failure, failure_of
from edgewise.edge._installed import Installed
from edgewise.edge._shadow_watch import ShadowWatch
from edgewise.edge._update_choices import after_failure
from edgewise.edge._update_journal import Journal
from edgewise.edge._update_state import Event, UpdateLimits
from edgewise.edge._watch import try_out
from edgewise.ports import Clock, Footprint
from edgewise.wire import Failure, NotTrusted, NotValid


class ShadowPhase:
    """Judges the bundle that shadows. Whatever it does, the acting one goes on as if it were not there.

    Args:
        journal: what the update remembers.
        installed: what lies here.
        footprint: tells the memory held; None leaves memory out.
    """

    def __init__(
        self,
        journal: Journal,
        installed: Installed,
        *,
        clock: Clock,
        limits: UpdateLimits,
        footprint: Footprint | None = None,
    ) -> None:
        self._journal = journal
        self._installed = installed
        self._clock = clock
        self._limits = limits
        self._footprint = footprint
        self._weighed_s: float | None = None
        self.watch = ShadowWatch(limits)

    def step(self, now: datetime) -> str | None:
        """What is waited for, None once the phase has moved."""
        working = self._journal.state.working
        assert working is not None, "nothing shadows"
        if not working.shadow:
            self._journal.move(Event.PROMOTED, now, "the hub wants it to act")
            return None
        if self._installed.shadow is None and not self._open(now):
            return None
        self._weigh()
        complaint = self.watch.complaint()
        if complaint is not None:
            self.refuse(now, failure(*complaint, phase="shadow", now=now, component="shadow"))
            return None
        return f"the hub's word on {working.release}, which decides beside the acting one"

    def _open(self, now: datetime) -> bool:
        """Let it decide, once it gave the right answers to its golden inputs in time; False where it does not."""
        name = self._installed.spare
        slot = self._journal.state.slots.get(name)
        if slot is None or not self._installed.lies_in(name, slot.bundle):
            self._journal.forget_slot(name)
            self._journal.move(Event.SUPERSEDED, now, f"slot {name} is damaged; it is fetched again")
            return False
        try:
            opened = try_out(self._installed.open(name, contained=True), self._clock, self._limits)
        except (NotTrusted, NotValid) as error:
            self.refuse(now, failure_of(error, phase="shadow", now=now, component="shadow"))
            return False
        self.watch.clear()
        self._installed.shadow = opened
        return True

    def _weigh(self) -> None:
        now_s, shadow = self._clock.monotonic_s(), self._installed.shadow
        due = self._weighed_s is None or now_s - self._weighed_s >= self._limits.guard.memory_every_s
        if self._footprint is None or shadow is None or not shadow.worker_pids or not due:
            return
        self._weighed_s = now_s
        together, alone = self._footprint.private_mb(shadow.worker_pids), self._footprint.private_mb()
        if together is not None and alone is not None:
            self.watch.weighed(together - alone, needs_mb=shadow.pipeline.manifest.needs.ram_mb)

    def refuse(self, now: datetime, found: Failure) -> None:
        """The bundle that shadows is bad here; the one that acts is not touched by it."""
        self._installed.shadow = None
        changes = after_failure(self._journal.state, found, self._limits, remember=True)
        self._journal.move(Event.REFUSED, now, found.text, **changes, crashes=0)
