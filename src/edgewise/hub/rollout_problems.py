"""What of a policy can never work on a fleet, said before the start; and why a rollout finds nobody to go on with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise

from edgewise.hub.rollout_judge import overdue, span
from edgewise.hub.rollout_limits import group_of, metered_bytes, most_unavailable, rate_now
from edgewise.hub.rollout_look import Look, can_return, is_fit, names
from edgewise.hub.rollout_states import Device, Rollout
from edgewise.hub.rollout_waves import PATIENCE_S, patient_since, waves_here
from edgewise.wire import Condition, RolloutPolicy, unmet

SHOWN_MAX = 3  # examples in one sentence


def problems(rollout: Rollout, fleet: Sequence[Device]) -> list[str]:
    """What can never work, each with its remedy; empty when nothing is known to stand in the way.

    A rollout is not started while this says anything. One that runs already pauses and asks, once it has found nobody
    to go on with for `PATIENCE_S`.

    Args:
        rollout: as it would be stored; nothing of it needs to be.
        fleet: the use case's devices as this rollout sees them, those that its selector leaves out included.
    """
    selected = [device for device in fleet if not device.outside]
    return [
        *_of_releases(rollout),
        *_of_selection(rollout, fleet, selected),
        *_of_conditions(rollout.policy, selected),
        *_of_thresholds(rollout.policy, selected),
        *_of_limits(rollout.policy, fleet, selected),
    ]


def why_nobody(look: Look, hold: str | None) -> str | None:
    """Why a person is asked although no stage is open: nobody could take part in the next one for too long."""
    rollout, since = look.rollout, patient_since(look.rollout)
    if since is None:
        return None
    nobody = f"nobody can take part in {_next_stage(rollout)}"
    if overdue(rollout, since, rollout.policy.wave_s_max, look.now):
        why = hold or "; ".join(_reasons(look)) or "nobody is selected"
        return f"{nobody} since {span(rollout.policy.wave_s_max)}: {why}; resume to wait as long again, or revert"
    if hold or rollout.resumed_at is not None or look.now < since + timedelta(seconds=PATIENCE_S):
        return None
    found = problems(rollout, look.everyone)
    return f"{nobody}: {'; '.join(found[:SHOWN_MAX])}; then resume, or revert" if found else None


def _next_stage(rollout: Rollout) -> str:
    waits = rollout.policy.shadow is not None and rollout.previous is not None and rollout.shadow is None
    return "the shadow stage" if waits and not rollout.waves else f"wave {len(rollout.waves) + 1}"


def _reasons(look: Look) -> Iterator[str]:
    """Why those who are left cannot take part, most frequent first."""
    rollout = look.rollout
    counts: Counter[str] = Counter()
    for device in look.mine:
        if device.id in look.wave_of:
            continue
        if not is_fit(device):
            counts[(*device.misfits, device.conflict, device.pinned)[0] or device.conflict or device.pinned] += 1
        elif not can_return(rollout, device) and rollout.previous is not None:
            counts[f"{rollout.previous.release} was never committed there"] += 1
        else:
            counts[
                next(
                    iter((*device.unmet, *device.not_now)),
                    "no contact" if device.away else "not among those that this stage takes",
                )
            ] += 1
    for reason, count in counts.most_common(SHOWN_MAX):
        yield f"{count} devices: {reason}"


def _of_releases(rollout: Rollout) -> Iterator[str]:
    if rollout.target.withdrawn:
        yield f"{rollout.target.release} was withdrawn by its signers; roll out another release"
    if rollout.previous is not None and rollout.previous.withdrawn:
        yield f"{rollout.previous.release}, the release to return to, was withdrawn; name another as return_to"


def _of_selection(rollout: Rollout, fleet: Sequence[Device], selected: Sequence[Device]) -> Iterator[str]:
    if rollout.policy.select and not selected:
        seen = "; ".join(f"{device.id}: {device.outside[0]}" for device in fleet[:SHOWN_MAX])
        yield (
            f"select matches none of {len(fleet)} devices{f' ({seen})' if seen else ''}; "
            "change select, or the labels of the devices"
        )
    named = {name for wave in rollout.policy.waves for name in wave.named}
    for device in fleet:
        if device.outside and device.id in named:
            yield f"a wave names {device.id}, which select leaves out ({device.outside[0]}); change one of the two"
    if selected and all(device.misfits for device in selected):
        yield (
            f"{rollout.target.release} fits none of {len(selected)} devices, such as {selected[0].id}: "
            f"{selected[0].misfits[0]}; add a variant that does"
        )
    previous = rollout.previous
    if previous is not None and selected and not any(_may_return(rollout, device) for device in selected):
        yield (
            f"{previous.release} was never committed on any of {len(selected)} devices, so none could be taken back "
            "to it; name as return_to a release that ran there"
        )


def _may_return(rollout: Rollout, device: Device) -> bool:
    """True for a device that could be taken back, or that runs nothing yet and so will get the earlier one first."""
    return can_return(rollout, device) or device.running is None


def _of_conditions(policy: RolloutPolicy, selected: Sequence[Device]) -> Iterator[str]:
    asked = {
        "select": policy.select,
        "conditions": policy.conditions,
        "download": policy.download.conditions,
        "activation": policy.activation.conditions,
    }
    for name, conditions in asked.items():
        for fact in dict.fromkeys(condition.fact for condition in conditions):
            of_fact = [condition for condition in conditions if condition.fact == fact]
            if never(of_fact):
                listed = " and ".join(f"{item.op} {item.value}" for item in of_fact)
                yield f"{name} can never hold: {fact} would have to be {listed}; change one of them"
    reporting = [device for device in selected if device.facts]
    for name in ("conditions", "download", "activation"):
        for fact in dict.fromkeys(condition.fact for condition in asked[name]):
            if reporting and not any(fact in device.facts for device in reporting):
                yield (
                    f"{name} asks for {fact}, which none of {len(reporting)} devices reports, so that it would wait "
                    "for ever; report the fact, or take the condition out"
                )


def never(conditions: Sequence[Condition]) -> bool:
    """True if no value of their one fact meets all of these conditions.

    >>> never([Condition(fact="battery", op="ge", value=80), Condition(fact="battery", op="lt", value=20)])
    True
    >>> never([Condition(fact="line", op="ne", value="a"), Condition(fact="line", op="ne", value="b")])
    False
    """
    values = [value for item in conditions for value in (item.value if isinstance(item.value, list) else [item.value])]
    if not any(item.op in ("eq", "in") for item in conditions):
        numbers = sorted(value for value in values if isinstance(value, (int, float)))
        if len(numbers) < len(values) or not numbers:
            return False  # text has an order, too, but always one more value
        between = [(low + high) / 2 for low, high in pairwise(numbers)]
        values = [numbers[0] - 1, *numbers, *between, numbers[-1] + 1]
    return all(unmet(conditions, {conditions[0].fact: value}) for value in values)


def _of_thresholds(policy: RolloutPolicy, selected: Sequence[Device]) -> Iterator[str]:
    if selected and policy.success_min > len(selected):
        yield f"success_min is {policy.success_min}, but there are only {len(selected)} devices; lower it"
    if policy.bake_s >= policy.wave_s_max:
        yield (
            f"bake_s of {policy.bake_s:g} is not below wave_s_max of {policy.wave_s_max:g}, "
            "so no wave could pass in time; lower the first or raise the second"
        )
    if policy.stuck_s is not None and policy.stuck_s <= policy.trial_s:
        yield (
            f"stuck_s of {policy.stuck_s:g} is not above trial_s of {policy.trial_s:g}, "
            "so every device would fail in its trial; raise the first or lower the second"
        )


def _of_limits(policy: RolloutPolicy, fleet: Sequence[Device], selected: Sequence[Device]) -> Iterator[str]:
    yield from _of_groups(policy, fleet, selected)
    fit = [device for device in selected if is_fit(device)]
    wanted, most = sum(metered_bytes(device) for device in fit), policy.metered_bytes_max
    if most is not None and wanted > most:
        yield (
            f"{wanted} bytes over metered links are predicted, metered_bytes_max is {most}; raise it, select fewer "
            "devices, or let them fetch over another link"
        )
    if policy.rate is None:
        return
    size = max(
        (wave.devices or round((wave.percent or 0) / 100 * len(fit)) for wave in waves_here(policy, fit)), default=0
    )
    size = min(size, len(fit))
    # As if all before had committed: a wave that is too slow even so can never be told in time.
    count, window_s = rate_now(policy.rate, len(fit))
    if size * window_s / count > policy.wave_s_max:
        yield (
            f"at {count * 60 / window_s:g} devices a minute, {size} devices take longer than wave_s_max of "
            f"{span(policy.wave_s_max)}; raise rate.per_minute or wave_s_max, or make the waves smaller"
        )


def _of_groups(policy: RolloutPolicy, fleet: Sequence[Device], selected: Sequence[Device]) -> Iterator[str]:
    for budget in policy.disruption:
        sizes = Counter(group_of(budget, device) for device in fleet)
        closed: dict[tuple[str, ...], list[Device]] = {}
        for device in selected:
            key = group_of(budget, device)
            if most_unavailable(budget, sizes[key]) == 0:
                closed.setdefault(key, []).append(device)
        for key, kept in list(closed.items())[:SHOWN_MAX]:
            name = ", ".join(f"{label} {value}" for label, value in zip(budget.group_by, key, strict=True))
            yield (
                f"available_min of {budget.available_min} keeps all {sizes[key]} devices of {name} as they are "
                f"({names(kept)}); lower it, or leave them out with select"
            )
