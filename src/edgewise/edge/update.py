"""Which bundle runs: fetched, verified, tried, committed or taken back, whole after a power cut at any point.

The table of moves is in ``_update_state``, the decisions in ``_update_choices``; here each phase's work. The new state
is stored before the work it names, so that after a power cut the work is done again rather than forgotten. Each step
reads the whole situation: the newest assignment, the phase, the slots. Asking twice changes nothing (invariant 12).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewise.edge._failures import failure, failure_of
from edgewise.edge._installed import Installed
from edgewise.edge._metadata_watch import MetadataWatch
from edgewise.edge._outbox_records import nothing
from edgewise.edge._release_fetch import ReleaseFetch
from edgewise.edge._shadow_phase import ShadowPhase
from edgewise.edge._shadow_watch import ShadowWatch
from edgewise.edge._slots import Running, Slots, other_slot
from edgewise.edge._staging import Staging
from edgewise.edge._trial import Trial
from edgewise.edge._trusted import Trusted
from edgewise.edge._update_choices import (
    good_slot,
    has_new_terms,
    superseded,
    target,
    waits,
)
from edgewise.edge._update_journal import Journal
from edgewise.edge._update_start import UpdateStart
from edgewise.edge._update_state import (
    MOVES,
    Event,
    Happening,
    Phase,
    Slot,
    UpdateLimits,
    UpdateState,
    move,
)
from edgewise.edge._wants import Wants
from edgewise.edge._watch import Watch
from edgewise.ports import Clock, Footprint, Link, Runtime
from edgewise.wire import (
    Assignment,
    EdgewiseError,
    Envelope,
    Failure,
    NotNow,
    NotTrusted,
    PublicKey,
    Wait,
)

__all__ = ["MOVES", "Event", "Happening", "Phase", "Running", "UpdateLimits", "Updater", "Watch", "move"]


class Updater:
    """Two slots and the phases between them. ``running`` and ``shadow`` may be read by any thread at any time;
    everything else belongs to the thread that makes contact.

    Args:
        folder: holds ``update.json``, ``current``, ``slots`` and ``fetch``.
        device, use_case: what assignments and releases must be for.
        root: the root of trust pinned at enrolment.
        runtime: runs the bundles.
        clock: for the latency of golden inputs.
        facts: the device's capability card, compared with a bundle's needs before it is downloaded.
        reported: tells what is true of the machine now, for the conditions of an assignment.
        bytes_per_s_max: for downloads; an assignment may ask for less.
        site: where the device is: a variant that was made for another site is refused.
        boot: the machine's boot id, so that a reboot is no crash; empty where there is none, then nothing is counted.
        footprint, own_mb: memory held, and by the agent's own buffers; see `Trial`.
        checkpoint: called by name where a power cut would matter.
    Raises:
        NotValid: the folder is of another version. NotNow: the disk is full or fails.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str,
        use_case: str,
        root: str,
        runtime: Runtime,
        clock: Clock,
        facts: Mapping[str, Any] | None = None,
        reported: Callable[[], Mapping[str, Any]] = dict,
        bytes_per_s_max: float | None = None,
        limits: UpdateLimits | None = None,
        site: str | None = None,
        boot: str = "",
        footprint: Footprint | None = None,
        own_mb: Callable[[], float] = float,
        checkpoint: Callable[[str], None] = nothing,
    ) -> None:
        self.trusted = Trusted(folder, root=root, use_case=use_case, clock=clock)
        self._clock = clock
        self.limits = limits or UpdateLimits()
        self.watch = Watch(self.limits)
        self.waits_for: str | None = None
        self.not_now: Wait | None = None  # the window or condition that the assignment waits for
        self._begun = False  # the download goes on, so that its window's grace counts
        self.stuck = False  # the last step ended because the link or the disk said not now
        self._slots = Slots(folder, trusted=self.trusted, runtime=runtime, checkpoint=checkpoint)
        self._fetch = ReleaseFetch(
            folder,
            use_case=use_case,
            site=site,
            trusted=self.trusted,
            clock=clock,
            facts=dict(facts or {}),
            limits=self.limits,
            bytes_per_s_max=bytes_per_s_max,
            checkpoint=checkpoint,
            tell=self._tell,
        )
        self._reported = reported
        self._journal = Journal(folder, checkpoint)
        self._wants = Wants(self._journal, device=device, use_case=use_case, limits=self.limits)
        self._metadata = MetadataWatch(self.trusted, self._journal)
        self.installed = Installed(self._slots, self._journal)
        self._staging = Staging(self._fetch, self.installed, self._journal, runtime=runtime, limits=self.limits)
        self._shadow = ShadowPhase(self._journal, self.installed, clock=clock, limits=self.limits, footprint=footprint)
        self._trial = Trial(
            self._journal,
            self.installed,
            self._slots,
            self.watch,
            self._shadow,
            clock=clock,
            limits=self.limits,
            checkpoint=checkpoint,
            footprint=footprint,
            own_mb=own_mb,
        )
        start = UpdateStart(folder, self._journal, self.installed, self._slots, self._trial, self._fetch, boot=boot)
        start.recover(clock.now())

    # -- what others ask ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> UpdateState:
        """Everything remembered."""
        return self._journal.state

    @property
    def running(self) -> Running | None:
        """The bundle that decides."""
        return self.installed.running

    @property
    def shadow(self) -> Running | None:
        """The bundle that decides on the same frames without acting."""
        return self.installed.shadow

    @property
    def second(self) -> Running | None:
        """A bundle known to be good here, while the guard asks for its opinion on the same frames."""
        return self.installed.second

    @property
    def shadow_watch(self) -> ShadowWatch | None:
        """Who hears how the shadow does, while it is one that may act later; None for one that acted before."""
        return self._shadow.watch if self.phase is Phase.SHADOW else None

    @property
    def shadow_cpu_share(self) -> float:
        """Of the time between frames that the shadow may take."""
        return self.state.assignment.shadow_cpu_share if self.state.assignment else 1.0

    def model_of(self, running: Running) -> bytes:
        """The ONNX file of the bundle's first graph. NotTrusted: its slot holds something else by now."""
        return self._slots.model_of(running)

    @property
    def phase(self) -> Phase:
        return self.state.phase

    @property
    def assignment(self) -> Assignment | None:
        """The newest one accepted."""
        return self.state.assignment

    @property
    def number(self) -> int:
        return self.state.assignment.number if self.state.assignment else 0

    @property
    def rollout(self) -> str | None:
        """The rollout whose bundle runs, or is shadowed, now."""
        assignment = self.state.assignment
        chosen = self.shadow if self.phase is Phase.SHADOW else self.running
        same = assignment is not None and chosen is not None and assignment.bundle == chosen.bundle
        return assignment.rollout if assignment is not None and same else None

    def report_fields(self) -> dict[str, Any]:
        """What a Report says about updates."""
        other = self.state.slots.get(other_slot(self.running.slot)) if self.running else None
        return {
            "phase": self.phase.value,
            "release": self.running.release if self.running else None,
            "bundle": self.running.bundle if self.running else None,
            "previous": other.release if other and other.committed else None,
            "assignment": self.number,
            "not_now": self.not_now.reasons if self.not_now else (),
            "not_now_until": self.not_now.until if self.not_now else None,
            "bytes_fetched": self.state.bytes_fetched,
            "bytes_full": self.state.bytes_full,
            "known_bad": tuple(self.state.known_bad),
            "last_failure": self.state.last_failure,
            "failure": self.state.failure,
            "failed_rollout": self.state.failed_rollout,
            "metadata": self.trusted.version,
            "metadata_expires_at": self.trusted.expires_at,
        }

    def accept(self, envelope: Envelope, now: datetime) -> bool:
        """Take note of what the hub wants; False when it is nothing new.

        Raises:
            NotTrusted: not signed by the director, not for this device or use case, or older than what is known.
            NotNow: the release repository was never read, so the director is not known.
        """
        try:
            return self._wants.accept(envelope, self.trusted.keys(), now)
        except NotTrusted as error:
            if str(error) != self.state.last_failure:  # a hub that is told no will ask again
                self._journal.save(failure=failure_of(error, phase=self.phase.value, now=now))
            raise

    def check(self, envelope: Envelope, keys: Sequence[PublicKey]) -> Assignment:
        """What the envelope says, if these keys signed it and it is for this device and not older than what is known.

        Raises:
            NotTrusted: it is not.
        """
        return self._wants.check(envelope, keys)

    def take_facts(self, facts: Mapping[str, Any]) -> None:
        """More of the capability card, measured since the start. Any thread may call."""
        self._fetch.facts = {**self._fetch.facts, **facts}

    def hear(self, link: Link, metadata: int, now: datetime) -> None:
        """What the hub says about the release repository; see `MetadataWatch.hear`."""
        self._metadata.hear(link, metadata, now)

    def warnings(self, now: datetime) -> tuple[str, ...]:
        """What is wrong with what vouches for the releases here; none of it stops decisions (invariant 7)."""
        slot = self.state.slots.get(self.running.slot) if self.running is not None else None
        return self._metadata.warnings(slot, now)

    def step(self, link: Link, now: datetime) -> list[Happening]:
        """Work towards the newest assignment, as far as it goes now; what happened, for the audit log."""
        self.waits_for, self.not_now, self.stuck = None, None, False
        self._metadata.look(now)
        try:
            for _ in range(self.limits.moves_max):
                if not self._advance(link, now):
                    break
        except NotNow as error:
            self.waits_for, self.stuck = str(error), True
        self.installed.refresh_shadow()
        return self._journal.happened()

    def close(self) -> None:
        """A planned stop: the next start is no crash (invariant 8)."""
        self._trial.stopped()

    # -- the phases --------------------------------------------------------------------------------------------------

    def _advance(self, link: Link, now: datetime) -> bool:
        """One phase's work; True when it led to a move, so that there may be more to do."""
        if self._supersede(now):
            return True
        match self.phase:
            case Phase.IDLE | Phase.COMMITTED:
                return self._trial.guard(now) or self._begin(now) or self._rest()
            case Phase.FETCHING:
                return self._trial.guard(now) or (not self._must_wait(now) and self._obtain(link, now))
            case Phase.STAGED:
                self._trial.guard(now)
                return not self._must_wait(now) and self._leave_staged(now)
            case Phase.SHADOW:
                self._trial.guard(now)
                self.waits_for = self._shadow.step(now)
                return self.waits_for is None
            case Phase.TRIAL:
                self.waits_for = self._trial.judge(now)
                return self.waits_for is None
            case Phase.REVERTING:
                self._trial.finish_revert(now)
                return True

    def _supersede(self, now: datetime) -> bool:
        """A newer assignment always wins over one still worked on (invariant 8)."""
        replaced, on_trial = superseded(self.state), self.phase is Phase.TRIAL
        if replaced is None:
            if has_new_terms(self.state):
                self._journal.save(working=self.state.assignment)
            return False
        event, reason = replaced
        self._journal.move(event, now, reason)
        if not on_trial:
            self._fetch.forget()
        return True

    def _begin(self, now: datetime) -> bool:
        wanted = self.state.assignment
        if wanted is None or wanted.bundle is None or wanted.number == self.state.refused:
            return False
        if self.running is not None and (self.running.release, self.running.bundle) == target(wanted):
            return False
        same = self.state.working is not None and self.state.working.number == wanted.number
        if same and self.state.moves >= self.limits.moves_max:
            text = f"assignment {wanted.number} took {self.state.moves} moves without coming to an end; it is given up"
            found = failure("moves_spent", text, phase=self.phase.value, now=now)
            self._journal.save(refused=wanted.number, failure=found, failed_rollout=wanted.rollout)
            self._journal.tell("update_given_up", text, wanted)
            return False
        moves = self.state.moves if same else 0
        back = self._slot_to_revert_to(wanted)
        if back is not None:
            self._journal.move(Event.REVERT_ORDERED, now, wanted.reason, working=wanted, back_to=back, moves=moves)
        else:
            self._journal.move(Event.ASSIGNED, now, wanted.reason, working=wanted, moves=moves)
        return True

    def _slot_to_revert_to(self, wanted: Assignment) -> str | None:
        """The other slot, where a revert asks for exactly what lies there, still validly signed."""
        if wanted.kind != "revert" or self.phase is not Phase.COMMITTED or self.running is None:
            return None
        name = other_slot(self.running.slot)
        slot = self.state.slots.get(name)
        if slot is None or not slot.committed or (slot.release, slot.bundle) != target(wanted):
            return None
        try:
            release = self.trusted.open(slot.proof, slot.release)
            if not self.trusted.vouches_for(slot.release, slot.proof):
                return None
            self._fetch.check_install(wanted, release, slot.bundle, self.state, self.running.slot)
        except NotTrusted:
            return None  # the long way then says why
        return name

    def _rest(self) -> bool:
        """Nothing is to be done: what earlier work left behind goes."""
        self._fetch.clear()
        self.installed.collect()
        return False

    def _must_wait(self, now: datetime) -> bool:
        """Whether the work in hand waits for its window or conditions: "not now", which is no failure."""
        wait = waits(self.state, self._reported(), now, begun=self._begun)
        self._begun = self.phase is Phase.FETCHING and wait is None
        if wait is None:
            return False
        what = "download" if self.phase is Phase.FETCHING else "activation"
        self.not_now, self.waits_for = wait, f"the {what} of {self._working().release}: {'; '.join(wait.reasons)}"
        return True

    def _obtain(self, link: Link, now: datetime) -> bool:
        try:
            staged = self._staging.advance(link, self._working(), self._clock.monotonic_s())
        except NotNow:
            raise
        except EdgewiseError as error:
            self._refuse(now, failure_of(error, phase=self.phase.value, now=now))
            return True
        if isinstance(staged, str):
            self.waits_for = staged
            return False
        offer, spare = staged, self.installed.spare
        kept = self.state.slots.get(spare)
        committed = kept is not None and kept.committed and kept.bundle == offer.bundle
        slot = Slot(release=offer.release.id, bundle=offer.bundle, proof=offer.proof, committed=committed)
        changes: dict[str, Any] = {"slots": {**self.state.slots, spare: slot}} | self._fetch.totals(offer, self.state)
        self._journal.move(Event.VERIFIED, now, f"{offer.release.id} is whole", **changes)
        self._fetch.clear()
        self._fetch.forget()
        return True

    def _refuse(self, now: datetime, found: Failure) -> None:
        working = self._working()
        changes = {"refused": working.number, "failure": found, "failed_rollout": working.rollout}
        self._journal.move(Event.REFUSED, now, found.text, **changes)
        self._fetch.forget()

    def _leave_staged(self, now: datetime) -> bool:
        working, name = self._working(), self.installed.spare
        slot = self.state.slots.get(name)
        if slot is None or not self.installed.lies_in(name, slot.bundle):
            self._journal.forget_slot(name)
            self._journal.move(Event.SUPERSEDED, now, f"slot {name} is damaged; it is fetched again")
            return True
        if working.shadow:
            self._journal.move(Event.SHADOW_WANTED, now, "decides beside the running bundle first")
            return True
        back = good_slot(self.state, self.installed.slot)
        self._journal.move(Event.SWITCHED, now, working.reason, back_to=back, trial_at=now, trial_starts=0, crashes=0)
        self._trial.begin(now)
        return True

    # -- small parts -------------------------------------------------------------------------------------------------

    def _tell(self, what: str, text: str, **data: Any) -> None:
        self._journal.tell(what, text, self.state.working, **data)

    def _working(self) -> Assignment:
        assert self.state.working is not None, f"nothing is worked on while {self.phase.value}"
        return self.state.working
