"""The second trainer behind the same interface: rows of numbers, no embedding, trees instead of a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewise import delta
from edgewise.learn import TrainingSample, read_dataset, score, train, train_folder
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
    renamed = [replace(one, label="worn" if one.label == "bad" else one.label) for one in samples]
    second = train(renamed, now=world.now, trainer="tabular", base=base)
    assert second.manifest.labels == ("bad", "ok", "worn")
    pipeline = open_pipeline(second.manifest, second.digest, second.blobs.__getitem__, OnnxRuntime())
    scores = pipeline.answer(canonical({"force": 0.9, "speed": 0.9, "noise": 1}), "application/json").scores
    assert scores.argmax() == 2
    assert scores[0] == 0
    assert np.isclose(scores.sum(), 1, atol=1e-5)


def test_a_bundle_says_how_much_of_each_site_it_has_learned_from(table: Path, world: Any) -> None:
    samples = [
        replace(one, site="north" if number % 4 else "south") for number, one in enumerate(read_dataset(table).samples)
    ]
    first = train(samples, now=world.now, trainer="tabular")
    assert first.manifest.provenance.sites == {"north": 120, "south": 40}
    # A site that is not trained on again is being forgotten, so the base's sites are not said again.
    base = StoredBundle(manifest=first.manifest, digest=first.digest, blobs=first.blobs)
    later = train([one for one in samples if one.site == "south"], now=world.now, trainer="tabular", base=base)
    assert later.manifest.provenance.sites == {"south": 40}


@pytest.mark.parametrize("site", ["", "x" * 300])
def test_a_bundle_says_no_sites_where_one_sample_has_none_that_can_be_told(site: str, table: Path, world: Any) -> None:
    samples = [replace(one, site="north") for one in read_dataset(table).samples]
    samples[3] = replace(samples[3], site=site)
    assert train(samples, now=world.now, trainer="tabular").manifest.provenance.sites is None


def test_the_same_seed_makes_the_same_trees(table: Path, world: Any) -> None:
    samples = read_dataset(table).samples
    made = [train(samples, now=world.now, trainer="tabular", seed=5) for _ in range(2)]
    assert set(made[0].blobs) == set(made[1].blobs)


def test_pictures_are_not_rows(world: Any) -> None:
    with pytest.raises(NotValid, match="use the trainer `vision`"):
        train(world.surfaces(2), now=world.now, trainer="tabular")


def rows_of(count: int, *, shift: float = 0.0, seed: int = 0, start: int = 0) -> list[TrainingSample]:
    """Two measured numbers and one that says nothing; groups of four."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(start, start + count):
        force, speed = rng.normal(size=2)
        label = "worn" if force + speed**2 > 1 + shift else "ok"
        values = {"force": float(force), "speed": float(speed), "noise": float(rng.normal())}
        if rng.random() < 0.1:
            del values["noise"]
        made.append(a_row(number, label, values))
    return made


def a_row(number: int, label: str, values: dict[str, float], *, new: bool = False) -> TrainingSample:
    body = canonical(values)
    about: dict[str, Any] = {"group": f"g{number // 4}", "media_type": "application/json", "new": new}
    return TrainingSample(name=f"r{number}", label=label, read=lambda: body, **about)


def stored(made: Any) -> StoredBundle:
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


def right(made: Any, rows: list[TrainingSample]) -> float:
    pipeline = open_pipeline(made.manifest, made.digest, made.blobs.__getitem__, OnnxRuntime())
    labels = made.manifest.labels
    told = [labels[pipeline.answer(row.read(), row.media_type).scores.argmax()] for row in rows]
    return float(np.mean([said == row.label for said, row in zip(told, rows, strict=True)]))


@pytest.mark.parametrize("seed", range(3))
def test_trees_are_added_to_those_of_the_base_whose_bytes_stay(seed: int, world: Any) -> None:
    old, new = rows_of(600, seed=seed), rows_of(300, shift=0.8, seed=10 + seed, start=600)
    first = train(old, now=world.now, trainer="tabular", seed=seed)
    both = [*old, *(replace(row, new=True) for row in new)]
    second = train(both, now=world.now, trainer="tabular", seed=seed, base=stored(first))
    anew = train(both, now=world.now, trainer="tabular", seed=seed, base=stored(first), config={"restart": True})
    assert second.manifest.provenance.data["warm_start"] is True
    assert second.metrics["parity"] < 1e-5
    (before,), (after,), (fresh,) = (one.blobs.values() for one in (first, second, anew))
    update, whole = (len(delta.encode(before, graph)) for graph in (after, fresh))
    assert update < 0.6 * whole
    held = rows_of(400, shift=0.8, seed=20 + seed, start=5000)
    assert right(second, held) > right(first, held)


def test_a_new_class_or_column_starts_anew(world: Any) -> None:
    rows = rows_of(200)
    first = stored(train(rows, now=world.now, trainer="tabular"))
    more = [a_row(900 + n, "broken", {"force": 9.0, "speed": 0.0, "noise": 0.0}, new=True) for n in range(20)]
    second = train([*rows, *more], now=world.now, trainer="tabular", base=first)
    assert second.manifest.provenance.data["warm_start"] is False
    assert second.manifest.labels == ("ok", "worn", "broken")
    assert right(second, more) == 1.0
