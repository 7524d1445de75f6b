"""Copies: samples of the same content, and pictures that are nearly the same, told apart by where they stand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise.frames import likeness, near_from, usual

BLOCK = 512
Pair = tuple[int, int]


def same(digests: Sequence[str]) -> list[list[int]]:
    """Indices of samples with the same content, two or more each.

    >>> same(["a", "b", "a"])
    [[0, 2]]
    """
    found: dict[str, list[int]] = {}
    for index, name in enumerate(digests):
        found.setdefault(name, []).append(index)
    return [places for places in found.values() if len(places) > 1]


def near(marks: NDArray[np.int8], groups: Sequence[str], digests: Sequence[str]) -> tuple[list[Pair], float]:
    """Pairs of pictures of different groups that are nearly, but not exactly, the same; and the bound they are above.

    Args:
        marks: fingerprints (N, 4096).
    """
    shared = usual(marks)
    group, content = np.array(groups), np.array(digests)
    nearest = np.full(len(marks), np.nan)
    candidates: list[tuple[int, int, float]] = []
    for start in range(0, len(marks), BLOCK):
        rows = slice(start, start + BLOCK)
        alike = likeness(marks[rows], marks, shared)
        alike[(group[rows][:, None] == group[None, :]) | (content[rows][:, None] == content[None, :])] = -1.0
        nearest[rows] = alike.max(axis=1)
        for place, other in np.argwhere(alike >= 0.8):
            if start + place < other:
                candidates.append((int(start + place), int(other), float(alike[place, other])))
    bound = near_from(nearest[nearest > -1])
    return [(one, other) for one, other, value in candidates if value >= bound], bound
