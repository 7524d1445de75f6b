"""Have I labelled enough? What twice as many labels would still bring, by the curve through the rounds so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgewise.measure._curve import SIZES_MIN, Curve, Need, learning_curve

ROUNDS_MIN = 4  # with as many numbers in the curve as rounds, everything fits


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """What twice the labels would add to the score: the middle one of the curves that fit, and most of them (90 %)."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Enough:
    """Whether more labels would help.

    Attributes:
        gain: None where it cannot be told.
        need: labels that a target needs; None where none was asked for, or it cannot be told.
        text: the answer for people, or what is missing to give one.
    """

    word: Literal["enough", "not yet", "cannot tell"]
    text: str
    labels: int  # of the largest round
    gain: Gain | None = None
    need: Need | None = None


def enough(sizes: Sequence[int], scores: Sequence[float], *, margin: float, target: float | None = None) -> Enough:
    """Whether as many labels again would raise the score by more than counts.

    Args:
        sizes: labels of each round, at least 1. scores: 0 to 1, what its candidate reached.
        margin: a gain below it does not count, 0 to 1.
        target: a score that is wanted, 0 to 1.

    >>> sizes = [20, 40, 80, 160, 320]
    >>> enough(sizes, [0.95 - 1.5 * n**-0.6 for n in sizes], margin=0.01).word
    'not yet'
    >>> enough([20, 40], [0.5, 0.6], margin=0.02).text
    '2 rounds with 2 different numbers of labels were judged; 4 rounds with 3 different numbers are needed to say.'
    """
    largest = int(max(sizes, default=0))
    if len(sizes) < ROUNDS_MIN or len(set(sizes)) < SIZES_MIN:
        return Enough(
            word="cannot tell",
            labels=largest,
            text=f"{len(sizes)} rounds with {len(set(sizes))} different numbers of labels were judged; "
            f"{ROUNDS_MIN} rounds with {SIZES_MIN} different numbers are needed to say.",
        )
    curve = learning_curve(sizes, scores)
    gain = _gain(curve)
    need = None if target is None else curve.needs(target)
    word: Literal["enough", "not yet", "cannot tell"] = "cannot tell"
    if gain.high < margin:
        word = "enough"
    elif gain.low >= margin:
        word = "not yet"
    return Enough(word=word, labels=largest, gain=gain, need=need, text=_text(curve, gain, word, margin, target, need))


def _gain(curve: Curve) -> Gain:
    n = float(curve.largest)
    gains = sorted(slope * (n**-power - (2 * n) ** -power) for _, slope, power in curve.others)
    low, middle, high = (gains[round(share * (len(gains) - 1))] for share in (0.05, 0.5, 0.95))
    return Gain(low=low, middle=middle, high=high)


def _text(curve: Curve, gain: Gain, word: str, margin: float, target: float | None, need: Need | None) -> str:
    said = {
        "enough": f"That is below {100 * margin:.1f} points, so more of the same kind hardly help.",
        "not yet": f"That is above {100 * margin:.1f} points, so it is worth going on.",
        "cannot tell": f"Whether that is above {100 * margin:.1f} points cannot be told yet; more rounds will say.",
    }[word]
    text = (
        f"With {curve.largest} labels the score is {curve.best:.3f}. Twice as many would bring {100 * gain.middle:.1f} "
        f"points ({100 * gain.low:.1f} to {100 * gain.high:.1f}). {said}"
    )
    if target is None:
        return text
    if need is None:
        return f"{text} How many labels {target:.3f} needs cannot be told from these rounds."
    upto = "with no upper end" if need.high is None else f"to {need.high}"
    return f"{text} {target:.3f} needs about {need.middle} labels ({need.low} {upto})."
