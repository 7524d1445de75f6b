"""Pictures with small dark spots on a rough ground, and where the spots are: for everything about boxes."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
from PIL import Image

from edgewise.learn import TrainingSample
from edgewise.wire import Annotation, Box

SIDE = 64
WIDE, LONG = "spot", "scratch"


def picture(seed: int, *, kinds: tuple[str, ...]) -> tuple[bytes, tuple[Box, ...]]:
    """A PNG of 64 × 64 pixels with one thing of each kind, and their boxes."""
    chance = np.random.default_rng(seed)
    ground = 150 + chance.normal(0, 12, (SIDE, SIDE))
    boxes = []
    for number, kind in enumerate(kinds):
        width, height = (9, 9) if kind == WIDE else (22, 4)
        left = int(chance.integers(2, SIDE - width - 2))
        top = int(chance.integers(2, SIDE // 2 - height - 2)) + number * SIDE // 2
        ground[top : top + height, left : left + width] -= 90
        x1, y1, x2, y2 = (value / SIDE for value in (left, top, left + width, top + height))
        boxes.append(Box(label=kind, x1=x1, y1=y1, x2=x2, y2=y2))
    file = io.BytesIO()
    Image.fromarray(ground.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue(), tuple(boxes)


def samples(
    count: int, *, seed: int = 0, kinds: tuple[str, ...] = (WIDE, LONG), site: str = ""
) -> list[TrainingSample]:
    """Good pictures, and pictures of each kind, in turn."""
    made = []
    for number in range(count):
        label = ("none", *kinds)[number % (1 + len(kinds))]
        data, boxes = picture(seed + number, kinds=() if label == "none" else (label,))
        made.append(
            TrainingSample(
                name=f"{seed}-{number}",
                label=label,
                group=str(number // 3),
                read=partial(bytes, data),
                media_type="image/png",
                annotation=Annotation(boxes=boxes),
                site=site,
            )
        )
    return made
