"""A trainer of somebody else: found by its entry point, held to what every trainer promises, and never trusted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from edgewise.learn import train
from edgewise.learn._trainer import trainer_named
from edgewise.wire import NotValid

CODE = """
import numpy as np
from edgewise.learn import Fitted
from edgewise.learn._graph import GraphBuilder
from edgewise.wire import ImageSpec

SPEC = ImageSpec(width=16, height=16)

class Mean:
    task = "image-classification"
    lies = 0.0

    def fit(self, job):
        count = len(job.labels)
        weights = np.linspace(-1, 1, count, dtype=np.float32)[None]
        graph = GraphBuilder()
        graph.weight("weights", weights)
        flat = graph.op("Flatten", [graph.op("GlobalAveragePool", ["input"])], axis=1)
        graph.op("Softmax", [graph.op("MatMul", [flat, "weights"])], name="scores", axis=1)
        data = graph.build(input_name="input", input_shape=(1, 16, 16), outputs={"scores": count}, producer="mine")

        def reference(inputs):
            raw = np.exp(inputs.mean((1, 2, 3))[:, None] @ weights)
            return (raw / raw.sum(axis=1, keepdims=True) + self.lies).astype(np.float32), None

        return Fitted(graph=data, input="input", scores="scores", embedding=None, pre=SPEC, reference=reference,
                      probe=np.zeros((1, 1, 16, 16), np.float32), metrics={}, log=("mine",), libraries={}, facts={})

class Liar(Mean):
    lies = 0.2
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_trainers.py").write_text(CODE)
    about = tmp_path / "my_trainers-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my_trainers\nVersion: 1\n")
    points = (
        "mean = my_trainers:Mean",
        "liar = my_trainers:Liar",
        "gone = my_trainers:Gone",
        "vision = my_trainers:Mean",
    )
    (about / "entry_points.txt").write_text("[edgewise.trainers]\n" + "\n".join(points) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_trainers", raising=False)
    return tmp_path


@pytest.mark.usefixtures("site")
def test_a_package_brings_a_trainer_and_its_bundle_is_checked_like_any_other(world: Any) -> None:
    made = train(world.surfaces(8), now=world.now, trainer="mean")
    assert made.manifest.provenance.trainer == "mean"
    assert made.metrics["parity"] < 1e-5
    with pytest.raises(NotValid, match="differs from the trained network by"):
        train(world.surfaces(8), now=world.now, trainer="liar")


@pytest.mark.usefixtures("site")
def test_what_is_not_there_is_said_and_ours_stay_ours() -> None:
    with pytest.raises(NotValid, match="is not where its package says, my_trainers:Gone"):
        trainer_named("gone")
    with pytest.raises(
        NotValid, match="there are anomaly, boxes, forecast, gone, liar, mean, regression, tabular, vision"
    ):
        trainer_named("other")
    assert type(trainer_named("vision")).__module__.startswith("edgewise.")
