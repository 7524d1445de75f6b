"""How good found boxes are beside true ones: a one-to-one match, then shares with intervals over whole groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgewise.measure._intervals import REPEATS, Beat, Floats, group_numbers, interval, no_beat, ratio, resample
from edgewise.wire import Box, BoxScore, FoundBox, Metric, Prediction, overlap

OVERLAP_MIN = 0.5  # intersection over union from which a found box is right


def score_boxes(
    predictions: Sequence[Prediction],
    *,
    label: str | None = None,
    level: float = 0.9,
    seed: int = 0,
    beat: Beat = no_beat,
) -> BoxScore | None:
    """The score of the found boxes of all classes, or of one; None where no prediction has true and found boxes.

    Found boxes are taken from the surest on; each is matched with the true box of its class in its picture that it
    overlaps most and that has none yet. Pictures without any true box count too: what is found there is wrong.

    Source: Everingham et al., The PASCAL Visual Object Classes challenge, IJCV 2010; the average precision is the area
    under precision over recall, precision made falling, at every recall.

    >>> box = {"label": "pit", "x1": 0.1, "y1": 0.1, "x2": 0.3, "y2": 0.3}
    >>> about = {"site": "a", "group": "", "truth": "pit", "label": "pit"}
    >>> one = Prediction(sample="0" * 32, boxes=(FoundBox(score=0.9, **box),), true_boxes=(Box(**box),), **about)
    >>> other = Prediction(sample="1" * 32, boxes=(), true_boxes=(Box(**box),), **about)
    >>> score = score_boxes([one, other])
    >>> score.n, score.found, score.recall.value, score.precision.value, score.average_precision.value
    (2, 1, 0.5, 1.0, 0.5)
    """
    known = [item for item in predictions if item.boxes is not None and item.true_boxes is not None]
    if not known:
        return None
    ordered = sorted(known, key=lambda item: item.sample)
    rows = [_match(item, label) for item in ordered]
    truths = np.array([row.truths for row in rows], np.float64)
    found = np.array([len(row.scores) for row in rows], np.float64)
    right = np.array([sum(row.right) for row in rows], np.float64)
    centred = np.array([row.centred for row in rows], np.float64)
    place = np.array([at for at, row in enumerate(rows) for _ in row.scores], np.intp)
    order = np.argsort(-np.array([score for row in rows for score in row.scores], np.float64), kind="stable")
    hits = np.array([hit for row in rows for hit in row.right], np.float64)[order]
    place = place[order]

    def statistic(weights: Floats) -> Floats:
        total = weights @ truths
        parts = (
            ratio(weights @ right, total),
            ratio(weights @ right, weights @ found),
            _average_precision(weights[:, place], hits, total),
            ratio(weights @ centred, total),
        )
        return np.stack(parts, axis=1)

    numbers, groups = group_numbers([f"{item.site}\0{item.group}" if item.group else "" for item in ordered])
    values = statistic(np.ones((1, len(ordered))))[0]
    drawn = resample(statistic, numbers, groups, seed=seed, repeats=REPEATS, beat=beat)
    metrics = []
    for column, count in enumerate((truths.sum(), found.sum(), truths.sum(), truths.sum())):
        value = None if np.isnan(values[column]) else float(values[column])
        low, high = interval(drawn[:, column], groups, level) if value is not None else (None, None)
        metrics.append(Metric(value=value, low=low, high=high, n=int(count)))
    recall, precision, average, centre = metrics
    return BoxScore(
        n=int(truths.sum()),
        found=int(found.sum()),
        recall=recall,
        precision=precision,
        average_precision=average,
        centre_recall=centre,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    truths: int
    centred: int  # true boxes with the centre of a found one inside
    scores: list[float]
    right: list[bool]


def _match(item: Prediction, label: str | None) -> _Row:
    truths = [box for box in item.true_boxes or () if label in (None, box.label)]
    found = sorted((box for box in item.boxes or () if label in (None, box.label)), key=lambda box: -box.score)
    free = set(range(len(truths)))
    right = []
    for box in found:
        fits = {at: overlap(box, truths[at]) for at in free if truths[at].label == box.label}
        best = max(fits, key=lambda at: fits[at], default=None)
        hit = best is not None and fits[best] >= OVERLAP_MIN
        if hit and best is not None:
            free.discard(best)
        right.append(hit)
    centred = sum(any(_centre_inside(box, truth) for box in found) for truth in truths)
    return _Row(truths=len(truths), centred=centred, scores=[box.score for box in found], right=right)


def _centre_inside(box: FoundBox, truth: Box) -> bool:
    across, down = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    return box.label == truth.label and truth.x1 <= across <= truth.x2 and truth.y1 <= down <= truth.y2


def _average_precision(weights: Floats, hits: Floats, total: Floats) -> Floats:
    """Of found boxes from the surest on. weights: (R, M). hits: (M,). total: (R,), true boxes."""
    if not len(hits):
        return np.where(total > 0, 0.0, np.nan)
    right, all_ = np.cumsum(weights * hits, axis=1), np.cumsum(weights, axis=1)
    precision = np.nan_to_num(ratio(right, all_))
    falling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area: Floats = (weights * hits * falling).sum(axis=1)
    return ratio(area, total)
