"""Sequential tests of one bundle against another on the same frames: valid at every look, however often one looks.

Each informative pair (exactly one of the two is right) is a coin. If the candidate is not worse, it wins at least half
of them, and then the e-value is, in expectation, at most 1 at any time. By Ville's inequality it ever reaches 1/alpha
with a chance of at most alpha; so acting at E >= 1/alpha errs with at most alpha, whenever and however often one looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgewise.wire import NotValid

GRID = 99
_STAKES = (np.arange(GRID) + 0.5) / GRID
# Our choice, by the labels it takes: most of the weight around two sevenths, where a candidate loses nine informative
# pairs of fourteen, and a fifth of it near 1, so that nine straight losses are still enough at alpha 0.01.
_SMALL, _LARGE = _STAKES**2 * (1 - _STAKES) ** 5, _STAKES**30
_LOG_WEIGHTS = np.log(0.8 * _SMALL / _SMALL.sum() + 0.2 * _LARGE / _LARGE.sum())
_LOG_LEFT = np.log1p(-_STAKES)  # of what a miss leaves
E_MAX = 1e300  # what is shown and stored stays a finite number


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two bundles' answers to one labelled frame."""

    group: str  # part, spindle, patient; "" when the frame stands alone
    candidate_right: bool
    champion_right: bool
    apart: bool = False  # the two answers differ; need not be said where exactly one is right


def count_pairs(pairs: Iterable[Pair]) -> tuple[int, int, int]:
    """Wins, losses and ties of the candidate, one a group.

    Neighbouring frames of one part repeat each other, and counting each of them would make the test see far more
    evidence than there is. The first informative frame of a group decides, and later ones cannot take it back: a
    count that could still change would lose the bound.

    Args:
        pairs: in the order in which their labels came in; a longer list must begin with the shorter one.

    >>> seen = [("spindle-1", False, True), ("spindle-1", False, True), ("", True, False), ("", True, True)]
    >>> count_pairs(Pair(group=g, candidate_right=a, champion_right=b) for g, a, b in seen)
    (1, 1, 1)
    """
    wins = losses = ties = 0
    decided: set[str] = set()
    tied: set[str] = set()
    for pair in pairs:
        if pair.group in decided:
            continue
        if pair.candidate_right == pair.champion_right:
            if not pair.group:
                ties += 1
            else:
                tied.add(pair.group)
            continue
        if pair.group:
            decided.add(pair.group)
        wins, losses = wins + pair.candidate_right, losses + pair.champion_right
    return wins, losses, ties + len(tied - decided)


def count_apart_ties(pairs: Iterable[Pair]) -> int:
    """Single frames on which the two answers differ and none is better than the other, for `better_e_value`.

    Frames of a group are left out: a later frame of it could still decide, and what was counted must stand.

    >>> count_apart_ties([Pair(group="", candidate_right=False, champion_right=False, apart=True)])
    1
    """
    return sum(pair.apart and not pair.group and pair.candidate_right == pair.champion_right for pair in pairs)


def worse_e_value(wins: int, losses: int) -> float:
    """Evidence that the candidate is worse than the champion: revert when it reaches 1/alpha.

    It depends on the two counts alone, so the order in which labels come in does not matter.

    Args:
        wins: pairs in which the candidate is right and the champion wrong.
        losses: the reverse.
    Returns:
        From nearly 0 to `E_MAX`; 1 before the first pair. Ten losses and no win give 201.
    Raises:
        NotValid: a negative count.
    Source: mixture of likelihood ratios over win shares below a half, Robbins, Statistical methods related to the law
        of the iterated logarithm, 1970; Ville's inequality.

    >>> worse_e_value(0, 0), round(worse_e_value(0, 10)), worse_e_value(10, 0) < 0.2
    (1.0, 201, True)
    """
    return _mixture(losses, wins, 0, 0.0)


def better_e_value(wins: int, losses: int, margin: float, disagreement: float, *, ties: int = 0) -> float:
    """Evidence against "the candidate is worse by `margin` or more": promote when it reaches 1/alpha.

    Args:
        wins, losses: as in `worse_e_value`.
        margin: loss of accuracy that may not pass, 0 to 1.
        disagreement: share of frames, 0 to 1, on which the two answers differ; it needs no label. One that is known
            only from a sample is given by its upper bound (`disagreement_max`), whose alpha adds to this one.
        ties: labelled frames on which the answers differ and none is better (`count_apart_ties`). They speak for the
            candidate, because a loss of `margin` needs more losses among the same disagreements; 0 is only slower.
    Returns:
        From nearly 0 to `E_MAX`. Where margin exceeds the disagreement it is `E_MAX` without a single label: accuracy
        cannot differ by more than the disagreement.
    Raises:
        NotValid: a negative count, or a share outside 0 to 1.
    Source: call a win 1, a loss -1 and a tie 0. A loss of `margin` means that a labelled disagreement is at most
        -margin / disagreement in the mean, and then every bet 1 + stake (value + margin / disagreement) is fair or
        worse; a mixture over stakes. Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting,
        2024.

    >>> better_e_value(0, 0, margin=0.02, disagreement=0.01) == E_MAX
    True
    >>> round(better_e_value(10, 0, margin=0.0, disagreement=0.1))
    201
    >>> [round(better_e_value(60, 60, margin=0.01, disagreement=0.05, ties=ties), 1) for ties in (0, 30)]
    [3.0, 13.9]
    """
    if not 0 <= margin <= 1 or not 0 <= disagreement <= 1:
        raise NotValid(
            f"margin {margin} and disagreement {disagreement} are shares, both need to be from 0 to 1",
            code="share_invalid",
        )
    if margin > disagreement:
        return E_MAX
    return _mixture(wins, losses, ties, margin / disagreement if disagreement else 0.0)


def _mixture(hits: int, misses: int, ties: int, shift: float) -> float:
    """Mean outcome of bets that a labelled disagreement is above -shift in the mean, over stakes up to the largest.

    Each multiplies by 1 + stake (value + shift), whose mean is at most 1 as long as the value's, given all before, is
    at most -shift; so does their weighted mean. At the largest stake, 1 / (1 - shift), one miss loses everything.
    """
    if hits < 0 or misses < 0 or ties < 0:
        raise NotValid(f"paired counts are {hits}, {misses} and {ties}, none can be negative", code="count_invalid")
    if shift >= 1:
        return E_MAX if hits or ties else 1.0
    stakes = _STAKES / (1 - shift)
    logs = _LOG_WEIGHTS + hits * np.log1p(stakes * (1 + shift)) + misses * _LOG_LEFT
    if ties and shift:
        logs += ties * np.log1p(stakes * shift)
    highest = float(logs.max())
    log_e = highest + math.log(float(np.exp(logs - highest).sum()))
    return E_MAX if log_e >= math.log(E_MAX) else math.exp(log_e)
