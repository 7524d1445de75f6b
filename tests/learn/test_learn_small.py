"""The small network: learns small pictures, goes on from a base, keeps its updates small, and says when it cannot."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgewise import delta
from edgewise.learn import TrainingSample, make_variants, train
from edgewise.learn._graph import read_weights
from edgewise.learn._small import Shape, SmallNetwork, _with_defaults, augment, shape_of
from edgewise.learn._steps import Held, Training, recipe_of
from edgewise.learn._style import mix_manners
from edgewise.learn._trainer import Job
from edgewise.ports import OnnxRuntime, StoredBundle, open_pipeline
from edgewise.wire import NotValid

CONFIG: dict[str, Any] = {"architecture": "small", "steps": 120}


def crop(seed: int, label: str, *, colour: bool = False) -> TrainingSample:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:32, 0:32]
    values = 120 + 12 * np.sin(rows / 1.5 + rng.uniform(0, 6)) + rng.normal(0, 6, (32, 32))
    x, y = rng.uniform(8, 24, 2)
    near = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8)
    values += {"ok": 0, "pit": -70, "spot": 70}.get(label, 0) * near
    if label == "wave":
        values += 30 * np.sin(columns / 1.2)
    pixels = np.clip(values, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.stack([pixels] * 3, 2) if colour else pixels).save(file, "PNG")
    return TrainingSample(
        name=f"{label}{seed}", label=label, group=f"{label}{seed // 2}", read=file.getvalue, media_type="image/png"
    )


def crops(count: int, *labels: str, seed: int = 0, **more: Any) -> list[TrainingSample]:
    return [crop(seed + number, label, **more) for label in labels for number in range(count)]


def stored(made: Any) -> StoredBundle:
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


def graph_of(made: Any) -> bytes:
    (data,) = made.blobs.values()
    return bytes(data)


def recall(made: Any, samples: list[TrainingSample]) -> dict[str, float]:
    pipeline = open_pipeline(made.manifest, made.digest, made.blobs.__getitem__, OnnxRuntime())
    found: dict[str, list[bool]] = {}
    for one in samples:
        told = made.manifest.labels[pipeline.answer(one.read(), "image/png").scores.argmax()]
        found.setdefault(one.label, []).append(told == one.label)
    return {label: float(np.mean(right)) for label, right in found.items()}


@pytest.fixture(scope="module")
def first(world: Any) -> Any:
    return train(crops(60, "ok", "pit", "spot"), now=world.now, good_labels=("ok",), config=CONFIG)


HELD = crops(40, "ok", "pit", "spot", seed=5000)


def test_small_pictures_are_learned_with_an_embedding_that_says_more_than_the_label(first: Any) -> None:
    assert min(recall(first, HELD).values()) >= 0.8
    graph = first.manifest.graphs[0]
    assert (graph.pre.width, graph.embedding) == (32, "embedding")
    assert len(graph_of(first)) < 40_000
    assert first.metrics["parity"] < 1e-4
    assert first.manifest.needs.opset == 17


def test_the_same_seed_makes_the_same_bytes_and_another_makes_others(first: Any, world: Any) -> None:
    samples = crops(60, "ok", "pit", "spot")
    again, other = (train(samples, now=world.now, good_labels=("ok",), seed=seed, config=CONFIG) for seed in (0, 1))
    assert graph_of(again) == graph_of(first)
    assert graph_of(other) != graph_of(first)


def test_a_new_class_is_added_behind_and_the_old_ones_are_not_forgotten(first: Any, world: Any) -> None:
    new = [replace(one, new=True) for one in crops(20, "wave", seed=900)]
    made = train([*crops(60, "ok", "pit", "spot"), *new], now=world.now, base=stored(first), config=CONFIG)
    assert made.manifest.labels == (*first.manifest.labels, "wave")
    assert made.manifest.provenance.data["warm_start"] is True
    after = recall(made, [*HELD, *crops(40, "wave", seed=7000)])
    assert after["wave"] >= 0.8
    assert min(after[label] - value for label, value in recall(first, HELD).items()) >= -0.15


def test_frozen_norms_stay_and_snapped_updates_are_cheap_to_send(first: Any, world: Any) -> None:
    samples = [replace(one, new=True) for one in crops(20, "ok", "pit", "spot", seed=300)]
    both = [*crops(60, "ok", "pit", "spot"), *samples]
    sizes = {}
    for name, more in (
        ("plain", {}),
        ("frozen", {"freeze_norm": True}),
        ("snapped", {"freeze_norm": True, "snap": True}),
    ):
        made = train(both, now=world.now, base=stored(first), config=CONFIG | more)
        assert min(recall(made, HELD).values()) >= 0.7
        sizes[name] = len(delta.encode(graph_of(first), graph_of(made), thorough=True))
        if name == "frozen":
            old, new = (read_weights(graph_of(one))[1] for one in (first, made))
            norms = [key for key in old if key.startswith("norm") or key.startswith("level")]
            assert norms
            assert all(np.array_equal(old[key], new[key]) for key in norms)
    assert sizes["frozen"] < sizes["plain"]
    assert sizes["snapped"] < 0.6 * sizes["plain"]


def test_another_shape_starts_anew(first: Any, world: Any) -> None:
    made = train(crops(10, "ok", "pit"), now=world.now, base=stored(first), config=CONFIG | {"width": 8, "steps": 5})
    assert made.manifest.provenance.data["warm_start"] is False


def test_colour_and_other_sizes(world: Any) -> None:
    config = CONFIG | {"channels": 3, "size": 64, "steps": 10}
    made = train(crops(10, "ok", "pit", colour=True), now=world.now, config=config)
    assert made.manifest.graphs[0].pre.channels == 3
    assert Shape(size=64, width=12, colours=3, per_image=True).widths == (12, 20, 20, 20)


def test_smaller_forms_can_be_made_of_it(first: Any) -> None:
    found = make_variants(stored(first), ("fp16", "int8"), crops(20, "ok", "pit", "spot"))
    assert "fp16" in found.made
    assert set(found.made) | set(found.left_out) == {"fp16", "int8"}


@pytest.mark.parametrize(("count", "steps"), [(40, 160), (400, 600), (2000, 800)])
def test_steps_follow_the_number_of_new_labels(count: int, steps: int) -> None:
    samples = tuple(
        TrainingSample(name="s", label="a", group="g", read=bytes, new=place < count) for place in range(2500)
    )
    assert _with_defaults(Job(samples=samples, labels=("a", "b")))["steps"] == steps


@pytest.mark.parametrize(
    "config",
    [{"channels": 2}, {"size": 4}, {"width": 0}, {"architecture": "huge"}, {"device": "cuda"}, {"device": "tpu"}],
)
def test_a_wrong_setting_is_named(config: dict[str, Any], world: Any) -> None:
    with pytest.raises(NotValid, match=next(iter(config))):
        train(crops(4, "ok", "pit"), now=world.now, config=CONFIG | config)


def test_a_training_whose_loss_is_no_number_ends_in_one_sentence() -> None:
    samples = tuple(crops(4, "ok", "pit"))
    features = torch.full((8, 1, 32, 32), float("nan"))
    truth = torch.tensor([0] * 4 + [1] * 4)
    held = Held(samples=samples, features=features, truth=truth, probe=features.numpy(), unreadable=())
    network = SmallNetwork(shape_of({}), classes=2)
    recipe = recipe_of({"steps": 5, "batch": 4}, 8)
    job = Job(samples=samples, labels=("ok", "pit"))
    run = Training(network=network, held=held, recipe=recipe, kept=list(range(8)), part=[], job=job, augment=augment)
    with pytest.raises(NotValid, match="the loss became nan at step 1; lower learning_rate"):
        run.train()


def test_shapes_have_defaults() -> None:
    assert shape_of({}) == Shape(size=32, width=12, colours=1, per_image=True)


def test_pictures_take_the_manner_of_others_and_keep_where_things_are() -> None:
    chance = np.random.default_rng(3)
    pictures = torch.from_numpy(chance.standard_normal((20, 1, 32, 32)).astype(np.float32))
    pictures[10:] = torch.nn.functional.avg_pool2d(pictures[10:], 3, 1, 1)  # half of them out of focus
    assert torch.allclose(mix_manners(pictures, 0.0, chance), pictures, atol=1e-5)
    mixed = mix_manners(pictures, 1.0, chance)
    for kept in (torch.mean, torch.std):
        assert torch.allclose(kept(mixed, dim=(1, 2, 3)), kept(pictures, dim=(1, 2, 3)), atol=1e-4)
    phases = [torch.angle(torch.fft.rfft2(one))[..., 1:-1, 1:-1] for one in (mixed, pictures)]
    assert float(torch.cos(phases[0] - phases[1]).min()) > 0.99
    sharp = [torch.fft.rfft2(one).abs()[:, 0, 12:20, 12:].mean((1, 2)) for one in (mixed, pictures)]
    assert float((sharp[0] / sharp[1] - 1).abs().max()) > 0.3, "nothing changed"


def test_the_share_of_other_manners_is_a_setting() -> None:
    job = Job(samples=(), labels=(), good_labels=(), base=None, seed=0, config={"style": 0.0}, progress=lambda *_: None)
    assert recipe_of(_with_defaults(job), 10).style == 0.0
    assert recipe_of(_with_defaults(replace(job, config={})), 10).style == 0.5
    with pytest.raises(NotValid, match="style is 2, needs to be a number from 0 to 1"):
        recipe_of({"style": 2}, 10)
