"""From the network's scores to a decision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgewise.wire import Decision, Manifest, NotValid

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
    values = scores.astype(np.float64)
    # The comparison is written so that NaN fails it too; float32 softmax may leave 0..1 by rounding.
    if not (values.min() >= -1e-3 and values.max() <= 1 + 1e-3):
        raise BadScores(f"scores are from {values.min()} to {values.max()}, needs probabilities from 0 to 1")
    order = np.argsort(-values, kind="stable")
    best = float(values[order[0]])
    second = float(values[order[1]]) if len(order) > 1 else 0.0
    return Decision(
        label=manifest.labels[order[0]],
        confidence=_share(best),
        defect=_defect(values, manifest),
        margin=_share(best - second),
        release=release,
        bundle=bundle,
    )


def is_alarm(decision: Decision, manifest: Manifest) -> bool:
    """Whether the decision raises an alarm: the probability of a defect reaches the bundle's threshold."""
    return decision.defect is not None and decision.defect >= manifest.defect_threshold


def _defect(values: NDArray[np.float64], manifest: Manifest) -> float | None:
    good = good_labels(manifest)
    if not good:
        return None
    return _share(1 - sum(float(values[manifest.labels.index(label)]) for label in good))


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), DIGITS)
