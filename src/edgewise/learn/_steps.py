"""The steps of training a PyTorch network: batches drawn by weight, a slow average of the weights, the best one kept.

What all networks for pictures share; each brings its own layers, and what it can compute once for each picture.
"""

from __future__ import annotations

import copy
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgewise.frames import prepare_many
from edgewise.learn._adam import Adam
from edgewise.learn._balance import sample_weights
from edgewise.learn._dataset import TrainingSample, grouped_part
from edgewise.learn._trainer import ConfigValue, Floats, Job, flag, number, whole
from edgewise.wire import ImageSpec, NotValid

BATCH = 24
STEPS_PER_SECOND = 20.0  # of one core of a server of 2024 (docs/learn.md); turns seconds into steps, so that a slower
# machine does the same work and makes the same network, only later
VALIDATE_FROM = 400  # samples; with fewer, what a part of them teaches is worth more than knowing when to stop
SAMPLES_MAX = 50_000  # 4 GB of memory for the fixed layer's answers
PREPARE_COUNT = 64
PROBE_COUNT = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Every setting of the trainers for pictures; docs/learn.md says how each was chosen."""

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
    style: float = 0.0  # augmentation: share of the pictures that take the manner of others of their batch
    validation_share: float = 0.0
    batch: int = BATCH
    threads: int = 1
    device: str = "cpu"  # where the steps run: cpu or cuda
    freeze_norm: bool = False  # a fine-tune leaves the norms as they are in its base
    snap: bool = False  # move the weights to where an update of the base is cheap to send
    overtime: float = 8.0  # stop at this many times the time planned, whatever has been reached
    seconds_min: float = 60.0  # but never before: a machine may be busy for a while


def recipe_of(config: Mapping[str, ConfigValue], count: int) -> Recipe:
    """The recipe for so many samples.

    Config: `seconds` – planned time of the training steps on a reference core, by default 3 and 1 more for each 150
    samples up to 10; `steps` instead of it; `learning_rate`, `batch`, `validation_share`, `threads`, `device` (auto,
    cpu or cuda), `freeze_norm`, `snap`, `style`.

    >>> recipe_of({"seconds": 3}, 200).steps
    60
    """
    seconds = number(config, "seconds", min(10.0, 3.0 + count / 150), low=0.1, high=86_400)
    steps = whole(config, "steps", max(4, round(seconds * STEPS_PER_SECOND)), low=1, high=10_000_000)
    return Recipe(
        steps=steps,
        seconds=seconds if "steps" not in config else steps / STEPS_PER_SECOND,
        learning_rate=number(config, "learning_rate", 3e-3, low=1e-6, high=1.0),
        batch=whole(config, "batch", BATCH, low=2, high=4096),
        device=device_of(config),
        freeze_norm=flag(config, "freeze_norm"),
        validation_share=number(config, "validation_share", 0.0 if count < VALIDATE_FROM else 0.12, low=0.0, high=0.5),
        threads=whole(config, "threads", 1, low=1, high=256),
        snap=flag(config, "snap"),
        style=number(config, "style", 0.0, low=0.0, high=1.0),
    )


def device_of(config: Mapping[str, ConfigValue]) -> str:
    """Where the steps run: `auto` is a GPU where PyTorch sees one.

    Raises:
        NotValid: another word, or cuda where there is none.
    """
    wanted = config.get("device", "auto")
    if wanted not in ("auto", "cpu", "cuda"):
        raise NotValid(f"config device is {wanted!r}, needs to be auto, cpu or cuda", code="config_invalid")
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise NotValid("config device is cuda, and PyTorch sees no GPU here; take auto or cpu", code="config_invalid")
    return "cuda" if present and wanted != "cpu" else "cpu"


def freeze_norms(network: nn.Module) -> None:
    """Leave the norms of a warm start as they are: then their numbers need not be sent again."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            for values in module.parameters():
                values.requires_grad_(False)


@contextmanager
def bounded(threads: int, seed: int) -> Iterator[None]:
    """Few threads and seeded chance inside; both are the process's own, so both are put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Samples that could be decoded, with what is computed once for each of them and used at every step."""

    samples: tuple[TrainingSample, ...]
    features: torch.Tensor  # float32 (N, C, H, W)
    truth: torch.Tensor  # int64 (N,)
    probe: Floats
    unreadable: tuple[str, ...]


def prepare_samples(job: Job, front: Callable[[torch.Tensor], torch.Tensor], spec: ImageSpec) -> Held:
    """The samples as the first learned layer sees them.

    Args:
        front: what stands before it, run once for each picture.
    Raises:
        NotValid: too many for the memory, or none can be decoded.
    """
    if len(job.samples) > SAMPLES_MAX:
        raise NotValid(
            f"{len(job.samples)} pictures to train on, at most {SAMPLES_MAX} fit into memory; take a part of them",
            code="data_too_large",
        )
    kept: list[TrainingSample] = []
    unreadable: list[str] = []
    features: list[torch.Tensor] = []
    probe: list[Floats] = []
    for start in range(0, len(job.samples), PREPARE_COUNT):
        job.progress("prepare", 0.2 * start / len(job.samples))
        inputs: list[Floats] = []
        for sample in job.samples[start : start + PREPARE_COUNT]:
            try:
                inputs.append(prepare_many([(sample.read(), sample.media_type)], spec)[0])
                kept.append(sample)
            except (NotValid, OSError):
                unreadable.append(sample.name)
        if inputs:
            batch = np.stack(inputs)
            probe.append(batch[: max(0, PROBE_COUNT - sum(map(len, probe)))])
            with torch.no_grad():
                features.append(front(torch.from_numpy(batch)))
    if not kept:
        raise NotValid(
            f"none of the {len(job.samples)} pictures can be decoded, first {unreadable[0]}; "
            "put whole JPEG or PNG files there",
            code="pictures_unreadable",
        )
    return Held(
        samples=tuple(kept),
        features=torch.cat(features),
        truth=torch.tensor([job.labels.index(sample.label) for sample in kept]),
        probe=np.concatenate(probe),
        unreadable=tuple(unreadable),
    )


def split(samples: Sequence[TrainingSample], recipe: Recipe, seed: int) -> tuple[list[int], list[int]]:
    """Indices (trained on, validated on): whole groups."""
    if recipe.validation_share == 0:
        return list(range(len(samples))), []
    return grouped_part(samples, share=recipe.validation_share, seed=seed)


Augment = Callable[[torch.Tensor, Recipe, np.random.Generator], torch.Tensor]


class Goal(Protocol):
    """What a training makes smaller, and how it is told when to stop."""

    def loss(self, network: nn.Module, picked: torch.Tensor, chance: np.random.Generator) -> torch.Tensor:
        """The loss of the picked samples, augmented. `picked`: int64 (B,), places of `Held`."""
        ...

    def validate(self, network: nn.Module, part: Sequence[int]) -> tuple[float, float]:
        """Loss and mean recall of the samples that are set aside, each class counting alike."""
        ...


class _ClassGoal:
    """One class a sample: cross entropy."""

    def __init__(self, held: Held, recipe: Recipe, augment: Augment) -> None:
        self._held, self._recipe, self._augment = held, recipe, augment

    def loss(self, network: nn.Module, picked: torch.Tensor, chance: np.random.Generator) -> torch.Tensor:
        recipe = self._recipe
        features = self._augment(self._held.features[picked], recipe, chance).to(recipe.device)
        logits = network(features.contiguous(memory_format=torch.channels_last))
        truth = self._held.truth[picked].to(recipe.device)
        return functional.cross_entropy(logits, truth, label_smoothing=recipe.label_smoothing)

    def validate(self, network: nn.Module, part: Sequence[int]) -> tuple[float, float]:
        truth = self._held.truth[part]
        logits = network(self._held.features[part].to(self._recipe.device)).cpu()
        losses = functional.cross_entropy(logits, truth, reduction="none")
        right = (logits.argmax(1) == truth).float()
        classes = sorted(set(truth.tolist()))
        each = [(float(losses[truth == one].mean()), float(right[truth == one].mean())) for one in classes]
        loss, recall = np.mean(np.array(each), axis=0)
        return float(loss), float(recall)


class Training:
    """One training: steps on batches drawn by weight, a slow average of the weights, the best average kept.

    Args:
        network: gives logits, float32 (N, classes), from what is held of the samples.
        kept, part: of `split`.
        augment: what is held, as it would be of slightly other pictures.
        goal: what is learned; the classes of the samples without one.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        held: Held,
        recipe: Recipe,
        kept: list[int],
        part: list[int],
        job: Job,
        augment: Augment,
        goal: Goal | None = None,
    ) -> None:
        network = network.to(recipe.device)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._goal = goal or _ClassGoal(held, recipe, augment)
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
        self._best_loss = math.inf
        self._spent_s = 0.0  # before the training was ended and went on

    def train(self) -> None:
        """Run all steps, or as many as fit into the overtime."""
        recipe, optimiser = self._recipe, _optimiser(self._network, self._recipe)
        loss = 0.0
        checks = _checks(recipe.steps) if self._part else set()
        self._go_on(optimiser)
        started_s = time.perf_counter() - self._spent_s
        for step in range(self.steps_done, recipe.steps):
            if time.perf_counter() - started_s > max(recipe.seconds_min, recipe.overtime * recipe.seconds):
                self.log.append(f"stopped by the clock after {step} of {recipe.steps} steps")
                break
            self._job.progress("train", 0.2 + 0.75 * step / recipe.steps)
            rate = recipe.learning_rate * _rate_share(step / recipe.steps)
            loss = self._step(optimiser, rate)
            if not math.isfinite(loss):
                raise NotValid(
                    f"the loss became {loss} at step {step + 1}; lower learning_rate (now {recipe.learning_rate:g})",
                    code="training_diverged",
                )
            self.steps_done = step + 1
            self._follow()
            if step in checks:
                now_loss, recall = self._validate()
                self.log.append(
                    f"step {step + 1}: loss {loss:.3f}, validation loss {now_loss:.3f}, recall {recall:.3f}"
                )
                # Later averages are better unless the validation clearly says otherwise: it is small and noisy.
                if now_loss < self._best_loss * 1.02:
                    self._best_loss = min(self._best_loss, now_loss)
                    self.best = copy.deepcopy(self._average)
                    self.metrics |= {"validation_loss": now_loss, "validation_recall": recall}
            if self._job.checkpoint is not None and self._job.checkpoint.is_due:
                self._job.checkpoint.write(self._state(optimiser, time.perf_counter() - started_s))
        if not self._part:
            self.best = self._average
        self.best.eval().to("cpu")
        self.metrics["train_loss"] = loss
        self.metrics["fit_seconds"] = time.perf_counter() - started_s

    def _state(self, optimiser: Adam, spent_s: float) -> bytes:
        """All that the next step depends on, as bytes."""
        state = {
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "best": None if self.best is self._average else self.best.state_dict(),
            "best_loss": self._best_loss,
            "optimiser": optimiser.state(),
            "chance": json.dumps(self._chance.bit_generator.state),
            "torch": torch.get_rng_state(),
            "steps": self.steps_done,
            "log": self.log,
            "metrics": self.metrics,
            "spent_s": spent_s,
        }
        file = io.BytesIO()
        torch.save(state, file)
        return file.getvalue()

    def _go_on(self, optimiser: Adam) -> None:
        """Take up a training that was ended; a state that does not fit counts as none."""
        data = None if self._job.checkpoint is None else self._job.checkpoint.read()
        if data is None:
            return
        # The file was written by this very training, and is read without running anything that it holds.
        state = torch.load(io.BytesIO(data), map_location=self._recipe.device, weights_only=True)
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        if state["best"] is not None:
            self.best = copy.deepcopy(self._average)
            self.best.load_state_dict(state["best"])
        optimiser.go_on(state["optimiser"])
        self._chance.bit_generator.state = json.loads(state["chance"])
        torch.set_rng_state(state["torch"].cpu())
        self._best_loss, self._spent_s = state["best_loss"], state["spent_s"]
        self.steps_done, self.log, self.metrics = state["steps"], list(state["log"]), dict(state["metrics"])

    def _step(self, optimiser: Adam, rate: float) -> float:
        chosen = self._kept[self._chance.choice(len(self._kept), self._recipe.batch, p=self._draw)]
        picked = torch.from_numpy(chosen)
        loss = self._goal.loss(self._network, picked, self._chance)
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
        with torch.no_grad():
            return self._goal.validate(self._average, self._part)


def _optimiser(network: nn.Module, recipe: Recipe) -> Adam:
    """Only matrices and filters decay, never a norm's scale or a bias."""
    parameters = [values for values in network.parameters() if values.requires_grad]
    filters = [values for values in parameters if values.ndim > 1]
    others = [values for values in parameters if values.ndim <= 1]
    return Adam(filters, others, decay=recipe.weight_decay)


def _rate_share(done: float) -> float:
    """Part of the full learning rate after this part of the steps: up in the first tenth, then down as a cosine."""
    return min(1.0, (done + 0.01) / 0.1) * 0.5 * (1 + math.cos(math.pi * done))


def _checks(steps: int) -> set[int]:
    """Steps after which the average is validated: five times in the second half, where it is worth keeping."""
    return {round(steps * share) - 1 for share in (0.5, 0.65, 0.8, 0.9, 1.0)}
