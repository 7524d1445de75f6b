"""Fleets of any size as the engine of rollouts sees them, in the situations that cost it most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from edgewise.hub.rollout import Device, Evidence, OpenWave, Rollout, State, Target, Want
from edgewise.wire import Condition, Disruption, Rate, RolloutPolicy, Wave

NOW = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
OLD = Target(release="parts@1", bundle="1" * 64, version=1)
NEW = Target(release="parts@2", bundle="2" * 64, version=2)
POLICY = RolloutPolicy(
    waves=(Wave(devices=10), Wave(percent=10), Wave(percent=50), Wave(percent=100)),
    select=(Condition(fact="line", op="in", value=["a", "b"]),),
    rate=Rate(per_minute=1000, growth=1.5, every=1000, per_minute_max=5000),
    disruption=(Disruption(group_by=("site",), unavailable_max=50), Disruption(group_by=("pair",), available_min=1)),
    success_share=0.9,
    failures_max=1000,
    failures_share_max=0.05,
    stuck_s=7200,
)
RUNS_OLD = Want(kind="run", release=OLD.release, bundle=OLD.bundle, rollout="a" * 32, bake=False)
RUNS_NEW = Want(kind="run", release=NEW.release, bundle=NEW.bundle, rollout="b" * 32, bake=True)
ROLLOUT = Rollout(id="b" * 32, target=NEW, previous=OLD, policy=POLICY, state=State.RUNNING, started_at=NOW)
Situation = tuple[Rollout, list[Device], Evidence, datetime]


def fleet(devices: int, *, sites: int = 100, committed: int = 0) -> list[Device]:
    """Devices of many sites, in pairs of which one has to stay available.

    Args:
        committed: so many run the new release, the others the old one. Every 50th is away, every 77th says "not now".
    """
    both, old = frozenset({OLD.bundle, NEW.bundle}), frozenset({OLD.bundle})
    found = []
    for index in range(devices):
        new = index < committed
        found.append(
            Device(
                id=f"device-{index:06d}",
                site=f"site-{index % sites:03d}",
                labels={"pair": f"pair-{index // 2}", "line": "ab"[index % 2]},
                facts={"battery_percent": 50 + index % 50},
                want=RUNS_NEW if new else RUNS_OLD,
                running=NEW.release if new else OLD.release,
                committed_at=NOW if new else None,
                known=both if new else old,
                told_at=NOW - timedelta(minutes=10) if new else None,
                paired=20 if new else 0,
                away=index % 50 == 0,
                not_now=("the window opens at 22:00",) if index % 77 == 0 else (),
            )
        )
    return found


def situations(devices: int) -> dict[str, Callable[[], Situation]]:
    """By name, what to build for a call of `next_steps`: each moment of a rollout at which it has most to do."""
    now = NOW + timedelta(hours=2)

    def first_wave() -> Situation:
        return ROLLOUT, fleet(devices), Evidence(), now

    def last_wave() -> Situation:
        half = fleet(devices, committed=devices // 2)
        return replace(ROLLOUT, waves=_waves(half, 10, devices // 10, devices // 2)), half, Evidence(), now

    def telling() -> Situation:
        half = fleet(devices, committed=devices // 2)
        waves = _waves(half, 10, devices // 10, devices // 2, devices)
        return replace(ROLLOUT, waves=waves), half, Evidence(), now

    def telling_all_at_once() -> Situation:
        everybody = fleet(devices)
        policy = RolloutPolicy(waves=(Wave(percent=100),))
        waves = (OpenWave(devices=tuple(device.id for device in everybody), opened_at=NOW),)
        return replace(ROLLOUT, policy=policy, waves=waves), everybody, Evidence(), now

    def waiting() -> Situation:
        almost = fleet(devices, committed=devices * 8 // 10)
        told = [device if device.committed_at else replace(device, want=RUNS_NEW, told_at=NOW) for device in almost]
        policy = POLICY.model_copy(update={"stuck_s": None})
        return replace(ROLLOUT, policy=policy, waves=_waves(told, devices)), told, Evidence(), now

    def reverting() -> Situation:
        everybody = fleet(devices, committed=devices)
        rollout = replace(ROLLOUT, state=State.REVERTING, reason="worse", waves=_waves(everybody, devices))
        return rollout, everybody, Evidence(), now

    def finished() -> Situation:
        settled = replace(RUNS_NEW, bake=False)
        everybody = [replace(device, want=settled) for device in fleet(devices, committed=devices)]
        return replace(ROLLOUT, state=State.FINISHED, waves=_waves(everybody, devices)), everybody, Evidence(), now

    return {
        "open the first wave": first_wave,
        "open the last wave": last_wave,
        "tell the last wave, within rate and budgets": telling,
        "tell everybody at once": telling_all_at_once,
        "wait for the last wave": waiting,
        "take everybody back": reverting,
        "finished, nothing to do": finished,
    }


def _waves(devices: list[Device], *ends: int) -> tuple[OpenWave, ...]:
    """Waves over the devices up to each end; all but one that ends with the fleet have passed."""
    waves, start = [], 0
    for end in ends:
        names = tuple(device.id for device in devices[start:end])
        waves.append(OpenWave(devices=names, opened_at=NOW, passed_at=None if end == len(devices) else NOW))
        start = end
    return tuple(waves)
