"""Whether two pictures are nearly the same: one saved again, resized, or taken at another exposure.

Pictures of one camera share most of what is in them, so a plain likeness says little. What is usual for the data is
taken away first, and "near" means far nearer than strangers of the same data are to each other (docs/data.md has the
measurements). Moved or cut pictures are not found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgewise.wire import NotValid

SIDE = 64  # a smaller one does not show a defect of a few pixels: then good and bad parts would look alike
COARSE = 8  # side of what is taken away as light and shade
LENGTH = SIDE * SIDE
NEAR_SHARE = 0.25  # of the usual distance of a picture to its nearest stranger; our choice, measured
NEAR_MIN, NEAR_MAX = 0.80, 0.99
STRANGERS_MIN = 20  # with fewer pictures nothing is usual yet: then NEAR_MAX holds

Fingerprint = NDArray[np.int8]  # (LENGTH,)
Floats = NDArray[np.float32]


def fingerprint(pixels: NDArray[np.uint8]) -> Fingerprint:
    """The fine structure of a picture, int8 (4096,): small, without light and shade, of unit deviation times 32.

    Args:
        pixels: uint8 (H, W, C), C of 1 or 3.
    Raises:
        NotValid: another shape.

    >>> picture = np.random.default_rng(0).integers(0, 255, (80, 90, 1), np.uint8)
    >>> brighter = (picture // 2 + 100).astype(np.uint8)
    >>> strangers = [np.random.default_rng(n).integers(0, 255, (80, 90, 1), np.uint8) for n in range(1, 9)]
    >>> marks = np.stack([fingerprint(one) for one in (picture, brighter, *strangers)])
    >>> bool(likeness(marks[:1], marks[1:2], usual(marks))[0, 0] > 0.98)
    True
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise NotValid(f"a picture has shape {pixels.shape}, needs (H, W, 1) or (H, W, 3)", code="shape_wrong")
    grey = pixels.astype(np.float32).mean(axis=2)
    small = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX)
    coarse = small.resize((COARSE, COARSE), Image.Resampling.BOX).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    fine = np.asarray(small, np.float32) - np.asarray(coarse, np.float32)
    fine -= fine.mean()
    scaled = np.clip(np.rint(fine / max(float(fine.std()), 1e-3) * 32), -127, 127)
    return np.asarray(scaled.astype(np.int8).ravel(), np.int8)


def usual(marks: NDArray[np.int8]) -> Floats:
    """What the pictures of some data have in common, float32 (4096,), from their fingerprints (N, 4096)."""
    return np.asarray(marks.astype(np.float32).mean(axis=0) if len(marks) else np.zeros(LENGTH, np.float32))


def likeness(ours: NDArray[np.int8], theirs: NDArray[np.int8], shared: Floats) -> Floats:
    """How alike pictures are beyond what they share with all, float32 (N, M), -1 to 1.

    Args:
        ours: fingerprints (N, 4096). theirs: (M, 4096). shared: of `usual`.
    """
    sides = []
    for marks in (ours, theirs):
        rest = marks.astype(np.float32) - shared
        sides.append(rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6))
    return np.asarray(sides[0] @ sides[1].T, np.float32)


def near_from(nearest: NDArray[np.floating]) -> float:
    """From which likeness on two pictures count as nearly the same.

    Args:
        nearest: of each picture the likeness to its nearest stranger, a picture of another group.

    >>> near_from(np.full(50, 0.6)), near_from(np.full(5, 0.6))
    (0.9, 0.99)
    """
    if len(nearest) < STRANGERS_MIN:
        return NEAR_MAX
    distance = float(np.median(1 - np.asarray(nearest, np.float64)))
    return round(min(NEAR_MAX, max(NEAR_MIN, 1 - NEAR_SHARE * distance)), 6)
