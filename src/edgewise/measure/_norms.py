"""The statistics of a normalisation for one site: between those of training and what the site's own sums say.

Sums are of values in deviations of training, (value - mean) / deviation, so that one bound fits every channel and a
site that looks like training has means near 0 and deviations near 1.

Source: Li et al., "Revisiting batch normalization for practical domain adaptation" (AdaBN), 2016; half and half rather
than the site's alone, after Schneider et al., "Improving robustness against common corruptions by covariate shift
adaptation", NeurIPS 2020: a site's frames are few and alike.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from edgewise.measure._drift import ChannelSums
from edgewise.wire import NormSum, NotValid

SITE_SHARE = 0.5
SITE_FRAMES_MIN = 16  # behind each norm's sums: fewer say more of these frames than of the site
EPSILON = 1e-5  # added to the variance, as normalisations do: a channel that never moved in training has a deviation
Floats = NDArray[np.float32]


def in_deviations(values: NDArray[np.floating], mean: Floats, variance: Floats) -> NDArray[np.float64]:
    """What a normalisation gets, (N, C, …), as rows (N times positions, C) in deviations of training.

    >>> in_deviations(np.array([[[3.0, 5.0]]]), np.float32([1]), np.float32([4])).round(2).tolist()
    [[1.0], [2.0]]
    """
    rows = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1]).astype(np.float64)
    return (rows - mean) / np.sqrt(np.asarray(variance, np.float64) + EPSILON)


def site_norm(mean: Floats, variance: Floats, sums: ChannelSums, *, share: float = SITE_SHARE) -> tuple[Floats, Floats]:
    """Mean and variance (C,) that a site's normalisation has.

    Args:
        mean, variance: those of training, (C,).
        sums: of what the normalisation gets at the site, in deviations of training. Without any, nothing changes.
        share: of the site in both, 0 to 1.

    >>> sums = ChannelSums.of(in_deviations(np.array([[3.0], [5.0]]), np.float32([0]), np.float32([3])))
    >>> [values.tolist() for values in site_norm(np.float32([0]), np.float32([3]), sums)]
    [[2.0], [2.0]]
    """
    part = share if sums.count else 0.0
    trained = np.asarray(variance, np.float64)
    centre = np.asarray(mean, np.float64) + part * np.sqrt(trained + EPSILON) * sums.mean()
    spread = (1 - part) * trained + part * (trained + EPSILON) * sums.deviation() ** 2
    return centre.astype(np.float32), spread.astype(np.float32)


def norm_sum(sums: ChannelSums) -> NormSum:
    """The sums as they are told.

    >>> told = norm_sum(ChannelSums.of(np.array([[1.0, 2.0], [3.0, 2.0]])))
    >>> told.count, read_norm_sum(told).total.tolist()
    (2, [4.0, 4.0])
    """
    total, square = (base64.b64encode(values.astype("<f4").tobytes()).decode() for values in (sums.total, sums.square))
    return NormSum(count=sums.count, total=total, square=square)


def read_norm_sum(told: NormSum, *, exact: bool = True) -> ChannelSums:
    """The sums that were told.

    Args:
        exact: they carry no noise, so they must be such as values can have.
    Raises:
        NotValid: no numbers, of different lengths, or sums that no values can have.
    """
    total, square = _numbers(told.total), _numbers(told.square)
    if len(total) != len(square) or not len(total):
        raise NotValid(f"a norm has {len(total)} totals and {len(square)} squares; as many are needed", code=WRONG)
    if not (np.isfinite(total).all() and np.isfinite(square).all()):
        raise NotValid("a norm's sums hold what is no number; measure again", code=WRONG)
    # By Cauchy and Schwarz; float32 leaves a part in a thousand.
    if exact and np.any(total**2 > told.count * square * 1.001 + 1e-3):
        raise NotValid(f"a norm's totals are larger than its squares allow for {told.count} values", code=WRONG)
    return ChannelSums(count=told.count, total=total, square=square)


WRONG = "sums_wrong"


def _numbers(text: str) -> NDArray[np.float64]:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float64)
    except (binascii.Error, ValueError) as error:
        raise NotValid(
            f"a norm's sums are no base64 of little-endian float32: {error}; see docs/drift-sums.md", code=WRONG
        ) from error
