"""Which devices a stage takes: how large each wave is, who may be in it, and in which order they are taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from heapq import nsmallest
from itertools import zip_longest
from math import ceil
from zlib import crc32

from edgewise.hub.rollout_look import Look, can_return, is_fit
from edgewise.hub.rollout_states import Device, Rollout
from edgewise.wire import RolloutPolicy, Wave

PATIENCE_S = 3600.0  # our choice: an hour is longer than any planned restart of a whole fleet
ALL = Wave(devices=None, percent=100.0)


def waves_of(policy: RolloutPolicy, devices: int = 0) -> tuple[Wave, ...]:
    """The waves of a policy on a fleet: growth written out, and a last one over all where the policy names none.

    A finished rollout is what every device runs; without this wave the rest of the fleet would get it unwatched.

    Args:
        devices: how many could take part; only growth by devices asks.

    >>> [wave.percent for wave in waves_of(RolloutPolicy(waves=(Wave(devices=1),)))]
    [None, 100.0]
    >>> [wave.devices or "all" for wave in waves_of(RolloutPolicy(waves=(Wave(devices=10, growth=3),)), 100)]
    [10, 30, 90, 'all']
    """
    if not policy.waves:
        return (ALL,)
    last = policy.waves[-1]
    if last.growth is None:
        return policy.waves if last.percent == 100 else (*policy.waves, ALL)
    return (*policy.waves[:-1], *_grown(last, last.growth, devices), ALL)


def _grown(wave: Wave, growth: float, devices: int) -> Iterator[Wave]:
    if wave.percent is not None:
        share = wave.percent
        while share < 100:
            yield Wave(devices=None, percent=share)
            share *= growth
        return
    size = wave.devices or 1
    while size < devices:
        yield Wave(devices=size)
        size = max(size + 1, round(size * growth))


def waves_here(policy: RolloutPolicy, devices: Iterable[Device]) -> tuple[Wave, ...]:
    """The waves of a policy on these devices."""
    if not policy.waves or policy.waves[-1].growth is None or policy.waves[-1].devices is None:
        return waves_of(policy)
    return waves_of(policy, sum(is_fit(device) for device in devices))


def is_last(policy: RolloutPolicy, index: int, devices: Iterable[Device]) -> bool:
    """True for the wave that takes whoever is left."""
    return index >= len(waves_here(policy, devices)) - 1


def wave_at(look: Look, index: int) -> tuple[Wave, bool]:
    """The wave, and whether it is the last one."""
    waves = waves_of(look.rollout.policy, len(look.fit))
    return waves[min(index, len(waves) - 1)], index >= len(waves) - 1


def choose(look: Look) -> tuple[str, ...] | None:
    """The devices of the next wave; None while nobody can take part, so that a wave is never spent on nobody."""
    index = len(look.rollout.waves)
    wave, final = wave_at(look, index)
    free, room, inside = _room(look, wave, final=final)
    if not free and not inside:
        return None
    if room and not free and not final and look.now < _skipped_at(look):
        return None
    return spread(look, free, room)


def choose_late(look: Look, index: int) -> tuple[str, ...]:
    """Devices for the free places of an open wave: those that joined or became ready after it was opened."""
    wave, final = wave_at(look, index)
    free, room, _ = _room(look, wave, final=final)
    return spread(look, free, room) if free and room else ()


def choose_shadow(look: Look) -> tuple[str, ...]:
    """Devices for the shadow stage, or for its free places: they run something that the candidate is compared with."""
    shadow, target = look.rollout.policy.shadow, look.rollout.target.release
    if shadow is None:
        return ()
    size = shadow.devices if shadow.devices is not None else ceil((shadow.percent or 0) / 100 * len(look.fit))
    room = size - sum(device.id in look.shadowed for device in look.fit)
    if room <= 0:
        return ()
    free = [
        device
        for device in look.fit
        if device.id not in look.shadowed
        and device.running not in (None, target)
        and not (device.waits or device.failed)
        and can_return(look.rollout, device)
    ]
    return spread(look, free, room)


def _room(look: Look, wave: Wave, *, final: bool) -> tuple[list[Device], int, int]:
    """Who may be taken, how many places there are for them, and how many devices earlier waves have already."""
    rollout, members = look.rollout, look.wave_of
    outer = [device for device in look.fit if device.id not in members]
    inside = len(look.fit) - len(outer)
    if wave.named:
        named = frozenset(wave.named)
        outer = [device for device in outer if device.id in named]
        room = len(outer)
    else:
        size = wave.devices if wave.devices is not None else ceil((wave.percent or 0) / 100 * len(look.fit))
        room = max(0, size - inside)
    if not room:
        return [], 0, inside
    free = [device for device in outer if can_return(rollout, device) and (final or not device.waits)]
    return free, room, inside


def _skipped_at(look: Look) -> datetime:
    """Until when a wave waits for somebody to be ready; then it is skipped, and the last one takes the rest."""
    since = patient_since(look.rollout) or look.now
    return since + timedelta(seconds=max(PATIENCE_S, look.rollout.policy.bake_s))


def patient_since(rollout: Rollout) -> datetime | None:
    """Since when the next stage has been waited for: the last one passed, or the start, or a person let it go on."""
    last = rollout.waves[-1].passed_at if rollout.waves else None
    shadow = rollout.shadow.passed_at if rollout.shadow is not None else None
    # Before the first wave nobody may have noted when it began.
    begun = last or shadow or rollout.started_at
    if begun is None:
        return None
    return max(begun, rollout.resumed_at or begun, rollout.policy.starts_at or begun)


def spread(look: Look, devices: Iterable[Device], room: int) -> tuple[str, ...]:
    """At most `room` of the devices, in an order that is fixed for the release and takes sites in turn.

    Chance is drawn from the release, not from the rollout, so that a preview names the devices that will be taken.

    A device that a superseded rollout left behind runs something that nobody watches any more: it comes first. Those
    that say "not now" come last at their site. Chance is asked only where not all are taken; then a heap finds them.
    """
    rollout = look.rollout
    proven = (None, rollout.previous.release if rollout.previous else None)
    groups: dict[tuple[bool, str], list[Device]] = {}
    for device in devices:
        groups.setdefault((device.running in proven, device.site), []).append(device)
    seed = crc32(rollout.target.release.encode())
    chosen: list[str] = []
    for settled in (False, True):
        sites = sorted((key for key in groups if key[0] is settled), key=lambda key: crc32(key[1].encode(), seed))
        sizes = _shares([len(groups[key]) for key in sites], room - len(chosen))
        queues = [_first(groups[key], size, seed) for key, size in zip(sites, sizes, strict=True)]
        chosen.extend(name for turn in zip_longest(*queues) for name in turn if name is not None)
    return tuple(chosen)


def _shares(sizes: list[int], room: int) -> list[int]:
    """How many places each site gets when they are dealt out one by one, to each in turn as long as it has devices.

    >>> _shares([5, 1, 3], 6)
    [3, 1, 2]
    """
    if room >= sum(sizes):
        return sizes
    shares, left = [0] * len(sizes), max(0, room)
    while left:
        open_ = [index for index, size in enumerate(sizes) if shares[index] < size]
        deal = max(1, min(left // len(open_), min(sizes[index] - shares[index] for index in open_)))
        for index in open_[:left]:
            shares[index] += deal
            left -= deal
    return shares


def _first(devices: list[Device], size: int, seed: int) -> list[str]:
    if size >= len(devices):
        return [device.id for late in (False, True) for device in devices if device.waits is late]
    # Sixty-four bits in one number: who waits comes after everybody who does not.
    ranked = ((device.waits << 32 | crc32(device.id.encode(), seed), device.id) for device in devices)
    return [name for _, name in nsmallest(size, ranked)]
