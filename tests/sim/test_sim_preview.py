"""What a preview says of a fleet of whole devices that keeps calm is what then happens to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewise.hub import previews, rollouts, usecases
from edgewise.hub.store import releases
from edgewise.hub.store import rollouts as rows
from edgewise.sim import Fleet
from edgewise.sim._faults import CALM
from edgewise.sim._fleet import START
from edgewise.sim._log import EventLog
from edgewise.sim._world import NAME, use_case

HOURS_MAX = 12.0


def newest(fleet: Any) -> str | None:
    with fleet.hub.store.read() as connection:
        found = releases.find(connection, use_case=NAME, limit=1)
    return found[0].id if found else None


def go_on(fleet: Any, *, until: Callable[[], bool]) -> None:
    ends_s = fleet.work.now_s + HOURS_MAX * 3600
    while not until():
        assert fleet.work.now_s < ends_s, f"nothing came within {HOURS_MAX} hours"
        fleet.work.run_until(fleet.work.now_s + 60)


def roll_out(fleet: Any, release: str) -> Any:
    """A person starts it, and it takes its course."""
    hub = fleet.hub
    made = rollouts.create(hub.store, release, {}, who="ann", why="drill", now=hub.now(), chance=hub.chance)

    def row() -> Any:
        with hub.store.read() as connection:
            return rows.get(connection, made.id)

    go_on(fleet, until=lambda: row().state != "running")
    return row()


@pytest.mark.parametrize("seed", [1, 2])
def test_waves_are_as_previewed_and_the_time_nearly_so(seed: int, tmp_path: Path) -> None:
    fleet = Fleet(seed=seed, devices=6, hours=200, faults=CALM, folder=tmp_path, log=EventLog(None, START))
    usecase = use_case(6)
    by_hand = usecase.model_copy(
        update={
            "rollout": usecase.rollout.model_copy(update={"automatic": False}),
            "retrain": usecase.retrain.model_copy(update={"labels_min": 60}),
        }
    )
    usecases.apply(fleet.hub.store, by_hand, source="by hand", who="admin", now=fleet.hub.now())
    try:
        go_on(fleet, until=lambda: newest(fleet) == f"{NAME}@1")
        fleet.work.run_until(fleet.work.now_s + 1800)  # the last devices enrol
        assert roll_out(fleet, f"{NAME}@1").state == "finished"
        go_on(fleet, until=lambda: newest(fleet) not in (None, f"{NAME}@1"))
        release = newest(fleet)
        assert release is not None
        hub = fleet.hub
        with hub.store.read() as connection:
            seen = previews.preview_of(connection, release, {}, now=hub.now(), started_at=hub.started_at)
        done = roll_out(fleet, release)
    finally:
        fleet.close()
    assert (done.state, seen.outcome) == ("finished", "finishes")
    assert [list(wave.devices) for wave in seen.waves] == [wave["devices"] for wave in done.data["waves"]]
    took_s = (done.updated_at - done.made_at).total_seconds()
    assert seen.duration_s == pytest.approx(took_s, rel=0.2), "three bakes of 900 s, contacts every 240 s or more often"
