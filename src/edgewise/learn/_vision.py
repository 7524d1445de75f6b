"""The trainer for pictures: a small convolutional network, from scratch or from a base, on one CPU thread."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from edgewise import delta
from edgewise.frames import prepare_many
from edgewise.learn._adam import Adam
from edgewise.learn._balance import sample_weights
from edgewise.learn._dataset import TrainingSample, grouped_part
from edgewise.learn._graph import read_weights
from edgewise.learn._linear import fit_linear
from edgewise.learn._network import ARCHITECTURE, Network, dense_boost, dense_features, export
from edgewise.learn._trainer import ConfigValue, Fitted, Floats, Job, flag, number, whole
from edgewise.wire import ImageSpec, NotValid

INPUT_SIZE = 128
SPEC = ImageSpec(width=INPUT_SIZE, height=INPUT_SIZE, channels=1, fit="stretch", per_image=True)
BATCH = 24
STEPS_PER_SECOND = 20.0  # of one core of a server of 2024 (docs/learn.md); turns seconds into steps, so that a slower
# machine does the same work and makes the same network, only later
VALIDATE_FROM = 400  # samples; with fewer, what a part of them teaches is worth more than knowing when to stop
SAMPLES_MAX = 50_000  # 4 GB of memory for the fixed layer's answers
HEAD_STRENGTH, DENSE_STRENGTH = 0.006, 0.0005  # chosen on grouped splits; smaller is more careful
PREPARE_COUNT = 64
PROBE_COUNT = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Every setting of the vision trainer; docs/learn.md says how each was chosen."""

    steps: int
    seconds: float  # planned for these steps
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    average: float = 0.95  # of the weights over the steps: the network that is kept is this slow follower
    scale: float = 0.06  # augmentation: zoom in and out by up to this share
    shift: float = 0.05  # augmentation: move by up to this share of half the width
    gain: float = 0.1  # augmentation: strength of each filter's answer
    noise: float = 0.05
    validation_share: float = 0.0
    threads: int = 1
    snap: bool = False  # move the weights to where an update of the base is cheap to send
    overtime: float = 8.0  # stop at this many times the time planned, whatever has been reached
    seconds_min: float = 60.0  # but never before: a machine may be busy for a while


def recipe_of(config: Mapping[str, ConfigValue], count: int) -> Recipe:
    """The recipe for so many samples.

    Config: `seconds` – planned time of the training steps on a reference core, by default 3 and 1 more for each 150
    samples up to 10; `learning_rate`, `validation_share`, `threads`, `snap`.

    >>> recipe_of({"seconds": 3}, 200).steps
    60
    """
    seconds = number(config, "seconds", min(10.0, 3.0 + count / 150), low=0.1, high=86_400)
    return Recipe(
        steps=max(4, round(seconds * STEPS_PER_SECOND)),
        seconds=seconds,
        learning_rate=number(config, "learning_rate", 3e-3, low=1e-6, high=1.0),
        validation_share=number(config, "validation_share", 0.0 if count < VALIDATE_FROM else 0.12, low=0.0, high=0.5),
        threads=whole(config, "threads", 1, low=1, high=256),
        snap=flag(config, "snap"),
    )


class VisionTrainer:
    """A network whose first layer is fixed – local contrast, edges, spots – and whose other layers are learned."""

    @property
    def task(self) -> Literal["image-classification", "tabular-classification"]:
        return "image-classification"

    def fit(self, job: Job) -> Fitted:
        """The network for these pictures. See `Trainer.fit`."""
        if len(job.samples) > SAMPLES_MAX:
            raise NotValid(
                f"{len(job.samples)} pictures to train on, at most {SAMPLES_MAX} fit into memory; take a part of them",
                code="data_too_large",
            )
        recipe = recipe_of(job.config, len(job.samples))
        with _bounded(recipe.threads, job.seed):
            network, warm = _network(job)
            held = _prepare(job, network)
            if not held.samples:
                raise NotValid(
                    f"none of the {len(job.samples)} pictures can be decoded, first {held.unreadable[0]}; "
                    "put whole JPEG or PNG files there",
                    code="pictures_unreadable",
                )
            kept, part = _split(held.samples, recipe, job.seed)
            run = _Run(network=network, held=held, recipe=recipe, kept=kept, part=part, job=job)
            run.train()
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
            },
            unreadable=held.unreadable,
        )


@contextmanager
def _bounded(threads: int, seed: int) -> Iterator[None]:
    """Few threads and seeded chance inside; both are the process's own, so both are put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    """Samples that could be decoded, with the fixed layer's answers: computed once, used at every step."""

    samples: tuple[TrainingSample, ...]
    features: torch.Tensor  # float32 (N, C, H, W)
    truth: torch.Tensor  # int64 (N,)
    probe: Floats
    unreadable: tuple[str, ...]


def _prepare(job: Job, network: Network) -> _Held:
    kept: list[TrainingSample] = []
    unreadable: list[str] = []
    features: list[torch.Tensor] = []
    probe: list[Floats] = []
    for start in range(0, len(job.samples), PREPARE_COUNT):
        job.progress("prepare", 0.2 * start / len(job.samples))
        inputs: list[Floats] = []
        for sample in job.samples[start : start + PREPARE_COUNT]:
            try:
                inputs.append(prepare_many([(sample.read(), sample.media_type)], SPEC)[0])
                kept.append(sample)
            except (NotValid, OSError):
                unreadable.append(sample.name)
        if inputs:
            batch = np.stack(inputs)
            probe.append(batch[: max(0, PROBE_COUNT - sum(map(len, probe)))])
            with torch.no_grad():
                features.append(network.front(torch.from_numpy(batch)))
    shape = (0, 1, INPUT_SIZE, INPUT_SIZE)
    return _Held(
        samples=tuple(kept),
        features=torch.cat(features) if features else torch.empty(0),
        truth=torch.tensor([job.labels.index(sample.label) for sample in kept]),
        probe=np.concatenate(probe) if probe else np.empty(shape, np.float32),
        unreadable=tuple(unreadable),
    )


def _fit_heads(network: Network, held: _Held, job: Job, recipe: Recipe) -> None:
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


def _split(samples: Sequence[TrainingSample], recipe: Recipe, seed: int) -> tuple[list[int], list[int]]:
    if recipe.validation_share == 0:
        return list(range(len(samples))), []
    return grouped_part(samples, share=recipe.validation_share, seed=seed)


class _Run:
    """One training: steps on batches drawn by weight, a slow average of the weights, the best average kept."""

    def __init__(
        self, *, network: Network, held: _Held, recipe: Recipe, kept: list[int], part: list[int], job: Job
    ) -> None:
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._held, self._recipe, self._job = held, recipe, job
        self._kept, self._part = np.array(kept), part
        self._chance = np.random.default_rng(job.seed)
        weights = sample_weights([held.samples[index] for index in kept])
        self._draw = weights / weights.sum()
        self._average = copy.deepcopy(network)
        self.best = self._average
        self.log: list[str] = []
        self.metrics: dict[str, float] = {}
        self.steps_done = 0

    def train(self) -> None:
        """Run all steps, or as many as fit into the overtime."""
        recipe, started_s = self._recipe, time.perf_counter()
        optimiser = _optimiser(self._network, recipe)
        best_loss, loss = math.inf, 0.0
        checks = _checks(recipe.steps) if self._part else set()
        for step in range(recipe.steps):
            if time.perf_counter() - started_s > max(recipe.seconds_min, recipe.overtime * recipe.seconds):
                self.log.append(f"stopped by the clock after {step} of {recipe.steps} steps")
                break
            self._job.progress("train", 0.2 + 0.75 * step / recipe.steps)
            rate = recipe.learning_rate * _rate_share(step / recipe.steps)
            loss = self._step(optimiser, rate)
            self.steps_done = step + 1
            self._follow()
            if step in checks:
                now_loss, recall = self._validate()
                self.log.append(
                    f"step {step + 1}: loss {loss:.3f}, validation loss {now_loss:.3f}, recall {recall:.3f}"
                )
                # Later averages are better unless the validation clearly says otherwise: it is small and noisy.
                if now_loss < best_loss * 1.02:
                    best_loss = min(best_loss, now_loss)
                    self.best = copy.deepcopy(self._average)
                    self.metrics |= {"validation_loss": now_loss, "validation_recall": recall}
        if not self._part:
            self.best = self._average
        self.best.eval()
        self.metrics["train_loss"] = loss
        self.metrics["fit_seconds"] = time.perf_counter() - started_s

    def _step(self, optimiser: Adam, rate: float) -> float:
        chosen = self._kept[self._chance.choice(len(self._kept), BATCH, p=self._draw)]
        picked = torch.from_numpy(chosen)
        features = augment(self._held.features[picked], self._recipe, self._chance)
        logits = self._network(features.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits, self._held.truth[picked], label_smoothing=self._recipe.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step(rate)
        return float(loss.detach())

    def _follow(self) -> None:
        """Move the average towards the network; at first quickly, so that the random start is forgotten."""
        share = max(1 - self._recipe.average, 9 / (self.steps_done + 9))
        with torch.no_grad():
            theirs = self._network.state_dict()
            for name, ours in self._average.state_dict().items():
                if ours.dtype.is_floating_point:
                    ours.lerp_(theirs[name], share)
                else:
                    ours.copy_(theirs[name])

    def _validate(self) -> tuple[float, float]:
        """Loss and mean recall of the average on the validation part, each class counting alike."""
        self._average.eval()
        truth = self._held.truth[self._part]
        with torch.no_grad():
            logits = self._average(self._held.features[self._part])
            losses = functional.cross_entropy(logits, truth, reduction="none")
        right = (logits.argmax(1) == truth).float()
        classes = sorted(set(truth.tolist()))
        each = [(float(losses[truth == one].mean()), float(right[truth == one].mean())) for one in classes]
        loss, recall = np.mean(np.array(each), axis=0)
        return float(loss), float(recall)


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


def _optimiser(network: Network, recipe: Recipe) -> Adam:
    """Only matrices and filters decay, never a norm's scale or a bias."""
    parameters = list(network.parameters())
    filters = [values for values in parameters if values.ndim > 1]
    others = [values for values in parameters if values.ndim <= 1]
    return Adam(filters, others, decay=recipe.weight_decay)


def _rate_share(done: float) -> float:
    """Part of the full learning rate after this part of the steps: up in the first tenth, then down as a cosine."""
    return min(1.0, (done + 0.01) / 0.1) * 0.5 * (1 + math.cos(math.pi * done))


def _checks(steps: int) -> set[int]:
    """Steps after which the average is validated: five times in the second half, where it is worth keeping."""
    return {round(steps * share) - 1 for share in (0.5, 0.65, 0.8, 0.9, 1.0)}


def _reference(network: Network) -> Callable[[Floats], tuple[Floats, Floats | None]]:
    """What the trained network answers to prepared inputs, by PyTorch alone."""

    def answer(inputs: Floats) -> tuple[Floats, Floats | None]:
        with torch.no_grad():
            scores, embedding = network.answer(network.front(torch.from_numpy(inputs)))
        return scores.numpy(), embedding.numpy()

    return answer
