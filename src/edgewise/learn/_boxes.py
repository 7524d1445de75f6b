"""The trainer for small objects: where in a picture something is, by a map of centres and one of the boxes' sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgewise import delta
from edgewise.learn._box_data import STRIDE, boxed, targets
from edgewise.learn._box_goal import BoxGoal
from edgewise.learn._graph import GraphBuilder, read_weights
from edgewise.learn._small import Shape, shape_of
from edgewise.learn._steps import Training, bounded, freeze_norms, prepare_samples, recipe_of, split
from edgewise.learn._trainer import ConfigValue, Fitted, Floats, Job, number
from edgewise.wire import Detections, NotValid

ARCHITECTURE = "edgewise-boxes-1"  # changes whenever the weights of one make cannot serve the other
SIZE, WIDTH, BATCH = 128, 16, 16
STEPS_MIN, STEPS_MAX, STEPS_PER_NEW = 300, 1500, 1.5
REACH = (1, 1, 1, 2, 4)  # of each layer's filter, cells: the last ones see far without making the map coarser
POOLED = 2  # of them, the first: two halvings make cells of four pixels
SELDOM = -2.19  # logit that a centre starts at: 0.1, for nearly all cells have none


class BoxNetwork(nn.Module):
    """The small network's blocks on a map of a quarter of the picture's side, with heads for centres and extents."""

    def __init__(self, shape: Shape, *, classes: int) -> None:
        super().__init__()
        later = round(shape.width * 5 / 3)
        widths = (shape.colours, shape.width, *[later] * (len(REACH) - 1))
        for place, reach in enumerate(REACH):
            before, after = widths[place], widths[place + 1]
            self.add_module(f"conv{place}", nn.Conv2d(before, after, 3, padding=reach, dilation=reach, bias=False))
            self.add_module(f"norm{place}", nn.BatchNorm2d(after))
        self.width = 2 * later
        self.level = nn.BatchNorm1d(self.width, affine=False)
        self.centres = nn.Conv2d(later, classes, 1)
        self.extents = nn.Conv2d(later, 4, 1)
        nn.init.constant_(self.centres.bias, SELDOM)  # type: ignore[arg-type]

    def look(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of centres (N, K, h, w), extents (N, 4, h, w) and embedding (N, width)."""
        values = pictures
        for place in range(len(REACH)):
            values = functional.relu(self.get_submodule(f"norm{place}")(self.get_submodule(f"conv{place}")(values)))
            if place < POOLED:
                values = functional.max_pool2d(values, 2)
        # The level is no part of the loss; it follows what the embedding is like.
        level = self.level(torch.cat([values.mean((2, 3)), values.amax((2, 3))], 1).detach())
        return self.centres(values), self.extents(values), level

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of centres and extents, from pictures, float32 (N, colours, size, size)."""
        centres, extents, _ = self.look(pictures)
        return centres, extents

    def take(self, weights: Mapping[str, NDArray[np.float32]], *, places: Mapping[int, int]) -> None:
        """Start from the weights of another such network.

        Args:
            places: of its classes among ours.
        """
        state = self.state_dict()
        for name, values in state.items():
            if name not in weights:
                continue
            theirs = torch.from_numpy(np.array(weights[name]))
            if name.startswith("centres."):
                for place, ours in places.items():
                    values[ours] = theirs[place]
            else:
                values.copy_(theirs)
        self.load_state_dict(state)


class BoxTrainer:
    """Finds small things in pictures. It learns from boxes that were drawn, or from masks."""

    @property
    def task(self) -> Literal["object-detection"]:
        return "object-detection"

    def fit(self, job: Job) -> Fitted:
        """The network for these pictures. See `Trainer.fit`.

        Config: as `small`, and `threshold` (0.5) of a centre; `size` is 128, a multiple of 4.
        """
        shape = _shape(job.config)
        told = _detections(job)
        found = boxed(job, told.labels)
        job = replace(job, samples=found.samples)
        recipe = recipe_of(_with_defaults(job), len(job.samples))
        with bounded(recipe.threads, job.seed):
            network, base = _network(job, shape, told)
            if base is not None and recipe.freeze_norm:
                freeze_norms(network)
            held = prepare_samples(job, lambda pictures: pictures, shape.spec)
            maps = [targets(found.boxes[one.name], told.labels, shape.size // STRIDE) for one in held.samples]
            held = replace(held, truth=torch.stack(maps))
            kept, part = split(held.samples, recipe, job.seed)
            goal = BoxGoal(held, recipe)
            run = Training(
                network=network,
                held=held,
                recipe=recipe,
                kept=kept,
                part=part,
                job=job,
                augment=lambda values, _recipe, _chance: values,
                goal=goal,
            )
            run.train()
            best = run.best
            assert isinstance(best, BoxNetwork)
            if recipe.snap and base is not None:
                weights = read_weights(delta.snap(base, export(best, shape, job.labels, told)))[1]
                best.take(weights, places={place: place for place in range(len(told.labels))})
        return Fitted(
            graph=export(best, shape, job.labels, told),
            input="input",
            scores="scores",
            embedding="embedding",
            pre=shape.spec,
            reference=_reference(best, job.labels, told),
            maps=_maps(best),
            detections=told,
            probe=held.probe,
            metrics=run.metrics,
            log=(*found.said, *run.log),
            libraries={"torch": metadata.version("torch")},
            facts={
                "architecture": ARCHITECTURE,
                "warm_start": base is not None,
                "snapped": recipe.snap and base is not None,
                "steps": run.steps_done,
                "stopped_by_clock": run.steps_done < recipe.steps,
                "validation_samples": len(part),
                "device": recipe.device,
                "boxes": sum(map(len, found.boxes.values())),
                "left_out": "; ".join(found.said)[:1000],
            },
            unreadable=held.unreadable,
            aside=tuple(held.samples[index].name for index in part),
        )


def export(network: BoxNetwork, shape: Shape, labels: tuple[str, ...], told: Detections) -> bytes:
    """The network as an ONNX file: `input` -> `centres`, `extents`, `scores` and `embedding`.

    The score of a class is its surest centre, that of a good picture how sure the network is that nothing is there.
    """
    network = network.eval()
    graph = GraphBuilder()
    for name, values in network.state_dict().items():
        if values.dtype == torch.float32:
            graph.weight(name, values.contiguous().numpy())
    graph.weight("level.weight", np.ones(network.width, np.float32))
    graph.weight("level.bias", np.zeros(network.width, np.float32))
    graph.weight("one", np.ones((1, 1), np.float32))
    graph.weight("order", np.array(_order(labels, told), np.int64))

    def norm(name: str, values: str) -> str:
        parts = [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return graph.op("BatchNormalization", [values, *parts], epsilon=1e-5)

    values = "input"
    for place, reach in enumerate(REACH):
        values = graph.op("Conv", [values, f"conv{place}.weight"], pads=[reach] * 4, dilations=[reach] * 2)
        values = graph.op("Relu", [norm(f"norm{place}", values)])
        if place < POOLED:
            values = graph.op("MaxPool", [values], kernel_shape=[2, 2], strides=[2, 2])
    graph.op("Conv", [values, "extents.weight", "extents.bias"], name="extents")
    centres = graph.op("Conv", [values, "centres.weight", "centres.bias"])
    graph.op("Sigmoid", [centres], name="centres")
    surest = graph.op("Flatten", [graph.op("GlobalMaxPool", ["centres"])], axis=1)
    nothing = graph.op("Sub", ["one", graph.op("ReduceMax", [surest], axes=[1], keepdims=1)])
    graph.op("Gather", [graph.op("Concat", [surest, nothing], axis=1), "order"], name="scores", axis=1)
    pooled = [graph.op(kind, [values]) for kind in ("GlobalAveragePool", "GlobalMaxPool")]
    joined = graph.op("Concat", [graph.op("Flatten", [part], axis=1) for part in pooled], axis=1)
    graph.op("Identity", [norm("level", joined)], name="embedding")
    side = shape.size // STRIDE
    return graph.build(
        input_name="input",
        input_shape=(shape.colours, shape.size, shape.size),
        outputs={
            "scores": len(labels),
            "embedding": network.width,
            "centres": (len(told.labels), side, side),
            "extents": (4, side, side),
        },
        producer=ARCHITECTURE,
    )


def _shape(config: Mapping[str, ConfigValue]) -> Shape:
    shape = shape_of({"size": SIZE, "width": WIDTH, **config})
    if shape.size % STRIDE:
        raise NotValid(f"config size is {shape.size}, needs to be a multiple of {STRIDE}", code="config_invalid")
    return shape


def _detections(job: Job) -> Detections:
    if len(job.good_labels) > 1:
        raise NotValid(
            f"{', '.join(job.good_labels)} all mean that nothing is there; a training of boxes needs one such label",
            code="good_label_unknown",
        )
    return Detections(
        centres="centres",
        extents="extents",
        labels=tuple(label for label in job.labels if label not in job.good_labels),
        threshold=number(job.config, "threshold", 0.5, low=0.05, high=0.95),
    )


def _order(labels: tuple[str, ...], told: Detections) -> list[int]:
    """Of each label, the place of its score: behind those of what is found stands that of nothing."""
    return [told.labels.index(label) if label in told.labels else len(told.labels) for label in labels]


def _with_defaults(job: Job) -> dict[str, ConfigValue]:
    new = sum(sample.new for sample in job.samples) or len(job.samples)
    config = dict(job.config)
    if "seconds" not in config:
        config.setdefault("steps", int(min(STEPS_MAX, max(STEPS_MIN, STEPS_PER_NEW * new))))
    config.setdefault("batch", BATCH)
    return config


def _network(job: Job, shape: Shape, told: Detections) -> tuple[BoxNetwork, bytes | None]:
    """A network for the classes, and the base's graph where its weights are taken over."""
    network = BoxNetwork(shape, classes=len(told.labels))
    if job.base is None:
        return network, None
    graph = job.base.manifest.graphs[0]
    data = job.base.read_blob(job.base.manifest.blobs[graph.blob].sha256)
    made_by, weights = read_weights(data)
    if made_by != ARCHITECTURE or graph.pre != shape.spec or graph.detections is None:
        return network, None
    own = network.state_dict()
    same = (weights[name].shape == tuple(own[name].shape) for name in own if name in weights and "centres" not in name)
    if not all(same):
        return network, None
    places = {at: told.labels.index(label) for at, label in enumerate(graph.detections.labels) if label in told.labels}
    network.take(weights, places=places)
    return network, data


def _reference(
    network: BoxNetwork, labels: tuple[str, ...], told: Detections
) -> Callable[[Floats], tuple[Floats, Floats | None]]:
    """What the trained network answers to prepared inputs, by PyTorch alone."""

    def answer(inputs: Floats) -> tuple[Floats, Floats | None]:
        with torch.no_grad():
            centres, _, embedding = network.look(torch.from_numpy(inputs))
            surest = centres.sigmoid().amax((2, 3))
            scores = torch.cat([surest, 1 - surest.amax(1, keepdim=True)], 1)[:, _order(labels, told)]
        return scores.numpy(), embedding.numpy()

    return answer


def _maps(network: BoxNetwork) -> Callable[[Floats], tuple[Floats, Floats]]:
    def answer(inputs: Floats) -> tuple[Floats, Floats]:
        with torch.no_grad():
            centres, extents = network(torch.from_numpy(inputs))
        return centres.sigmoid().numpy(), extents.numpy()

    return answer
