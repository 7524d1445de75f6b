"""Which bundle runs: fetched, verified, tried, committed or taken back, whole after a power cut at any point.

The table of moves is in ``_update_state``; here each phase's work. The new state is stored before the work it names, so
that after a power cut the work is done again rather than forgotten. Each step reads the whole situation: the newest
assignment, the phase, the slots. Asking twice changes nothing (invariant 12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewise.edge._fetch import Download
from edgewise.edge._outbox_records import nothing
from edgewise.edge._slots import Running, Slots, other_slot
from edgewise.edge._update_state import (
    MOVES,
    STATE_FILE,
    Event,
    Happening,
    Phase,
    Slot,
    UpdateLimits,
    move,
    read_state,
)
from edgewise.edge._watch import Watch
from edgewise.plan import misfits
from edgewise.ports import Clock, Link, Runtime, replace_file, vet_bundle
from edgewise.trust import may_install, open_assignment, open_release
from edgewise.wire import (
    Assignment,
    EdgewiseError,
    Envelope,
    Manifest,
    NotNow,
    NotTrusted,
    NotValid,
    Release,
    TrustRoot,
    decode,
    digest,
    encode,
    record_digest,
)

__all__ = ["MOVES", "Event", "Happening", "Phase", "Running", "UpdateLimits", "Updater", "Watch", "move"]


class Updater:
    """Two slots and the phases between them. ``running`` and ``shadow`` may be read by any thread at any time;
    everything else belongs to the thread that makes contact.

    Args:
        folder: holds ``update.json``, ``current``, ``slots`` and ``fetch``.
        device, use_case: what assignments and releases must be for.
        root: whom to trust.
        runtime: runs the bundles.
        clock: for the latency of golden inputs.
        facts: the device's capability card, compared with a bundle's needs before it is downloaded.
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
        root: TrustRoot,
        runtime: Runtime,
        clock: Clock,
        facts: Mapping[str, Any] | None = None,
        limits: UpdateLimits | None = None,
        checkpoint: Callable[[str], None] = nothing,
    ) -> None:
        self._folder = folder
        self._device = device
        self._use_case = use_case
        self._root = root
        self._clock = clock
        self._facts = dict(facts or {})
        self.limits = limits or UpdateLimits()
        self._checkpoint = checkpoint
        self.watch = Watch()
        self.running: Running | None = None
        self.shadow: Running | None = None
        self.waits_for: str | None = None
        self.stuck = False  # the last step ended because the link or the disk said not now
        self._happened: list[Happening] = []
        self._seen: dict[str, bytes] = {}  # envelope and manifest of what is fetched now, by name
        self._runtime = runtime
        self._slots = Slots(folder, root=root, runtime=runtime, checkpoint=checkpoint)
        self._download = Download(folder / "fetch", checkpoint)
        self.state = read_state(folder)
        self._recover()

    # -- what others ask ---------------------------------------------------------------------------------------------

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
            "known_bad": tuple(self.state.known_bad),
            "last_failure": self.state.last_failure,
            "failed_rollout": self.state.failed_rollout,
        }

    def accept(self, envelope: Envelope, now: datetime) -> bool:
        """Take note of what the hub wants; False when it is nothing new.

        Raises:
            NotTrusted: not signed by the hub, not for this device or use case, or older than what is known.
        """
        old = self.state.assignment
        new = open_assignment(
            envelope,
            self._root,
            device=self._device,
            newest=self.number,
            hub_epoch=old.hub_epoch if old else None,
            newest_digest=self.state.assignment_digest,
            earlier_epochs=self.state.earlier_epochs,
        )
        if new.use_case != self._use_case:
            raise NotTrusted(
                f"assignment {new.number} is for use case {new.use_case}, this device is enrolled for {self._use_case}",
                code="use_case_wrong",
            )
        if old is not None and record_digest(new) == self.state.assignment_digest:
            return False
        changes: dict[str, Any] = {"assignment": new, "assignment_digest": record_digest(new), "changed_at": now}
        if old is not None and old.hub_epoch != new.hub_epoch:
            earlier = (*self.state.earlier_epochs, old.hub_epoch)
            changes |= {"earlier_epochs": earlier[-self.limits.remembered_max :], "refused": 0}
        self._save(**changes)
        return True

    def step(self, link: Link, now: datetime) -> list[Happening]:
        """Work towards the newest assignment, as far as it goes now; what happened, for the audit log."""
        self.waits_for, self.stuck = None, False
        try:
            for _ in range(self.limits.moves_max):
                if not self._advance(link, now):
                    break
        except NotNow as error:
            self.waits_for, self.stuck = str(error), True
        self._refresh_shadow()
        happened, self._happened = self._happened, []
        return happened

    def close(self) -> None:
        """A planned stop: the next start is no crash (invariant 8)."""
        if self.phase is Phase.TRIAL:
            self._save(stopped=True)

    # -- the phases --------------------------------------------------------------------------------------------------

    def _advance(self, link: Link, now: datetime) -> bool:
        """One phase's work; True when it led to a move, so that there may be more to do."""
        if self._supersede(now):
            return True
        match self.phase:
            case Phase.IDLE | Phase.COMMITTED:
                return self._guard(now) or self._begin(now)
            case Phase.FETCHING:
                return self._fetch(link, now)
            case Phase.STAGED:
                return self._leave_staged(now)
            case Phase.SHADOW:
                return self._leave_shadow(now)
            case Phase.TRIAL:
                return self._judge(now)
            case Phase.REVERTING:
                return self._finish_revert(now)

    def _supersede(self, now: datetime) -> bool:
        """A newer assignment always wins over one still worked on (invariant 8)."""
        working, newest = self.state.working, self.state.assignment
        if working is None or newest is None or self.phase in (Phase.IDLE, Phase.COMMITTED, Phase.REVERTING):
            return False
        if _target(working) == _target(newest):
            if working != newest:
                self._save(working=newest)  # the same bundle under new conditions: bake, trial time, rollout
            return False
        reason = f"assignment {newest.number} ({newest.release}) replaces {working.number} ({working.release})"
        back = self.state.slots.get(self.state.back_to or "")
        ordered = newest.kind == "revert" and back is not None and (back.release, back.bundle) == _target(newest)
        on_trial = self.phase is Phase.TRIAL
        self._move(Event.REVERT_ORDERED if on_trial and ordered else Event.SUPERSEDED, now, reason)
        if not on_trial:
            self._forget_work()
        return True

    def _begin(self, now: datetime) -> bool:
        wanted = self.state.assignment
        if wanted is None or wanted.bundle is None or wanted.number == self.state.refused:
            return False
        if self.running is not None and (self.running.release, self.running.bundle) == _target(wanted):
            return False
        same = self.state.working is not None and self.state.working.number == wanted.number
        if same and self.state.moves >= self.limits.moves_max:
            text = f"assignment {wanted.number} took {self.state.moves} moves without coming to an end; it is given up"
            self._save(refused=wanted.number, last_failure=text, failed_rollout=wanted.rollout)
            self._tell("update_given_up", text, wanted)
            return False
        moves = self.state.moves if same else 0
        back = self._slot_to_revert_to(wanted)
        if back is not None:
            self._move(Event.REVERT_ORDERED, now, wanted.reason, working=wanted, back_to=back, moves=moves)
        else:
            self._move(Event.ASSIGNED, now, wanted.reason, working=wanted, moves=moves)
        return True

    def _slot_to_revert_to(self, wanted: Assignment) -> str | None:
        """The other slot, where a revert asks for exactly what lies there, still validly signed."""
        if wanted.kind != "revert" or self.phase is not Phase.COMMITTED or self.running is None:
            return None
        name = other_slot(self.running.slot)
        slot = self.state.slots.get(name)
        if slot is None or not slot.committed or (slot.release, slot.bundle) != _target(wanted):
            return None
        try:
            self._check_install(wanted, open_release(slot.envelope, self._root), slot.bundle)
        except NotTrusted:
            return None  # the long way then says why
        return name

    def _fetch(self, link: Link, now: datetime) -> bool:
        working = self._working()
        try:
            envelope = self._envelope(link, working)
            release = open_release(envelope, self._root)
            data = self._manifest(link, working)
            manifest = decode(Manifest, data)
            self._check_install(working, release, digest(data))
            self._check_fit(manifest)
            spare = self._spare()
            if not self._lies_in(spare, digest(data)):
                held = self._slots.held(manifest, self.state.slots)
                missing = self._download.advance(link, manifest, held, self.limits.fetch_bytes_per_step)
                if missing:
                    self.waits_for = f"{missing} more bytes of {working.release}"
                    return False
                self._vet(manifest)
                self._stage(spare, data, self._download.blobs(manifest, held))
        except NotNow:
            raise
        except EdgewiseError as error:
            self._refuse(now, str(error))
            return True
        kept = self.state.slots.get(spare)
        committed = kept is not None and kept.committed and kept.bundle == digest(data)
        slot = Slot(release=release.id, bundle=digest(data), envelope=envelope, committed=committed)
        self._move(Event.VERIFIED, now, f"{release.id} is whole", slots={**self.state.slots, spare: slot})
        self._download.clear()
        self._forget_work()
        return True

    def _vet(self, manifest: Manifest) -> None:
        """Open the networks for the first time, in a process of their own; what is refused is bad here for good."""
        places = [self._download.folder, *(self._slots.path(name) / "blobs" for name in self.state.slots)]
        try:
            vet_bundle(manifest, lambda name: _first_file(places, name), self._runtime)
        except NotTrusted as error:
            working = self._working()
            bad = {**self.state.known_bad, working.bundle or "": str(error)[:500]}
            self._save(known_bad=dict(list(bad.items())[-self.limits.remembered_max :]))
            self._tell("bundle_refused", str(error), working, code=error.code)
            self._download.clear()
            raise

    def _stage(self, spare: str, manifest: bytes, blobs: Mapping[str, bytes]) -> None:
        """Write the bundle into the spare slot. What was there is forgotten first: a slot is whole or not named."""
        assert self.running is None or self.running.slot != spare, "the running slot is never written"
        self.shadow = None
        self._save(slots={name: slot for name, slot in self.state.slots.items() if name != spare})
        self._slots.write(spare, manifest, blobs)

    def _refuse(self, now: datetime, reason: str, **changes: Any) -> None:
        working = self._working()
        changes |= {"refused": working.number, "last_failure": reason, "failed_rollout": working.rollout}
        self._move(Event.REFUSED, now, reason, **changes)
        self._forget_work()

    def _leave_staged(self, now: datetime) -> bool:
        working, name = self._working(), self._spare()
        slot = self.state.slots.get(name)
        if slot is None or not self._lies_in(name, slot.bundle):
            self._save(slots={key: value for key, value in self.state.slots.items() if key != name})
            self._move(Event.SUPERSEDED, now, f"slot {name} is damaged; it is fetched again")
            return True
        if working.shadow:
            self._move(Event.SHADOW_WANTED, now, "decides beside the running bundle first")
            return True
        current = self.running.slot if self.running else None
        good = current is not None and current in self.state.slots and self.state.slots[current].committed
        self._move(Event.SWITCHED, now, working.reason, back_to=current if good else None, trial_at=now, trial_starts=0)
        self._begin_trial(now)
        return True

    def _leave_shadow(self, now: datetime) -> bool:
        if self._working().shadow:
            self._refresh_shadow()
            return False
        self._move(Event.PROMOTED, now, "the hub wants it to act")
        return True

    def _begin_trial(self, now: datetime) -> None:
        """Point at the slot, make sure that the bundle answers as it must, then let it decide.

        Until that is sure the former bundle goes on deciding.
        """
        name = self._trial_slot()
        self._slots.point_at(name)
        self._checkpoint("switched")
        try:
            self.running = self._try_out(self._slots.open(name, self.state.slots[name]))
            self.watch.clear()
        except (NotTrusted, NotValid) as error:
            self._fail(now, str(error))

    def _try_out(self, opened: Running) -> Running:
        opened.pipeline.check_golden()  # also warms it up: the first run of a network is no measure of it
        began = self._clock.monotonic_s()
        opened.pipeline.check_golden()
        count = opened.pipeline.manifest.golden.count
        latency_ms = (self._clock.monotonic_s() - began) * 1000 / count
        if latency_ms > self.limits.latency_ms_max:
            raise NotValid(
                f"{opened.release} takes {latency_ms:.3g} ms for a golden input, at most "
                f"{self.limits.latency_ms_max:g} ms are allowed here",
                code="too_slow",
            )
        return opened

    def _judge(self, now: datetime) -> bool:
        working, began = self._working(), self.state.trial_at or now
        if self.running is None or self.running.slot != self._trial_slot():
            self._begin_trial(now)  # the disk failed when it was begun
            return True
        complaint = self.watch.complaint(self.limits)
        if complaint is not None:
            self._fail(now, complaint)
            return True
        left_s = working.trial_s - (now - began).total_seconds()
        if left_s > 0:
            self.waits_for = f"the trial of {working.release}, which ends in {left_s:.0f} s"
            return False
        name = self._trial_slot()
        slot = self.state.slots[name]
        committed = tuple(dict.fromkeys((*self.state.committed_before, slot.bundle)))
        self._move(
            Event.HEALTHY,
            now,
            f"{slot.release} passed its trial",
            slots={**self.state.slots, name: slot.model_copy(update={"committed": True})},
            committed_before=committed[-self.limits.remembered_max :],
            last_failure=None,
            failed_rollout=None,
        )
        return True

    def _guard(self, now: datetime) -> bool:
        """The device's own watch after the trial: a bundle that stops working goes back, offline too."""
        complaint = self.watch.complaint(self.limits)
        if complaint is None or self.running is None:
            return False
        back = other_slot(self.running.slot)
        if self.phase is Phase.COMMITTED and back in self.state.slots and self.state.slots[back].committed:
            self._save(back_to=back)
            self._fail(now, complaint)
            return True
        self._save(last_failure=complaint)  # nothing to return to: a bundle that limps is better than none
        self.watch.clear()
        self._tell("bundle_unhealthy", f"{complaint}; there is no other bundle to return to", self.state.assignment)
        return False

    def _fail(self, now: datetime, reason: str, *, remember: bool = True) -> None:
        """The bundle under trial, or committed before, goes back and is remembered as bad here."""
        working = self.state.working
        changes: dict[str, Any] = {"last_failure": reason}
        if working is not None and working.bundle is not None and remember:
            bad = {**self.state.known_bad, working.bundle: reason[:500]}
            changes["known_bad"] = dict(list(bad.items())[-self.limits.remembered_max :])
            changes |= {"refused": working.number, "failed_rollout": working.rollout}
        self._move(Event.UNHEALTHY, now, reason, **changes)

    def _finish_revert(self, now: datetime) -> bool:
        back = self.state.back_to
        self._slots.point_at(back)
        self._checkpoint("reverted")
        self.running = None if back is None else self._open_or_drop(back)
        self.watch.clear()
        self._move(Event.SWITCHED, now, f"back on {self.running.release if self.running else 'nothing'}", back_to=None)
        self._forget_work()
        return True

    # -- starting ----------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Make the files agree with the stored state, whatever was going on when the power was cut."""
        now = self._clock.now()
        planned = self.state.stopped
        if planned:
            self._save(stopped=False)
        match self.phase:
            case Phase.TRIAL:
                self._resume_trial(now, planned=planned)
            case Phase.REVERTING:
                pass
            case _:
                self._run_current(now)
        if self.phase is Phase.REVERTING:
            self._finish_revert(now)
        # A slot that is named in the state, or runs, is never touched.
        self._slots.sweep(set(self.state.slots) | ({self.running.slot} if self.running else set()))
        if self.phase is not Phase.FETCHING:
            self._download.clear()
        self._refresh_shadow()

    def _resume_trial(self, now: datetime, *, planned: bool) -> None:
        starts = self.state.trial_starts + (0 if planned else 1)
        # Counted before the bundle is opened: one that takes the process down is counted as well.
        self._save(trial_starts=starts)
        if starts > self.limits.trial_starts_max:
            self._fail(now, f"the agent was started {starts} times within the trial of {self._working().release}")
            return
        self._begin_trial(now)

    def _run_current(self, now: datetime) -> None:
        name = self._slots.pointer()
        self.running = self._open_or_drop(name) if name else None
        if name is None or self.running is not None:
            return
        # The slot that should run is damaged: run the other one, and fetch this one again.
        other = self.state.slots.get(other_slot(name))
        fallback = other_slot(name) if other is not None and other.committed else None
        if self.phase is Phase.COMMITTED:
            self._save(back_to=fallback)
            self._fail(now, f"slot {name} is damaged", remember=False)
            return
        self._slots.point_at(fallback)
        self.running = self._open_or_drop(fallback) if fallback else None
        self._tell("slot_damaged", f"slot {name} is damaged; slot {fallback} runs instead", self.state.assignment)

    # -- small parts -------------------------------------------------------------------------------------------------

    def _move(self, event: Event, now: datetime, reason: str, **changes: Any) -> None:
        """Store the phase after the event together with the changes, then tell."""
        phase = move(self.phase, event)
        changes.setdefault("moves", self.state.moves + 1)
        before = self.phase
        self._save(phase=phase, changed_at=now, **changes)
        data = {"from": before.value, "to": phase.value, "event": event.value}
        self._tell("phase", f"{before.value} → {phase.value}: {reason or event.value}", self.state.working, **data)

    def _save(self, **changes: Any) -> None:
        state = self.state.model_copy(update=changes)
        name = state.phase.value
        self._checkpoint(f"before_{name}")
        replace_file(self._folder / STATE_FILE, encode(state))
        self.state = state
        self._checkpoint(f"after_{name}")

    def _tell(self, what: str, text: str, assignment: Assignment | None, **data: Any) -> None:
        if assignment is not None:
            names = ("number", "release", "bundle", "rollout", "kind")
            data |= {name: getattr(assignment, name) for name in names if getattr(assignment, name) is not None}
        if self.state.known_bad and assignment is not None and assignment.bundle in self.state.known_bad:
            data["failed"] = self.state.known_bad[assignment.bundle]
        self._happened.append(Happening(what=what, text=text[:500], data=data))

    def _working(self) -> Assignment:
        assert self.state.working is not None, f"nothing is worked on while {self.phase.value}"
        return self.state.working

    def _forget_work(self) -> None:
        self._seen.clear()

    def _spare(self) -> str:
        return other_slot(self.running.slot) if self.running else "a"

    def _trial_slot(self) -> str:
        working = self._working()
        for name, slot in self.state.slots.items():
            if name != self.state.back_to and (slot.release, slot.bundle) == _target(working):
                return name
        raise AssertionError(f"no slot holds {working.release}, which is on trial")

    def _lies_in(self, name: str, bundle: str) -> bool:
        slot = self.state.slots.get(name)
        return slot is not None and slot.bundle == bundle and self._slots.holds(name, bundle)

    def _open_or_drop(self, name: str) -> Running | None:
        if name not in self.state.slots:
            return None
        try:
            return self._slots.open(name, self.state.slots[name])
        except (NotTrusted, NotValid) as error:
            self._tell("slot_damaged", f"slot {name}: {error}", None)
            self._save(slots={key: slot for key, slot in self.state.slots.items() if key != name})
            return None

    def _refresh_shadow(self) -> None:
        """The other slot's bundle decides on the same frames while baking, or before it is switched to."""
        assignment, running = self.state.assignment, self.running
        name = None
        if self.phase is Phase.SHADOW:
            name = self._spare()
        elif self.phase is Phase.COMMITTED and assignment is not None and assignment.bake and running is not None:
            other = self.state.slots.get(other_slot(running.slot))
            if _target(assignment) == (running.release, running.bundle) and other is not None and other.committed:
                name = other_slot(running.slot)
        if name is None:
            self.shadow = None
        elif self.shadow is None or self.shadow.slot != name:
            self.shadow = self._open_or_drop(name)

    def _check_install(self, assignment: Assignment, release: Release, manifest_digest: str) -> None:
        if release.use_case != self._use_case:
            raise NotTrusted(f"release {release.id} is for {release.use_case}, this device for {self._use_case}")
        slot = self.state.slots.get(self.running.slot) if self.running else None
        may_install(
            assignment,
            release,
            manifest_digest=manifest_digest,
            known_bad=self.state.known_bad,
            committed_before=self.state.committed_before,
            running=open_release(slot.envelope, self._root) if slot else None,
        )

    def _check_fit(self, manifest: Manifest) -> None:
        reasons = misfits(manifest.needs, self._facts, latency_ms_max=self.limits.latency_ms_max)
        if reasons:
            raise NotValid("; ".join(reasons), code="misfit")

    def _envelope(self, link: Link, working: Assignment) -> Envelope:
        name = working.release or ""
        if name not in self._seen:
            self._seen[name] = link.get_release(name)
        return decode(Envelope, self._seen[name])

    def _manifest(self, link: Link, working: Assignment) -> bytes:
        name = working.bundle or ""
        if name not in self._seen:
            self._seen[name] = link.get_manifest(name)
        return self._seen[name]


def _first_file(folders: Iterable[Path], name: str) -> Path:
    """The file of this name in the first folder that has it, which was checked before."""
    return next(folder / name for folder in folders if (folder / name).is_file())


def _target(assignment: Assignment) -> tuple[str | None, str | None]:
    return assignment.release, assignment.bundle
