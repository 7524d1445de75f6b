"""Scores of a bundle on a folder: stable keys, intervals, columns, doubts apart, and no claim without a good label."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgewise.learn import score, train_folder
from edgewise.wire import NotTrusted, NotValid, UseCase

METRICS = ("balanced_accuracy", "macro_recall", "auc", "accuracy")


@pytest.fixture(scope="module")
def bundle(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "bundle"
    train_folder(pictures, folder, seconds=2)
    return folder


def test_every_metric_has_its_interval_overall_and_by_column(bundle: Path, pictures: Path) -> None:
    result = score(bundle, pictures)
    json.dumps(result, allow_nan=False)
    assert result["n"] == 69
    assert result["good_labels"] == ["none"]
    assert result["group_column"] == "part_group"
    for part in (result, *result["groups"]["shift"].values()):
        for name in METRICS:
            metric = part[name]
            assert set(metric) == {"value", "low", "high"}
            assert metric["low"] <= metric["value"] <= metric["high"]
    assert result["balanced_accuracy"]["value"] >= 0.85
    assert set(result["groups"]) == {"part_group", "shift"}
    assert result["groups"]["part_group"]["none-0"]["n"] == 3
    assert result["groups"]["part_group"]["none-0"]["balanced_accuracy"]["value"] is None, "only good parts in it"
    assert result["latency_ms"] > 0


def test_the_slices_of_a_use_case_are_scored_from_the_columns(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "images.zip", tmp_path)
    with (pictures / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        hour = 21 if number % 2 else 12
        row |= {"site": "north", "lamp_hours": str(100 * number), "taken_at": f"2026-07-06T{hour}:30:00+00:00"}
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    conditions = {
        "night": [{"fact": "hour", "op": "ge", "value": 23}],  # 21:30 UTC is 23:30 in Berlin in summer
        "worn": [{"fact": "lamp_hours", "op": "ge", "value": 3000}],
        "elsewhere": [{"fact": "site", "op": "eq", "value": "south"}],
    }
    usecase = UseCase.model_validate(
        {
            "name": "parts",
            "app": "factory",
            "outcome": {"goal": "find pits", "labels": ["none", "pitting"]},
            "people": {"owner": "o", "approver": "a", "oversight": "x"},
            "sites": [{"name": "north", "zone": "Europe/Berlin"}, {"name": "south"}],
            "slices": [{"name": name, "conditions": some} for name, some in conditions.items()],
            "data": {"fields": ["taken_at", "lamp_hours"]},
        }
    )
    found = score(bundle, tmp_path, use_case=usecase)["slices"]
    certain = [number for number, row in enumerate(rows) if row["uncertain"] != "1"]
    assert {name: part["n"] for name, part in found.items()} == {
        "night": sum(number % 2 == 1 for number in certain),
        "worn": sum(number >= 30 for number in certain),
        "elsewhere": 0,
    }
    assert (
        found["night"]["accuracy"]["low"] <= found["night"]["accuracy"]["value"] <= found["night"]["accuracy"]["high"]
    )
    assert found["elsewhere"]["accuracy"]["value"] is None


def test_uncertain_samples_are_scored_apart(bundle: Path, pictures: Path) -> None:
    result = score(bundle, pictures)
    assert result["uncertain"]["n"] == 3
    assert result["uncertain"]["accuracy"]["value"] is not None


def test_without_a_good_label_nothing_is_said_about_good_and_bad(pictures: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(pictures / "images.zip", data)
    text = (pictures / "labels.csv").read_text().replace(",none,", ",plain,")
    (data / "labels.csv").write_text(text)
    train_folder(data, tmp_path / "bundle", seconds=0.5)
    result = score(tmp_path / "bundle", data)
    assert result["good_labels"] == []
    assert result["balanced_accuracy"] == {"value": None, "low": None, "high": None}
    assert result["auc"]["value"] is None
    assert result["macro_recall"]["value"] is not None
    assert score(tmp_path / "bundle", data, good=["plain"])["balanced_accuracy"]["value"] is not None


def test_the_bundle_remembers_the_good_label_and_the_group_column(pictures: Path, tmp_path: Path) -> None:
    train_folder(pictures, tmp_path / "bundle", good=["spot"], group="shift", seconds=0.5)
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(pictures / "images.zip", data)
    kept = [line for line in (pictures / "labels.csv").read_text().splitlines() if ",none," not in line]
    (data / "labels.csv").write_text("\n".join(kept) + "\n")
    result = score(tmp_path / "bundle", data)
    assert result["good_labels"] == ["spot"]
    assert result["group_column"] == "shift"
    assert result["balanced_accuracy"]["value"] is not None


def test_unreadable_pictures_are_named(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "labels.csv", tmp_path)
    with zipfile.ZipFile(pictures / "images.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "spot-3.png").write_bytes(b"half a pict")
    result = score(bundle, tmp_path)
    assert result["unreadable"] == ["spot-3.png"]
    assert result["n"] == 68
    for number in range(10):
        (tmp_path / f"none-{number}.png").write_bytes(b"")
    with pytest.raises(NotValid, match=r"none-\d.png"):
        score(bundle, tmp_path)


def test_a_damaged_bundle_or_other_data_is_refused(bundle: Path, pictures: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(NotValid, match="takes pictures"):
        score(bundle, table)
    with pytest.raises(NotValid, match="is not a bundle"):
        score(tmp_path, pictures)
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    blob = next((broken / "blobs").iterdir())
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(NotTrusted):
        score(broken, pictures)


def test_training_writes_nothing_where_something_is(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(NotValid, match="exists already"):
        train_folder(pictures, tmp_path)
    with pytest.raises(NotValid, match="is not a folder"):
        train_folder(pictures, tmp_path / "a" / "b")
    with pytest.raises(NotValid, match="only one class"):
        train_folder(_one_class(tmp_path / "data"), tmp_path / "bundle")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "mine.txt"]


def _one_class(folder: Path) -> Path:
    (folder / "good").mkdir(parents=True)
    (folder / "good" / "a.png").write_bytes(b"")
    return folder


def test_named_good_labels_take_the_place_of_the_remembered_ones(bundle: Path, pictures: Path) -> None:
    result: dict[str, Any] = score(bundle, pictures, good=["scratch", "spot"])
    assert result["good_labels"] == ["scratch", "spot"]
    assert result["good_label"] == "scratch"
    assert result["auc"]["value"] >= 0.85
    with pytest.raises(NotValid, match="does not occur"):
        score(bundle, pictures, good=["fine"])
