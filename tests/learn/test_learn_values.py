"""The trainer that states values: error, intervals that hold, the same numbers on a device, and bad input."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edgewise.cli._app import build
from edgewise.learn import InProcess, SweepPlan, read_dataset, score, sweep_folder, train
from edgewise.ports import OnnxRuntime, StoredBundle, read_bundle
from edgewise.ports.scoring import score_bundle
from edgewise.wire import LabelledSample, NotValid, canonical, digest, encode

_SPEC = importlib.util.spec_from_file_location("value_rows", Path(__file__).parents[1] / "value_rows.py")
assert _SPEC is not None
assert _SPEC.loader is not None
value_rows = importlib.util.module_from_spec(_SPEC)
sys.modules["value_rows"] = value_rows
_SPEC.loader.exec_module(value_rows)
FAST, NOW = value_rows.FAST, value_rows.NOW


@pytest.fixture(scope="module")
def made() -> Any:
    return value_rows.trained(above=40)


def test_what_is_trained_states_the_target_and_no_labels(made: Any) -> None:
    manifest = made.manifest
    assert (manifest.task, manifest.labels, manifest.good_label) == ("value", (), None)
    states = manifest.states
    assert (states.target, states.unit, states.quantiles, states.above) == ("wear", "um", (0.05, 0.5, 0.95), 40)
    assert states.calibrated_on == 18
    assert made.metrics["parity"] < 1e-4
    assert "holds 90% of" in manifest.card
    assert made.metrics["validation_skill"] > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_intervals_hold_new_groups_as_often_as_stated(seed: int) -> None:
    pipeline = value_rows.pipeline_of(value_rows.trained(80, seed=seed))
    fresh = value_rows.samples(60, seed=100 + seed)
    answers = [pipeline.judge(one.read(), one.media_type, None).decision.stated for one in fresh]
    truth = [float(one.label) for one in fresh]
    held = np.mean([low <= value <= high for (low, _, high), value in zip(answers, truth, strict=True)])
    assert 0.86 <= held <= 0.97
    assert np.mean([abs(mid - value) for (_, mid, _), value in zip(answers, truth, strict=True)]) < 4.5


def test_the_graph_moves_the_interval_by_the_correction_in_the_manifest(made: Any) -> None:
    import onnx

    graph = onnx.load_model_from_string(next(iter(made.blobs.values()))).graph
    shift = next(onnx.numpy_helper.to_array(one) for one in graph.initializer if one.name == "shift")
    wanted = made.manifest.states.correction
    assert shift.tolist() == [[pytest.approx(-wanted, rel=1e-6), 0, pytest.approx(wanted, rel=1e-6)]]
    assert wanted != 0


def test_the_same_seed_makes_the_same_trees() -> None:
    made = [value_rows.trained(20) for _ in range(2)]
    assert set(made[0].blobs) == set(made[1].blobs)


def test_a_base_gives_the_columns_and_how_they_are_filled(made: Any) -> None:
    base = StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)
    again = train(value_rows.samples(30, seed=9), now=NOW, trainer="regression", base=base, config=FAST)
    assert again.manifest.graphs[0].pre == made.manifest.graphs[0].pre
    assert again.manifest.provenance.parent == made.digest


def test_values_that_come_often_weigh_as_much_as_others() -> None:
    """Half of the values are the same: were they balanced as classes are, the median would move."""
    many = [replace(one, label="7") if n % 3 else one for n, one in enumerate(value_rows.samples(40))]
    pipeline = value_rows.pipeline_of(train(many, now=NOW, trainer="regression", config={**FAST, "trees": 3}))
    stated = pipeline.judge(canonical({"force": 0, "speed": 0}), "application/json", None).decision.stated
    assert stated[1] == pytest.approx(7, abs=1)


@pytest.mark.parametrize(
    ("change", "config", "words"),
    [
        (lambda one: replace(one, label="5"), {}, "wear is 5 in all 240 samples; there is nothing to learn"),
        (lambda one: replace(one, label="hot"), {}, "wear of 0-0 is 'hot', needs to be a finite number"),
        (lambda one: replace(one, label="nan"), {}, "wear of 0-0 is 'nan'"),
        (lambda one: replace(one, group="g"), {}, "there are 1 groups; an interval of 90% takes 9 to calibrate on"),
        (lambda one: one, {"coverage": 0.97}, "there are 20 groups; an interval of 97% takes 33"),
        (lambda one: one, {"coverage": 1.0}, "config coverage is 1.0, needs to be a number from 0.5 to 0.99"),
        (lambda one: one, {"unit": 3}, "config unit is 3, needs to be a text"),
        (lambda one: one, {"above": "much"}, "config above is 'much', needs to be a number"),
    ],
)
def test_what_cannot_be_learned_is_told_in_a_sentence(change: Any, config: Any, words: str) -> None:
    samples = [change(one) for one in value_rows.samples(20)]
    with pytest.raises(NotValid, match=words):
        train(samples, now=NOW, trainer="regression", config={**FAST, **config})


def test_gate_and_score_say_the_same(made: Any, tmp_path: Path) -> None:
    fresh = value_rows.samples(24, seed=5, sites=("a", "b"))
    blobs = {digest(one.read()): one.read() for one in fresh}
    lines = [
        LabelledSample(
            sample=f"{n:032x}",
            blob=digest(one.read()),
            label=one.label,
            site=one.site,
            group=one.group,
            media_type=one.media_type,
        )
        for n, one in enumerate(fresh)
    ]
    card = score_bundle(
        encode(made.manifest),
        lines,
        read_blob=(blobs | dict(made.blobs)).__getitem__,
        runtime=OnnxRuntime(),
        good_labels=(),
        now=NOW,
    )
    assert [site.site for site in card.sites] == ["a", "b"]
    assert card.quantiles == (0.05, 0.5, 0.95)
    assert {item.baseline for item in card.predictions} == {made.manifest.states.mean}
    write_table(tmp_path / "labels.csv", fresh)
    told = score(StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs), tmp_path)
    assert told["mae"]["value"] == pytest.approx(card.overall.values.mae.value)
    assert told["groups"]["site"]["b"]["coverage"]["value"] == pytest.approx(card.sites[1].values.coverage.value)
    assert (told["target"], told["unit"], told["nominal"]) == ("wear", "um", 0.9)
    assert "balanced_accuracy" not in told


def write_table(path: Path, samples: Any, target: str = "wear") -> None:
    from edgewise.wire import loads

    lines = [f"site,group,force,speed,{target}"]
    for one in samples:
        row = loads(one.read())
        lines.append(f"{one.site},{one.group},{row['force']},{row['speed']},{one.label}")
    path.write_text("\n".join(lines) + "\n")


def test_a_column_of_a_table_is_the_target_from_the_command_line(tmp_path: Path) -> None:
    write_table(tmp_path / "labels.csv", value_rows.samples(30))
    (tmp_path / "settings.yaml").write_text("trees: 20\nunit: um\nabove: 60\n")
    bundle = tmp_path / "bundle"
    settings = str(tmp_path / "settings.yaml")
    asked = ["--data", str(tmp_path), "--target", "wear", "--config", settings, "-o", str(bundle)]
    told = CliRunner().invoke(build(), ["learn", "train", *asked])
    assert told.exit_code == 0, told.output
    assert "states wear um" in told.output
    manifest = read_bundle(bundle).manifest
    assert manifest.graphs[0].pre.columns == ("force", "speed")
    assert (manifest.states.target, manifest.states.above) == ("wear", 60)
    shown = CliRunner().invoke(build(), ["score", str(bundle), "--data", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "coverage" in shown.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,wear\n1,2\n", "has no column 'heat' to be the target; its columns are a, wear"),
        ("a,heat\n1,2\n2,\n", "line 3: the target heat is empty, needs to be a finite number"),
        ("a,heat\n1,2\n2,much\n", "line 3: the target heat is 'much'"),
        ("a,heat\n1,2\n2,inf\n", "line 3: the target heat is 'inf'"),
    ],
)
def test_a_target_that_a_table_does_not_hold_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(NotValid, match=words):
        read_dataset(tmp_path, target="heat")


@pytest.mark.parametrize(
    ("text", "words"), [("- 1\n", "needs to hold settings"), ("a: [1]\n", "a is '\\[1\\]'"), ("a: {", "cannot be read")]
)
def test_settings_that_are_none_are_told(tmp_path: Path, text: str, words: str) -> None:
    from edgewise.cli._settings import read_settings

    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(NotValid, match=words):
        read_settings(tmp_path / "settings.yaml")


def test_a_sweep_says_that_it_compares_classes(tmp_path: Path) -> None:
    write_table(tmp_path / "labels.csv", value_rows.samples(30), target="label")
    plan = SweepPlan.model_validate({"axes": {"trees": [5, 10]}})
    with pytest.raises(NotValid, match="a sweep compares recalls of classes, and the trainer regression states values"):
        sweep_folder(tmp_path, plan, InProcess(), trainer="regression")


def test_a_column_of_a_table_labels_what_is_imported(tmp_path: Path) -> None:
    write_table(tmp_path / "labels.csv", value_rows.samples(5, each=2))
    found = read_dataset(tmp_path, target="wear")
    assert [float(one.label) for one in found.samples] == [float(one.label) for one in value_rows.samples(5, each=2)]
    assert all(b"wear" not in one.read() for one in found.samples)
