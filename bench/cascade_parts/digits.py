"""A little and a big classifier of scikit-learn's digits, and rules for what the little one hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.neural_network import MLPClassifier

from edgewise.plan import BURST, DeferRule, consider, first_state

Floats = NDArray[np.float64]
CLASSES = 10
TARGET = 0.95  # of the gap between little and big


@dataclass(frozen=True, kw_only=True)
class Split:
    """One seed's models and what they say to the test digits, which nothing was fitted on."""

    little: Any
    big: Any
    doubt: Any
    label_offsets: Floats
    pixels: Floats  # (N, 64), 0 to 1
    truth: NDArray[np.int64]
    probabilities: Floats  # (N, 10), of the little one
    little_right: NDArray[np.bool_]
    big_right: NDArray[np.bool_]


def pooled(pixels: Floats) -> Floats:
    """(N, 16): means of 2 x 2 pixels, all that the little network sees."""
    return pixels.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(len(pixels), 16)


def little() -> LogisticRegression:
    return LogisticRegression(C=0.3, max_iter=500)


def big(seed: int) -> MLPClassifier:
    return MLPClassifier((256,), alpha=0.01, max_iter=300, random_state=seed)


def margins(probabilities: Floats) -> Floats:
    ordered = np.sort(probabilities, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def features(pixels: Floats, probabilities: Floats) -> Floats:
    """(N, 27): what the little network saw, what it said, and its margin."""
    return np.hstack([pooled(pixels), probabilities, margins(probabilities)[:, None]])


def split(seed: int) -> Split:
    """Models of 60 % of the digits, judged on the other 40 %.

    Little and big answer to their own training digits by five-fold cross-fitting, so that the doubt is learned from
    honest answers; it needs no labels, only where the two agree: what deferrals bring back anyway.
    """
    pixels, truth = load_digits(return_X_y=True)
    pixels = pixels / 16.0
    known, new, known_truth, new_truth = train_test_split(
        pixels, truth, test_size=0.4, random_state=seed, stratify=truth
    )
    small, large = little().fit(pooled(known), known_truth), big(seed).fit(known, known_truth)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    said = cross_val_predict(little(), pooled(known), known_truth, cv=folds, method="predict_proba")
    agrees = cross_val_predict(big(seed), known, known_truth, cv=folds) == said.argmax(1)
    doubt = ExtraTreesClassifier(100, min_samples_leaf=3, random_state=seed).fit(features(known, said), agrees)
    ratio = _log_ratio(said)
    by_label = np.hstack([ratio[:, None], np.eye(CLASSES)[said.argmax(1)]])
    offsets = LogisticRegression(C=1.0, max_iter=500).fit(by_label, agrees)
    probabilities = small.predict_proba(pooled(new))
    return Split(
        little=small, big=large, doubt=doubt, label_offsets=np.append(offsets.coef_[0], offsets.intercept_),
        pixels=new, truth=new_truth, probabilities=probabilities,
        little_right=probabilities.argmax(1) == new_truth, big_right=large.predict(new) == new_truth,
    )  # fmt: skip


def _log_ratio(probabilities: Floats) -> Floats:
    ordered = np.sort(probabilities, axis=1)
    return np.log(ordered[:, -1] + 1e-9) - np.log(ordered[:, -2] + 1e-9)


def eases(made: Split) -> dict[str, Floats]:
    """How sure each rule is that the big network says the same, 0 to 1; the least sure digits are handed over first."""
    p, weights = made.probabilities, made.label_offsets
    by_label = 1 / (1 + np.exp(-(weights[0] * _log_ratio(p) + weights[1 + p.argmax(1)] + weights[-1])))
    doubt = made.doubt.predict_proba(features(made.pixels, p))[:, 1]
    gains = made.big_right.astype(float) - made.little_right
    return {
        "margin": margins(p),
        "largest probability": p.max(1),
        "margin, by label": by_label,
        "learned doubt": doubt,
        "oracle": (1 - gains) / 2,  # knows which digits the big one gets right and the little one wrong
    }


def deferred_for(made: Split, ease: Floats, target: float = TARGET) -> float:
    """The smallest share of the digits that must be handed over, least sure first, for this part of the gap."""
    order = np.argsort(ease, kind="stable")
    gains = np.cumsum((made.big_right.astype(float) - made.little_right)[order])
    gap = float(made.big_right.mean() - made.little_right.mean())
    reached = np.concatenate([[0.0], gains]) / len(ease)
    return float(np.argmax(reached >= target * gap - 1e-12)) / len(ease)


def streamed(made: Split, ease: Floats, share_max: float, *, rounds: int = 5) -> dict[str, float]:
    """What the device's own rule (`plan.consider`) makes of it, frame by frame, in an order of chance.

    Returns:
        the share handed over and the part of the gap that this closes, over all rounds but the first, in which the
        threshold finds its place.
    """
    rule = DeferRule(margin_max=1.0, share_max=share_max, bytes_per_day=10**12)
    state, chance = first_state(rule), np.random.default_rng(0)
    handed, closed, seen = 0, 0.0, 0
    for turn in range(rounds):
        for index in chance.permutation(len(ease)):
            seen += 1
            state, verdict = consider(rule, state, margin=float(ease[index]), size_bytes=1, at_s=float(seen))
            if verdict == "defer" and turn:
                handed += 1
                closed += float(made.big_right[index]) - float(made.little_right[index])
    frames = len(ease) * (rounds - 1)
    gap = float(made.big_right.mean() - made.little_right.mean())
    assert handed <= share_max * len(ease) * rounds + BURST
    return {"share": handed / frames, "gap": closed / frames / gap}
