"""Sweeps: every setting trained on the same part, compared on one frozen part, the winner measured on a third."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgewise.cli._app import build
from edgewise.learn import Cancelled, InProcess, LocalProcess, read_plan, sweep_folder
from edgewise.ports import OnnxRuntime, verify_bundle
from edgewise.wire import NotValid

PLAN = {"axes": {"architecture": ["small"], "steps": [1, 120]}, "seeds": [0, 1]}


@pytest.fixture
def folder(tmp_path: Path, world: Any) -> Path:
    """Pictures of three labels, one folder each."""
    for sample in world.surfaces(30):
        path = tmp_path / "pictures" / sample.label / sample.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample.read())
    return tmp_path / "pictures"


def test_a_plan_is_a_grid_and_a_draw_of_it_is_the_same_each_time() -> None:
    whole = read_plan({"axes": {"a": [1, 2, 3], "b": ["x", "y"]}})
    assert len(whole.settings) == 6
    drawn = read_plan({"axes": {"a": [1, 2, 3], "b": ["x", "y"]}, "draw": 4})
    assert drawn.settings == read_plan({"axes": {"a": [1, 2, 3], "b": ["x", "y"]}, "draw": 4}).settings
    assert len(drawn.settings) == 4
    assert all(one in whole.settings for one in drawn.settings)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({}, "the sweep's axes is wrong"),
        ({"axes": {"a": [1]}, "more": 1}, "the sweep's more is wrong"),
        ({"axes": {"a": list(range(30)), "b": list(range(30))}}, "has 900 runs, at most 200"),
        ([1], "the sweep's the file is wrong"),
    ],
)
def test_a_plan_that_cannot_be_is_explained(plan: Any, words: str) -> None:
    with pytest.raises(NotValid, match=words):
        read_plan(plan)


def test_the_better_setting_wins_and_is_measured_on_what_it_was_not_chosen_by(folder: Path) -> None:
    swept = sweep_folder(folder, read_plan(PLAN), InProcess())
    best, other = swept.tried
    assert best.config == {"architecture": "small", "steps": 120}
    assert best.recall is not None
    assert other.recall is not None
    assert best.recall > other.recall
    assert other.behind is not None
    assert other.behind[0] == pytest.approx(best.recall - other.recall)
    assert sum(swept.counts) == 90
    assert min(swept.counts) >= 8
    assert 0.4 < swept.confirmed[0] <= 1
    assert swept.best.bundle.manifest.provenance.seed == 0
    lines = swept.lines()
    assert lines[0].startswith("sweep: 2 settings, trained on ")
    assert lines[1].startswith("sweep: architecture small, steps 120: ")


def test_a_setting_that_fails_is_named_and_the_others_go_on(folder: Path) -> None:
    swept = sweep_folder(
        folder, read_plan({"axes": {"architecture": ["surface", "none"], "seconds": [0.3]}}), InProcess()
    )
    assert [one.config["architecture"] for one in swept.tried] == ["surface", "none"]
    assert swept.tried[1].recall is None
    assert "architecture is 'none', needs to be surface or small" in swept.tried[1].errors[0]


def test_a_sweep_in_which_nothing_works_says_why(folder: Path) -> None:
    with pytest.raises(NotValid, match="every run of the sweep failed, the first one because config architecture"):
        sweep_folder(folder, read_plan({"axes": {"architecture": ["none"]}}), InProcess())


def test_too_few_samples_are_no_ground_to_choose_on(tmp_path: Path, world: Any) -> None:
    for sample in world.surfaces(4):
        path = tmp_path / "few" / sample.label / sample.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample.read())
    with pytest.raises(NotValid, match="8 each are needed; label more groups"):
        sweep_folder(tmp_path / "few", read_plan(PLAN), InProcess())


def test_a_sweep_can_be_ended(folder: Path) -> None:
    def stop(_what: str, _share: float) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        sweep_folder(folder, read_plan(PLAN), LocalProcess(), go_on=stop)


def test_the_command_tells_all_settings_and_writes_the_best_bundle(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("axes: {architecture: [small], steps: [1, 80]}\n")
    out = tmp_path / "best"
    asked = ["learn", "sweep", str(tmp_path / "plan.yaml"), "--data", str(folder), "-o", str(out)]
    result = CliRunner().invoke(build("learn"), asked)
    assert result.exit_code == 0, result.output
    assert "steps 80 " in result.output
    assert "that it was not chosen by" in result.output
    verify_bundle(out, OnnxRuntime())
    again = CliRunner().invoke(build("learn"), asked)
    assert isinstance(again.exception, NotValid)
    assert "exists already" in str(again.exception)
