"""Do people say the same? Cohen's kappa for two, Krippendorff's alpha for any number and any gaps, with intervals.

Own code: of the packages for alpha, the well-kept one is under the GPL, and the others come with a training library.

Source: Cohen, A coefficient of agreement for nominal scales, 1960; Krippendorff, Computing Krippendorff's
Alpha-Reliability, 2011 (nominal data); the word on a value is Krippendorff, Content Analysis, 2004, page 241.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from edgewise.measure._intervals import interval
from edgewise.wire import Metric

Floats = npt.NDArray[np.float64]
REPEATS = 1000
LEVEL = 0.95
ITEMS_MIN = 10  # looked at by two people or more; below it no interval says anything
PEOPLE_MAX = 20  # pairs of the busiest so many are told one by one
RELIABLE, TENTATIVE = 0.8, 0.667


@dataclass(frozen=True, kw_only=True, slots=True)
class PairAgreement:
    """Two people on the samples that both judged."""

    people: tuple[str, str]
    same: int
    kappa: Metric  # n: samples that both judged


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far people agree beyond chance.

    Attributes:
        alpha: over all; n is the number of samples that two people or more judged. No value where only one label was
            ever used: chance explains all of it.
        labels: alpha of each label against all others.
        pairs: kappa of each two people, the most samples in common first.
        text: what the alpha means, for people.
    """

    people: int
    alpha: Metric
    labels: Mapping[str, Metric]
    pairs: tuple[PairAgreement, ...]
    text: str


def agreement(said: Mapping[str, Mapping[str, str]], *, seed: int = 0) -> Agreement:
    """How far people agree on the samples that several of them judged, each without knowing of the others.

    Args:
        said: of each sample, each person's label. Samples with one person count for nothing.
    Returns:
        alpha and kappas with 95 % intervals over redrawn samples; none for fewer than 10 of them.

    >>> said = {str(at): {"ann": "good", "bob": "good" if at % 5 else "pit"} for at in range(40)}
    >>> found = agreement(said | {f"p{at}": {"ann": "pit", "bob": "pit"} for at in range(20)})
    >>> round(found.alpha.value, 2), round(found.pairs[0].kappa.value, 2), found.alpha.n
    (0.72, 0.73, 60)
    """
    units = [dict(words) for _, words in sorted(said.items()) if len(words) > 1]
    names = sorted({label for words in units for label in words.values()})
    place = {label: at for at, label in enumerate(names)}
    counts = np.zeros((len(units), len(names)))
    for row, words in enumerate(units):
        for label, count in Counter(words.values()).items():
            counts[row, place[label]] = count
    redrawn = _redrawn(len(units), seed)
    total = counts.sum(axis=1)
    alpha = _metric(lambda weights: _alpha(weights, counts), len(units), redrawn)
    labels = {}
    for label in names:
        own = counts[:, place[label]]
        against = np.stack([own, total - own], axis=1)
        labels[label] = _metric(lambda weights, two=against: _alpha(weights, two), int((own > 0).sum()), redrawn)
    people = Counter(name for words in units for name in words)
    return Agreement(
        people=len(people),
        alpha=alpha,
        labels=labels,
        pairs=_pairs(units, [name for name, _ in people.most_common(PEOPLE_MAX)], seed),
        text=_text(alpha),
    )


def _pairs(units: list[dict[str, str]], people: list[str], seed: int) -> tuple[PairAgreement, ...]:
    found = []
    for one, other in combinations(sorted(people), 2):
        both = [(words[one], words[other]) for words in units if one in words and other in words]
        if not both:
            continue
        names = sorted({label for pair in both for label in pair})
        place = {label: at for at, label in enumerate(names)}
        first, second = np.zeros((2, len(both), len(names)))
        for row, (ours, theirs) in enumerate(both):
            first[row, place[ours]] = second[row, place[theirs]] = 1
        kappa = _metric(lambda weights, a=first, b=second: _kappa(weights, a, b), len(both), _redrawn(len(both), seed))
        same = sum(ours == theirs for ours, theirs in both)
        found.append(PairAgreement(people=(one, other), same=same, kappa=kappa))
    return tuple(sorted(found, key=lambda pair: (-pair.kappa.n, pair.people)))


def _redrawn(count: int, seed: int) -> Floats:
    """How often each sample is drawn, in the first row each once: float64 (1 + REPEATS, count)."""
    if count == 0:
        return np.zeros((1, 0))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=REPEATS)
    return np.vstack([np.ones(count), drawn]).astype(np.float64)


def _metric(statistic: object, n: int, redrawn: Floats) -> Metric:
    values = statistic(redrawn)  # type: ignore[operator]
    value = None if not len(values) or np.isnan(values[0]) else float(values[0])
    items = redrawn.shape[1]
    if value is None or n < ITEMS_MIN or items < ITEMS_MIN:
        return Metric(value=value, n=n)
    low, high = interval(values[1:], items, LEVEL)
    return Metric(value=value, low=low, high=high, n=n)


def _alpha(weights: Floats, counts: Floats) -> Floats:
    """Alpha with each sample counted so many times.

    Args:
        weights: (R, U). counts: (U, labels), how many people gave the label; each row sums to 2 or more.
    Returns:
        (R,), NaN where only one label is left.
    """
    if not counts.size:
        return np.full(len(weights), np.nan)
    people = counts.sum(axis=1)
    apart = (people**2 - (counts**2).sum(axis=1)) / (people - 1)
    each = weights @ counts
    whole = each.sum(axis=1)
    by_chance = whole**2 - (each**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(by_chance > 0, 1 - (whole - 1) * (weights @ apart) / by_chance, np.nan)


def _kappa(weights: Floats, first: Floats, second: Floats) -> Floats:
    """Kappa with each sample counted so many times.

    Args:
        weights: (R, U). first, second: (U, labels), 1 at what each of the two said.
    Returns:
        (R,), NaN where both only ever used one and the same label.
    """
    whole = weights.sum(axis=1)
    same = weights @ (first * second).sum(axis=1) / whole
    by_chance = ((weights @ first) * (weights @ second)).sum(axis=1) / whole**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(by_chance < 1, (same - by_chance) / (1 - by_chance), np.nan)


def _text(alpha: Metric) -> str:
    if alpha.n < ITEMS_MIN:
        have = "1 sample has" if alpha.n == 1 else f"{alpha.n} samples have"
        return f"{have} two opinions; {ITEMS_MIN} or more are needed to say how far people agree. Give second opinions."
    if alpha.value is None:
        return f"On {alpha.n} samples everybody always used one label, so chance explains all of the agreement."
    if alpha.low is None:
        word = "how sure that is cannot be told"
    elif alpha.low >= RELIABLE:
        word = "people agree well: labels can be relied on"
    elif alpha.value >= TENTATIVE:
        word = "good enough for careful conclusions; look at the labels that are told apart worst"
    else:
        word = "too little to rely on; write down what tells the labels apart, and settle disputes together"
    between = "" if alpha.low is None or alpha.high is None else f" ({alpha.low:.2f} to {alpha.high:.2f})"
    return f"Krippendorff's alpha is {alpha.value:.2f}{between} on {alpha.n} samples: {word}."
