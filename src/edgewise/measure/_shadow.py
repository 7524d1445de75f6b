"""What the shadow stage says: promote, reject or hold, from paired decisions and the labels that have come so far.

Each word has an error bound that holds however often one looks. Rejected although not worse: at most `revert_alpha`,
by the e-process. Promoted although worse by the margin: at most `promote_alpha`, a tenth of it for the bound on how
often the two differ, the rest for the e-process that uses this bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgewise.measure._sequential import better_e_value, worse_e_value
from edgewise.wire import NotValid, Shadow

Floats: TypeAlias = npt.NDArray[np.float64]
DISAGREEMENT_PART = 0.1  # of promote_alpha; our choice: paired decisions are many, labels are few
# A prior over shares in which most are small. The bound holds whatever it is; this one is tight around 1 to 10 %.
PRIOR = (0.5, 10.0)
PRECISION = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class ShadowVerdict:
    """A word with the numbers behind it."""

    word: Literal["promote", "reject", "hold"]
    text: str
    pairs: int
    disagreed: int
    disagreement_max: float  # share of frames on which the two differ, surely at most
    worse_e: float
    worse_bound: float  # rejected when worse_e reaches it
    better_e: float
    better_bound: float  # promoted when better_e reaches it


def judge_shadow(
    policy: Shadow,
    by_device: npt.ArrayLike,
    *,
    wins: int,
    losses: int,
    ties: int = 0,
    revert_alpha: float,
) -> ShadowVerdict:
    """Whether a candidate that decided in the shadow may be seen, must go, or needs more evidence.

    Rejected when the paired e-process says "worse"; else promoted without labels when the two surely differ on fewer
    frames than `policy.tolerance`; else promoted when a loss of `policy.margin` is ruled out.

    Args:
        by_device: (N, 2), paired decisions of each device of the shadow set, and on how many of them the two answers
            differ.
        wins, losses: labelled pairs of `count_pairs`.
        ties: labelled pairs of `count_apart_ties`.
        revert_alpha: bound on rejecting a candidate that is not worse, 0 to 1.
    Raises:
        NotValid: a negative count, or more disagreements than pairs.

    >>> policy = Shadow(devices=50)
    >>> judge_shadow(policy, [(200, 0)] * 50, wins=0, losses=0, revert_alpha=0.01).text
    'the two differ on at most 0.0927 % of frames (0 of 10000), less than the tolerance of 1 %: no label is needed'
    >>> judge_shadow(policy, [(200, 10)] * 50, wins=3, losses=30, revert_alpha=0.01).word
    'reject'
    """
    counts = _counts(by_device)
    pairs, disagreed = (int(total) for total in counts.sum(axis=0))
    highest = disagreement_max(counts, DISAGREEMENT_PART * policy.promote_alpha)
    worse = worse_e_value(wins, losses)
    better = better_e_value(wins, losses, policy.margin, highest, ties=ties)
    worse_bound = 1 / revert_alpha
    better_bound = 1 / ((1 - DISAGREEMENT_PART) * policy.promote_alpha)
    labels = f"{wins} wins, {losses} losses, {ties} ties"
    differ = f"the two differ on at most {_percent(highest)} of frames ({disagreed} of {pairs})"
    word: Literal["promote", "reject", "hold"] = "promote"
    if worse >= worse_bound:
        word = "reject"
        text = f"worse on the same frames: e-value {worse:.3g} reached {worse_bound:.3g} ({labels})"
    elif pairs < policy.pairs_min:
        word, text = "hold", f"{pairs} of {policy.pairs_min} paired decisions"
    elif highest < policy.tolerance:
        text = f"{differ}, less than the tolerance of {_percent(policy.tolerance)}: no label is needed"
    elif highest < policy.margin:
        text = f"{differ}, so it cannot be worse by {_percent(policy.margin)}: no label is needed"
    elif better >= better_bound:
        text = (
            f"not worse by {_percent(policy.margin)}: e-value {better:.3g} reached {better_bound:.3g} "
            f"({labels}; {differ})"
        )
    else:
        word = "hold"
        text = (
            f"undecided after {labels}: e-value for worse {worse:.3g} of {worse_bound:.3g}, for not worse by "
            f"{_percent(policy.margin)} {better:.3g} of {better_bound:.3g}; {differ}, needs less than "
            f"{_percent(policy.tolerance)} or more labels"
        )
    return ShadowVerdict(
        word=word,
        text=text,
        pairs=pairs,
        disagreed=disagreed,
        disagreement_max=highest,
        worse_e=worse,
        worse_bound=worse_bound,
        better_e=better,
        better_bound=better_bound,
    )


def disagreement_max(by_device: npt.ArrayLike, alpha: float) -> float:
    """Upper bound on the share of frames on which two bundles differ, at all looks together wrong with at most alpha.

    A mixture over shares of the likelihood of the counts, divided by the likelihood at the true share, is 1 in the mean
    at all times; so the shares at which it stays below 1/alpha hold the true one for ever, with 1 - alpha (Ville). This
    is exact for frames that come independently. Devices differ and neighbouring frames resemble each other, so the
    counts are first divided by the design effect: how much more the devices' shares spread than chance alone explains.

    Args:
        by_device: (N, 2), paired decisions, and on how many of them the two differ; of one device only, the bound is
            about that device's frames.
        alpha: between 0 and 1.
    Returns:
        From 0 to 1; 1 without a pair.
    Raises:
        NotValid: a negative count, more disagreements than pairs, or alpha outside 0 to 1.
    Source: Robbins, Statistical methods related to the law of the iterated logarithm, 1970; the design effect of a
        ratio, Rao and Scott, A simple method for the analysis of clustered binary data, Biometrics 1992.

    >>> round(disagreement_max([(200, 10)] * 50, 0.005), 4)
    0.0597
    >>> round(disagreement_max([(200, 0), (200, 20)] * 25, 0.005), 4)
    0.0831
    """
    if not 0 < alpha < 1:
        raise NotValid(f"alpha is {alpha}, needs to be between 0 and 1", code="share_invalid")
    counts = _counts(by_device)
    n, k = (float(total) for total in counts.sum(axis=0) / _design_effect(counts))
    if n == 0 or k == n:
        return 1.0
    mixture = _log_beta(PRIOR[0] + k, PRIOR[1] + n - k) - _log_beta(*PRIOR)
    low, high = k / n, 1.0
    while high - low > PRECISION:
        middle = (low + high) / 2
        likelihood = (k * math.log(middle) if k else 0.0) + (n - k) * math.log1p(-middle)
        low, high = (middle, high) if mixture - likelihood < -math.log(alpha) else (low, middle)
    return high


def _counts(by_device: npt.ArrayLike) -> Floats:
    counts = np.asarray(by_device, dtype=np.float64)
    if counts.size == 0:
        return np.zeros((0, 2))
    shaped = counts.ndim == 2 and counts.shape[1] == 2
    if not shaped or not ((counts[:, 1] >= 0) & (counts[:, 1] <= counts[:, 0])).all():
        raise NotValid(
            f"counts by device are an array {counts.shape}, needs (N, 2): paired decisions, and on how many of them "
            "the two bundles differ, from none to all",
            code="count_invalid",
        )
    return counts


def _design_effect(counts: Floats) -> float:
    """Variance of the pooled share by the spread of devices, over that of independent frames; at least 1."""
    pairs, apart = counts.T
    n, k, devices = pairs.sum(), apart.sum(), np.count_nonzero(pairs)
    if devices < 2 or not 0 < k < n:
        return 1.0
    share = k / n
    spread = ((apart - share * pairs) ** 2).sum() * devices / (devices - 1)
    return max(1.0, float(spread / (n * share * (1 - share))))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
