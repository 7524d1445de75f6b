"""Rows of which only good ones are known: the bound holds what it says, and what is far off is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgewise.learn import Dataset, TrainingSample, score_samples, train
from edgewise.ports import OnnxRuntime, StoredBundle, open_pipeline
from edgewise.wire import NotValid, canonical


def row(number: int, label: str, values: np.ndarray[Any, Any]) -> TrainingSample:
    body = canonical({name: float(value) for name, value in zip("abcd", values, strict=True)})
    return TrainingSample(
        name=f"r{number}", label=label, group=f"g{number // 5}", read=lambda: body, media_type="application/json"
    )


def usual(count: int, seed: int, start: int = 0) -> list[TrainingSample]:
    """Four numbers that hang together: only three of their directions vary much."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(3, 4))
    return [row(start + n, "ok", rng.normal(size=3) @ mix + 0.05 * rng.normal(size=4)) for n in range(count)]


def odd(count: int, seed: int) -> list[TrainingSample]:
    """Each number is as large as usual; they do not hang together."""
    rng = np.random.default_rng(seed)
    return [row(90_000 + n, "leak", rng.normal(size=4) * 1.5) for n in range(count)]


def told(made: Any, rows: list[TrainingSample]) -> list[str]:
    pipeline = open_pipeline(made.manifest, made.digest, made.blobs.__getitem__, OnnxRuntime())
    return [pipeline.decide(pipeline.answer(one.read(), one.media_type), None).label for one in rows]


@pytest.mark.parametrize("seed", range(3))
def test_good_rows_exceed_the_bound_about_as_seldom_as_asked_and_odd_ones_are_found(seed: int, world: Any) -> None:
    made = train(
        usual(1200, seed),
        now=world.now,
        trainer="anomaly",
        good_labels=("ok",),
        seed=seed,
        config={"false_alarms": 0.02},
    )
    assert made.manifest.task == "anomaly-detection"
    assert made.manifest.labels == ("ok", "unusual")
    assert made.metrics["parity"] < 1e-4
    fresh = told(made, usual(2000, 50 + seed, start=10_000))
    assert fresh.count("unusual") / 2000 <= 0.05
    assert told(made, odd(100, seed)).count("unusual") >= 80


def test_what_is_known_to_be_bad_is_not_learned_from_but_measured(world: Any) -> None:
    made = train([*usual(600, 1), *odd(60, 2)], now=world.now, trainer="anomaly", good_labels=("ok",))
    assert made.metrics["auc"] > 0.95
    assert made.metrics["found"] > 0.7
    bundle = StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)
    held = (*usual(100, 7, start=20_000), *odd(40, 8))
    result = score_samples(bundle, Dataset(source="held", samples=held, good_labels=("ok",)))
    assert result["balanced_accuracy"]["value"] > 0.9


ONE_GROUP = [row(0, "ok", values) for values in np.random.default_rng(0).normal(size=(60, 4))]


@pytest.mark.parametrize(
    ("rows", "code"), [(usual(10, 1), "too_few_good"), (odd(80, 1), "too_few_good"), (ONE_GROUP, "one_group")]
)
def test_too_little_to_learn_from_is_said(rows: list[TrainingSample], code: str, world: Any) -> None:
    with pytest.raises(NotValid) as caught:
        train(rows, now=world.now, trainer="anomaly", good_labels=("ok",))
    assert caught.value.code == code


def test_a_column_that_never_changes_stops_nothing(world: Any) -> None:
    flat = [
        row(n, "ok", np.array([1.0, *values]))
        for n, values in enumerate(np.random.default_rng(3).normal(size=(300, 3)))
    ]
    made = train(flat, now=world.now, trainer="anomaly", good_labels=("ok",))
    assert told(made, [row(1, "ok", np.array([1.0, 0.1, 0.1, 0.1]))]) == ["ok"]
    assert told(made, [row(1, "ok", np.array([1.0, 50, 0.1, 0.1]))]) == ["unusual"]
