"""Rows of numbers with a value that follows from them, for tests of everything that states values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from edgewise.learn import TrainedBundle, TrainingSample, train
from edgewise.ports import OnnxRuntime, Pipeline, open_pipeline
from edgewise.wire import canonical

NOW = datetime(2026, 5, 1, tzinfo=UTC)
FAST = {"trees": 40, "learning_rate": 0.15, "depth": 4, "target": "wear", "unit": "um"}


def row(seed: int, number: int) -> tuple[dict[str, float], float]:
    """A row and its value: louder where the force is large, so that one width fits nowhere."""
    rng = np.random.default_rng([seed, number])
    force, speed = rng.normal(size=2)
    value = 30 + 10 * force + 5 * speed**2 + rng.normal() * (1 + 2 * abs(force))
    return {"force": round(float(force), 4), "speed": round(float(speed), 4)}, round(float(value), 3)


def samples(groups: int, *, each: int = 12, seed: int = 0, sites: Sequence[str] = ("a",)) -> list[TrainingSample]:
    made = []
    for group in range(groups):
        for one in range(each):
            body, value = row(seed, group * each + one)
            data = canonical(body)
            made.append(
                TrainingSample(
                    name=f"{group}-{one}",
                    label=str(value),
                    group=f"part-{group}",
                    site=sites[group % len(sites)],
                    read=lambda data=data: data,
                    media_type="application/json",
                )
            )
    return made


def trained(groups: int = 60, *, seed: int = 0, **config: float | str) -> TrainedBundle:
    return train(samples(groups, seed=seed), now=NOW, trainer="regression", config={**FAST, **config})


def pipeline_of(made: TrainedBundle) -> Pipeline:
    return open_pipeline(made.manifest, made.digest, made.blobs.__getitem__, OnnxRuntime())
