"""A plain convolutional network for small pictures, such as crops of 32 × 32: some 6,500 weights, all learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgewise import delta
from edgewise.learn._graph import GraphBuilder, read_weights
from edgewise.learn._steps import Recipe, Training, bounded, freeze_norms, prepare_samples, recipe_of, split
from edgewise.learn._style import mix_manners
from edgewise.learn._trainer import ConfigValue, Fitted, Floats, Job, flag, whole
from edgewise.wire import ImageSpec, NotValid

ARCHITECTURE = "edgewise-small-1"  # changes whenever the weights of one make cannot serve the other
STEPS_MIN, STEPS_MAX = 160, 800
STEPS_PER_NEW = 1.5  # training effort follows the data: a fixed number wastes most of what many labels could teach
BATCH = 48
STYLE = 0.5
LAST_SIDE = 4  # of the last map, at least: blocks halve the picture down to it


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What makes two networks alike enough that one can start from the other.

    Attributes:
        size: side of the picture, pixels.
        width: channels of the first block; the others have 5/3 of it.
        colours: 1 for grey, 3 for colour.
    """

    size: int
    width: int
    colours: int
    per_image: bool

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels behind each block.

        >>> Shape(size=32, width=12, colours=1, per_image=True).widths
        (12, 20, 20)
        """
        blocks = 1
        while self.size // 2 ** (blocks + 1) >= LAST_SIDE:
            blocks += 1
        return (self.width, *[round(self.width * 5 / 3)] * (blocks - 1))

    @property
    def spec(self) -> ImageSpec:
        grey = (0.5,) * self.colours, (0.25,) * self.colours
        return ImageSpec(
            width=self.size,
            height=self.size,
            channels=3 if self.colours == 3 else 1,
            mean=grey[0],
            std=grey[1],
            per_image=self.per_image,
        )


def shape_of(config: Mapping[str, ConfigValue]) -> Shape:
    """The shape that an order asks for: `size` (32), `width` (12), `channels` (1 or 3), `per_image` (true).

    Raises:
        NotValid: out of bounds.
    """
    colours = whole(config, "channels", 1, low=1, high=3)
    if colours == 2:
        raise NotValid("config channels is 2, needs to be 1 (grey) or 3 (colour)", code="config_invalid")
    return Shape(
        size=whole(config, "size", 32, low=8, high=256),
        width=whole(config, "width", 12, low=4, high=256),
        colours=colours,
        per_image=flag(config, "per_image") if "per_image" in config else True,
    )


class SmallNetwork(nn.Module):
    """Blocks of convolution, norm and pooling; a linear head on the mean and the maximum of the last map."""

    def __init__(self, shape: Shape, *, classes: int) -> None:
        super().__init__()
        widths = shape.widths
        for place, (before, after) in enumerate(zip((shape.colours, *widths), widths, strict=False)):
            self.add_module(f"conv{place}", nn.Conv2d(before, after, 3, padding=1, bias=False))
            self.add_module(f"norm{place}", nn.BatchNorm2d(after))
        self.blocks = len(widths)
        self.width = 2 * widths[-1]
        self.level = nn.BatchNorm1d(self.width, affine=False)
        self.head = nn.Linear(self.width, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def embed(self, pictures: Tensor) -> Tensor:
        """Embedding, float32 (N, width): about zero mean and unit spread in each column."""
        values = pictures
        for place in range(self.blocks):
            values = self.get_submodule(f"conv{place}")(values)
            values = functional.max_pool2d(functional.relu(self.get_submodule(f"norm{place}")(values)), 2)
        level: Tensor = self.level(torch.cat([values.mean((2, 3)), values.amax((2, 3))], 1))
        return level

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits, float32 (N, classes), from pictures, float32 (N, colours, size, size)."""
        logits: Tensor = self.head(self.embed(pictures))
        return logits

    def take(self, weights: Mapping[str, NDArray[np.float32]], *, known: int) -> None:
        """Start from the weights of a network with the first `known` of our classes."""
        state = self.state_dict()
        for name, values in state.items():
            if name in weights:
                (values[:known] if name.startswith("head.") else values).copy_(
                    torch.from_numpy(np.array(weights[name]))
                )
        self.load_state_dict(state)


def fit_small(job: Job) -> Fitted:
    """The network for these pictures. See `Trainer.fit`."""
    shape = shape_of(job.config)
    recipe = recipe_of(_with_defaults(job), len(job.samples))
    with bounded(recipe.threads, job.seed):
        network, base = _network(job, shape)
        if base is not None and recipe.freeze_norm:
            freeze_norms(network)
        held = prepare_samples(job, lambda pictures: pictures, shape.spec)
        kept, part = split(held.samples, recipe, job.seed)
        run = Training(network=network, held=held, recipe=recipe, kept=kept, part=part, job=job, augment=augment)
        run.train()
        best = run.best
        assert isinstance(best, SmallNetwork)
        if recipe.snap and base is not None:
            weights = read_weights(delta.snap(base, export(best, shape)))[1]
            best.take(weights, known=len(job.labels))
    return Fitted(
        graph=export(best, shape),
        input="input",
        scores="scores",
        embedding="embedding",
        pre=shape.spec,
        reference=_reference(best),
        probe=held.probe,
        metrics=run.metrics,
        log=tuple(run.log),
        libraries={"torch": metadata.version("torch")},
        facts={
            "architecture": ARCHITECTURE,
            "warm_start": base is not None,
            "snapped": recipe.snap and base is not None,
            "norms_frozen": recipe.freeze_norm and base is not None,
            "steps": run.steps_done,
            "stopped_by_clock": run.steps_done < recipe.steps,
            "validation_samples": len(part),
            "device": recipe.device,
        },
        unreadable=held.unreadable,
        aside=tuple(held.samples[index].name for index in part),
    )


def augment(pictures: Tensor, recipe: Recipe, chance: np.random.Generator) -> Tensor:
    """The pictures turned by 180°, moved by a few pixels, brighter or darker, noisy, some in the manner of others."""
    count, _, height, _ = pictures.shape
    turned = torch.from_numpy(chance.random(count) < 0.5)[:, None, None, None]
    values = torch.where(turned, pictures.flip((2, 3)), pictures)
    reach = max(1, round(recipe.shift * height))
    down, right = chance.integers(-reach, reach + 1, 2)  # of the whole batch: ten times as fast, and batches are many
    values = values.roll((int(down), int(right)), (2, 3))
    gain = 1 + torch.from_numpy(chance.uniform(-recipe.gain, recipe.gain, (count, 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(chance.standard_normal(tuple(values.shape), dtype=np.float32)) * recipe.noise
    values = values * gain + noise
    return mix_manners(values, recipe.style, chance) if recipe.style else values


def export(network: SmallNetwork, shape: Shape) -> bytes:
    """The network as an ONNX file: `input` -> `scores` (probabilities) and `embedding`.

    Norms stay nodes of their own, so that their statistics can be exchanged for those of a site.
    """
    network = network.eval()
    graph = GraphBuilder()
    for name, values in network.state_dict().items():
        if values.dtype == torch.float32:
            graph.weight(name, values.contiguous().numpy())
    graph.weight("level.weight", np.ones(network.width, np.float32))
    graph.weight("level.bias", np.zeros(network.width, np.float32))

    def norm(name: str, values: str) -> str:
        parts = [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return graph.op("BatchNormalization", [values, *parts], epsilon=1e-5)

    values = "input"
    for place in range(network.blocks):
        values = graph.op("Conv", [values, f"conv{place}.weight"], pads=[1] * 4)
        values = graph.op("Relu", [norm(f"norm{place}", values)])
        values = graph.op("MaxPool", [values], kernel_shape=[2, 2], strides=[2, 2])
    pooled = [graph.op(kind, [values]) for kind in ("GlobalAveragePool", "GlobalMaxPool")]
    joined = graph.op("Concat", [graph.op("Flatten", [part], axis=1) for part in pooled], axis=1)
    embedding = graph.op("Identity", [norm("level", joined)], name="embedding")
    logits = graph.op("Gemm", [embedding, "head.weight", "head.bias"], transB=1)
    graph.op("Softmax", [logits], name="scores", axis=1)
    return graph.build(
        input_name="input",
        input_shape=(shape.colours, shape.size, shape.size),
        outputs={"scores": network.head.out_features, "embedding": network.width},
        producer=ARCHITECTURE,
    )


def _with_defaults(job: Job) -> dict[str, ConfigValue]:
    """The order's config with the steps and the batch that suit small pictures, where it does not say others."""
    new = sum(sample.new for sample in job.samples) or len(job.samples)
    config = dict(job.config)
    if "seconds" not in config:
        config.setdefault("steps", int(min(STEPS_MAX, max(STEPS_MIN, STEPS_PER_NEW * new))))
    config.setdefault("batch", BATCH)
    config.setdefault("style", STYLE)
    return config


def _network(job: Job, shape: Shape) -> tuple[SmallNetwork, bytes | None]:
    """A network for the job's labels, and the base's graph where its weights are taken over."""
    network = SmallNetwork(shape, classes=len(job.labels))
    if job.base is None:
        return network, None
    manifest = job.base.manifest
    data = job.base.read_blob(manifest.blobs[manifest.graphs[0].blob].sha256)
    made_by, weights = read_weights(data)
    alike = made_by == ARCHITECTURE and manifest.graphs[0].pre == shape.spec
    same = all(
        weights[name].shape == tuple(values.shape)
        for name, values in network.state_dict().items()
        if name in weights and not name.startswith("head.")
    )
    if not (alike and same):
        return network, None
    network.take(weights, known=len(manifest.labels))
    return network, data


def _reference(network: SmallNetwork) -> Callable[[Floats], tuple[Floats, Floats | None]]:
    """What the trained network answers to prepared inputs, by PyTorch alone."""

    def answer(inputs: Floats) -> tuple[Floats, Floats | None]:
        with torch.no_grad():
            embedding = network.embed(torch.from_numpy(inputs))
            return network.head(embedding).softmax(1).numpy(), embedding.numpy()

    return answer
