"""The baselines train in a child process and answer for every round that they were told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewise.apps.factory._chains import samples_of, train_bundle
from edgewise.apps.factory.baselines import KINDS, Baselines
from edgewise.apps.factory.plants import Plan, generated_plan
from edgewise.ports import StoredBundle, write_bundle
from edgewise.wire import EdgewiseError

CONFIG = {"seconds": 0.2}
WAIT_S_MAX = 200.0


@pytest.fixture(scope="module")
def plan() -> Plan:
    return generated_plan(2, 2, "quick")


@pytest.fixture(scope="module")
def first(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: StoredBundle = train_bundle(samples_of(plan.first[:60], new=False), plan, base=None, config=CONFIG, seed=1)
    folder = tmp_path_factory.mktemp("first") / "bundle"
    write_bundle(folder, made.manifest, made.blobs)
    return folder


def labelled(plan: Plan, number: int) -> list[str]:
    return [one.name for plant in plan.plants for one in plan.of_round(number)[plant][:6]]


@pytest.mark.parametrize("every_round", [True, False])
def test_both_baselines_are_measured(plan: Plan, first: Path, tmp_path: Path, every_round: bool) -> None:
    with Baselines(plan, first, tmp_path, config=CONFIG, every_round=every_round) as baselines:
        for number in (1, 2):
            baselines.submit(number, labelled(plan, number))
        results = baselines.wait(wait_s_max=WAIT_S_MAX)
    assert set(results) == ({1, 2} if every_round else {2})
    for kinds in results.values():
        assert set(kinds) == set(KINDS)
        for values in kinds.values():
            assert set(values) == set(plan.plants)
            assert all(value is not None and 0 <= value <= 1 for value in values.values())


def test_a_child_that_cannot_work_says_why(plan: Plan, tmp_path: Path) -> None:
    with Baselines(plan, tmp_path / "nowhere", tmp_path, config=CONFIG) as baselines:
        baselines.submit(1, labelled(plan, 1))
        with pytest.raises(EdgewiseError, match="the baselines ended with exit code 1"):
            baselines.wait(wait_s_max=WAIT_S_MAX)
