"""Linear rules with one best solution, for both heads of the network.

They are convex: no seed, no step size, nothing to stop early; and every class counts alike, however rare, so that the
network does not prefer what it saw most. With few labels they do not learn a part by heart (docs/learn.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from edgewise.learn._dataset import TrainingSample

ROUNDS_MAX = 150
UNSEEN = -3.0  # logit of a class that the base knew and no sample has now: unlikely, not impossible
SPREAD_MIN = 1e-6


def fit_linear(
    features: NDArray[np.float32],
    samples: Sequence[TrainingSample],
    labels: Sequence[str],
    *,
    strength: float,
    boost: NDArray[np.float32] | float = 1.0,
    threads: int = 1,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights float32 (C, F) and bias float32 (C,) of a softmax rule; every class that occurs counts alike.

    Args:
        features: float32 (N, F), as they are; they are brought to unit spread inside.
        labels: C classes; some may have no sample.
        strength: inverse of the penalty on the square of the weights.
        boost: how much cheaper than one a feature's weight is, for all or float32 (F,).
    """
    mean, spread = features.mean(axis=0), features.std(axis=0) + SPREAD_MIN
    scale = boost / spread
    truth = np.array([labels.index(sample.label) for sample in samples])
    counts = Counter(truth.tolist())
    weights = np.array([sample.weight / counts[int(place)] for sample, place in zip(samples, truth, strict=True)])
    weights *= len(samples) / weights.sum()
    rule = LogisticRegression(C=strength, max_iter=ROUNDS_MAX, tol=1e-3)
    with threadpool_limits(limits=threads):
        rule.fit((features - mean) * scale, truth, sample_weight=weights)
    slopes, offsets = rule.coef_, rule.intercept_
    if len(rule.classes_) == 2:  # then there is one row, for the second against the first
        slopes, offsets = np.concatenate([-slopes, slopes]) / 2, np.concatenate([-offsets, offsets]) / 2
    held = np.zeros((len(labels), features.shape[1]), np.float32)
    bias = np.full(len(labels), UNSEEN, np.float32)
    held[rule.classes_] = slopes * scale
    bias[rule.classes_] = offsets - (slopes * scale) @ mean
    return held, bias
