"""Small clustering on numpy: enough for one period's few hundred embeddings, without scikit-learn on a device."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgewise.wire import NotValid

Floats = NDArray[np.float32]
ROUNDS_MAX = 8  # Lloyd steps; k-means++ starts close enough that more change little at these sizes
NEIGHBOURS = 5  # for typicality; the TypiClust paper uses 20 of thousands, a period holds tens


def squared_distances(left: Floats, right: Floats) -> NDArray[np.float64]:
    """Squared Euclidean distances between two sets of points.

    Args:
        left: float32 (N, D). right: float32 (M, D).
    Returns:
        float64 (N, M), never negative.

    >>> squared_distances(np.zeros((1, 2), np.float32), np.array([[3, 4]], np.float32))
    array([[25.]])
    """
    a, b = left.astype(np.float64), right.astype(np.float64)
    crossed = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)
    # Rounding can leave a tiny negative number where two points are equal.
    return np.asarray(np.maximum(crossed, 0.0), dtype=np.float64)


def clusters(points: Floats, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """The cluster of each point, by k-means from a k-means++ start.

    Source: Arthur and Vassilvitskii, k-means++: the advantages of careful seeding, 2007.

    Args:
        points: float32 (N, D). count: wanted clusters; fewer come back where points coincide.
    Returns:
        int64 (N,), from 0 to count - 1.
    Raises:
        NotValid: the points are not a two-dimensional array.
    """
    if points.ndim != 2:
        raise NotValid(f"embeddings must be (N, D), got {points.shape}", code="shape_wrong")
    count = min(count, len(points))
    if count <= 1:
        return np.zeros(len(points), dtype=np.int64)
    centres = points[_spread_start(points, count, random)]
    nearest = np.zeros(len(points), dtype=np.int64)
    for step in range(ROUNDS_MAX):
        found = squared_distances(points, centres).argmin(axis=1)
        if step and np.array_equal(found, nearest):
            break
        nearest = found
        for index in np.unique(nearest):
            centres[index] = points[nearest == index].mean(axis=0)
    return nearest


def _spread_start(points: Floats, count: int, random: np.random.Generator) -> list[int]:
    chosen = [int(random.integers(len(points)))]
    near = squared_distances(points, points[chosen])[:, 0]
    while len(chosen) < count and near.sum() > 0:
        chosen.append(int(random.choice(len(points), p=near / near.sum())))
        near = np.minimum(near, squared_distances(points, points[chosen[-1:]])[:, 0])
    return chosen


def typicality(points: Floats) -> NDArray[np.float64]:
    """How typical each point is: the inverse of its mean distance to its nearest neighbours.

    Source: Hacohen, Dekel and Weinshall, Active learning on a budget (TypiClust), 2022.

    Args:
        points: float32 (N, D).
    Returns:
        float64 (N,), higher is more typical.
    """
    if len(points) < 2:
        return np.ones(len(points))
    distances = np.sqrt(squared_distances(points, points))
    np.fill_diagonal(distances, np.inf)
    take = min(NEIGHBOURS, len(points) - 1)
    nearest = np.partition(distances, take - 1, axis=1)[:, :take]
    return np.asarray(1 / (nearest.mean(axis=1) + 1e-9), dtype=np.float64)
