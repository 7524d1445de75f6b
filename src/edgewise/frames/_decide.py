"""From the network's scores to a decision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgewise.frames._memo import Memo
from edgewise.wire import Decision, Manifest, NotValid

SLACK = 1e-3
DIGITS = 6  # of probabilities in a decision: finer than float32 softmax is repeatable, and shorter on the wire


class BadScores(NotValid):
    """The network's answer is not a list of probabilities."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_scores")


def good_labels(manifest: Manifest) -> tuple[str, ...]:
    """The bundle's labels that mean a good part, in the order of its labels."""
    good = {manifest.good_label, *manifest.good_labels}
    return tuple(label for label in manifest.labels if label in good)


def decide(scores: NDArray[np.float32], manifest: Manifest, *, bundle: str, release: str | None) -> Decision:
    """What a bundle says about one frame: its most probable label (of equal ones the first) and how sure it is.

    Args:
        scores: float32 (C,), probabilities in the order of the manifest's labels.
        manifest: labels and the good ones.
        bundle: the manifest's digest.
        release: the release that runs, None outside a fleet.
    Returns:
        The decision; ``defect`` is the probability of all labels that are not good.
    Raises:
        BadScores: another shape, or values that are not finite and from 0 to 1.
    """
    if scores.shape != (len(manifest.labels),):
        raise BadScores(f"scores have shape {scores.shape}, needs ({len(manifest.labels)},), one a label")
    # A list: for the few classes of most bundles its own functions are several times faster than numpy's.
    values: list[float] = scores.tolist()
    best = max(values)
    # The sum is written so that NaN, which no comparison finds, fails too; float32 softmax may leave 0..1 by rounding.
    if not (min(values) >= -SLACK and best <= 1 + SLACK and sum(values) <= len(values) * (1 + SLACK)):
        raise BadScores(f"scores are from {scores.min()} to {scores.max()}, needs probabilities from 0 to 1")
    at = values.index(best)
    second = max(values[:at] + values[at + 1 :], default=0.0)
    return Decision.sure(
        label=manifest.labels[at],
        confidence=_share(best),
        defect=_defect(values, manifest),
        margin=_share(best - second),
        release=release,
        bundle=bundle,
    )


def is_alarm(decision: Decision, manifest: Manifest) -> bool:
    """Whether the decision raises an alarm: the probability of a defect reaches the bundle's threshold."""
    return decision.defect is not None and decision.defect >= manifest.defect_threshold


def _defect(values: list[float], manifest: Manifest) -> float | None:
    good = _good_places(manifest)
    if not good:
        return None
    return _share(1 - sum(values[place] for place in good))


_good_places: Memo[Manifest, tuple[int, ...]] = Memo(
    lambda manifest: tuple(manifest.labels.index(label) for label in good_labels(manifest))
)


def _share(value: float) -> float:
    return round(value, DIGITS) if 0.0 < value < 1.0 else float(value >= 1.0)
