"""Which boxes a sample has, and the maps that a network should give for them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from edgewise.frames import true_boxes
from edgewise.learn._dataset import TrainingSample
from edgewise.learn._trainer import Job
from edgewise.wire import Box, NotValid

STRIDE = 4  # pixels of a cell
SIDE_MIN = 0.25  # of a box, cells: the logarithm of less says nothing that a picture of this size can show
SPREAD = 6.0  # a box's width over the spread of its bell around the centre
SPREAD_MIN = 0.5  # cells


@dataclass(frozen=True, kw_only=True, slots=True)
class Boxed:
    """Samples whose boxes are known, and a sentence for each kind of what was left out."""

    samples: tuple[TrainingSample, ...]
    boxes: dict[str, tuple[Box, ...]]  # by the sample's name
    said: tuple[str, ...]


def boxed(job: Job, labels: Sequence[str]) -> Boxed:
    """The job's samples with their boxes; those of which nobody said where something is are left out.

    Args:
        labels: of what is to be found.
    Raises:
        NotValid: no sample has a box, or none of a class that is to be found has one.
    """
    kept: list[TrainingSample] = []
    boxes: dict[str, tuple[Box, ...]] = {}
    unboxed, spoiled, strange = Counter[str](), Counter[str](), Counter[str]()
    for sample in job.samples:
        try:
            found = true_boxes(
                sample.annotation, sample.label, is_good=sample.label in job.good_labels, read_mask=sample.mask
            )
        except (NotValid, OSError):
            spoiled[sample.label] += 1
            continue
        if found is None:
            unboxed[sample.label] += 1
            continue
        strange.update(box.label for box in found if box.label not in labels)
        kept.append(sample)
        boxes[sample.name] = tuple(box for box in found if box.label in labels)
    _check(job, labels, boxes)
    said = [
        f"{_counted(counts)} left out: {why}"
        for counts, why in (
            (unboxed, "labelled as something, with neither a box nor a mask of where it is"),
            (spoiled, "the mask cannot be read"),
        )
        if counts
    ]
    if strange:
        said.append(f"boxes of {_counted(strange)} left out: no picture has that label, or it means a good one")
    return Boxed(samples=tuple(kept), boxes=boxes, said=tuple(said))


def targets(boxes: Sequence[Box], labels: Sequence[str], side: int) -> torch.Tensor:
    """What a network should answer, float32 (K + 5, side, side).

    First a map of each class with a bell of height 1 at each centre, then the four maps of extents, and last where
    those hold: 1 in cells with a centre. Of two boxes with one centre the smaller one stays.

    Source: Zhou, Wang, Krähenbühl, Objects as Points, 2019; the width of the bell is ours, a sixth of the box.

    >>> made = targets([Box(label="pit", x1=0.25, y1=0.25, x2=0.5, y2=0.5)], ["pit"], 8)
    >>> tuple(made.shape), float(made[0, 3, 3]), float(made[-1].sum()), round(float(made[1, 3, 3]), 3)
    ((6, 8, 8), 1.0, 1.0, 0.693)
    """
    made = torch.zeros(len(labels) + 5, side, side)
    places = torch.arange(side, dtype=torch.float32)
    for box in sorted(boxes, key=lambda one: (one.x2 - one.x1) * (one.y2 - one.y1), reverse=True):
        across, down = (box.x1 + box.x2) / 2 * side, (box.y1 + box.y2) / 2 * side
        column, row = min(side - 1, int(across)), min(side - 1, int(down))
        sides = [max(SIDE_MIN, part * side) for part in (box.x2 - box.x1, box.y2 - box.y1)]
        wide, high = (max(SPREAD_MIN, part / SPREAD) for part in sides)
        bell = torch.exp(
            -((places[None, :] - column) ** 2) / (2 * wide**2) - (places[:, None] - row) ** 2 / (2 * high**2)
        )
        plane = made[labels.index(box.label)]
        torch.maximum(plane, bell, out=plane)
        held = (math.log(sides[0]), math.log(sides[1]), across - column, down - row, 1.0)
        made[len(labels) :, row, column] = torch.tensor(held)
    return made


def _check(job: Job, labels: Sequence[str], boxes: dict[str, tuple[Box, ...]]) -> None:
    drawn = Counter(box.label for found in boxes.values() for box in found)
    if not drawn:
        raise NotValid(
            f"none of the {len(job.samples)} pictures has a box or a mask of what is to be found; draw some on the "
            "label page, or train classes with the trainer vision",
            code="boxes_missing",
        )
    seen = Counter(sample.label for sample in job.samples)
    for label in labels:
        if seen[label] and not drawn[label]:
            raise NotValid(
                f"none of the {seen[label]} pictures labelled {label!r} has a box or a mask of it; draw some on the "
                "label page, or give them another label",
                code="boxes_missing",
            )


def _counted(counts: Counter[str]) -> str:
    """Counts in words.

    >>> _counted(Counter({"pit": 2, "crack": 1}))
    '1 crack, 2 pit'
    """
    return ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
