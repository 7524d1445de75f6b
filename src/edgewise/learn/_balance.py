"""How often each sample counts: rare classes more, new samples as much as all the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise.learn._dataset import TrainingSample

CLASS_POWER = 0.5  # a class of n samples weighs n^(1 - 0.5): between each class alike and each sample alike


def sample_weights(samples: Sequence[TrainingSample], *, by_class: bool = True) -> NDArray[np.float64]:
    """Share of the training that each sample gets, float64 (N,), sums to N.

    Inside a half – the new samples, and the rest – a sample of a class with n samples there weighs n^-1/2 times its own
    weight. Each half gets half of the whole: enough of the old not to forget it, whatever the number of new ones.

    Args:
        by_class: False where labels are numbers, which are as rare as they are.

    >>> from functools import partial
    >>> one = partial(TrainingSample, name="", group="", read=bytes)
    >>> sample_weights([one(label="a"), one(label="a"), one(label="b"), one(label="a", new=True)]).round(2)
    array([0.59, 0.59, 0.83, 2.  ])
    """
    weights = np.array([sample.weight for sample in samples], np.float64)
    is_new = np.array([sample.new for sample in samples], dtype=bool)
    halves = [half for half in (is_new, ~is_new) if half.any()]
    for half in halves:
        counts = Counter(sample.label for sample, inside in zip(samples, half, strict=True) if inside)
        rarity = np.array([counts[sample.label] or 1 for sample in samples], np.float64) ** -CLASS_POWER
        weights[half] *= rarity[half] if by_class else 1.0
        weights[half] *= len(samples) / len(halves) / weights[half].sum()
    return weights
