"""The data plan of a run: which picture goes where, fixed before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from edgewise.wire import NotValid

Part = Literal["first", "stream", "holdout"]
MetricName = Literal["balanced_accuracy", "auc", "macro_recall", "recall", "called_defective"]
Item = TypeVar("Item")
HOLDOUT_SHARE = 0.3  # of a plant's groups
RESERVE_SHARE = 0.15  # of a stream's pictures, kept fresh for the drill with a bad candidate
ROUNDS_MAX = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One picture and the truth about it.

    Attributes:
        name: unique in the plan; names of one stream grow in the order in which its camera takes them. It says nothing
            about the label, as a camera's file names do not either.
        source: the file name in the data set, for tracing; the part's number for generated pictures.
        group: near-copies share it (position on a spindle, tile, part): never on two sides of a split.
        uncertain: the data's authors are not sure of the label. Never given as a label, scored apart.
        part: `first` trains the first network, `stream` passes a device, `holdout` is only ever measured on.
    """

    name: str
    plant: str
    data: bytes
    label: str
    group: str
    taken_at: datetime
    uncertain: bool
    part: Part
    source: str = ""
    media_type: str = "image/jpeg"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One number of the report: which hold-out pictures, and what is computed on them.

    Attributes:
        enlarge: bring each picture to this width and height in pixels first, None leaves it as it is.
        of_label: for `recall`, the class whose recall it is.
        beside: an extra number that is shown but is not one of the measures that every run has.
    """

    name: str
    title: str
    plant: str
    metric: MetricName
    pictures: tuple[Picture, ...]
    enlarge: tuple[int, int] | None = None
    of_label: str | None = None
    note: str = ""
    beside: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that is decided about the data before a run starts.

    Attributes:
        data_root: where real pictures came from, None for generated ones; with seed, rounds and size it makes the same
            plan again, which is how a child process gets it.
        stream: one tuple of rounds a plant, each the round's pictures in the order of time.
        reserve: fresh pictures of each plant, after the last round.
    """

    data: Literal["real", "generated"]
    text: str
    seed: int
    rounds: int
    plants: tuple[str, ...]
    good_labels: tuple[str, ...]
    first: tuple[Picture, ...]
    stream: Mapping[str, tuple[tuple[Picture, ...], ...]]
    reserve: Mapping[str, tuple[Picture, ...]]
    measures: tuple[Measure, ...]
    data_root: Path | None = None
    size: str = "full"
    by_name: Mapping[str, Picture] = field(default_factory=dict, repr=False)

    @property
    def streamed(self) -> tuple[Picture, ...]:
        """Every picture that passes a device in the rounds, plant by plant; the reserve is not among them."""
        return tuple(picture for plant in self.plants for part in self.stream[plant] for picture in part)

    def of_round(self, number: int) -> dict[str, tuple[Picture, ...]]:
        """The pictures of one round (counted from 1) by plant."""
        return {plant: self.stream[plant][number - 1] for plant in self.plants}

    def bytes_if_all_uploaded(self) -> int:
        """File bytes of every picture that the rounds' streams hold."""
        return sum(len(picture.data) for picture in self.streamed)


def index_pictures(*parts: Iterable[Picture]) -> dict[str, Picture]:
    """Pictures by name, over all parts of a plan. A name used twice is a mistake in the plan, not in the data."""
    found: dict[str, Picture] = {}
    for part in parts:
        for picture in part:
            assert found.setdefault(picture.name, picture) is picture, f"two pictures are called {picture.name}"
    return found


def check_rounds(rounds: int) -> None:
    """Raises NotValid where the number of rounds is out of bounds."""
    if not 1 <= rounds <= ROUNDS_MAX:
        raise NotValid(f"{rounds} rounds were asked for, needs 1 to {ROUNDS_MAX}", code="bad_rounds")


def split_groups(
    items: Sequence[Item],
    group_of: Callable[[Item], str],
    label_of: Callable[[Item], str],
    rng: np.random.Generator,
    share: float = HOLDOUT_SHARE,
) -> tuple[list[Item], list[Item]]:
    """(kept, part): whole groups, `share` of each label's groups at least one, both in shuffled group order.

    A group counts for the label that most of its items have; a label with a single group stays on the kept side.

    >>> rng = np.random.Generator(np.random.PCG64(1))
    >>> kept, part = split_groups(["a1", "a2", "b1", "c1"], lambda x: x[0], lambda x: "one", rng, share=0.34)
    >>> len(kept) + len(part), {x[0] for x in kept} & {x[0] for x in part}
    (4, set())
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(group_of(item), []).append(item)
    by_label: dict[str, list[str]] = {}
    for name in sorted(groups):
        label = Counter(label_of(item) for item in groups[name]).most_common(1)[0][0]
        by_label.setdefault(label, []).append(name)
    chosen: set[str] = set()
    for label in sorted(by_label):
        names = by_label[label]
        count = 0 if len(names) < 2 else max(1, round(share * len(names)))
        chosen.update(names[index] for index in rng.permutation(len(names))[:count])
    order = [sorted(groups)[index] for index in rng.permutation(len(groups))]
    kept = [item for name in order if name not in chosen for item in groups[name]]
    return kept, [item for name in order if name in chosen for item in groups[name]]


def cut_rounds(items: Sequence[Item], rounds: int) -> tuple[tuple[Item, ...], ...]:
    """The items in order, cut into `rounds` nearly equal parts.

    >>> cut_rounds("abcdefg", 3)
    (('a', 'b'), ('c', 'd'), ('e', 'f', 'g'))
    """
    edges = [len(items) * number // rounds for number in range(rounds + 1)]
    return tuple(tuple(items[low:high]) for low, high in pairwise(edges))


def cut_reserve(items: Sequence[Item], share: float = RESERVE_SHARE) -> tuple[Sequence[Item], tuple[Item, ...]]:
    """The items without their last `share`, and that share."""
    count = round(len(items) * share)
    return items[: len(items) - count], tuple(items[len(items) - count :])
