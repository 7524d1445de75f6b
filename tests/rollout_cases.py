"""Single moments of a rollout, for tests of its rules."""

from __future__ import annotations

from datetime import UTC, datetime

from edgewise.hub.rollout import Device, Event, Move, OpenWave, Rollout, State, Step, Target, Want
from edgewise.wire import RolloutPolicy

NOW = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
OLD = Target(release="parts@1", bundle="1" * 64, version=1)
NEW = Target(release="parts@2", bundle="2" * 64, version=2)
POLICY = RolloutPolicy(bake_s=600, trial_s=5)


def a_rollout(**changes: object) -> Rollout:
    values = {"id": "b" * 32, "target": NEW, "previous": OLD, "policy": POLICY, "state": State.RUNNING, **changes}
    return Rollout(**values)  # type: ignore[arg-type]


def a_device(name: str = "d1", **changes: object) -> Device:
    old = Want(kind="run", release=OLD.release, bundle=OLD.bundle, rollout="a" * 32, bake=False)
    values = {"id": name, "site": "plant-a", "want": old, "running": OLD.release, "known": frozenset({OLD.bundle})}
    return Device(**{**values, **changes})  # type: ignore[arg-type]


def committed(name: str = "d1", at: datetime = NOW, **changes: object) -> Device:
    want = Want(kind="run", release=NEW.release, bundle=NEW.bundle, rollout="b" * 32, bake=True)
    known = frozenset({OLD.bundle, NEW.bundle})
    return a_device(name, **{"want": want, "running": NEW.release, "committed_at": at, "known": known, **changes})


def first_wave(*names: str, passed_at: datetime | None = None) -> tuple[OpenWave, ...]:
    return (OpenWave(devices=names, opened_at=NOW, passed_at=passed_at),)


def moves(steps: list[Step]) -> list[Event]:
    return [step.event for step in steps if isinstance(step, Move)]
