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
SITE_SAMPLES_MIN = 10  # a site with fewer does not say how much a feature varies there
SITE_SPREAD_SHARE = 0.05  # of the spread over all samples, added to a site's: what is constant at a site stays finite


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
        features: float32 (N, F), as they are; they are brought to unit spread inside (`site_spread`).
        labels: C classes; some may have no sample.
        strength: inverse of the penalty on the square of the weights, for two classes of N / 2 samples each; with more
            classes each still counts as much, or the penalty would grow with every class that a new site brings.
        boost: how much cheaper than one a feature's weight is, for all or float32 (F,).
    """
    mean, spread = features.mean(axis=0), site_spread(features, [sample.site for sample in samples])
    scale = boost / spread
    truth = np.array([labels.index(sample.label) for sample in samples])
    counts = Counter(truth.tolist())
    weights = np.array([sample.weight / counts[int(place)] for sample, place in zip(samples, truth, strict=True)])
    weights *= len(samples) * len(counts) / 2 / weights.sum()
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


def site_spread(features: NDArray[np.float32], sites: Sequence[str]) -> NDArray[np.float32]:
    """The unit of each feature, float32 (F,): its deviation at the site where it varies least.

    In units of all sites together a feature shrinks at the quiet ones as soon as a loud one joins, and with it the
    rule that held there: that was most of what the network forgot (docs/learn.md).

    Args:
        features: float32 (N, F). sites: of each of the N samples.

    >>> quiet, loud = np.tile([[0.0], [1.0]], (10, 1)), np.tile([[0.0], [9.0]], (10, 1))
    >>> bool(site_spread(np.concatenate([quiet, loud]).astype(np.float32), ["a"] * 20 + ["b"] * 20)[0] < 1)
    True
    """
    overall: NDArray[np.float32] = features.std(axis=0)
    spread, place = overall, np.array(sites)
    for site, count in Counter(sites).items():
        if count >= SITE_SAMPLES_MIN:
            own = features[place == site].std(axis=0) + SITE_SPREAD_SHARE * overall
            spread = np.minimum(spread, own)
    return spread + np.float32(SPREAD_MIN)
