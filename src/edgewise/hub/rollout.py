"""How a release spreads, and how it is taken back: the pure `next_steps`.

Nothing here reads a clock or a store. The controller gathers the whole situation, asks for the steps, carries them out
and asks again; asking twice is harmless (invariant 12).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from math import ceil

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
from edgewise.wire import RolloutPolicy, Wave

PATIENCE_S = 3600.0  # our choice: an hour is longer than any planned restart of a whole fleet
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
    "has_it",
    "move",
    "next_steps",
    "stranded",
    "version_of",
    "walk",
    "wave_waits_for",
    "waves_of",
]


def next_steps(rollout: Rollout, fleet: Sequence[Device], evidence: Evidence, now: datetime) -> list[Step]:
    """The steps that bring the fleet closer to what the rollout wants; none where all is as it should be.

    A step that moves the rollout comes alone: the controller stores the new state and asks again.

    Args:
        rollout: what is stored about the rollout.
        fleet: the use case's devices, without those that a newer rollout has taken over.
        evidence: counts of labelled pairs of this rollout.
        now: the hub's time.
    """
    match rollout.state:
        case State.RUNNING | State.PAUSED:
            return _stop(rollout, fleet, evidence) or (
                _advance(rollout, fleet, now) if rollout.state is State.RUNNING else []
            )
        case State.REVERTING:
            return _take_back(rollout, fleet)
        case State.FINISHED:
            return _stop(rollout, fleet, evidence) or _settle(rollout, fleet)
        case _:
            return []


def walk(
    rollouts: Sequence[Rollout],
    look: Callable[[Rollout], tuple[Sequence[Device], Evidence]],
    act: Callable[[Rollout, Rollout, list[Step]], None],
    now: datetime,
) -> list[Rollout]:
    """Ask every rollout of one use case for its steps and carry them out, until none has any; the rollouts afterwards.

    The newest comes first and takes its devices; older ones only ever see the rest. So a device has one master.

    Args:
        rollouts: newest first.
        look: the fleet as this rollout sees it, and its evidence, with the steps carried out so far.
        act: stores the rollout after the steps, and the assignments among them; it gets the rollout before, too.
        now: the hub's time.
    """
    taken: set[str] = set()
    result: list[Rollout] = []
    for current in rollouts:
        newer = next((other.id for other in reversed(result) if other.state in OPEN | {State.FINISHED}), None)
        rollout = replace(current, newer=newer)
        for _ in range(3 * len(waves_of(rollout.policy)) + 4):  # each wave opens, is assigned and passes once
            fleet, evidence = look(rollout)
            steps = next_steps(rollout, [device for device in fleet if device.id not in taken], evidence, now)
            if not steps:
                break
            before, rollout = rollout, after(rollout, steps, now)
            act(before, rollout, steps)
        if rollout.state in OPEN:
            taken |= rollout.members
        elif rollout.state is State.FINISHED:
            taken |= {device.id for device in look(rollout)[0]}
        result.append(rollout)
    return result


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
            case Pass():
                waves = list(rollout.waves)
                waves[step.wave] = replace(waves[step.wave], passed_at=now)
                rollout = replace(rollout, waves=tuple(waves))
            case Join():
                waves = list(rollout.waves)
                joined = (*waves[step.wave].joined, *step.devices)
                waves[step.wave] = replace(waves[step.wave], joined=joined)
                rollout = replace(rollout, waves=tuple(waves))
            case Assign():
                rollout = replace(rollout, metered_bytes=rollout.metered_bytes + step.metered_bytes)
    return rollout


def waves_of(policy: RolloutPolicy) -> tuple[Wave, ...]:
    """The waves of a policy, with a last one over the whole fleet where the policy names none.

    A finished rollout is what every device runs; without this wave the rest of the fleet would get it unwatched.

    >>> [wave.percent for wave in waves_of(RolloutPolicy(waves=(Wave(devices=1),)))]
    [None, 100.0]
    """
    if policy.waves and policy.waves[-1].percent == 100:
        return policy.waves
    return (*policy.waves, Wave(devices=None, percent=100.0))


def has_it(rollout: Rollout, device: Device) -> bool:
    """True if the device runs this rollout's release or was told to."""
    told = (
        device.want is not None and device.want.rollout == rollout.id and device.want.release == rollout.target.release
    )
    return told or device.running == rollout.target.release


def _stop(rollout: Rollout, fleet: Sequence[Device], evidence: Evidence) -> list[Step]:
    if rollout.newer is not None:
        if rollout.state is State.FINISHED:
            return []  # it is no longer what the fleet should run, and the newer one has evidence of its own
        return [Move(Event.SUPERSEDE, f"rollout {rollout.newer} is newer")]
    reason = _why_revert(rollout, fleet, evidence)
    if reason is None:
        return []
    if rollout.previous is not None and not rollout.previous.withdrawn:
        return [Move(Event.REVERT, reason)]
    if rollout.state is State.FINISHED:
        return []  # nothing to return to: a person has to decide, and the console says so
    gone = f"{rollout.previous.release} was withdrawn, so there is" if rollout.previous else "there is"
    return [Move(Event.ABORT, f"{reason}; {gone} no earlier release to return to")]


def _why_revert(rollout: Rollout, fleet: Sequence[Device], evidence: Evidence) -> str | None:
    bound = 1 / rollout.policy.revert_alpha
    if evidence.e_value >= bound:
        return (
            f"worse than {rollout.previous.release if rollout.previous else 'before'}: e-value {evidence.e_value:.3g} "
            f"reached {bound:.3g} ({evidence.wins} wins, {evidence.losses} losses in {evidence.labels} labelled pairs)"
        )
    if rollout.state is not State.FINISHED and rollout.target.withdrawn:
        # Once finished it is what every device runs; those run on until something newer comes (invariant 7).
        return f"{rollout.target.release} was withdrawn by its signers"
    failed = sorted(device.id for device in fleet if device.failed and device.id in rollout.members)
    if rollout.state is not State.FINISHED and len(failed) > rollout.policy.failures_max:
        return f"{len(failed)} trials failed, at most {rollout.policy.failures_max} allowed: {', '.join(failed[:5])}"
    return None


def _advance(rollout: Rollout, fleet: Sequence[Device], now: datetime) -> list[Step]:
    devices = {device.id: device for device in fleet}
    last = len(rollout.waves) - 1
    if last >= 0 and rollout.waves[last].passed_at is None:
        if wave_waits_for(rollout, last, devices, now):
            return list(_member_steps(rollout, devices))
        return [Pass(last)]
    if len(rollout.waves) == len(waves_of(rollout.policy)):
        return [Move(Event.FINISH, "all waves passed")]
    chosen = _choose(rollout, fleet, now)
    if chosen is None:
        return list(_member_steps(rollout, devices))
    return [Open(len(rollout.waves), chosen)]


def wave_waits_for(rollout: Rollout, index: int, devices: Mapping[str, Device], now: datetime) -> list[str]:
    """What an open wave still waits for, as sentences; empty when it may pass.

    Devices that say "not now" and have not committed do not count. One device of the wave has to commit all the same;
    in the last wave it may be one of an earlier wave, so that a dead device cannot hold the whole fleet.
    """
    policy, wave = rollout.policy, rollout.waves[index]
    there = [devices[name] for name in wave.devices if name in devices]
    if not there:
        return []  # nobody was left to choose, or all of them have left the fleet or gone to a newer rollout
    counted = [device for device in there if device.committed_at or not device.waits]
    good = _committed(rollout, counted)
    needed = ceil(policy.success_share * len(counted))
    final = index == len(waves_of(policy)) - 1
    proven = good or (final and _committed(rollout, devices.values()))
    if len(good) < needed or not proven:
        waiting = len(there) - len(counted)
        return [
            f"{len(good)} of {max(1, needed)} devices have committed" + (f", {waiting} say not now" if waiting else "")
        ]
    reasons = []
    ends = max(good, default=wave.opened_at) + timedelta(seconds=policy.bake_s)
    if now < ends:
        reasons.append(f"bake ends at {ends:%Y-%m-%d %H:%M:%S}Z")
    paired = sum(device.paired for device in there)
    # A first bundle has no predecessor to be compared with, so no pairs can ever come from such a device.
    can_pair = any(device.known - {rollout.target.bundle} for device in counted)
    if rollout.previous is not None and can_pair and paired < policy.bake_decisions_min:
        reasons.append(f"{paired} of {policy.bake_decisions_min} paired decisions")
    return reasons


def _committed(rollout: Rollout, devices: Iterable[Device]) -> list[datetime]:
    """When each of the devices that run the release now, committed, was first seen so."""
    target = rollout.target.release
    return [
        device.committed_at
        for device in devices
        if device.committed_at and device.running == target and not device.failed
    ]


def _choose(rollout: Rollout, fleet: Sequence[Device], now: datetime) -> tuple[str, ...] | None:
    """The devices of the next wave; None while nobody can take part, so that a wave is never spent on nobody."""
    fit = [device for device in fleet if not device.misfits]
    waves, index = waves_of(rollout.policy), len(rollout.waves)
    wave, final = waves[index], index == len(waves) - 1
    inside = sum(device.id in rollout.members for device in fit)
    free = [
        device
        for device in fit
        if device.id not in rollout.members and _can_return(rollout, device) and (final or not device.waits)
    ]
    if wave.named:
        free = [device for device in free if device.id in wave.named]
        room = sum(device.id in wave.named and device.id not in rollout.members for device in fit)
    else:
        size = wave.devices if wave.devices is not None else ceil((wave.percent or 0) / 100 * len(fit))
        room = max(0, size - inside)
    if not free and not inside:
        return None
    if room and not free and not final and now < _patience_ends(rollout, now):
        return None
    return tuple(device.id for device in _spread(rollout, free))[:room]


def _patience_ends(rollout: Rollout, now: datetime) -> datetime:
    """Until when a wave waits for somebody to be ready; then it is skipped, and the last one takes the rest."""
    passed_at = rollout.waves[-1].passed_at or now
    return passed_at + timedelta(seconds=max(PATIENCE_S, rollout.policy.bake_s))


def _can_return(rollout: Rollout, device: Device) -> bool:
    """A device takes part only if it could be taken back: a revert goes to what once committed there (invariant 5)."""
    return rollout.previous is None or rollout.previous.bundle in device.known


def _spread(rollout: Rollout, devices: Collection[Device]) -> Iterator[Device]:
    """An order that is fixed for the rollout, takes sites in turn, and starts with devices on unproven releases.

    A device left behind by a superseded rollout runs something that nobody watches any more: it comes first.
    """

    def rank(device: Device) -> tuple[bool, str]:
        return device.waits, sha256(f"{rollout.id} {device.id}".encode()).hexdigest()

    proven = {None, rollout.previous.release if rollout.previous else None}
    groups: dict[tuple[bool, str], list[Device]] = {}
    for device in sorted(devices, key=rank):
        groups.setdefault((device.running in proven, device.site), []).append(device)
    sites = sorted(groups, key=lambda key: (key[0], rank(groups[key][0])))
    for settled in (False, True):
        queues = [groups[key] for key in sites if key[0] is settled]
        for turn in range(max(map(len, queues), default=0)):
            yield from (queue[turn] for queue in queues if turn < len(queue))


def _member_steps(rollout: Rollout, devices: Mapping[str, Device]) -> Iterator[Step]:
    want = _run(rollout, bake=True)
    for name in sorted(devices):
        device = devices[name]
        if name not in rollout.members:
            yield from _prepare(rollout, device)
        elif device.failed:
            # One failure may be within the bound: the device went back by itself, and the hub wants what is there.
            yield from _return(rollout, device, "its trial failed here")
        elif device.want != want and not device.misfits and not device.unmet:
            yield Assign(name, want, f"wave {_wave_of(rollout, name) + 1} of {len(waves_of(rollout.policy))}")


def _prepare(rollout: Rollout, device: Device) -> Iterator[Step]:
    """A device that runs nothing yet starts with the proven release, so that its wave can be taken back there too."""
    if rollout.previous is not None and device.want is None and device.running is None and not device.unmet:
        want = Want(
            kind="run",
            release=rollout.previous.release,
            bundle=rollout.previous.bundle,
            rollout=rollout.id,
            bake=False,
        )
        yield Assign(device.id, want, f"{rollout.previous.release} comes first, {rollout.target.release} with its wave")


def _take_back(rollout: Rollout, fleet: Sequence[Device]) -> list[Step]:
    there = [device for device in fleet if has_it(rollout, device)]
    steps: list[Step] = [step for device in there for step in _return(rollout, device, rollout.reason)]
    if steps:
        return steps
    # A device that is away goes back at its next contact: its assignment is written and waits for it.
    running = [device for device in there if device.running == rollout.target.release]
    if any(not device.away and not stranded(rollout, device) for device in running):
        return []
    back = rollout.previous.release if rollout.previous else "nothing"
    # The reason why it was taken back stays the first thing that is said of it.
    return [Move(Event.RETURNED, f"{rollout.reason}; every device in contact is back on {back}")]


def stranded(rollout: Rollout, device: Device) -> bool:
    """True if the device runs this release and has never run the earlier one: only a newly signed release can help it.

    It happens to devices that joined after the rollout finished; a person is told.
    """
    return device.running == rollout.target.release and not _can_return(rollout, device)


def _return(rollout: Rollout, device: Device, reason: str) -> Iterator[Assign]:
    if rollout.previous is None or stranded(rollout, device):
        return
    want = Want(
        # A device that never ran the earlier release can only get it as a first one, not as a revert (invariant 5).
        kind="revert" if _can_return(rollout, device) else "run",
        release=rollout.previous.release,
        bundle=rollout.previous.bundle,
        rollout=rollout.id,
        bake=False,
    )
    if device.want != want:
        yield Assign(device.id, want, reason)


def _settle(rollout: Rollout, fleet: Sequence[Device]) -> list[Step]:
    """After the last wave the release is what every device should run, late joiners and the left behind included."""
    steps: list[Step] = []
    for device in sorted(fleet, key=lambda item: item.id):
        told = device.want
        if told is not None and told.release == rollout.target.release and not told.bake:
            continue
        if device.failed or device.misfits or device.unmet:
            continue
        proven = rollout.target.bundle in device.known
        if version_of(device.running) > rollout.target.version and not proven:
            continue  # it never ran this release and has left it behind: a device refuses to go back to it
        # Told or running something newer means that it was taken off a rollout which is no more.
        newer = version_of(told.release if told else None) > rollout.target.version
        back = proven and (newer or version_of(device.running) > rollout.target.version)
        want = replace(_run(rollout, bake=False), kind="revert" if back else "run")
        steps.append(Assign(device.id, want, f"{rollout.target.release} is what this use case runs"))
    return steps


def version_of(release: str | None) -> int:
    """The version in a release's id, 0 without one.

    >>> version_of("surface-inspection@12"), version_of(None)
    (12, 0)
    """
    return int(release.rpartition("@")[2]) if release else 0


def _run(rollout: Rollout, *, bake: bool) -> Want:
    target = rollout.target
    return Want(kind="run", release=target.release, bundle=target.bundle, rollout=rollout.id, bake=bake)


def _wave_of(rollout: Rollout, device: str) -> int:
    return next(index for index, wave in enumerate(rollout.waves) if device in wave.devices)
