"""Boxes from a network's maps: the one way that training, device and gate share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgewise.wire import Detections, FoundBox, NotValid, overlap

STEPS = 1e6  # of a side and of a score, as `decide` rounds probabilities
SIDE_LOG_MAX = 12.0  # of a logarithm of a side: beyond it, the box is the whole picture in any case


def find_boxes(
    centres: NDArray[np.float32], extents: NDArray[np.float32], detections: Detections
) -> tuple[FoundBox, ...]:
    """The boxes that the maps of one picture tell of, the surest first.

    A centre is a cell that is at least as sure as the eight around it and reaches the threshold. Of two boxes of one
    class that overlap by more than `overlap_max` of their union the less sure one is left out.

    Args:
        centres: float32 (K, h, w), 0 to 1, a map for each of the K classes.
        extents: float32 (4, h, w): logarithms of width and height in cells, x and y of the centre within its cell.
        detections: classes and bounds, of the bundle's manifest.
    Returns:
        At most `boxes_max` boxes from 0 to 1 of the picture's width and height, cut off at its border.
    Raises:
        NotValid: other shapes, or values that are not finite or, of centres, not from 0 to 1.
    Source: Zhou, Wang, Krähenbühl, Objects as Points, 2019, section 4; the overlap is looked at besides, for two cells
        of one large thing may both be a maximum.

    >>> centres, extents = np.zeros((1, 4, 4), np.float32), np.zeros((4, 4, 4), np.float32)
    >>> centres[0, 1, 2], extents[2:] = 0.9, 0.5
    >>> box = find_boxes(centres, extents, Detections(centres="c", extents="e", labels=("pit",)))[0]
    >>> box.label, box.score, box.x1, box.y1, box.x2, box.y2
    ('pit', 0.9, 0.5, 0.25, 0.75, 0.5)
    """
    _check(centres, extents, len(detections.labels))
    _, height, width = centres.shape
    classes, rows, columns = np.nonzero((centres == _around(centres)) & (centres >= detections.threshold))
    scores = centres[classes, rows, columns].astype(np.float64)
    found: list[FoundBox] = []
    for at in np.lexsort((columns, rows, classes, -scores)):
        row, column = int(rows[at]), int(columns[at])
        log_width, log_height, right, down = (float(value) for value in extents[:, row, column])
        box = _box(
            ((column + right) / width, (row + down) / height),
            (np.exp(min(log_width, SIDE_LOG_MAX)) / width, np.exp(min(log_height, SIDE_LOG_MAX)) / height),
            label=detections.labels[int(classes[at])],
            score=round(min(1.0, float(scores[at])) * STEPS) / STEPS,
        )
        same = (other for other in found if box is not None and other.label == box.label)
        if box is not None and all(overlap(box, other) <= detections.overlap_max for other in same):
            found.append(box)
            if len(found) == detections.boxes_max:
                break
    return tuple(found)


def map_means(centres: NDArray[np.float32], extents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of each map, float32 (N, K + 4): what golden outputs keep of maps, which are too large to keep.

    >>> map_means(np.ones((1, 2, 3, 3), np.float32), np.zeros((1, 4, 3, 3), np.float32)).tolist()
    [[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]
    """
    maps = np.concatenate([centres, extents], axis=1)
    means: NDArray[np.float32] = maps.mean((2, 3), dtype=np.float64).astype(np.float32)
    return means


def _around(centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest of each cell and the eight around it."""
    height, width = centres.shape[1:]
    wide = np.pad(centres, ((0, 0), (1, 1), (1, 1)), constant_values=-1.0)
    parts = [wide[:, down : down + height, right : right + width] for down in range(3) for right in range(3)]
    largest: NDArray[np.float32] = np.maximum.reduce(parts)
    return largest


def _box(centre: tuple[float, float], sides: tuple[float, float], *, label: str, score: float) -> FoundBox | None:
    """The box within the picture; None where nothing of it is inside."""
    ends = []
    for middle, side in zip(centre, sides, strict=True):
        ends.append([round(min(1.0, max(0.0, middle + half)) * STEPS) / STEPS for half in (-side / 2, side / 2)])
    (x1, x2), (y1, y2) = ends
    return FoundBox(label=label, x1=x1, y1=y1, x2=x2, y2=y2, score=score) if x1 < x2 and y1 < y2 else None


def _check(centres: NDArray[np.float32], extents: NDArray[np.float32], classes: int) -> None:
    if centres.ndim != 3 or len(centres) != classes or extents.shape != (4, *centres.shape[1:]):
        raise NotValid(
            f"maps of centres {centres.shape} and extents {extents.shape}, needs ({classes}, h, w) and (4, h, w); "
            "export the bundle again",
            code="bundle_invalid",
        )
    # So written that NaN fails as well.
    if not (np.isfinite(extents).all() and (centres >= 0).all() and (centres <= 1).all()):
        raise NotValid(
            "the maps of centres and extents hold values that are not finite or no probabilities; train again",
            code="bad_scores",
        )
