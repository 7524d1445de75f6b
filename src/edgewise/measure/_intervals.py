"""Intervals: of a share, and of any statistic by resampling whole groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgewise.wire import Metric, NotValid

Floats: TypeAlias = npt.NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], Floats]
Beat: TypeAlias = Callable[[], None]
"""Called while something takes long, so that a caller can keep a lease or show progress; it may raise to end it."""
REPEATS = 400
CELLS_MAX = 2_000_000  # weights held at once: 16 MB
NORMAL_FROM = 200  # degrees of freedom from which Student's t is read as the normal distribution, 0.4 % off


def wilson(successes: int, n: int, level: float = 0.95) -> Metric:
    """A share with its interval; it stays inside 0 to 1 and does not collapse where all or none succeeded.

    Raises:
        NotValid: more successes than trials, or a level outside 0 to 1.
    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.

    >>> share = wilson(8, 10)
    >>> share.value, round(share.low, 3), round(share.high, 3)
    (0.8, 0.49, 0.943)
    """
    if not 0 <= successes <= n or not 0 < level < 1:
        raise NotValid(
            f"{successes} successes of {n} at level {level}; needs 0 <= successes <= n and a level between 0 and 1",
            code="share_invalid",
        )
    if n == 0:
        return Metric(value=None, n=0)
    share, z = successes / n, NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At the ends the two terms cancel only up to rounding; the interval must hold the share itself.
    return Metric(value=share, low=max(0.0, min(middle - half, share)), high=min(1.0, max(middle + half, share)), n=n)


def auc(scores: Sequence[float], truth: Sequence[bool]) -> float | None:
    """Chance that a true one scores above a false one, ties counting half; None unless there are both.

    Args:
        scores: one number a case, higher means more likely true.
    Source: Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 1982.

    >>> auc([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
    0.875
    """
    if len(scores) != len(truth):
        raise NotValid(f"{len(scores)} scores for {len(truth)} truths; needs one each", code="shape_wrong")
    if not len(scores):
        return None
    value = float(
        weighted_auc(np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=bool))(np.ones((1, len(scores))))[0]
    )
    return None if math.isnan(value) else value


def weighted_auc(scores: Floats, truth: npt.NDArray[np.bool_]) -> Statistic:
    """The area under the ROC curve as a function of weights (R, N) -> (R,); NaN where a kind has no weight."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # where each distinct score begins
    marks = truth[order].astype(np.float64)

    def statistic(weights: Floats) -> Floats:
        sorted_weights = weights[:, order]
        true = np.add.reduceat(sorted_weights * marks, starts, axis=1)
        false = np.add.reduceat(sorted_weights * (1 - marks), starts, axis=1)
        below = np.cumsum(false, axis=1) - false / 2
        return ratio((true * below).sum(axis=1), true.sum(axis=1) * false.sum(axis=1))

    return statistic


def ratio(top: Floats, bottom: Floats) -> Floats:
    """top / bottom, NaN where the bottom is 0."""
    result: Floats = np.divide(
        top, bottom, out=np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan), where=bottom > 0
    )
    return result


def group_bootstrap(
    statistic: Statistic, groups: Sequence[str], seed: int = 0, level: float = 0.9, repeats: int = REPEATS
) -> tuple[float | None, float | None]:
    """Interval (low, high) of a statistic, resampling whole groups: pictures of one part are not independent.

    Args:
        statistic: from float64 weights (R, N), how often each case was drawn in each repeat, to float64 (R,); NaN where
            it does not exist, such as a recall without a case.
        groups: N names; the empty name is a case on its own.
        level: share of repeats inside, widened for few groups (below).
    Returns:
        (None, None) with fewer than two groups, or where half of the repeats have no value: then nothing is known.
    Source: percentile interval over clusters, widened for few of them as in Hesterberg, What teachers should know about
        the bootstrap, The American Statistician 2015, section 4.3.

    >>> right = np.array([1.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    >>> low, high = group_bootstrap(lambda w: (w @ right) / w.sum(axis=1), ["a", "a", "b", "c", "d", "e"])
    >>> 0.2 < low < 0.5 and 0.8 < high <= 1
    True
    """
    numbers, count = group_numbers(groups)
    values = resample(lambda weights: statistic(weights)[:, None], numbers, count, seed=seed, repeats=repeats)
    return interval(values[:, 0], count, level)


def group_numbers(groups: Sequence[str]) -> tuple[npt.NDArray[np.intp], int]:
    """Number of each case's group (N,), and how many groups there are; a case without a name is a group by itself."""
    seen: dict[str | int, int] = {}
    numbers = [seen.setdefault(group or index, len(seen)) for index, group in enumerate(groups)]
    return np.array(numbers, dtype=np.intp), len(seen)


def no_beat() -> None:
    """Nobody has to be told."""


def resample(
    statistic: Statistic,
    numbers: npt.NDArray[np.intp],
    count: int,
    *,
    seed: int,
    repeats: int,
    beat: Beat = no_beat,
) -> Floats:
    """Values (repeats, K) of a statistic from weights (R, N) to (R, K), each repeat with `count` groups redrawn.

    `beat` is called before each block of repeats, which takes a fraction of a second however many cases there are.
    """
    if count == 0 or repeats < 1:
        raise NotValid(f"{repeats} repeats over {count} groups; needs at least one of each", code="bootstrap_empty")
    chance = np.random.Generator(np.random.PCG64(seed))
    rows = max(1, CELLS_MAX // max(len(numbers), 1))  # in blocks, so that memory does not grow with the repeats
    parts = []
    for start in range(0, repeats, rows):
        beat()
        size = min(rows, repeats - start)
        drawn = chance.integers(0, count, size=(size, count)) + np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        parts.append(statistic(times[:, numbers].astype(np.float64)))
    return np.concatenate(parts)


def interval(values: Floats, groups: int, level: float) -> tuple[float | None, float | None]:
    """The percentile interval of resampled values (R,), widened for few groups; (None, None) when nothing is known."""
    defined = values[~np.isnan(values)]
    if groups < 2 or 2 * len(defined) < len(values):
        return None, None
    low, high = np.quantile(defined, [tail(groups, level), 1 - tail(groups, level)])
    return float(low), float(high)


@lru_cache(maxsize=1024)
def tail(groups: int, level: float) -> float:
    """Share of repeats to leave out at each end. Resampling few groups looks steadier than it is; this corrects it."""
    if not 0 < level < 1:
        raise NotValid(f"the level of an interval is {level}, needs to be between 0 and 1", code="level_invalid")
    reach = student_quantile((1 + level) / 2, groups - 1) * math.sqrt(groups / (groups - 1))
    return NormalDist().cdf(-reach)


@lru_cache(maxsize=1024)
def student_quantile(share: float, freedom: int) -> float:
    """Quantile of Student's t for a share from 0.5 to 1, by halving its exact distribution.

    >>> round(student_quantile(0.95, 4), 3)
    2.132
    """
    if freedom > NORMAL_FROM:
        return NormalDist().inv_cdf(share)
    low, high = 0.0, 1.0
    while _student_below(high, freedom) < share and high < 1e6:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_below(middle, freedom) < share else (low, middle)
    return high


def _student_below(t: float, freedom: int) -> float:
    """Chance that Student's t is below t >= 0. Source: Abramowitz and Stegun 1964, equations 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2 == 1
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for step in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine * cosine * (step - 1) / step
        total += term
    if freedom == 1:
        total = 0.0
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return (1 + inside) / 2
