"""On a GPU a training makes a bundle that decides on a CPU as one made there does. Skipped where PyTorch sees none."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image

from edgewise.learn import TrainingSample, train
from edgewise.learn._checkpoint import Checkpoint
from edgewise.ports import OnnxRuntime, StoredBundle, open_pipeline

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def sample(seed: int, label: str) -> TrainingSample:
    rng = np.random.default_rng([seed, label == "spot"])
    values = 120 + rng.normal(0, 8, (48, 48))
    if label == "spot":
        y, x = rng.uniform(12, 36, 2)
        rows, columns = np.mgrid[0:48, 0:48]
        values -= 70 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 12)
    file = io.BytesIO()
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(file, "PNG")
    return TrainingSample(
        name=f"{label}{seed}", label=label, group=f"{label}{seed}", read=file.getvalue, media_type="image/png"
    )


@pytest.fixture(scope="module")
def samples() -> list[TrainingSample]:
    return [sample(seed, label) for seed in range(40) for label in ("ok", "spot")]


@pytest.mark.parametrize("architecture", ["small", "surface"])
def test_a_network_trained_on_a_gpu_is_right_on_a_cpu(samples: list[TrainingSample], architecture: str) -> None:
    config = {"architecture": architecture, "steps": 120}
    found = {}
    for device in ("cuda", "cpu"):
        made = train(samples, now=NOW, good_labels=("ok",), seed=1, config={**config, "device": device})
        bundle = StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)
        assert bundle.manifest.provenance.data["device"] == device
        pipeline = open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())
        unseen = [sample(seed, label) for seed in range(900, 930) for label in ("ok", "spot")]
        told = [bundle.manifest.labels[pipeline.answer(one.read(), "image/png").scores.argmax()] for one in unseen]
        found[device] = float(np.mean([one.label == label for one, label in zip(unseen, told, strict=True)]))
    assert found["cuda"] > 0.9, found
    assert abs(found["cuda"] - found["cpu"]) < 0.1, found


def test_auto_takes_the_gpu(samples: list[TrainingSample]) -> None:
    made = train(samples, now=NOW, good_labels=("ok",), config={"architecture": "small", "steps": 4})
    assert made.manifest.provenance.data["device"] == "cuda"


def test_a_training_that_was_ended_goes_on_on_the_gpu(samples: list[TrainingSample], tmp_path) -> None:
    class Ended(Exception):
        pass

    def end(what: str, share: float) -> None:
        if what == "train" and share > 0.6:
            raise Ended

    path = tmp_path / "state.checkpoint"
    config = {"architecture": "small", "steps": 100, "device": "cuda"}
    with pytest.raises(Ended):
        train(samples, now=NOW, config=config, progress=end, checkpoint=Checkpoint(path, "k", every_s=0.0))
    stages: list[float] = []
    train(
        samples,
        now=NOW,
        config=config,
        progress=lambda what, share: stages.append(share) if what == "train" else None,
        checkpoint=Checkpoint(path, "k"),
    )
    assert min(stages) > 0.5
