"""Sequential tests of one bundle against another on the same frames: valid at every look, however often one looks.

Each informative pair (exactly one of the two is right) is a coin. If the candidate is not worse, it wins at least half
of them, and then the e-value is, in expectation, at most 1 at any time. By Ville's inequality it ever reaches 1/alpha
with a chance of at most alpha; so acting at E >= 1/alpha errs with at most alpha, whenever and however often one looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from edgewise.wire import NotValid

GRID = 99
E_MAX = 1e300  # what is shown and stored stays a finite number


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two bundles' answers to one labelled frame."""

    group: str  # part, spindle, patient; "" when the frame stands alone
    candidate_right: bool
    champion_right: bool


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


def worse_e_value(wins: int, losses: int) -> float:
    """Evidence that the candidate is worse than the champion: revert when it reaches 1/alpha.

    It depends on the two counts alone, so the order in which labels come in does not matter.

    Args:
        wins: pairs in which the candidate is right and the champion wrong.
        losses: the reverse.
    Returns:
        From nearly 0 to `E_MAX`; 1 before the first pair. Ten losses and no win give 186.
    Raises:
        NotValid: a negative count.
    Source: mixture of likelihood ratios over win shares below a half, Robbins, Statistical methods related to the law
        of the iterated logarithm, 1970; Ville's inequality.

    >>> worse_e_value(0, 0), round(worse_e_value(0, 10)), worse_e_value(10, 0) < 0.2
    (1.0, 186, True)
    """
    return _mixture(losses, wins, 0.5)


def better_e_value(wins: int, losses: int, margin: float, disagreement: float) -> float:
    """Evidence against "the candidate is worse by `margin` or more": promote when it reaches 1/alpha.

    Args:
        wins, losses: as in `worse_e_value`.
        margin: loss of accuracy that may not pass, 0 to 1.
        disagreement: share of frames, 0 to 1, on which the two disagree; exact in shadow, needs no label.
    Returns:
        From nearly 0 to `E_MAX`. Where margin exceeds the disagreement it is `E_MAX` without a single label: accuracy
        cannot differ by more than the disagreement.
    Raises:
        NotValid: a negative count, or a share outside 0 to 1.
    Source: a loss of `margin` means a win share of at most 1/2 - margin / (2 disagreement) among informative pairs;
        counting uninformative disagreements too only makes the test more careful.

    >>> better_e_value(0, 0, margin=0.02, disagreement=0.01) == E_MAX
    True
    >>> round(better_e_value(10, 0, margin=0.0, disagreement=0.1))
    186
    """
    if not 0 <= margin <= 1 or not 0 <= disagreement <= 1:
        raise NotValid(
            f"margin {margin} and disagreement {disagreement} are shares, both need to be from 0 to 1",
            code="share_invalid",
        )
    if margin > disagreement:
        return E_MAX
    return _mixture(wins, losses, 0.5 - margin / (2 * disagreement) if disagreement else 0.5)


def _mixture(hits: int, misses: int, share: float) -> float:
    """Mean likelihood ratio of hit shares evenly spread over (share, 1) against `share` itself.

    For each of them one pair multiplies the ratio by a number whose mean is at most 1 as long as hits come with a
    chance of at most `share`; so does their mean. At the middles of equal steps the grid is within 1 % of the integral.
    """
    if hits < 0 or misses < 0:
        raise NotValid(f"paired counts are {hits} and {misses}, neither can be negative", code="count_invalid")
    if share <= 0:
        return E_MAX if hits else 1.0
    logs = []
    for step in range(GRID):
        other = share + (1 - share) * (step + 0.5) / GRID
        logs.append(hits * math.log(other / share) + misses * math.log((1 - other) / (1 - share)))
    highest = max(logs)
    log_e = highest + math.log(math.fsum(math.exp(value - highest) for value in logs) / GRID)
    return E_MAX if log_e >= math.log(E_MAX) else math.exp(log_e)
