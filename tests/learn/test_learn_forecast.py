"""Forecasts: samples cut from recorded series, and the trainer that tells a value ahead."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import series_world
import value_rows
from edgewise.cli._app import build
from edgewise.frames import SERIES_TYPE
from edgewise.learn import train
from edgewise.learn._recorded import Wanted, read_recorded
from edgewise.ports import Frame, ListSource, read_bundle
from edgewise.ports._source_window import WindowSource
from edgewise.wire import NotValid, PastSpec, canonical
from edgewise.wire.sources import SeriesWindow

HORIZON_S = 2 * 3600
WANTED = Wanted(target="power", horizon_s=HORIZON_S, past_s=86_400, block_hours=72)
FAST: dict[str, Any] = {
    "target": "power", "unit": "MW", "horizon_s": HORIZON_S, "step_s": 900.0, "trees": 40, "learning_rate": 0.15,
    "depth": 4, "coverage": 0.8, "columns": "power,light,clock.day_sin,clock.day_cos,clock.year_sin,clock.year_cos",
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plants")
    for seed, name in enumerate(("east", "west")):
        series_world.write(folder / f"{name}.csv", 48, seed=seed)
    return folder


@pytest.fixture(scope="module")
def made(recorded: Path) -> Any:
    samples = read_recorded(recorded, WANTED).dataset.samples
    return train(samples, now=value_rows.NOW, trainer="forecast", config={**FAST, "block_hours": 72.0})


def test_each_window_is_labelled_by_what_came_at_the_horizon(recorded: Path) -> None:
    found = read_recorded(recorded, WANTED)
    assert (found.length, found.step_s) == (96, 900)
    assert found.columns[:2] == ("power", "light")
    truth = {("east", at): power for at, _, power in series_world.rows(48, seed=0)}
    east = [one for one in found.dataset.samples if one.site == "east"]
    assert len(east) > 500
    for one in east[::40]:
        assert float(one.label) == truth["east", one.taken_at + timedelta(seconds=HORIZON_S)]
        window = np.frombuffer(one.read(), "<f4").reshape(len(found.columns), 96)
        assert window[0, -1] == pytest.approx(truth["east", one.taken_at], abs=1e-4)
        assert window[0, 0] == pytest.approx(truth["east", one.taken_at - timedelta(seconds=95 * 900)], abs=1e-4)


def test_no_reading_and_no_target_is_in_two_groups(recorded: Path) -> None:
    seen: dict[tuple[str, Any], str] = {}
    for one in read_recorded(recorded, WANTED).dataset.samples:
        for step in (*range(-95, 1), HORIZON_S // 900):
            assert seen.setdefault((one.site, one.taken_at + timedelta(seconds=step * 900)), one.group) == one.group


def test_what_is_stated_is_near_and_intervals_hold(made: Any, tmp_path: Path) -> None:
    states, spec = made.manifest.states, made.manifest.graphs[0].pre
    assert isinstance(spec, PastSpec)
    assert (states.target, states.horizon_s, states.now) == ("power", HORIZON_S, "power")
    assert made.metrics["parity"] < 1e-4
    series_world.write(tmp_path / "north.csv", 60, seed=7)
    pipeline = value_rows.pipeline_of(made)
    fresh = read_recorded(tmp_path, Wanted.of_bundle(made.manifest)).dataset.samples
    said = [pipeline.judge(one.read(), SERIES_TYPE, None).decision.stated for one in fresh]
    truth = np.array([float(one.label) for one in fresh])
    now = np.array([np.frombuffer(one.read(), "<f4")[95] for one in fresh])
    low, value, high = np.array(said).T
    assert np.abs(value - truth).mean() < 0.5 * np.abs(now - truth).mean()
    assert 0.72 <= np.mean((low <= truth) & (truth <= high)) <= 0.95


def test_from_the_command_line_to_the_score(recorded: Path, tmp_path: Path) -> None:
    settings = tmp_path / "forecast.yaml"
    settings.write_text("horizon_s: 7200\ntrees: 15\ncoverage: 0.8\nblock_hours: 72\nunit: MW\nabove: 20\n")
    bundle = tmp_path / "bundle"
    asked = ["--data", str(recorded), "--target", "power", "--config", str(settings), "-o", str(bundle)]
    told = CliRunner().invoke(build(), ["learn", "train", *asked])
    assert told.exit_code == 0, told.output
    assert read_bundle(bundle).manifest.states.above == 20
    shown = CliRunner().invoke(build(), ["score", str(bundle), "--data", str(recorded), "-o", "json"])
    assert shown.exit_code == 0, shown.output
    assert '"skill"' in shown.output


def test_a_gap_makes_nothing_up_and_is_told(tmp_path: Path) -> None:
    series_world.write(tmp_path / "plant.csv", 9, leave_out=range(300, 310))
    found = read_recorded(tmp_path, replace(WANTED, block_hours=1e5)).dataset
    gone = {series_world.START + timedelta(seconds=n * 900) for n in range(300, 310)}
    for one in found.samples:
        steps = {one.taken_at + timedelta(seconds=step * 900) for step in (*range(-95, 1), HORIZON_S // 900)}
        assert not steps & gone
    assert any("gaps in time end a window: 1, first plant.csv before 2026-03-05T05:30" in line for line in found.said)


def test_other_shapes_of_files_are_read(tmp_path: Path) -> None:
    lines = ["time,site,power"]
    for at, _, power in series_world.rows(3):
        lines += [f"{at.isoformat()},a,{power}", f"{at.isoformat()},b,{power + 1}"]
    (tmp_path / "both.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    found = read_recorded(tmp_path, replace(WANTED, past_s=3600, columns=("power",))).dataset
    assert {one.site for one in found.samples} == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "holds no recorded series; put one .csv or .csv.gz file"),
        ("when,power\n1,2\n", "has no column of time; its columns are when, power"),
        ("time,heat\n2026-01-01,2\n", "has no numbers in a column 'power'; its columns of numbers are heat"),
        ("time,power\n2026-01-01,much\n", "has no numbers in a column 'power'; its columns of numbers are none"),
        ("time,power\nnoon,2\n", "taken_at is 'noon', needs to be like"),
        ("time,power\n,2\n", "line 2 has no time"),
        ("time,power\n2026-01-01,2\n2026-01-02,2\n", "horizon_s is 7200, and a row comes every 86400 s"),
        ("time,power\n2026-01-01,2\n2026-01-01,2\n", "do not follow each other in time"),
        (
            "time,power\n2026-01-01,2\n2026-01-01T02:00,2\n",
            "holds no window of 12 steps of 7200 s with a target 7200 s later",
        ),
    ],
)
def test_series_that_cannot_be_used_are_told(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "plant.csv").write_text(text)
    with pytest.raises(NotValid, match=words):
        read_recorded(tmp_path, WANTED)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"horizon_s": None}, "a forecast needs config horizon_s"),
        ({"step_s": None}, "a forecast needs config step_s"),
        ({"columns": "light"}, "config columns is 'light', needs the names of the windows' channels"),
        ({"columns": "power,light,heat"}, "at least|may fail|cannot be decoded|none of the"),
    ],
)
def test_settings_that_a_forecast_lacks_are_told(recorded: Path, change: Any, words: str) -> None:
    samples = read_recorded(recorded, WANTED).dataset.samples[:200]
    config = {name: value for name, value in {**FAST, **change}.items() if value is not None}
    if change.get("columns") == "power,light,heat":
        samples = [replace(one, read=lambda: b"1234") for one in samples]
    with pytest.raises(NotValid, match=words):
        train(samples, now=value_rows.NOW, trainer="forecast", config=config)


def test_a_target_that_never_changes_and_too_few_weeks_are_told(recorded: Path) -> None:
    samples = read_recorded(recorded, WANTED).dataset.samples
    with pytest.raises(NotValid, match="power is 3 in all"):
        train([replace(one, label="3") for one in samples], now=value_rows.NOW, trainer="forecast", config=FAST)
    with pytest.raises(NotValid, match="takes 9 to calibrate on"):
        train(samples[:300], now=value_rows.NOW, trainer="forecast", config={**FAST, "coverage": 0.9})


def test_windows_of_a_device_that_are_in_no_group_are_grouped_by_time(recorded: Path) -> None:
    samples = [replace(one, group=one.name) for one in read_recorded(recorded, WANTED).dataset.samples]
    apart = train(samples, now=value_rows.NOW, trainer="forecast", config={**FAST, "trees": 3, "block_hours": 72.0})
    assert apart.manifest.states.calibrated_on == 8  # a quarter of 32 blocks, not of so many windows


def test_a_device_gathers_the_very_windows_that_were_trained_on(recorded: Path) -> None:
    found = read_recorded(recorded, WANTED)
    rows = [
        Frame(
            name=f"{number:05d}",
            data=canonical({"light": light, "power": power}),
            media_type="application/json",
            taken_at=at,
        )
        for number, (at, light, power) in enumerate(series_world.rows(3))
        if number != 150
    ]
    source = WindowSource(ListSource(rows), SeriesWindow(columns=found.columns, length=96, hop=1, step_s=900))
    gathered = {window.taken_at: window.data for window in iter(source.next, None)}
    trained_on = {one.taken_at: one.read() for one in found.dataset.samples if one.site == "east"}
    both = gathered.keys() & trained_on.keys()
    assert len(both) > 10
    assert all(gathered[at] == trained_on[at] for at in both)
    gap = rows[0].taken_at + timedelta(seconds=150 * 900)
    assert not any(gap <= at < gap + timedelta(seconds=96 * 900) for at in gathered)
