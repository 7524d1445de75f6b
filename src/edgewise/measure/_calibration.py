"""Whether a bundle's confidence means what it says: of the decisions with confidence p, a share of p should be right.

Source: reliability diagrams and consistency by simulation, Bröcker and Smith, Weather and Forecasting 2007; equal-mass
bins as in Nixon et al., Measuring calibration in deep learning, 2019; Brier, Monthly Weather Review 1950.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgewise.measure._intervals import Floats, group_bootstrap
from edgewise.wire import Calibration, Metric, NotValid

CASES_MIN = 50  # with fewer nothing is said: the error of a perfectly calibrated bundle would look large
BIN_MIN = 15
BINS_MAX = 10
SIMULATED = 200


def calibration(
    confidences: Sequence[float], right: Sequence[bool], groups: Sequence[str], *, level: float = 0.9, seed: int = 0
) -> Calibration | None:
    """How far confidence and truth are apart; None with fewer than 50 decisions.

    The error is always above 0, for a calibrated bundle too, and more so with few decisions. Therefore it comes with
    what a bundle that is calibrated would show on as many, and how often such a one shows as much or more.

    Args:
        confidences: of the decision, 0 to 1. right: whether it was. groups: parts, of which whole ones are redrawn.
    Raises:
        NotValid: a confidence outside 0 to 1, or lists of different lengths.

    >>> rng = np.random.default_rng(0)
    >>> said = rng.uniform(0.5, 1, 400)
    >>> fair = calibration(said.tolist(), (rng.random(400) < said).tolist(), [""] * 400)
    >>> bold = calibration(said.tolist(), (rng.random(400) < 0.5).tolist(), [""] * 400)
    >>> fair.p > 0.05, bold.p < 0.01, round(bold.ece.value, 1)
    (True, True, 0.3)
    """
    said, held = np.asarray(confidences, np.float64), np.asarray(right, np.float64)
    if len(said) != len(held) or len(said) != len(groups):
        raise NotValid(f"{len(said)} confidences, {len(held)} truths, {len(groups)} groups", code="shape_wrong")
    if len(said) < CASES_MIN:
        return None
    if not (np.isfinite(said).all() and said.min() >= 0 and said.max() <= 1):
        raise NotValid("a confidence is not from 0 to 1; score the bundle again", code="confidence_invalid")
    order = np.argsort(said, kind="stable")
    member = np.zeros((len(said), min(BINS_MAX, len(said) // BIN_MIN)))
    for place, some in enumerate(np.array_split(order, member.shape[1])):
        member[some, place] = 1.0

    def error(weights: Floats) -> Floats:
        return _error(weights, member, said, held)

    one = np.ones((1, len(said)))
    value = float(error(one)[0])
    low, high = group_bootstrap(error, groups, seed=seed, level=level)
    rng = np.random.default_rng(seed)
    fair = np.array([_error(one, member, said, rng.random(len(said)) < said)[0] for _ in range(SIMULATED)])
    counts = member.sum(axis=0)
    bins = zip(said @ member / counts, held @ member / counts, counts, strict=True)
    return Calibration(
        ece=Metric(value=value, low=low, high=high, n=len(said)),
        expected=float(fair.mean()),
        p=float((1 + (fair >= value).sum()) / (1 + SIMULATED)),
        brier=float(((said - held) ** 2).mean()),
        bins=tuple((round(float(c), 6), round(float(r), 6), int(n)) for c, r, n in bins),
    )


def _error(weights: Floats, member: Floats, said: Floats, held: npt.NDArray[np.generic]) -> Floats:
    """Mean over bins, by their mass, of the distance between confidence and share of right decisions, (R,)."""
    mass = weights @ member
    gaps = np.abs(weights @ (member * (said - held.astype(np.float64))[:, None]))
    return np.asarray(gaps.sum(axis=1) / np.maximum(mass.sum(axis=1), 1e-300))
