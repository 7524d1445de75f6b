"""Stated values: their error, whether the intervals hold what they promise, and the correction that makes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewise.measure._intervals import REPEATS, Beat, Floats, group_numbers, interval, no_beat, ratio, resample
from edgewise.measure._rows import by_site, by_slice
from edgewise.wire import Metric, NotValid, Prediction, SiteScore, ValueScore, value_of

Quantiles = tuple[float, float, float]
OVERALL = "overall"
NOTHING = Metric(value=None)
MEASURES = ("mae", "baseline", "skill", "coverage", "width", "pinball")


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """N stated values with the truth, in the order of their sample ids.

    Attributes:
        stated: float64 (N, 3): lower end, value, upper end.
        baseline: float64 (N,), NaN where there is none.
        unstated: samples that were left out, for the bundle could not state a value of them.
    """

    truth: Floats
    stated: Floats
    baseline: Floats
    numbers: npt.NDArray[np.intp]
    groups: int
    unstated: int

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def errors(self) -> Floats:
        """Absolute errors (N,)."""
        return np.asarray(np.abs(self.stated[:, 1] - self.truth))

    @property
    def covered(self) -> Floats:
        """1 where the interval holds the true value, else 0."""
        return np.asarray((self.stated[:, 0] <= self.truth) & (self.truth <= self.stated[:, 2]), np.float64)


def values_of(predictions: Sequence[Prediction]) -> Values:
    """Predictions of values as arrays.

    Raises:
        NotValid: a truth that is no number.
    """
    ordered = sorted(predictions, key=lambda item: item.sample)
    told = [item for item in ordered if item.stated is not None]
    # Groups of two sites are two, whatever they are called.
    numbers, groups = group_numbers([f"{item.site}\0{item.group}" if item.group else "" for item in told])
    baseline = [math.nan if item.baseline is None else item.baseline for item in told]
    return Values(
        truth=np.array([value_of(item.truth, f"the label of sample {item.sample[:12]}…") for item in told], np.float64),
        stated=np.array([item.stated for item in told], np.float64).reshape(-1, 3),
        baseline=np.array(baseline, np.float64),
        numbers=numbers,
        groups=groups,
        unstated=len(ordered) - len(told),
    )


def score_values(
    predictions: Sequence[Prediction],
    quantiles: Quantiles,
    *,
    level: float = 0.9,
    seed: int = 0,
    beat: Beat = no_beat,
) -> tuple[tuple[SiteScore, ...], SiteScore]:
    """The score of each site and then of each slice, and the one over all of them; the mirror of `score_sites`.

    Args:
        predictions: of a bundle that states values, one a sample.
        quantiles: what it states.
        level: of the intervals, which resample whole groups; None with fewer than two.
        beat: called again and again while it computes.
    Raises:
        NotValid: a truth that is no number.

    >>> cases = [(1.0, 1.5), (2.0, 2.0), (4.0, 3.0)]
    >>> def said(number, truth, value):
    ...     stated, about = (value - 0.7, value, value + 0.7), {"site": "a", "group": "", "label": "within"}
    ...     return Prediction(sample=f"{number:032x}", truth=str(truth), stated=stated, baseline=2, **about)
    >>> said = [said(i, t, v) for i, (t, v) in enumerate(cases)]
    >>> score = score_values(said, (0.05, 0.5, 0.95))[1].values
    >>> score.mae.value, round(score.coverage.value, 3), score.skill.value
    (0.5, 0.667, 0.5)
    """
    slices = sorted({name for item in predictions for name in item.slices or ()})
    parts = {**by_site(predictions), **by_slice(predictions, slices)}
    sites = tuple(_score(name, items, quantiles, level, seed, beat) for name, items in parts.items())
    return sites, _score(OVERALL, predictions, quantiles, level, seed, beat)


def pinball(truth: Floats, stated: Floats, quantiles: Quantiles) -> Floats:
    """Mean pinball loss of each case over its quantiles (N,): the smaller, the better placed they are.

    Args:
        truth: float64 (N,). stated: float64 (N, 3), in the order of the quantiles.
    Source: Koenker and Bassett, Regression quantiles, Econometrica 1978.

    >>> pinball(np.array([1.0]), np.array([[0.0, 1.0, 2.0]]), (0.1, 0.5, 0.9)).round(4)
    array([0.0667])
    """
    share = np.asarray(quantiles, np.float64)
    over = truth[:, None] - stated
    return np.asarray(np.maximum(share * over, (share - 1) * over).mean(axis=1))


def _score(
    site: str, predictions: Sequence[Prediction], quantiles: Quantiles, level: float, seed: int, beat: Beat
) -> SiteScore:
    values = values_of(predictions)
    found = dict.fromkeys(MEASURES, NOTHING)
    if len(values):
        columns = np.stack(
            [
                values.errors,
                np.abs(values.baseline - values.truth),
                values.covered,
                values.stated[:, 2] - values.stated[:, 0],
                pinball(values.truth, values.stated, quantiles),
            ],
            axis=1,
        )

        def statistic(weights: Floats) -> Floats:
            mean = weights @ columns / weights.sum(axis=1, keepdims=True)
            skill = 1 - ratio(mean[:, :1], mean[:, 1:2])
            return np.concatenate([mean[:, :2], skill, mean[:, 2:]], axis=1)

        one = statistic(np.ones((1, len(values))))[0]
        drawn = resample(statistic, values.numbers, values.groups, seed=seed, repeats=REPEATS, beat=beat)
        for place, name in enumerate(MEASURES):
            if not math.isnan(one[place]):
                low, high = interval(drawn[:, place], values.groups, level)
                found[name] = Metric(value=float(one[place]), low=low, high=high, n=len(values))
    nominal = round(quantiles[2] - quantiles[0], 9)
    return SiteScore(
        site=site,
        n=len(predictions),
        balanced_accuracy=NOTHING,
        macro_recall=NOTHING,
        accuracy=NOTHING,
        auc=NOTHING,
        values=ValueScore(**found, nominal=nominal, unstated=values.unstated),
    )


def groups_needed(coverage: float) -> int:
    """Fewest groups from which an interval of this coverage can be promised.

    >>> groups_needed(0.9), groups_needed(0.8)
    (9, 4)
    """
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def correction(truth: Floats, stated: Floats, groups: Sequence[str], coverage: float) -> float:
    """By how much both ends of an interval move outwards so that a new group's true values are inside it as often.

    Each group counts alike, however many cases it has: the chance that a case of a group like these is inside the
    corrected interval is at least `coverage`, whatever the intervals were worth before. Cases of one group may depend
    on each other as they like; groups must be exchangeable, which time and drift break.

    Args:
        truth: float64 (N,), of cases that nothing was fitted on. stated: float64 (N, 3).
        groups: N names, the empty one a group by itself.
        coverage: above 0.5, below 1.
    Returns:
        In the unit of the target; below 0 where the intervals were too wide.
    Raises:
        NotValid: fewer groups than `groups_needed`.
    Source: Romano, Patterson and Candès, Conformalized quantile regression, NeurIPS 2019, for the score; Lee, Barber
        and Willett, Distribution-free inference with hierarchical data, 2023, section 3, for groups.

    >>> truth = np.arange(20.0)
    >>> stated = np.stack([truth - 1, truth, truth + np.where(truth < 16, 1, -2)], axis=1)
    >>> correction(truth, stated, [""] * 20, 0.9)
    2.0
    """
    numbers, count = group_numbers(groups)
    if count < groups_needed(coverage):
        raise NotValid(
            f"there are {count} groups to calibrate an interval of {coverage:.0%} on, needs {groups_needed(coverage)}; "
            "record or label more groups, or ask for a smaller coverage",
            code="too_few_groups",
        )
    outside = np.maximum(stated[:, 0] - truth, truth - stated[:, 2])
    weights = 1 / (np.bincount(numbers, minlength=count)[numbers] * (count + 1))
    order = np.argsort(outside, kind="stable")
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, coverage - 1e-9))
    return float(outside[order][min(place, len(outside) - 1)])
