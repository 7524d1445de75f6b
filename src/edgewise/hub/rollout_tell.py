"""Who is told what: members of open stages, newcomers, devices that go back, and all the others after the finish."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from edgewise.hub.rollout_judge import held, why_failed
from edgewise.hub.rollout_limits import Allowance, metered_bytes
from edgewise.hub.rollout_look import Look, back_bundle, bundle_for, can_return, has_it
from edgewise.hub.rollout_states import Assign, Device, Event, Move, Rollout, Step, Want
from edgewise.hub.rollout_waves import waves_here
from edgewise.hub.versions import version_of

STEPS_MAX = 10_000  # assignments in one answer: the hub writes them in one transaction, and asks again


def keep(look: Look) -> Iterator[Step]:
    """What exposes nobody: failed devices stay where they went back to, newcomers get the proven release first."""
    for device in look.mine:
        if device.failed:
            if device.id in look.wave_of or device.id in look.shadowed:
                # One failure may be within the bound: the device went back by itself, and the hub wants what is there.
                yield from send_back(look.rollout, device, "its trial failed here")
        elif device.want is None and device.running is None and device.id not in look.wave_of:
            yield from _first(look.rollout, device)


def _first(rollout: Rollout, device: Device) -> Iterator[Step]:
    """A device that runs nothing yet starts with the proven release, so that its wave can be taken back there too."""
    previous = rollout.previous
    if previous is None or previous.withdrawn or device.unmet or device.left_alone or not device.previous_fits:
        return
    want = Want(
        kind="run", release=previous.release, bundle=back_bundle(rollout, device), rollout=rollout.id, bake=False
    )
    yield Assign(device.id, want, f"{previous.release} comes first, {rollout.target.release} with its wave")


def tell(look: Look, *, shadow: bool) -> tuple[list[Step], list[str]]:
    """Assignments for those who are in an open stage and may have the release now, and why others may not yet.

    Args:
        shadow: of the shadow stage, beside what runs there; otherwise of the waves.
    """
    rollout, stage = look.rollout, look.shadowed if shadow else look.wave_of
    identity, release = rollout.id, rollout.target.release
    untold = {
        device.id: device
        for device in look.mine
        if device.id in stage
        and (
            (want := device.want) is None
            or want.release != release
            or want.rollout != identity
            or (want.shadow and not shadow)
        )
    }
    if not untold:
        return [], []
    # Asked one by one, in order: the limits end the search long before a large wave does.
    in_order = (untold[name] for name in (sorted(untold) if shadow else stage) if name in untold)
    able = (
        device
        for device in in_order
        if not (device.failed or device.unmet or device.misfits or device.conflict or device.pinned)
        and can_return(rollout, device)  # what it could go back to may have failed here meanwhile
    )
    allowance, wants = Allowance(look, shadow=shadow), _Wants(rollout, bake=not shadow, shadow=shadow)
    total = 0 if shadow else len(waves_here(rollout.policy, look.mine))
    reasons = ["shadow stage"] if shadow else [f"wave {index + 1} of {total}" for index in range(len(rollout.waves))]
    steps: list[Step] = []
    for device in allowance.admitted(able, STEPS_MAX):
        reason = reasons[look.wave_of.get(device.id, 0)]
        steps.append(Assign(device.id, wants.of(device), reason, tells=True, metered_bytes=metered_bytes(device)))
    return steps, allowance.reasons()


class _Wants:
    """One record for all devices that are wanted the same of."""

    def __init__(self, rollout: Rollout, *, bake: bool, shadow: bool = False) -> None:
        target = rollout.target
        self._rollout = rollout
        self._base = Want(
            kind="run", release=target.release, bundle=target.bundle, rollout=rollout.id, bake=bake, shadow=shadow
        )
        self._made = {target.bundle: self._base}

    def of(self, device: Device) -> Want:
        bundle = bundle_for(self._rollout, device)
        if bundle not in self._made:
            self._made[bundle] = replace(self._base, bundle=bundle)
        return self._made[bundle]


def take_back(look: Look) -> list[Step]:
    """Everybody who has the release goes back, without limits and windows; then the rollout is over."""
    rollout = look.rollout
    # A person's pin stands, and in a conflict the hub does not know what it would overwrite.
    there = [device for device in look.mine if has_it(rollout, device) and not device.pinned]
    back = (step for device in there if not device.conflict for step in send_back(rollout, device, rollout.reason))
    steps: list[Step] = list(islice(back, STEPS_MAX))
    if steps:
        return steps
    # A device that is away goes back at its next contact: its assignment is written and waits for it.
    if any(device.conflict or _still_runs(rollout, device) for device in there):
        return []
    where = rollout.previous.release if rollout.previous else "nothing"
    # The reason why it was taken back stays the first thing that is said of it.
    return [Move(Event.RETURNED, f"{rollout.reason}; every device in contact is back on {where}")]


def _still_runs(rollout: Rollout, device: Device) -> bool:
    return device.running == rollout.target.release and not device.away and not stranded(rollout, device)


def stranded(rollout: Rollout, device: Device) -> bool:
    """True if the device runs this release and has never run the earlier one: only a newly signed release can help it.

    It happens to devices that joined after the rollout finished; a person is told.
    """
    return device.running == rollout.target.release and not can_return(rollout, device)


def send_back(rollout: Rollout, device: Device, reason: str) -> Iterator[Assign]:
    """The assignment that takes a device off this rollout's release, where it is not there already."""
    if rollout.previous is None or stranded(rollout, device) or device.left_alone:
        return
    only_beside = device.want is not None and device.want.shadow and device.running == rollout.previous.release
    want = Want(
        # A device that never ran the earlier release can only get it as a first one, not as a revert (invariant 5);
        # one that had the candidate beside it goes on with what it runs.
        kind="revert" if can_return(rollout, device) and not only_beside else "run",
        release=rollout.previous.release,
        bundle=back_bundle(rollout, device),
        rollout=rollout.id,
        bake=False,
    )
    told = device.want
    same = told is not None and (told.release, told.rollout, told.shadow) == (want.release, want.rollout, want.shadow)
    # Told to run the earlier one as its first, and since seen with the newer one: only a revert gets it back.
    weaker = told is not None and told.kind != want.kind and device.running == rollout.target.release
    if not same or weaker:
        yield Assign(device.id, want, reason)


def settle(look: Look) -> list[Step]:
    """After the last wave the release is what every device should run, late joiners and the left behind included.

    Who has it only leaves the comparison with the earlier bundle. Anybody else is told under the limits of the waves,
    and not while failures or evidence hold the release.
    """
    rollout, steps = look.rollout, list[Step]()
    target, reason = rollout.target, f"{rollout.target.release} is what this use case runs"
    wants = _Wants(rollout, bake=False)
    new: list[Device] = []
    for device in look.mine:
        want = device.want
        if want is not None and want.release == target.release and not (want.bake or want.shadow):
            continue
        if device.failed or device.misfits or device.unmet or device.left_alone or _left_behind(rollout, device):
            continue
        if device.running != target.release and (want is None or want.release != target.release or want.shadow):
            new.append(device)
            continue
        if target.withdrawn and device.running != target.release:
            continue  # it was told before, and will refuse it
        steps.append(Assign(device.id, _settled(rollout, device, wants.of(device)), reason))
        if len(steps) == STEPS_MAX:
            return steps
    if not new or target.withdrawn or held(look) is not None or why_failed(look) is not None:
        return steps
    allowance = Allowance(look)
    for device in allowance.admitted(new, STEPS_MAX - len(steps)):
        want = _settled(rollout, device, wants.of(device))
        steps.append(Assign(device.id, want, reason, tells=True, metered_bytes=metered_bytes(device)))
    return steps


def _left_behind(rollout: Rollout, device: Device) -> bool:
    """True if it never ran this release and runs a newer one: a device refuses to go back to what it never ran."""
    if device.running in (None, rollout.target.release):
        return False
    return version_of(device.running) > rollout.target.version and bundle_for(rollout, device) not in device.known


def _settled(rollout: Rollout, device: Device, want: Want) -> Want:
    """As a revert where the device was told, or runs, something newer: it was taken off a rollout which is no more."""
    told = version_of(device.want.release if device.want else None)
    newer = max(told, version_of(device.running)) > rollout.target.version
    return replace(want, kind="revert") if newer and want.bundle in device.known else want
