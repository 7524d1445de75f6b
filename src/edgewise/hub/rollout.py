"""How a release spreads, and how it is taken back: the pure `next_steps`.

Nothing here reads a clock or a store. The controller gathers the whole situation, asks for the steps, carries them out
and asks again; asking twice is harmless (invariant 12). The rules are in the modules beside this one: which devices a
stage takes (`rollout_waves`), what the limits allow (`rollout_limits`), what stops or holds it (`rollout_judge`), and
who is told what (`rollout_tell`). docs/rollout.md lists them in the order in which they are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace
from datetime import datetime
from itertools import chain, islice

from edgewise.hub.rollout_judge import (
    failures,
    held,
    in_shadow,
    pause,
    stop,
    waits_for,
    wave_waits_for,
    why_failed,
    why_inconclusive,
    why_undecided,
)
from edgewise.hub.rollout_look import Look, has_it, is_told, shadow_set
from edgewise.hub.rollout_problems import problems, why_nobody
from edgewise.hub.rollout_states import (
    MOVES,
    OPEN,
    Assign,
    Device,
    Event,
    Evidence,
    Finding,
    Join,
    Move,
    Open,
    OpenShadow,
    OpenWave,
    Pass,
    PassShadow,
    Rollout,
    State,
    Step,
    Target,
    Want,
    move,
)
from edgewise.hub.rollout_tell import STEPS_MAX, keep, settle, stranded, take_back, tell
from edgewise.hub.rollout_waves import choose, choose_late, choose_shadow, waves_here, waves_of

__all__ = [
    "MOVES",
    "OPEN",
    "Assign",
    "Device",
    "Event",
    "Evidence",
    "Finding",
    "Join",
    "Move",
    "Open",
    "OpenShadow",
    "OpenWave",
    "Pass",
    "PassShadow",
    "Rollout",
    "State",
    "Step",
    "Target",
    "Want",
    "after",
    "answer",
    "has_it",
    "move",
    "next_steps",
    "problems",
    "stranded",
    "walk",
    "wave_waits_for",
    "waves_of",
]
NOBODY: frozenset[str] = frozenset()


def next_steps(
    rollout: Rollout, fleet: Sequence[Device], evidence: Evidence, now: datetime, taken: Set[str] = NOBODY
) -> list[Step]:
    """The steps that bring the fleet closer to what the rollout wants; none where all is as it should be.

    A step that moves the rollout comes alone: the controller stores the new state and asks again. At most `STEPS_MAX`
    assignments come at once; the others follow at the controller's next look.

    Args:
        rollout: what is stored about the rollout.
        fleet: all devices of the use case.
        evidence: counts of labelled pairs of this rollout, and what `measure` says of them.
        now: the hub's time.
        taken: devices that a newer rollout has taken over. They do not exist for this one; only groups of a disruption
            budget still count them.
    """
    look = Look(rollout, fleet, evidence, now, taken)
    match rollout.state:
        case State.WAITING | State.PAUSED:
            return stop(look)
        case State.RUNNING:
            return stop(look) or _advance(look)
        case State.REVERTING:
            return take_back(look)
        case State.FINISHED:
            return stop(look) or settle(look)
        case _:
            return []


def _advance(look: Look) -> list[Step]:
    rollout, policy = look.rollout, look.rollout.policy
    if policy.starts_at is not None and look.now < policy.starts_at:
        return []
    if policy.failures_then == "pause" and (reason := why_failed(look)) is not None:
        return [pause(f"{reason}; resume to go on without those, or revert")]
    if rollout.previous is not None and rollout.previous.withdrawn:
        gone = f"{rollout.previous.release}, the release to return to, was withdrawn by its signers"
        return [pause(f"{gone}; roll {rollout.target.release} out anew with another return_to, or abort")]
    return _shadow(look) if in_shadow(rollout) else _wave(look)


def _shadow(look: Look) -> list[Step]:
    """Before the first wave: the candidate decides beside the champion until the verdict is in."""
    stage, hold = look.rollout.shadow, held(look)
    chosen = () if hold else choose_shadow(look)
    if stage is None:
        return [OpenShadow(chosen)] if chosen else _wait(look, hold)
    finding = look.evidence.shadow
    if finding is not None and finding.word == "promote" and not hold:
        return [PassShadow(finding.text)]
    if (reason := why_undecided(look, stage)) is not None:
        return [pause(reason)]
    if chosen:
        return [Join(None, chosen)]
    return _both(keep(look), [] if hold else tell(look, shadow=True)[0])


def _wave(look: Look) -> list[Step]:
    """The open wave: its devices are told as the limits allow, it passes, or a person is asked; then the next."""
    rollout, hold = look.rollout, held(look)
    last = len(rollout.waves) - 1
    if last < 0 or rollout.waves[last].passed_at is not None:
        if hold:
            return _wait(look, hold)
        if len(rollout.waves) >= len(waves_here(rollout.policy, look.mine)):
            return [Move(Event.FINISH, "all waves passed")]
        chosen = choose(look)
        return _wait(look, None) if chosen is None else [Open(len(rollout.waves), chosen)]
    missing, bake = waits_for(look, last)
    if not missing and not bake:
        return [Pass(last)]
    late = () if hold else choose_late(look, last)
    if late:
        return [Join(last, late)]
    steps, refused = ([], []) if hold else tell(look, shadow=False)
    if (reason := why_inconclusive(look, last, [*missing, *refused] if missing else [])) is not None:
        return [pause(reason)]
    return _both(keep(look), steps)


def _wait(look: Look, hold: str | None) -> list[Step]:
    """No stage is open and none can open: who is in one already is cared for, and in the end a person is asked."""
    if (reason := why_nobody(look, hold)) is not None:
        return [pause(reason)]
    return _both(keep(look), [] if hold else tell(look, shadow=False)[0])


def _both(first: Iterable[Step], then: Iterable[Step]) -> list[Step]:
    return list(islice(chain(first, then), STEPS_MAX))


def walk(
    rollouts: Sequence[Rollout],
    look: Callable[[Rollout], tuple[Sequence[Device], Evidence]],
    act: Callable[[Rollout, Rollout, list[Step]], None],
    now: datetime,
) -> list[Rollout]:
    """Ask every rollout of one use case for its steps and carry them out, until none has any; the rollouts afterwards.

    The newest comes first and takes its devices; older ones only ever see the rest. So a device has one master.

    Args:
        rollouts: newest first: those that are not over, those that finished back to the newest that selected no
            devices, and those that were taken back and are newer than any of these.
        look: the fleet as this rollout sees it, and its evidence, with the steps carried out so far.
        act: stores the rollout after the steps, and the assignments among them; it gets the rollout before, too.
        now: the hub's time.
    """
    masters = _Masters()
    result: list[Rollout] = []
    for current in rollouts:
        fleet, evidence = look(current)
        rollout = replace(current, newer=_newer(current, fleet, result, look))
        for _ in range(4 * len(waves_of(rollout.policy, len(fleet))) + 8):  # each opens, is joined, is told, passes
            steps = next_steps(rollout, fleet, evidence, now, masters.taken_from(rollout, fleet))
            if not steps:
                break
            before, rollout = rollout, after(rollout, steps, now)
            act(before, rollout, steps)
            fleet, evidence = look(rollout)
            if len(steps) >= STEPS_MAX:
                break
        masters.add(rollout, fleet)
        result.append(rollout)
    return result


class _Masters:
    """Which devices the newer rollouts of a walk have taken over."""

    def __init__(self) -> None:
        self._live: set[str] = set()
        self._governed: set[str] = set()
        self._sent_back: list[tuple[str, set[str]]] = []  # to which release, and which devices

    def add(self, rollout: Rollout, fleet: Sequence[Device]) -> None:
        devices = governed(rollout, fleet)
        if rollout.state is State.REVERTED and rollout.previous is not None:
            self._sent_back.append((rollout.previous.release, devices))
        else:
            self._governed |= devices
        if rollout.state in OPEN or rollout.state is State.FINISHED:
            self._live.add(rollout.id)

    def taken_from(self, rollout: Rollout, fleet: Sequence[Device]) -> set[str]:
        """The devices that do not exist for this older rollout.

        One that is taken back sees each device to which no newer one has told anything yet, be it of a newer one's
        wave: that one may have to wait for a condition, and what harms must not wait with it.
        """
        elsewhere = (devices for release, devices in self._sent_back if release != rollout.target.release)
        if rollout.state is not State.REVERTING:
            return self._governed.union(*elsewhere)
        told = {device.id for device in fleet if device.want is not None and device.want.rollout in self._live}
        return told.union(*elsewhere)


def governed(rollout: Rollout, fleet: Sequence[Device]) -> set[str]:
    """The devices of which this rollout is the master, as far as no newer one is.

    An open rollout governs those in its stages and those that it told anything; while it is taken back, whoever has
    its release. One that finished governs all that it selects. One that was taken back keeps those that it sent back,
    so that no older one moves them on. One that waits for approval, was superseded or aborted governs nobody.
    """
    match rollout.state:
        case State.FINISHED:
            return {device.id for device in fleet if not device.outside}
        case State.RUNNING | State.PAUSED | State.REVERTING:
            told = {device.id for device in fleet if device.want is not None and device.want.rollout == rollout.id}
            if rollout.state is State.REVERTING:
                told |= {device.id for device in fleet if has_it(rollout, device)}
            return told | rollout.members | shadow_set(rollout)
        case State.REVERTED:
            return {
                device.id
                for device in fleet
                if device.want is not None and device.want.rollout == rollout.id and not is_told(rollout, device)
            }
        case _:
            return set()


def _newer(
    current: Rollout,
    fleet: Sequence[Device],
    newer: Sequence[Rollout],
    look: Callable[[Rollout], tuple[Sequence[Device], Evidence]],
) -> str | None:
    """The newest of the newer rollouts that may reach a device which this one selects, too."""
    selected: set[str] | None = None
    for other in newer:
        if other.state not in OPEN and not (other.state is State.FINISHED and _ends(other, current)):
            continue
        if not (other.policy.select and current.policy.select):
            return other.id
        if selected is None:
            selected = {device.id for device in fleet if not device.outside}
        if any(device.id in selected for device in look(other)[0] if not device.outside):
            return other.id
    return None


def _ends(finished: Rollout, current: Rollout) -> bool:
    """A selective one that finished leaves an older finished one in charge of all others."""
    return current.state is not State.FINISHED or not finished.policy.select


def after(rollout: Rollout, steps: Iterable[Step], now: datetime) -> Rollout:
    """The rollout as it is stored before its steps are carried out.

    Raises:
        NotValid: a move that the table does not have.
    """
    for step in steps:
        match step:
            case Move():
                state = move(rollout.state, step.event)
                rollout = replace(rollout, state=state, reason=step.reason, asks=step.asks)
            case OpenShadow():
                rollout = replace(rollout, shadow=OpenWave(devices=step.devices, opened_at=now))
            case PassShadow():
                assert rollout.shadow is not None, "only an open shadow stage can pass"
                rollout = replace(rollout, shadow=replace(rollout.shadow, passed_at=now))
            case Open():
                wave = OpenWave(devices=step.devices, opened_at=now)
                rollout = replace(rollout, waves=(*rollout.waves, wave))
            case Join(wave=None):
                assert rollout.shadow is not None, "only an open shadow stage can be joined"
                rollout = replace(rollout, shadow=_joined(rollout.shadow, step.devices))
            case Join(wave=int(index)):
                rollout = _with_wave(rollout, index, _joined(rollout.waves[index], step.devices))
            case Pass():
                rollout = _with_wave(rollout, step.wave, replace(rollout.waves[step.wave], passed_at=now))
            case Assign():
                if step.metered_bytes:
                    rollout = replace(rollout, metered_bytes=rollout.metered_bytes + step.metered_bytes)
    return rollout


def answer(rollout: Rollout, event: Event, fleet: Sequence[Device], reason: str, now: datetime) -> Rollout:
    """The rollout after a person's word: approve, deny, pause, resume, revert or abort.

    To let it go on grants as much patience again, and accepts the devices that have failed so far. To approve one that
    is paused lets the open stage pass by hand, too.

    Args:
        fleet: as the rollout sees it now.
    Raises:
        NotValid: the move is not possible now.
    """
    state = move(rollout.state, event)
    before, rollout = rollout, replace(rollout, state=state, reason=reason, asks=False)
    if event not in (Event.APPROVE, Event.RESUME):
        return rollout
    failed = frozenset(device.id for device in failures(Look(before, fleet, Evidence(), now, NOBODY)))
    rollout = replace(
        rollout, started_at=rollout.started_at or now, resumed_at=now, tolerated=rollout.tolerated | failed
    )
    if event is Event.RESUME or before.state is State.WAITING:
        return rollout
    if in_shadow(rollout) and rollout.shadow is not None:
        return replace(rollout, shadow=replace(rollout.shadow, passed_at=now, by_hand=True))
    last = len(rollout.waves) - 1
    if last >= 0 and rollout.waves[last].passed_at is None:
        return _with_wave(rollout, last, replace(rollout.waves[last], passed_at=now, by_hand=True))
    return rollout


def _joined(wave: OpenWave, devices: tuple[str, ...]) -> OpenWave:
    return replace(wave, joined=(*wave.joined, *devices))


def _with_wave(rollout: Rollout, index: int, wave: OpenWave) -> Rollout:
    return replace(rollout, waves=(*rollout.waves[:index], wave, *rollout.waves[index + 1 :]))
