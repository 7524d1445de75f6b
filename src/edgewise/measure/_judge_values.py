"""The gate's judgement on stated values: no site gets larger errors, and intervals hold what was promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgewise.measure._intervals import Beat, Floats, interval, no_beat, resample
from edgewise.measure._swap import REPEATS, SEED, swap_chance
from edgewise.measure._values import Values, values_of
from edgewise.wire import Gate, Prediction, SiteVerdict, Target

ORDER = ("failed", "inconclusive", "passed")


def first_site(site: str, items: Sequence[Prediction], target: Target, gate: Gate, beat: Beat = no_beat) -> SiteVerdict:
    """The word on a site before there is a champion: enough samples, and coverage that is not certainly too low."""
    values = values_of(items)
    if not len(values):
        return _nothing(site, len(items), gate)
    result, text = _coverage(values, None, target, gate, beat)
    if len(values) < gate.samples_min:
        result = min(result, "inconclusive", key=ORDER.index)
    mae = float(values.errors.mean())
    text = f"mae {_shown(mae, target)} on {len(values)} samples; no champion to compare with; {text}{_left_out(values)}"
    return SiteVerdict(site=site, result=result, text=text, candidate=mae)


def first_skill(items: Sequence[Prediction]) -> tuple[float | None, int]:
    """The skill over all sites, None where it has none, and on how many samples; what the gate's floor is about."""
    values = values_of(items)
    known = ~np.isnan(values.baseline)
    beaten = float(np.abs(values.baseline - values.truth)[known].sum())
    skill = 1 - float(values.errors[known].sum()) / beaten if beaten > 0 else None
    return skill, int(known.sum())


def site_against(
    site: str,
    items: Sequence[Prediction],
    partner: Mapping[str, Prediction],
    target: Target,
    gate: Gate,
    beat: Beat = no_beat,
) -> tuple[SiteVerdict, float | None]:
    """The word on a site beside the champion, and by which part of the champion's error the candidate's is smaller.

    The site *failed* when the error grew by more than the margin, the interval of the difference (paired, whole groups
    redrawn) lies below zero and the swap test agrees; or when the coverage is certainly below the target's by more than
    the tolerance, and lower than the champion's. It is *inconclusive* with fewer than `samples_min` samples, or with a
    loss of either kind that is not certain.
    """
    both = [(item, partner[item.sample]) for item in items]
    silent = sum(ours.stated is None and theirs.stated is not None for ours, theirs in both)
    both = [(ours, theirs) for ours, theirs in both if ours.stated is not None and theirs.stated is not None]
    if silent:
        text = f"it states no value of {silent} of {len(items)} samples, of which the champion states one"
        return SiteVerdict(site=site, result="failed", text=text), None
    mine, other = values_of([ours for ours, _ in both]), values_of([theirs for _, theirs in both])
    if not len(mine):
        return _nothing(site, len(items), gate), None
    gained, low, high, chance = _gain(mine, other, gate.alpha, beat)
    lost = gained < -gate.margin - 5e-10
    if lost and high is not None and high < 0 and chance <= gate.alpha:
        result = "failed"
    else:
        result = "inconclusive" if lost or len(mine) < gate.samples_min else "passed"
    held, about = _coverage(mine, other, target, gate, beat)
    candidate, champion = float(mine.errors.mean()), float(other.errors.mean())
    between = "no interval, too few groups" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"
    needs = f", needs {gate.samples_min} samples" if len(mine) < gate.samples_min else ""
    text = (
        f"mae {_shown(champion, target)} -> {_shown(candidate, target)} on {len(mine)} samples (part of it saved "
        f"{gained:+.3f}, {between}, by chance {chance:.3f}; margin {gate.margin}){needs}; {about}"
    )
    verdict = SiteVerdict(
        site=site,
        result=min(result, held, key=ORDER.index),
        text=text,
        champion=champion,
        candidate=candidate,
        low=low,
        high=high,
    )
    return verdict, gained


def _gain(mine: Values, other: Values, alpha: float, beat: Beat) -> tuple[float, float | None, float | None, float]:
    """The part of the champion's error that the candidate saves, its interval, and the chance of a loss as large."""
    errors = np.stack([mine.errors, other.errors], axis=1)

    def statistic(weights: Floats) -> Floats:
        ours, theirs = (weights @ errors).T
        return _saved(ours, theirs)[:, None]

    value = float(statistic(np.ones((1, len(mine))))[0, 0])
    drawn = resample(statistic, mine.numbers, mine.groups, seed=SEED, repeats=REPEATS, beat=beat)[:, 0]
    low, high = interval(drawn, mine.groups, min(max(1 - alpha, 1e-4), 1 - 1e-4))
    return value, low, high, swap_chance(other.errors - mine.errors, mine.numbers, mine.groups)


def _saved(ours: Floats, theirs: Floats) -> Floats:
    """1 - ours / theirs; where the champion makes no error, nothing is saved, and any error is a loss of all."""
    safe = np.where(theirs > 0, theirs, 1)
    return np.where(theirs > 0, 1 - ours / safe, np.where(ours > 0, -1.0, 0.0))


def _coverage(mine: Values, other: Values | None, target: Target, gate: Gate, beat: Beat) -> tuple[str, str]:
    """The word on the coverage, and what it is. One that is too low, but no lower than before, got no site worse."""
    value, least = float(mine.covered.mean()), target.coverage - gate.coverage_tolerance
    covered = mine.covered

    def statistic(weights: Floats) -> Floats:
        mean: Floats = weights @ covered / weights.sum(axis=1)
        return mean[:, None]

    drawn = resample(statistic, mine.numbers, mine.groups, seed=SEED, repeats=REPEATS, beat=beat)[:, 0]
    low, high = interval(drawn, mine.groups, min(max(1 - gate.alpha, 1e-4), 1 - 1e-4))
    text = f"coverage {value:.3f}, needs {least:.3f}"
    if low is not None:
        text = f"coverage {value:.3f} ({low:.3f} to {high:.3f}), needs {least:.3f}"
    if value >= least - 5e-10:
        return "passed", text
    if other is not None:
        before = float(other.covered.mean())
        text += f", the champion's is {before:.3f}"
        if value >= before:
            return "passed", text
    return ("failed" if high is not None and high < least else "inconclusive"), text


def _nothing(site: str, count: int, gate: Gate) -> SiteVerdict:
    said = f"no value is stated of any of {count} samples" if count else "no evaluation sample"
    text = f"{said}; needs {gate.samples_min}"
    return SiteVerdict(site=site, result="failed" if count else "inconclusive", text=text)


def _left_out(values: Values) -> str:
    return f"; no value was stated of {values.unstated} more" if values.unstated else ""


def _shown(value: float, target: Target) -> str:
    return f"{value:.4g} {target.unit}".rstrip()
