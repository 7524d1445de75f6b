"""The second trainer behind the same interface: rows of numbers, no embedding, trees instead of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewise.learn import read_dataset, score, train, train_folder
from edgewise.ports import OnnxRuntime, StoredBundle, open_pipeline
from edgewise.wire import NotValid, canonical


def test_a_table_is_learned_and_scored(table: Path, tmp_path: Path) -> None:
    made = train_folder(table, tmp_path / "bundle")
    assert made.manifest.task == "tabular-classification"
    assert made.manifest.graphs[0].embedding is None
    assert made.manifest.good_labels == ("ok",)
    assert made.metrics["parity"] < 1e-5
    result = score(tmp_path / "bundle", table)
    assert result["balanced_accuracy"]["value"] >= 0.95
    assert result["n"] == 160


def test_a_class_of_the_base_that_is_not_seen_again_keeps_its_place(table: Path, world: Any) -> None:
    samples = read_dataset(table).samples
    first = train(samples, now=world.now, trainer="tabular")
    base = StoredBundle(manifest=first.manifest, digest=first.digest, blobs=first.blobs)
    from dataclasses import replace

    renamed = [replace(one, label="worn" if one.label == "bad" else one.label) for one in samples]
    second = train(renamed, now=world.now, trainer="tabular", base=base)
    assert second.manifest.labels == ("bad", "ok", "worn")
    pipeline = open_pipeline(second.manifest, second.digest, second.blobs.__getitem__, OnnxRuntime())
    scores = pipeline.answer(canonical({"force": 0.9, "speed": 0.9, "noise": 1}), "application/json").scores
    assert scores.argmax() == 2
    assert scores[0] == 0
    assert np.isclose(scores.sum(), 1, atol=1e-5)


def test_the_same_seed_makes_the_same_trees(table: Path, world: Any) -> None:
    samples = read_dataset(table).samples
    made = [train(samples, now=world.now, trainer="tabular", seed=5) for _ in range(2)]
    assert set(made[0].blobs) == set(made[1].blobs)


def test_pictures_are_not_rows(world: Any) -> None:
    with pytest.raises(NotValid, match="use the trainer `vision`"):
        train(world.surfaces(2), now=world.now, trainer="tabular")
