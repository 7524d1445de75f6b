"""What a trainer promises: labelled samples in, one checked ONNX graph out. Each kind of data has one trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise.learn._checkpoint import Checkpoint
from edgewise.learn._dataset import TrainingSample
from edgewise.ports import StoredBundle
from edgewise.wire import Detections, InputSpec, NotValid, States

Floats = NDArray[np.float32]
Progress = Callable[[str, float], None]
"""Told what is being done and how far it is, from 0 to 1. It may raise Cancelled to stop the training."""

ConfigValue = str | float | int | bool
Task = Literal["image-classification", "object-detection", "tabular-classification", "anomaly-detection", "value"]


class Cancelled(Exception):
    """The caller wants the training to stop; nothing is made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Everything a trainer may look at.

    Attributes:
        labels: classes in the order of the graph's outputs; those of the base come first and keep their places.
        base: bundle to start from, already known to fit; None starts from random weights.
    """

    samples: tuple[TrainingSample, ...]
    labels: tuple[str, ...]
    good_labels: tuple[str, ...] = ()
    base: StoredBundle | None = None
    seed: int = 0
    config: Mapping[str, ConfigValue] = field(default_factory=dict)
    progress: Progress = lambda _what, _share: None
    checkpoint: Checkpoint | None = None  # where a long training keeps its state; it may leave it alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """What a trainer returns: the graph, and the trained network itself to check the graph against.

    Attributes:
        graph: bytes of the ONNX file, with a free first axis.
        reference: prepared inputs float32 (N, …) -> (scores float32 (N, C), embedding float32 (N, D) or None), as the
            trained network itself computes them, without ONNX.
        probe: prepared training inputs float32 (N, …) to compare on, beside the golden ones.
        unreadable: names of samples that could not be decoded and were left out.
        aside: names of samples from which no weight was learned; they may have said when to stop.
    """

    graph: bytes
    input: str
    scores: str
    embedding: str | None
    pre: InputSpec
    reference: Callable[[Floats], tuple[Floats, Floats | None]]
    probe: Floats
    metrics: Mapping[str, float]
    log: tuple[str, ...]
    libraries: Mapping[str, str]
    facts: Mapping[str, str | int | float | bool | None]
    unreadable: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    states: States | None = None  # of the task value, whose `scores` are float32 (N, 3) quantiles
    detections: Detections | None = None  # of the task object-detection
    # Of that task: prepared inputs -> (centres, extents), as the trained network itself computes them.
    maps: Callable[[Floats], tuple[Floats, Floats]] | None = None


class Trainer(Protocol):
    """Makes one graph from labelled samples. The same job gives the same graph on the same machine."""

    @property
    def task(self) -> Task: ...

    def fit(self, job: Job) -> Fitted:
        """The trained graph.

        Raises:
            NotValid: the samples cannot be learned from; the message says why and what to do.
            Cancelled: the progress callback asked for it.
        """
        ...


TRAINERS: dict[str, str] = {
    "vision": "edgewise.learn._vision:VisionTrainer",
    "boxes": "edgewise.learn._boxes:BoxTrainer",
    "tabular": "edgewise.learn._tabular:TabularTrainer",
    "anomaly": "edgewise.learn._anomaly:AnomalyTrainer",
    "regression": "edgewise.learn._regression:RegressionTrainer",
    "forecast": "edgewise.learn._forecast:ForecastTrainer",
}
"""Where each trainer lives. A name is imported when it is first asked for: PyTorch alone takes over a second."""

VALUE_TRAINERS = frozenset({"regression", "forecast"})
"""Those of them whose labels are numbers."""


ENTRY_POINTS = "edgewise.trainers"


def _installed() -> dict[str, str]:
    """Trainers that installed packages bring."""
    return {found.name: found.value for found in metadata.entry_points(group=ENTRY_POINTS)}


def trainer_named(name: str) -> Trainer:
    """The trainer of this name.

    Raises:
        NotValid: there is none, or what it needs is not installed.
    """
    places = _installed() | TRAINERS  # ours stay ours, whatever a package calls its own
    if name not in places:
        raise NotValid(
            f"there is no trainer {name!r}; there are {', '.join(sorted(places))}; a package brings others by an "
            f"entry point in {ENTRY_POINTS}",
            code="trainer_unknown",
        )
    module, _, attribute = places[name].partition(":")
    try:
        made: Trainer = getattr(import_module(module), attribute)()
    except AttributeError as error:
        raise NotValid(
            f"the trainer {name!r} is not where its package says, {places[name]}: {error}; install the package again",
            code="trainer_not_installed",
        ) from error
    except ModuleNotFoundError as error:
        raise NotValid(
            f"the trainer {name!r} needs the package {error.name}, which is not installed; install edgewise[vision]",
            code="trainer_not_installed",
        ) from error
    return made


def flag(config: Mapping[str, ConfigValue], key: str) -> bool:
    """A yes or no of an order's config, no by default. Raises NotValid."""
    value = config.get(key, False)
    if not isinstance(value, bool):
        raise NotValid(f"config {key} is {value!r}, needs to be true or false", code="config_invalid")
    return value


def whole(config: Mapping[str, ConfigValue], key: str, default: int, *, low: int, high: int) -> int:
    """A whole number of an order's config, within its bounds. Raises NotValid."""
    return int(number(config, key, default, low=low, high=high))


def number(config: Mapping[str, ConfigValue], key: str, default: float, *, low: float, high: float) -> float:
    """A number of an order's config, within its bounds.

    Raises:
        NotValid: not a number, or out of bounds.

    >>> number({"seconds": 4}, "seconds", 12, low=1, high=3600)
    4.0
    """
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise NotValid(
            f"config {key} is {value!r}, needs to be a number from {low:g} to {high:g}", code="config_invalid"
        )
    return float(value)
