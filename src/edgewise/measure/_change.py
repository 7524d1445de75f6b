"""Since when a device, or a cohort of them, is no longer what it was: an e-detector over every day of change.

For each day a change could have begun on, the likelihood ratio "the mean has changed on that day" against "it has not"
is held; the mean before is not known, so the ratio compares the days since with the days before and averages over both
(a flat prior before, normal changes of several sizes after). While days are alike, each ratio is 1 in expectation
however long it runs, so their sum grows by at most 1 a day, and the mean time to a false alarm is at least its
threshold (ARL): of 1,000 healthy devices at most 1,000 * 30 / 10,000 = 3 alarm in 30 days. The proof is for days that
are normal with the fleet's covariance; docs/drift.md shows what bursty streams did.

Sources: the sum Shiryaev 1963 and Roberts 1966, and Shin, Ramdas and Rinaldo, E-detectors, 2024; ratios with an unknown
mean before as in Lai and Xing, Sequential change-point detection when the pre- and post-change parameters are unknown,
2010; T2 Hotelling 1931, its average over days Lowry, Woodall, Champ and Rigdon, A multivariate EWMA chart, 1992.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewise.measure._days import COORDINATE_MAX, SUMS_WIDER, WIDER, chi2_quantile
from edgewise.wire import NotValid

Floats = NDArray[np.float64]
CALIBRATION_DAYS = 14  # before a change can begin; fewer tell too little of what is usual on the device
MEAN_DAYS = 10_000.0  # device-days until a false alarm, at least, in the mean
SIZES = (0.1, 1.0, 10.0)  # variances of a change in one coordinate, in those of a day; our choice
SMOOTHING = 0.3  # of the average over days
PRIOR_SQUARES = 300.0  # our choice
QUIET_SHARE = 0.95  # of usual days are quiet
SETTLED_DAYS = 5  # in which a device must look as at first before an alarm of it is over
SETTLED_SHARE = 0.99  # of usual stretches do, in one look
LOG_MAX = 600.0  # what is held stays a finite number


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a stream of days says, day by day.

    Attributes:
        evidence: (T,), the e-detector; 0 while the first days are taken for usual.
        began: the day, by its place, on which a change began most likely; None before there is a second look.
        t2: (T,), the squared distance of each day from the first ones; NaN in the calibration.
        smooth: (T,), the same of the average over days.
        limit: what 95 of 100 usual averages stay below.
        has_settled: the newest five days together look as the first ones, in every look.
    """

    evidence: Floats
    began: int | None
    t2: Floats
    smooth: Floats
    limit: float
    has_settled: bool = False

    @property
    def is_quiet(self) -> bool:
        """Whether the newest day looks as days did at first; not known while these are being learned."""
        return len(self.smooth) > 0 and bool(self.smooth[-1] <= self.limit)

    def first_alarm(self, threshold: float = MEAN_DAYS) -> int | None:
        """The first day, by its place, on which the evidence reached the threshold."""
        over = np.flatnonzero(self.evidence >= threshold)
        return int(over[0]) if len(over) else None


def find_change(
    days: Floats, weights: Floats, *, widths: Sequence[int] | None = None, calibration: int = CALIBRATION_DAYS
) -> Change:
    """Look at the days of one device or cohort.

    Args:
        days: float (T, F), whitened by the fleet's yardstick, oldest first.
        weights: float (T,), above 0: the inverse variance of each day, 1 for a usual one.
        widths: of looks that lie side by side in F, the first of which is what T2 tells; None for one look.
        calibration: days that are taken for usual.
    Raises:
        NotValid: shapes that do not belong together, or a number that is none.

    >>> rng = np.random.default_rng(0)
    >>> days = rng.standard_normal((40, 8))
    >>> days[30:] += 1.0
    >>> change = find_change(days, np.ones(40))
    >>> change.first_alarm(), change.began
    (33, 30)
    """
    if days.ndim != 2 or weights.shape != days.shape[:1] or not np.isfinite(days).all() or (weights <= 0).any():
        raise NotValid(
            f"days {days.shape} and weights {weights.shape}: needs finite (T, F) and (T,) above 0", code="shape_wrong"
        )
    count = len(days)
    widths = tuple(widths or (days.shape[1],))
    if sum(widths) != days.shape[1]:
        raise NotValid(f"looks of widths {widths} do not add up to {days.shape[1]}", code="shape_wrong")
    width = widths[0]
    limit = chi2_quantile(QUIET_SHARE, width) if width else 0.0
    if count <= calibration:
        empty = np.full(count, np.nan)
        return Change(evidence=np.zeros(count), began=None, t2=empty, smooth=empty, limit=limit)
    usual = np.average(days[:calibration], axis=0, weights=weights[:calibration])
    moved = days - usual
    moved = moved / _own_scales(moved, weights, widths, calibration)
    # Each day stands for so much at most: one strange day is no change of the mean, and sketches have heavy tails.
    capped = np.clip(moved, -COORDINATE_MAX / np.sqrt(weights)[:, None], COORDINATE_MAX / np.sqrt(weights)[:, None])
    looks = np.split(capped, np.cumsum(widths)[:-1], axis=1)
    parts = [_log_ratios(look, weights, calibration) for look in looks]
    ratios = np.logaddexp.reduce(np.stack(parts), axis=0) - np.log(len(parts))  # a mean of ratios is one again
    with np.errstate(under="ignore"):
        evidence = np.exp(np.minimum(ratios, LOG_MAX)).sum(axis=0)
    evidence[:calibration] = 0.0
    t2, smooth = _distances(moved[:, :width], weights, calibration)
    began = int(ratios[:, -1].argmax()) + calibration
    return Change(
        evidence=evidence,
        began=began,
        t2=t2,
        smooth=smooth,
        limit=limit,
        has_settled=_has_settled(moved, weights, widths, calibration),
    )


def _own_scales(moved: Floats, weights: Floats, widths: Sequence[int], calibration: int) -> Floats:
    """(F,): how much more or less the first days of this device vary than the fleet's, by look.

    Few days tell little: they count beside `PRIOR_SQUARES` squares of the fleet.
    """
    first = (moved[:calibration] ** 2 * weights[:calibration, None]).sum(axis=0)
    scales = []
    for look in np.split(first, np.cumsum(widths)[:-1]):
        known = (calibration - 1) * len(look)
        scales += [np.sqrt((PRIOR_SQUARES + look.sum()) / (PRIOR_SQUARES + known))] * len(look)
    return np.array(scales)


def _has_settled(moved: Floats, weights: Floats, widths: Sequence[int], calibration: int) -> bool:
    if len(moved) < calibration + SETTLED_DAYS:
        return False
    last = np.average(moved[-SETTLED_DAYS:], axis=0, weights=weights[-SETTLED_DAYS:])
    spread = 1 / weights[-SETTLED_DAYS:].sum() + 1 / weights[:calibration].sum()
    looks = np.split(last, np.cumsum(widths)[:-1])
    return all((look**2).sum() <= spread * chi2_quantile(SETTLED_SHARE, len(look)) for look in looks)


def _log_ratios(days: Floats, weights: Floats, calibration: int) -> Floats:
    """(S, T): for each first day of a change and each day looked at, the ratio's logarithm; -inf before the first."""
    count, width = days.shape
    sums = np.concatenate([np.zeros((1, width)), np.cumsum(days * weights[:, None], axis=0)])
    totals = np.concatenate([[0.0], np.cumsum(weights)])
    first = np.arange(calibration, count)
    before, behind = sums[first], totals[first]
    after = np.maximum(totals[1:][None, :] - behind[:, None], 1e-12)  # (S, T)
    gap = (sums[None, 1:] - before[:, None]) / after[..., None] - (before / behind[:, None])[:, None]
    squares = (gap**2).sum(axis=2)
    spread = 1 / after + 1 / behind[:, None]
    parts = [
        0.5 * width * np.log(spread / (spread + size)) + 0.5 * squares * (1 / spread - 1 / (spread + size))
        for size in SIZES
    ]
    mixed = np.logaddexp.reduce(np.stack(parts), axis=0) - np.log(len(SIZES))
    return np.where(np.arange(count)[None, :] >= first[:, None], mixed, -np.inf)


def _distances(moved: Floats, weights: Floats, calibration: int) -> tuple[Floats, Floats]:
    """T2 of each day, and of the average over days, both in units in which usual ones are chi-squared."""
    count = len(moved)
    known = 1 / weights[:calibration].sum()
    t2, smooth = np.full(count, np.nan), np.full(count, np.nan)
    average, spread, seen = np.zeros(moved.shape[1]), 0.0, 0.0
    for day in range(calibration, count):
        average = (1 - SMOOTHING) * average + SMOOTHING * moved[day]
        spread = (1 - SMOOTHING) ** 2 * spread + SMOOTHING**2 / weights[day]
        seen = (1 - SMOOTHING) * seen + SMOOTHING  # the part of the average that is not its start at 0
        t2[day] = (moved[day] ** 2).sum() / (1 / weights[day] + known)
        smooth[day] = (average**2).sum() / (spread + seen**2 * known)
    return t2, smooth


def cohort_days(members: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """The days of a cohort: what is added of its members' days, so that what they share stands out.

    Args:
        members: whitened days (T, F) and weights (T,) of each, of the same days.
    Returns:
        days (T, F) and weights (T,): as many times the weight as it has members.
    """
    total = np.sum([weights for _, weights in members], axis=0)
    # Members differ from each other for ever; each is taken from its own mean first, so that weights do not mix them.
    moved = [(days - np.average(days[:CALIBRATION_DAYS], axis=0, weights=weights[:CALIBRATION_DAYS]), weights)
             for days, weights in members]  # fmt: skip
    days = np.sum([days * weights[:, None] for days, weights in moved], axis=0) / total[:, None]
    return np.asarray(days * np.sqrt(WIDER / SUMS_WIDER)), total
