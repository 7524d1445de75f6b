"""Scorecards: the quality of a bundle a site, each number with its interval."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from edgewise.measure._boxes import score_boxes
from edgewise.measure._calibration import calibration
from edgewise.measure._intervals import (
    REPEATS,
    Beat,
    Floats,
    Statistic,
    interval,
    no_beat,
    resample,
    weighted_auc,
    wilson,
)
from edgewise.measure._rows import Rows, by_site, by_slice, rows_of
from edgewise.wire import Calibration, Gap, Metric, Prediction, SiteScore

OVERALL = "overall"
NOTHING = Metric(value=None)


def score_sites(
    predictions: Sequence[Prediction],
    *,
    good_labels: Collection[str],
    level: float = 0.9,
    seed: int = 0,
    beat: Beat = no_beat,
) -> tuple[tuple[SiteScore, ...], SiteScore]:
    """The score of each site and then of each slice in the order of names, and the one over all of them as ``overall``.

    A slice is scored under ``slice:<name>``; a prediction may be in several or in none.

    - balanced_accuracy: mean of the recall of good and of defective parts, any defect label counting as defective; None
      where a site has only one of the two kinds.
    - macro_recall: mean recall of the classes that occur; the labels that mean good are one class.
    - accuracy: share of right classes.
    - auc: of `defect`; None unless both kinds have one.
    - recall: by label; good_recall: of all labels that mean good as one class.

    Args:
        predictions: one a sample.
        good_labels: labels that mean a good part; empty where there is none.
        level: of the intervals, which resample whole groups. An interval is None where fewer than two groups carry it.
        beat: called again and again while it computes.
    Raises:
        NotValid: two predictions for one sample.

    >>> truth = [("none", "none"), ("free", "none"), ("pitting", "scratch"), ("scratch", "scratch")]
    >>> cases = [Prediction(sample=f"{i:032x}", site="a", group="", truth=t, label=s) for i, (t, s) in enumerate(truth)]
    >>> sites, overall = score_sites(cases, good_labels=["none", "free"])
    >>> overall.balanced_accuracy.value, round(overall.macro_recall.value, 3), overall.accuracy.value, overall.auc.value
    (1.0, 0.667, 0.75, None)
    """
    slices = sorted({name for item in predictions for name in item.slices or ()})
    parts = {**by_site(predictions), **by_slice(predictions, slices)}
    sites = tuple(_score(name, items, good_labels, level, seed, beat) for name, items in parts.items())
    return sites, _score(OVERALL, predictions, good_labels, level, seed, beat)


def _score(
    site: str, predictions: Sequence[Prediction], good_labels: Collection[str], level: float, seed: int, beat: Beat
) -> SiteScore:
    if not predictions:
        return SiteScore(site=site, n=0, balanced_accuracy=NOTHING, macro_recall=NOTHING, accuracy=NOTHING, auc=NOTHING)
    rows = rows_of(predictions, good_labels)
    labels = sorted({item.truth for item in predictions})
    parts, groups, counts = _measures(rows, labels)

    def statistic(weights: Floats) -> Floats:
        return np.concatenate([part(weights) for part in parts], axis=1)

    values = statistic(np.ones((1, len(predictions))))[0]
    # All measures share the same redraws: one pass instead of one a measure.
    drawn = resample(statistic, rows.numbers, rows.groups, seed=seed, repeats=REPEATS, beat=beat)
    metrics = [
        _metric(values[column], drawn[:, column], groups[column], counts[column], level)
        for column in range(len(values))
    ]
    balanced, macro, accuracy, auc, good, *recalls = metrics
    boxes = score_boxes(predictions, level=level, seed=seed, beat=beat)
    named = {box.label for item in predictions for box in (*(item.boxes or ()), *(item.true_boxes or ()))}
    of = {name: score_boxes(predictions, label=name, level=level, seed=seed, beat=beat) for name in sorted(named)}
    return SiteScore(
        site=site,
        n=len(predictions),
        balanced_accuracy=balanced,
        macro_recall=macro,
        accuracy=accuracy,
        auc=auc,
        recall=dict(zip(labels, recalls, strict=True)),
        good_recall=good if good.n else None,
        calibration=_calibration(predictions, rows, level, seed),
        boxes=boxes,
        boxes_of=None if boxes is None else {name: one for name, one in of.items() if one is not None},
    )


def _calibration(predictions: Sequence[Prediction], rows: Rows, level: float, seed: int) -> Calibration | None:
    """Of the decisions that came with a confidence; those of older scorecards did not."""
    confidences, right, groups = [], [], []
    for item, is_right in zip(predictions, rows.right, strict=True):
        if item.confidence is not None:
            confidences.append(item.confidence)
            right.append(bool(is_right))
            groups.append(f"{item.site}\0{item.group}" if item.group else "")
    return calibration(confidences, right, groups, level=level, seed=seed)


def largest_gap(scores: Sequence[SiteScore], *, metric: str = "balanced_accuracy") -> Gap | None:
    """The largest difference between two of these in the metric that is declared, or macro recall where that has none.

    Args:
        metric: balanced_accuracy or macro_recall, as a use case's outcome declares.
    Returns:
        None with fewer than two that have a value with an interval.

    >>> def one(name, value):
    ...     metric = Metric(value=value, low=value - 0.03, high=value + 0.04, n=50)
    ...     same = dict.fromkeys(("balanced_accuracy", "macro_recall", "accuracy", "auc"), metric)
    ...     return SiteScore(site=name, n=50, **same)
    >>> gap = largest_gap([one("a", 0.9), one("b", 0.7), one("c", 0.8)])
    >>> gap.best, gap.worst, round(gap.value, 2), round(gap.low, 2), round(gap.high, 2)
    ('a', 'b', 0.2, 0.15, 0.25)
    """
    known = []
    for score in scores:
        balanced = metric == "balanced_accuracy" and score.balanced_accuracy.value is not None
        one = score.balanced_accuracy if balanced else score.macro_recall
        if one.value is not None and one.low is not None and one.high is not None:
            known.append((one.value, one.value - one.low, one.high - one.value, score.site))
    if len(known) < 2:
        return None
    high, low = max(known), min(known)
    value = high[0] - low[0]
    below, above = math.hypot(high[1], low[2]), math.hypot(high[2], low[1])
    return Gap(best=high[3], worst=low[3], value=value, low=max(value - below, -1.0), high=min(value + above, 1.0))


def _measures(rows: Rows, labels: Sequence[str]) -> tuple[list[Statistic], list[int], list[int]]:
    """Functions of weights to (R, K) side by side, and for each column the groups that carry it and its cases."""
    balanced, good, recalls = rows.balanced(), rows.good(), rows.by_label(labels)
    right = rows.right.astype(np.float64)
    area, area_groups, area_cases = _area(rows)
    parts: list[Statistic] = [
        _column(balanced.mean()),
        _column(rows.macro().mean()),
        _column(lambda weights: weights @ right / weights.sum(axis=1)),
        _column(area),
        good.each(),
        recalls.each(),
    ]
    n, kinds = len(right), min(balanced.groups(rows.numbers))
    return (
        parts,
        [kinds, rows.groups, rows.groups, area_groups, *good.groups(rows.numbers), *recalls.groups(rows.numbers)],
        [n, n, n, area_cases, int(rows.truth_good.sum()), *(int(count) for count in recalls.members.sum(axis=0))],
    )


def _area(rows: Rows) -> tuple[Statistic, int, int]:
    """AUC over the cases that have a defect score, in how many groups its rarer kind occurs, and how many cases."""
    scored = np.array([item.defect is not None for item in rows.predictions], dtype=bool)
    defective = ~rows.truth_good
    groups = min(len(np.unique(rows.numbers[scored & kind])) for kind in (defective, ~defective))
    if not groups:
        return (lambda weights: np.full(len(weights), np.nan)), 0, 0
    scores = np.array([item.defect for item in rows.predictions if item.defect is not None], dtype=np.float64)
    inner = weighted_auc(scores, defective[scored])
    return (lambda weights: inner(weights[:, scored])), groups, int(scored.sum())


def _column(statistic: Statistic) -> Statistic:
    return lambda weights: statistic(weights)[:, None]


def _metric(value: float, drawn: Floats, groups: int, n: int, level: float) -> Metric:
    if math.isnan(value):
        return NOTHING
    value = float(value)
    low, high = interval(drawn, groups, level)
    if low is not None and low == high and value in (0.0, 1.0):
        # Where every group agrees, resampling cannot show a doubt that is there; the share of groups can.
        ends = wilson(round(value * groups), groups, level)
        low, high = ends.low, ends.high
    return Metric(value=value, low=low, high=high, n=n)
