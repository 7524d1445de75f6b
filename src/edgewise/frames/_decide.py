"""From the network's scores to a decision."""

from __future__ import annotations

from itertools import permutations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewise.frames._memo import Memo
from edgewise.frames._stated import say
from edgewise.wire import WITHIN, Decision, FoundBox, Manifest, NotValid, StageDecision, Stated, States

SLACK = 1e-3
FEW = 32  # classes; from about here on numpy is the faster one
STEPS = 1e6  # of probabilities in a decision: finer than float32 softmax is repeatable, and six digits on the wire


class Decided(NamedTuple):
    """What a bundle said about one frame, as the device holds it; the fields are those of the record `Decision`.

    A device makes one a frame, and a record only of those that it keeps or shows: a record takes ten times as long.
    """

    label: str
    confidence: float
    defect: float | None
    margin: float
    release: str | None
    bundle: str
    graph: str | None = None
    earlier: tuple[StageDecision, ...] | None = None
    deferred: Literal[True] | None = None
    stated: Stated | None = None
    boxes: tuple[FoundBox, ...] | None = None

    def record(self) -> Decision:
        """The record that crosses boundaries, its values checked.

        >>> Decided("good", 0.9, None, 0.8, None, "0" * 64).record() == Decision(
        ...     label="good", confidence=0.9, margin=0.8, bundle="0" * 64
        ... )
        True
        """
        return Decision(**self._asdict())

    @classmethod
    def of(cls, record: Decision) -> Decided:
        """What a record says, without fields that we do not know."""
        return cls(*(getattr(record, name) for name in cls._fields))


class BadScores(NotValid):
    """The network's answer is not a list of probabilities."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_scores")


def good_labels(manifest: Manifest) -> tuple[str, ...]:
    """The bundle's labels that mean a good part, in the order of its labels."""
    good = {manifest.good_label, *manifest.good_labels}
    return tuple(label for label in manifest.labels if label in good)


def scores_of(manifest: Manifest) -> int:
    """How many numbers a graph of the bundle gives for a frame: one a label, or three quantiles of a value."""
    return len(manifest.labels) if manifest.states is None else len(manifest.states.quantiles)


def decide(scores: NDArray[np.float32], manifest: Manifest, *, bundle: str, release: str | None) -> Decided:
    """What a bundle says about one frame: its most probable label (of equal ones the first) and how sure it is.

    Args:
        scores: float32 (C,), probabilities in the order of the manifest's labels; or float32 (3,), the quantiles of a
            bundle that states values.
        manifest: labels and the good ones.
        bundle: the manifest's digest.
        release: the release that runs, None outside a fleet.
    Returns:
        The decision; ``defect`` is the probability of all labels that are not good.
    Raises:
        BadScores: another shape, or values that are not finite and from 0 to 1; of quantiles those that are not finite
            or do not rise.
    """
    labels, shape, good, states = _about(manifest)
    if scores.shape != shape:
        raise BadScores(f"scores have shape {scores.shape}, needs {shape}, one a label")
    if states is not None:
        said = say(scores.tolist(), states)
        if said is None:
            raise BadScores(f"the stated quantiles are {scores.tolist()}, need to be finite and to rise")
        return Decided(said.label, said.confidence, None, said.margin, release, bundle, stated=said.stated)
    if len(labels) > FEW:
        return _decide_of_many(scores, labels, good, release, bundle)
    # A list: for the few classes of most bundles its own functions are several times faster than numpy's.
    values: list[float] = scores.tolist()
    ordered = sorted(values)
    best = ordered[-1]
    # The sum is written so that NaN, which no comparison finds, fails too; float32 softmax may leave 0..1 by rounding.
    if not (ordered[0] >= -SLACK and best <= 1 + SLACK and sum(values) <= len(values) * (1 + SLACK)):
        raise _bad(scores)
    margin = _share(best - ordered[-2]) if len(values) > 1 else _share(best)
    defect = _share(1 - sum([values[place] for place in good])) if good else None
    return Decided(labels[values.index(best)], _share(best), defect, margin, release, bundle)


def _decide_of_many(
    scores: NDArray[np.float32], labels: tuple[str, ...], good: tuple[int, ...], release: str | None, bundle: str
) -> Decided:
    """The same by numpy, which says NaN is the greatest as soon as one score is."""
    at = int(scores.argmax())
    best = scores.item(at)
    if not (scores.item(scores.argmin()) >= -SLACK and best <= 1 + SLACK):
        raise _bad(scores)
    others = scores.copy()
    others[at] = -1.0
    margin = _share(best - others.item(others.argmax()))
    defect = _share(1 - sum([scores.item(place) for place in good])) if good else None
    return Decided(labels[at], _share(best), defect, margin, release, bundle)


def _bad(scores: NDArray[np.float32]) -> BadScores:
    return BadScores(f"scores are from {scores.min()} to {scores.max()}, needs probabilities from 0 to 1")


def is_alarm(decision: Decided, manifest: Manifest) -> bool:
    """Whether the decision raises an alarm: P(defect) reaches the bundle's threshold, or a value is beyond a limit."""
    if decision.stated is not None:
        return decision.label != WITHIN
    return decision.defect is not None and decision.defect >= manifest.defect_threshold


def differ(one: Decided, other: Decided) -> bool:
    """Whether two bundles disagree on a frame: other labels, or values of which neither lies in the other's interval.

    >>> said = Decided("within", 0.9, None, 0.5, None, "0" * 64, stated=(1.0, 2.0, 3.0))
    >>> differ(said, said._replace(stated=(2.5, 3.5, 4.5))), differ(said, said._replace(stated=(0.0, 2.5, 9.0)))
    (True, False)
    """
    if one.stated is None or other.stated is None:
        return one.label != other.label
    apart = [not mine[0] <= theirs[1] <= mine[2] for mine, theirs in permutations((one.stated, other.stated))]
    return one.label != other.label or all(apart)


class _About(NamedTuple):
    """What deciding needs of a manifest."""

    labels: tuple[str, ...]
    shape: tuple[int, ...]  # of the scores
    good: tuple[int, ...]  # places of the good labels
    states: States | None


def _of_manifest(manifest: Manifest) -> _About:
    good = tuple(manifest.labels.index(label) for label in good_labels(manifest))
    return _About(manifest.labels, (scores_of(manifest),), good, manifest.states)


_about: Memo[Manifest, _About] = Memo(_of_manifest)


def _share(value: float) -> float:
    """A probability with so many digits: the number nearest to the decimal one, as `round` gives it, and sooner."""
    return int(value * STEPS + 0.5) / STEPS if 0.0 < value < 1.0 else float(value >= 1.0)
