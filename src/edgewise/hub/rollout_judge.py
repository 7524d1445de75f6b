"""What stops a rollout, what holds it, and what an open stage still waits for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from math import ceil

from edgewise.hub.rollout_look import Look, bundle_for, has_committed, is_stuck, names
from edgewise.hub.rollout_states import Device, Event, Evidence, Move, OpenWave, Rollout, State, Step
from edgewise.hub.rollout_waves import is_last

REMEDY = "approve to let it count as passed, resume to wait as long again, or revert"


def stop(look: Look) -> list[Step]:
    """The move that ends the rollout, or takes it back, whatever else is to be done."""
    rollout = look.rollout
    if rollout.newer is not None and rollout.state is not State.FINISHED:
        return [Move(Event.SUPERSEDE, f"rollout {rollout.newer} is newer")]
    if rollout.state is State.WAITING:
        return [Move(Event.ABORT, _withdrawn(rollout))] if rollout.target.withdrawn else []
    if rollout.newer is not None:
        return []  # it is no longer what the fleet should run, and the newer one has evidence of its own
    reason = why_revert(look)
    if reason is None:
        return []
    if rollout.previous is not None and not rollout.previous.withdrawn:
        return [Move(Event.REVERT, reason)]
    if rollout.state is State.FINISHED:
        return []  # nothing to return to: a person has to decide, and the console says so
    gone = f"{rollout.previous.release} was withdrawn, so there is" if rollout.previous else "there is"
    return [Move(Event.ABORT, f"{reason}; {gone} no earlier release to return to")]


def why_revert(look: Look) -> str | None:
    """Why the release has to be taken back; None if nothing says so."""
    rollout, evidence = look.rollout, look.evidence
    bound, e_value = 1 / rollout.policy.revert_alpha, evidence.e_value
    before = rollout.previous.release if rollout.previous else "before"
    if e_value >= bound:
        return _told_where(
            look,
            f"worse than {before}: e-value {e_value:.3g} "
            f"reached {bound:.3g} ({evidence.wins} wins, {evidence.losses} losses in {evidence.labels} labelled pairs)",
        )
    if in_shadow(rollout) and evidence.shadow is not None and evidence.shadow.word == "reject":
        return _told_where(look, f"worse than {before}: {evidence.shadow.text}")
    if rollout.policy.backstop is not None and evidence.backstop is not None and evidence.backstop.word == "reject":
        return f"worse than {before} by what operators do: {evidence.backstop.text}"
    if rollout.state is State.FINISHED:
        # It is what every device runs; those run on until something newer comes (invariant 7), and a late joiner that
        # fails holds up other late joiners only.
        return None
    if rollout.target.withdrawn:
        return _withdrawn(rollout)
    return why_failed(look) if rollout.policy.failures_then == "revert" else None


def _told_where(look: Look, reason: str) -> str:
    if not in_shadow(look.rollout):
        return reason
    target = look.rollout.target.release
    return f"{reason}; rejected in shadow, {sum(device.running == target for device in look.mine)} devices exposed"


def _withdrawn(rollout: Rollout) -> str:
    return f"{rollout.target.release} was withdrawn by its signers"


def in_shadow(rollout: Rollout) -> bool:
    """True until the shadow stage has passed. A first release has nothing to be compared with and needs none."""
    if rollout.policy.shadow is None or rollout.previous is None or rollout.waves:
        return False
    return rollout.shadow is None or rollout.shadow.passed_at is None


def failures(look: Look) -> list[Device]:
    """Devices that count as failed: their trial failed, or they are stuck; those that a person accepted do not."""
    rollout, asked = look.rollout, look.rollout.policy.stuck_s is not None
    return [
        device
        for device in look.mine
        if (device.failed or (asked and device.committed_at is None and is_stuck(rollout, device, look.now)))
        and _counts(look, device)
        and device.id not in rollout.tolerated
    ]


def _counts(look: Look, device: Device) -> bool:
    """Whose failure counts: a device of the stages, and once the rollout has finished only one that came later."""
    return device.id not in look.wave_of if look.rollout.state is State.FINISHED else look.is_involved(device)


def why_failed(look: Look) -> str | None:
    """Why the failed devices are too many, by count or by share; None if they are not."""
    policy, failed = look.rollout.policy, failures(look)
    if not failed:
        return None
    stuck = sum(not device.failed for device in failed)
    what = "trials failed" if not stuck else f"devices failed, {stuck} of them told long ago and not committed"
    if len(failed) > policy.failures_max:
        return f"{len(failed)} {what}, at most {policy.failures_max} allowed: {names(failed)}"
    share = policy.failures_share_max
    if share is None:
        return None
    sample = len(failed) + sum(_counts(look, device) for device in look.committed(look.mine))
    if sample < policy.failures_sample_min or len(failed) <= share * sample:
        return None
    return f"{len(failed)} of {sample} {what}, at most a share of {share:g} allowed: {names(failed)}"


def held(look: Look) -> str | None:
    """Why no further device may get the release for now; None if nothing holds it."""
    return held_by(look.rollout, look.evidence)


def held_by(rollout: Rollout, evidence: Evidence) -> str | None:
    """The same, of the evidence alone."""
    if evidence.e_value < rollout.policy.hold_e:
        return None
    return (
        f"e-value {evidence.e_value:.3g} is at least {rollout.policy.hold_e:g}: no further device gets the release "
        f"until it is lower, and at {1 / rollout.policy.revert_alpha:.3g} it is taken back"
    )


def pause(reason: str) -> Step:
    """Stop here and ask a person."""
    return Move(Event.PAUSE, reason, asks=True)


def overdue(rollout: Rollout, since: datetime, allowed_s: float, now: datetime) -> bool:
    """True if something has lasted too long. A person who lets the rollout go on grants as long again."""
    return now >= max(since, rollout.resumed_at or since) + timedelta(seconds=allowed_s)


def span(seconds: float) -> str:
    """A length of time for a sentence.

    >>> span(604_800), span(5400), span(90)
    ('7 days', '1.5 hours', '90 s')
    """
    for unit, length in (("days", 86_400), ("hours", 3600)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:g} s"


def why_undecided(look: Look, stage: OpenWave) -> str | None:
    """Why the shadow stage cannot decide by itself any more; None while it may wait."""
    shadow = look.rollout.policy.shadow
    if shadow is None or not overdue(look.rollout, stage.opened_at, shadow.wait_s, look.now):
        return None
    finding = look.evidence.shadow
    seen = finding.text if finding is not None else "no paired decision came in"
    if (hold := held(look)) is not None:
        seen = f"{seen}; {hold}"
    return f"the shadow stage has not decided within {span(shadow.wait_s)}: {seen}; label more disagreements, {REMEDY}"


def why_inconclusive(look: Look, index: int, missing: Sequence[str]) -> str | None:
    """Why an open wave cannot pass by itself any more; None while it may wait, or only bakes.

    Args:
        missing: what it waits for beside the end of its bake.
    """
    policy, wave = look.rollout.policy, look.rollout.waves[index]
    if not missing or not overdue(look.rollout, wave.opened_at, policy.wave_s_max, look.now):
        return None
    return f"wave {index + 1} could not pass within {span(policy.wave_s_max)}: {'; '.join(missing)}; {REMEDY}"


def wave_waits_for(
    rollout: Rollout,
    index: int,
    devices: Mapping[str, Device],
    now: datetime,
    evidence: Evidence | None = None,
) -> list[str]:
    """What an open wave still waits for, as sentences; empty when it may pass.

    Devices that say "not now" and have not committed do not count. One device of the wave has to commit all the same;
    in the last wave it may be one of an earlier wave, so that a dead device cannot hold the whole fleet. Those that
    joined the wave later are not waited for, so that a growing fleet cannot hold it for ever.
    """
    wave = rollout.waves[index]
    chosen, joined = ([devices[name] for name in some if name in devices] for some in (wave.devices, wave.joined))
    missing, bake = _waits(rollout, index, chosen or joined, devices.values(), now, evidence)
    return [*missing, bake] if bake else missing


def waits_for(look: Look, index: int) -> tuple[list[str], str]:
    """The same of the devices that one rollout sees; the end of the bake apart, since time alone brings it."""
    late = frozenset(look.rollout.waves[index].joined)
    there = [device for device in look.mine if look.wave_of.get(device.id) == index]
    chosen = [device for device in there if device.id not in late] if late else there
    return _waits(look.rollout, index, chosen or there, look.mine, look.now, look.evidence)


def _waits(
    rollout: Rollout,
    index: int,
    there: Sequence[Device],
    everyone: Collection[Device],
    now: datetime,
    evidence: Evidence | None,
) -> tuple[list[str], str]:
    """As above, of a wave's own devices; who joined later takes the place of those that left, if all of them did."""
    policy, wave = rollout.policy, rollout.waves[index]
    hold = held_by(rollout, evidence) if evidence is not None else None
    reasons = [hold] if hold else []
    final = is_last(policy, index, everyone)
    if not there and not wave.devices:
        return reasons, ""  # nobody was left to choose
    release = rollout.target.release
    counted = [device for device in there if device.committed_at or not device.waits]
    good = [device for device in counted if device.committed_at and device.running == release and not device.failed]
    needed, least = ceil(policy.success_share * len(counted)), max(1, min(policy.success_min, len(there)))
    proven = good if not final or len(good) >= least else everyone
    proven_count = sum(1 for _ in islice((item for item in proven if has_committed(rollout, item)), least))
    if len(good) < needed or proven_count < least:
        seen, wanted = (len(good), max(needed, 1)) if len(good) < needed else (proven_count, least)
        waiting = f", {len(there) - len(counted)} say not now" if len(counted) < len(there) else ""
        gone = "" if there else "; all that it had are gone, and nobody has taken their place"
        return [*reasons, f"{seen} of {wanted} devices have committed{waiting}{gone}"], ""
    ends = max((device.committed_at for device in good if device.committed_at), default=wave.opened_at)
    ends += timedelta(seconds=policy.bake_s)
    bake = f"bake ends at {ends:%Y-%m-%d %H:%M:%S}Z" if now < ends else ""
    paired = sum(device.paired for device in there)
    # A first bundle has no predecessor to be compared with, so no pairs can ever come from such a device.
    can_pair = any(device.known - {bundle_for(rollout, device)} for device in counted)
    if rollout.previous is not None and can_pair and paired < policy.bake_decisions_min:
        reasons.append(f"{paired} of {policy.bake_decisions_min} paired decisions")
    return reasons, bake
