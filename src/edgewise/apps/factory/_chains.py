"""Training on another choice of pictures, step by step as the loop does: what the baselines and the benchmark share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from edgewise.apps.factory._plan import Picture, Plan
from edgewise.apps.factory.learn import TRAINER
from edgewise.learn import TrainingSample, train
from edgewise.ports import StoredBundle
from edgewise.wire import digest

Kind = Literal["random", "everything"]
KINDS: tuple[Kind, ...] = ("random", "everything")
ConfigValue = str | float | int | bool
EVALUATION_SHARE = 0.2  # as usecase.yaml's gate: labels that are paid for and not trained on


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """What the loop spent on one plant in one round: pictures labelled, and their bytes."""

    pictures: int = 0
    size_bytes: int = 0

    def __add__(self, other: Use) -> Use:
        return Use(pictures=self.pictures + other.pictures, size_bytes=self.size_bytes + other.size_bytes)

    def __sub__(self, other: Use) -> Use:
        return Use(pictures=self.pictures - other.pictures, size_bytes=self.size_bytes - other.size_bytes)


def use_of(pictures: Sequence[Picture]) -> Use:
    """What these pictures cost."""
    return Use(pictures=len(pictures), size_bytes=sum(len(picture.data) for picture in pictures))


def uses_of(plan: Plan, names: Sequence[str]) -> dict[str, Use]:
    """What the loop spent in a round, by plant, from the names of the pictures that it labelled."""
    pictures = [plan.by_name[name] for name in names]
    return {plant: use_of([one for one in pictures if one.plant == plant]) for plant in plan.plants}


def random_choice(pictures: Sequence[Picture], room: Use, rng: np.random.Generator) -> list[Picture]:
    """Pictures drawn at random as long as both labels and bytes last; one that is too large is passed over.

    >>> rng = np.random.Generator(np.random.PCG64(1))
    >>> random_choice([], Use(pictures=3, size_bytes=100), rng)
    []
    """
    chosen: list[Picture] = []
    for index in rng.permutation(len(pictures)):
        size = len(pictures[index].data)
        if room.pictures > 0 and size <= room.size_bytes:
            chosen.append(pictures[index])
            room = room - Use(pictures=1, size_bytes=size)
    return sorted(chosen, key=lambda picture: picture.name)


def set_aside(pictures: Sequence[Picture], share: float = EVALUATION_SHARE) -> list[Picture]:
    """The pictures without about `share` of their groups, as a gate would keep them for itself.

    A group is kept or not by its own hash, so it stays on its side however many pictures of it come later.
    """
    return [one for one in pictures if _draw(one) >= share]


def _draw(picture: Picture) -> float:
    return int(digest(f"{picture.plant}/{picture.group}".encode())[:8], 16) / 16**8


@dataclass(slots=True)
class Chain:
    """One line of trainings, each from the one before, new pictures and old ones half and half.

    Attributes:
        bundle: the newest; the first network at the start.
        learned: pictures trained on so far.
    """

    plan: Plan
    bundle: StoredBundle
    config: Mapping[str, ConfigValue]
    learned: list[Picture]
    steps: int = 0
    progress: Callable[[str, float], None] = field(default=lambda _what, _share: None)

    def step(self, new: Sequence[Picture]) -> StoredBundle:
        """Train on these and on all from before; without a new picture the bundle stays as it is."""
        self.steps += 1
        fresh = [one for one in new if not one.uncertain]
        if fresh:
            samples = samples_of(self.learned, new=False) + samples_of(fresh, new=True)
            self.bundle = train_bundle(
                samples, self.plan, base=self.bundle, config=self.config, seed=self.plan.seed, progress=self.progress
            )
            self.learned += fresh
        return self.bundle


def samples_of(pictures: Sequence[Picture], *, new: bool) -> list[TrainingSample]:
    """The pictures as a trainer takes them."""
    return [
        TrainingSample(
            name=picture.name,
            label=picture.label,
            group=picture.group,
            read=_reader(picture.data),
            media_type=picture.media_type,
            site=picture.plant,
            uncertain=picture.uncertain,
            new=new,
        )
        for picture in pictures
    ]


def _reader(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def train_bundle(
    samples: Sequence[TrainingSample],
    plan: Plan,
    *,
    base: StoredBundle | None,
    config: Mapping[str, ConfigValue],
    seed: int,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
) -> StoredBundle:
    """A bundle trained with the loop's own recipe."""
    made = train(
        samples,
        now=datetime.now(UTC),
        trainer=TRAINER,
        good_labels=plan.good_labels,
        base=base,
        seed=seed,
        config=config,
        progress=progress,
    )
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)
