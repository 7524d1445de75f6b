"""The statistics of a normalisation for one site: between those of training and what the site's own sums say.

Source: Li et al., "Revisiting batch normalization for practical domain adaptation" (AdaBN), 2016; half and half rather
than the site's alone, after Schneider et al., "Improving robustness against common corruptions by covariate shift
adaptation", NeurIPS 2020: a site's frames are few and alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgewise.measure._drift import ChannelSums

SITE_SHARE = 0.5
Floats = NDArray[np.float32]


def site_norm(mean: Floats, variance: Floats, sums: ChannelSums, *, share: float = SITE_SHARE) -> tuple[Floats, Floats]:
    """Mean and variance (C,) that a site's normalisation has.

    Args:
        mean, variance: those of training, (C,).
        sums: of what the normalisation gets at the site, over samples and positions. Without any, nothing changes.
        share: of the site in both, 0 to 1.

    >>> sums = ChannelSums.of(np.array([[3.0], [5.0]]))
    >>> [values.tolist() for values in site_norm(np.float32([0]), np.float32([3]), sums)]
    [[2.0], [2.0]]
    """
    part = share if sums.count else 0.0
    centre = (1 - part) * np.asarray(mean, np.float64) + part * sums.mean()
    spread = (1 - part) * np.asarray(variance, np.float64) + part * sums.deviation() ** 2
    return centre.astype(np.float32), spread.astype(np.float32)
