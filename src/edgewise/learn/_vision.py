"""The trainer for pictures: a convolutional network for surfaces, or a small plain one, from scratch or from a base."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from edgewise import delta
from edgewise.learn._graph import read_weights
from edgewise.learn._linear import fit_linear
from edgewise.learn._network import ARCHITECTURE, Network, dense_boost, dense_features, export
from edgewise.learn._small import fit_small
from edgewise.learn._steps import (
    PREPARE_COUNT,
    Held,
    Recipe,
    Training,
    bounded,
    freeze_norms,
    prepare_samples,
    recipe_of,
    split,
)
from edgewise.learn._trainer import Fitted, Floats, Job
from edgewise.wire import ImageSpec, NotValid

INPUT_SIZE = 128
SPEC = ImageSpec(width=INPUT_SIZE, height=INPUT_SIZE, channels=1, fit="stretch", per_image=True)
HEAD_STRENGTH, DENSE_STRENGTH = 0.006, 0.0005  # chosen on grouped splits; smaller is more careful


class VisionTrainer:
    """A network for pictures, by the order's `architecture`.

    `surface`: the first layer is fixed – local contrast, edges, spots – and the others are learned. `small`: all layers
    are learned, for small pictures.
    """

    @property
    def task(self) -> Literal["image-classification"]:
        return "image-classification"

    def fit(self, job: Job) -> Fitted:
        """The network for these pictures. See `Trainer.fit`."""
        architecture = job.config.get("architecture", "surface")
        if architecture not in ("surface", "small"):
            raise NotValid(
                f"config architecture is {architecture!r}, needs to be surface or small", code="config_invalid"
            )
        return fit_small(job) if architecture == "small" else _fit_surface(job)


def _fit_surface(job: Job) -> Fitted:
    recipe = recipe_of(job.config, len(job.samples))
    with bounded(recipe.threads, job.seed):
        network, warm = _network(job)
        if warm and recipe.freeze_norm:
            freeze_norms(network)
        held = prepare_samples(job, network.front, SPEC)
        kept, part = split(held.samples, recipe, job.seed)
        run = Training(network=network, held=held, recipe=recipe, kept=kept, part=part, job=job, augment=augment)
        run.train()
        assert isinstance(run.best, Network)
        network = run.best
        if recipe.snap and warm:
            _snap(network, job)
        _fit_heads(network, held, job, recipe)
    return Fitted(
        graph=export(network, SPEC),
        input="input",
        scores="scores",
        embedding="embedding",
        pre=SPEC,
        reference=_reference(network),
        probe=held.probe,
        metrics=run.metrics,
        log=tuple(run.log),
        libraries={name: metadata.version(name) for name in ("torch", "scikit-learn")},
        facts={
            "architecture": ARCHITECTURE,
            "warm_start": warm,
            "snapped": recipe.snap and warm,
            "steps": run.steps_done,
            "stopped_by_clock": run.steps_done < recipe.steps,
            "validation_samples": len(part),
            "device": recipe.device,
        },
        unreadable=held.unreadable,
    )


def _network(job: Job) -> tuple[Network, bool]:
    """A network for the job's labels; its weights are the base's where the base is of the same make."""
    network = Network(classes=len(job.labels))
    if job.base is None:
        return network, False
    graph = job.base.manifest.graphs[0]
    made_by, weights = read_weights(_base_graph(job))
    if made_by != ARCHITECTURE or graph.pre != SPEC:
        return network, False
    network.take(weights, known=len(job.base.manifest.labels))
    return network, True


def _fit_heads(network: Network, held: Held, job: Job, recipe: Recipe) -> None:
    """Give the network its two heads, fitted on every sample, those of the validation part too.

    The steps of training saw new samples and rare classes more often than they come; the heads must not.
    """
    job.progress("fit", 0.96)
    with torch.no_grad():
        batches = torch.split(held.features, PREPARE_COUNT)
        seen = torch.cat([network.embed(batch) for batch in batches]).numpy()
        dense = torch.cat([dense_features(batch) for batch in batches]).numpy()
    boost = dense_boost()
    for head, features, strength, cheaper in (
        (network.head, seen, HEAD_STRENGTH, np.ones(seen.shape[1], np.float32)),
        (network.dense, dense, DENSE_STRENGTH, boost),
    ):
        weights, bias = fit_linear(
            features, held.samples, job.labels, strength=strength, boost=cheaper, threads=recipe.threads
        )
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weights))
            head.bias.copy_(torch.from_numpy(bias))


def _snap(network: Network, job: Job) -> None:
    """Round the update of the base to whole steps, so that it is cheap to send.

    The heads are fitted afterwards, on what the snapped layers see, and stay exact: a few of their weights are so much
    larger than the rest that one step for all would round the rest away.
    """
    weights = read_weights(delta.snap(_base_graph(job), export(network, SPEC)))[1]
    network.become({name: values for name, values in weights.items() if not name.startswith(("head.", "dense."))})


def _base_graph(job: Job) -> bytes:
    assert job.base is not None, "only a warm start has a base"
    manifest = job.base.manifest
    return job.base.read_blob(manifest.blobs[manifest.graphs[0].blob].sha256)


def augment(features: torch.Tensor, recipe: Recipe, chance: np.random.Generator) -> torch.Tensor:
    """The front's answers as they would be of slightly other pictures: turned by 180°, moved, zoomed, brighter, noisy.

    Turning by 180° swaps no direction of an edge, so it is exact on the answers too; mirroring would not be, and a
    thread's slope never mirrors on a real part.
    """
    count, channels = features.shape[:2]

    def between(share: float, *shape: int) -> torch.Tensor:
        return torch.from_numpy(chance.uniform(-share, share, shape).astype(np.float32))

    turn = torch.from_numpy(np.where(chance.random(count) < 0.5, -1.0, 1.0).astype(np.float32))
    move = torch.zeros(count, 2, 3)
    for axis in range(2):
        move[:, axis, axis] = (1 + between(recipe.scale, count)) * turn
        move[:, axis, 2] = between(recipe.shift, count)
    grid = functional.affine_grid(move, list(features.shape), align_corners=False)
    moved = functional.grid_sample(features, grid, padding_mode="border", align_corners=False)
    gains = (1 + between(recipe.gain, count, channels, 1, 1)) * (1 + between(recipe.gain, count, 1, 1, 1))
    noise = torch.from_numpy(chance.standard_normal(moved.shape, dtype=np.float32)) * recipe.noise
    return moved * gains + noise


def _reference(network: Network) -> Callable[[Floats], tuple[Floats, Floats | None]]:
    """What the trained network answers to prepared inputs, by PyTorch alone."""

    def answer(inputs: Floats) -> tuple[Floats, Floats | None]:
        with torch.no_grad():
            scores, embedding = network.answer(network.front(torch.from_numpy(inputs)))
        return scores.numpy(), embedding.numpy()

    return answer
