"""Where faces and plates are: the Haar cascades that OpenCV 4 ships. They miss much; docs/privacy.md says how much.

OpenCV is imported when the first picture is looked at, and only then; without it a policy that asks for it keeps no
frame at all.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgewise.frames._pixels import Box, Pixels, grey
from edgewise.wire import NotValid

SIDE_MAX = 1280  # a larger picture is looked at in small, so that its cost stays bounded
SIDE_MIN = 20  # of a face or plate in the picture that is looked at, pixels; the cascades were trained on 20 to 24
SCALE_STEP = 1.1
SURE, UNSURE = 5, 2  # overlapping hits that make a find: OpenCV's usual number, and one that reports more than there is
OVERLAP_MIN = 0.3  # of the smaller box: above it an unsure find is the sure one again


@dataclass(frozen=True, kw_only=True, slots=True)
class Cascade:
    """A file that OpenCV ships, and whether it has to look at the mirrored picture too."""

    file: str
    mirrored: bool = False


FACES = (
    Cascade(file="haarcascade_frontalface_alt2.xml"),
    Cascade(file="haarcascade_profileface.xml", mirrored=True),  # it knows one side of a face only
)
PLATES = (Cascade(file="haarcascade_russian_plate_number.xml"),)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finds:
    """Boxes that are surely something, and boxes that may be."""

    sure: tuple[Box, ...]
    unsure: tuple[Box, ...]

    @property
    def all(self) -> tuple[Box, ...]:
        return self.sure + self.unsure


def find(pixels: Pixels, cascades: Sequence[Cascade]) -> Finds:
    """Boxes of what these cascades know.

    Args:
        pixels: uint8 (H, W, C), one or three channels.
    Raises:
        NotValid: OpenCV below 5 is not installed (code ``detector_missing``).
    """
    small, scale = _small(grey(pixels)[:, :, 0])
    hits = [hit for one in cascades for hit in _hits(small, one)]
    sure = _merged([box for box, agreeing in hits if agreeing >= SURE])
    more = _merged([box for box, _ in hits])
    unsure = [box for box in more if not any(_same(box, known) for known in sure)]
    return Finds(sure=_large(sure, scale), unsure=_large(unsure, scale))


def _small(plane: Pixels) -> tuple[Pixels, float]:
    height, width = plane.shape
    scale = min(1.0, SIDE_MAX / max(height, width))
    if scale == 1.0:
        return np.ascontiguousarray(plane), 1.0
    from PIL import Image

    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BOX)), scale


def _hits(plane: Pixels, cascade: Cascade) -> list[tuple[Box, int]]:
    """Boxes, and how many overlapping hits made each."""
    hits = _look(plane, cascade.file)
    if cascade.mirrored:
        width = plane.shape[1]
        mirrored = _look(np.ascontiguousarray(plane[:, ::-1]), cascade.file)
        hits += [((width - right, top, width - left, bottom), count) for (left, top, right, bottom), count in mirrored]
    return hits


def _look(plane: Pixels, file: str) -> list[tuple[Box, int]]:
    boxes, counts = _classifier(file).detectMultiScale2(
        plane, scaleFactor=SCALE_STEP, minNeighbors=UNSURE, minSize=(SIDE_MIN, SIDE_MIN)
    )
    edges = [(int(x), int(y), int(x + width), int(y + height)) for x, y, width, height in boxes]
    return [(box, int(count)) for box, count in zip(edges, counts, strict=True)]


_loaded = threading.local()  # a classifier keeps scratch memory of its own, so no two threads may share one


def _classifier(file: str) -> Any:
    known: dict[str, Any] = _loaded.__dict__.setdefault("classifiers", {})
    if file not in known:
        known[file] = _load(file)
    return known[file]


def _load(file: str) -> Any:
    try:
        import cv2
        import cv2.data

        path = Path(cv2.data.haarcascades) / file
        made = cv2.CascadeClassifier(str(path))
    except (ImportError, AttributeError) as error:
        raise NotValid(
            "faces and plates are found by OpenCV below version 5, which is not installed; "
            "pip install 'edgewise[camera]'",
            code="detector_missing",
        ) from error
    if made.empty():
        raise NotValid(f"OpenCV has no {file}; pip install 'edgewise[camera]' brings it", code="detector_missing")
    return made


def _merged(boxes: list[Box]) -> list[Box]:
    """Boxes of several cascades around the same thing, as one that holds them all."""
    merged: list[Box] = []
    for box in sorted(boxes, key=_area, reverse=True):
        near = next((index for index, known in enumerate(merged) if _same(box, known)), None)
        if near is None:
            merged.append(box)
        else:
            merged[near] = _around(box, merged[near])
    return merged


def _same(one: Box, other: Box) -> bool:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide > 0 and high > 0 and wide * high >= OVERLAP_MIN * min(_area(one), _area(other))


def _around(one: Box, other: Box) -> Box:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _large(boxes: Sequence[Box], scale: float) -> tuple[Box, ...]:
    return tuple((int(a / scale), int(b / scale), -int(-c // scale), -int(-d // scale)) for a, b, c, d in boxes)
