"""The mean over labels of a value's mean over their samples, with an interval over whole groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise.measure._intervals import group_bootstrap
from edgewise.wire import Metric


def macro_mean(
    values: NDArray[np.float64] | Sequence[float], labels: Sequence[str], groups: Sequence[str], *, level: float = 0.9
) -> Metric:
    """Macro recall where the values are 1 for right and 0 for wrong; a paired difference where they are differences.

    Args:
        values, labels, groups: one of each sample; an empty group is a sample by itself.

    >>> macro_mean([1, 1, 1, 0], ["a", "a", "a", "b"], ["1", "2", "3", "4"]).value
    0.5
    """
    if not len(labels):
        return Metric(value=None, n=0)
    one, inside = (
        np.asarray(values, np.float64),
        np.array([[x == name for x in labels] for name in sorted(set(labels))]),
    )

    def macro(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            shares = (weights @ (inside * one).T) / (weights @ inside.T.astype(np.float64))
        # A repeat without any sample of a label says nothing of it; the mean is over those that are there.
        return np.asarray(np.nanmean(shares, axis=1))

    low, high = group_bootstrap(macro, groups, level=level)
    return Metric(value=float(macro(np.ones((1, len(labels))))[0]), low=low, high=high, n=len(labels))
