"""Boxes that people drew, or that follow from a mask: the truth that found boxes are trained on and judged by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgewise.frames._image import decode_image
from edgewise.wire import BOXES_MAX, Annotation, Box, NotValid

AREA_MIN = 4  # pixels of a part of a mask; smaller ones are the noise of its drawing or its compression


def true_boxes(
    annotation: Annotation | None, label: str, *, is_good: bool, read_mask: Callable[[], bytes] | None = None
) -> tuple[Box, ...] | None:
    """What is where in a picture; None where nobody said so.

    Boxes that were drawn come first, a mask second: each connected part of it is a box with the picture's label. On a
    good picture there is nothing.

    Args:
        label: of the whole picture.
        read_mask: gives the bytes of the annotation's mask.
    Raises:
        NotValid: the mask cannot be read.

    >>> true_boxes(None, "none", is_good=True), true_boxes(None, "pit", is_good=False)
    ((), None)
    """
    if annotation is not None and annotation.boxes:
        return annotation.boxes
    if is_good:
        return ()
    if annotation is None or annotation.mask is None or read_mask is None:
        return None
    found = mask_boxes(decode_image(read_mask(), channels=1)[:, :, 0], label)
    return found or None  # an empty mask beside a defect says nothing of where it is


def mask_boxes(mask: NDArray[np.uint8], label: str) -> tuple[Box, ...]:
    """A box around each connected part of a mask, the largest part first.

    Args:
        mask: uint8 (H, W), not 0 where the thing is; pixels that touch at a corner are connected.
    Returns:
        At most `BOXES_MAX`, from 0 to 1; parts of fewer than `AREA_MIN` pixels are left out.

    >>> mask = np.zeros((10, 10), np.uint8)
    >>> mask[2:4, 5:9] = 1
    >>> [(box.x1, box.y1, box.x2, box.y2) for box in mask_boxes(mask, "pit")]
    [(0.5, 0.2, 0.9, 0.4)]
    """
    if mask.ndim != 2 or not mask.size:
        raise NotValid(f"a mask of shape {mask.shape}, needs to be (H, W)", code="mask_invalid")
    height, width = mask.shape
    found = sorted((part for part in _parts(mask != 0) if part[0] >= AREA_MIN), reverse=True)
    return tuple(
        Box(label=label, x1=left / width, y1=top / height, x2=right / width, y2=bottom / height)
        for _, top, left, bottom, right in found[:BOXES_MAX]
    )


def _parts(inside: NDArray[np.bool_]) -> list[tuple[int, int, int, int, int]]:
    """Area, top, left, bottom and right of each connected part; runs of a row are joined with those above them."""
    parents: list[int] = []
    boxes: list[tuple[int, int, int, int, int]] = []
    above: list[tuple[int, int, int]] = []  # start, end and number of the runs of the row before

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for row, line in enumerate(inside):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(np.int8)))
        here: list[tuple[int, int, int]] = []
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            number = len(parents)
            parents.append(number)
            boxes.append((end - start, row, start, row + 1, end))
            for left, right, other in above:
                if left <= end and start <= right:
                    parents[root(other)] = root(number)
            here.append((start, end, number))
        above = here
    joined: dict[int, tuple[int, int, int, int, int]] = {}
    for number, (area, top, left, bottom, right) in enumerate(boxes):
        one = root(number)
        held = joined.get(one, (0, top, left, bottom, right))
        joined[one] = (
            held[0] + area,
            min(held[1], top),
            min(held[2], left),
            max(held[3], bottom),
            max(held[4], right),
        )
    return list(joined.values())
