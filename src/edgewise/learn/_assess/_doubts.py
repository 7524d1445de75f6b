"""Labels that disagree with what is shown, and sites that look different: by plain models on whole groups left out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.model_selection import StratifiedGroupKFold  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from edgewise.measure import Curve, auc, learning_curve

Floats = NDArray[np.float32]
FOLDS = 5
CLASS_MIN = 8  # samples, in three groups or more: with fewer nothing is said of a class
GROUPS_MIN = 3
TRUST_MIN = 0.7  # mean recall of the plain model: below it its doubts say nothing
SIZES = (0.1, 0.2, 0.35, 0.6, 1.0)
CURVE_SEEDS = 3
SITE_MIN = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """A sample whose label the other groups contradict."""

    index: int
    seems: str
    confidence: float  # of the label that it seems to have


@dataclass(frozen=True, kw_only=True, slots=True)
class Outside:
    """What the plain model says of every sample, trained on other groups."""

    classes: tuple[str, ...]
    scores: Floats  # (N, C); rows of samples that were not looked at are 0
    known: NDArray[np.bool_]  # (N,)
    recall: float  # mean over classes


def outside(features: Floats, labels: Sequence[str], groups: Sequence[str], seed: int) -> Outside | None:
    """Scores of each sample by a model that never saw its group; None where there is too little to learn from."""
    truth, group = np.array(labels), np.array(groups)
    enough = [
        name
        for name in sorted(set(labels))
        if (truth == name).sum() >= CLASS_MIN and len(set(group[truth == name])) >= GROUPS_MIN
    ]
    if len(enough) < 2:
        return None
    known = np.isin(truth, enough)
    scores = np.zeros((len(truth), len(enough)), np.float32)
    places = np.flatnonzero(known)
    split = StratifiedGroupKFold(n_splits=FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class in fewer groups than folds is warned of; it is then learned from fewer folds, which is what we want.
        warnings.simplefilter("ignore", UserWarning)
        folds = list(split.split(places, truth[places], group[places]))
    for learned, judged in folds:
        model = _fitted(features[places[learned]], truth[places[learned]])
        columns = [enough.index(name) for name in model.classes_]
        scores[np.ix_(places[judged], columns)] = model.predict_proba(features[places[judged]])
    told = np.array(enough)[scores.argmax(axis=1)]
    recall = float(np.mean([(told[truth == name] == name).mean() for name in enough]))
    return Outside(classes=tuple(enough), scores=scores, known=known, recall=recall)


def doubts(found: Outside, labels: Sequence[str]) -> list[Doubt]:
    """Samples whose label is contradicted, the clearest first; none where the plain model is too weak to say.

    A class is believed where its score is at least the mean score of samples that bear its label, and the given label
    at most a quarter of its own mean. Source: confident learning, Northcutt, Jiang and Chuang, JAIR 2021, with our
    second bound: without it, a tenth of clean surfaces is doubted.
    """
    if found.recall < TRUST_MIN:
        return []
    truth = np.array(labels)
    own = {name: float(found.scores[truth == name, place].mean()) for place, name in enumerate(found.classes)}
    result = []
    for index in np.flatnonzero(found.known).tolist():
        place = int(found.scores[index].argmax())
        seems, score = found.classes[place], float(found.scores[index, place])
        given = float(found.scores[index, found.classes.index(labels[index])])
        if seems != labels[index] and score >= own[seems] and given <= own[labels[index]] / 4:
            result.append(Doubt(index=index, seems=seems, confidence=score))
    return sorted(result, key=lambda doubt: (-doubt.confidence, doubt.index))


def sites_apart(
    features: Floats, sites: Sequence[str], groups: Sequence[str], seed: int
) -> dict[tuple[str, str], float]:
    """How surely a plain model tells two sites apart from samples of groups it never saw, as an AUC, for each pair.

    0.5 means that they look the same. Sites with fewer than 20 samples are left out.
    """
    where, group = np.array(sites), np.array(groups)
    names = [name for name in sorted(set(sites)) if (where == name).sum() >= SITE_MIN]
    found = {}
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            inside = np.flatnonzero((where == one) | (where == other))
            scored = outside(features[inside], where[inside].tolist(), group[inside].tolist(), seed)
            if scored is not None:
                told = scored.scores[:, scored.classes.index(other)].tolist()
                value = auc(told, (where[inside] == other).tolist())
                if value is not None:
                    found[one, other] = value
    return found


def curve_of(features: Floats, labels: Sequence[str], groups: Sequence[str], seed: int) -> Curve | None:
    """Mean recall of the plain model over the number of labels, on groups left out; None where there is too little."""
    truth, group = np.array(labels), np.array(groups)
    sizes: list[float] = []
    scores: list[float] = []
    for repeat in range(CURVE_SEEDS):
        rng = np.random.default_rng([seed, repeat])
        names = rng.permutation(sorted(set(groups)))
        held = np.isin(group, names[: max(1, len(names) // 4)])
        rest = names[max(1, len(names) // 4) :]
        for share in SIZES:
            learned = np.isin(group, rest[: max(2, round(share * len(rest)))])
            both = sorted(set(truth[learned]) & set(truth[held]))
            if len(set(truth[learned])) < 2 or len(both) < 2:
                continue
            told = _fitted(features[learned], truth[learned]).predict(features[held])
            classes = sorted(set(truth[held]))
            sizes.append(float(learned.sum()))
            scores.append(float(np.mean([(told[truth[held] == name] == name).mean() for name in classes])))
    return learning_curve(_rounded(sizes), scores) if len(set(_rounded(sizes))) >= 3 else None


def _rounded(sizes: Sequence[float]) -> list[float]:
    return [float(round(size, -1)) or 1.0 for size in sizes]


def _fitted(features: Floats, labels: NDArray[np.str_]) -> LogisticRegression:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=300, class_weight="balanced"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough is enough for a plain model
        return model.fit(features, labels)
