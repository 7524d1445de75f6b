"""Rules that others use, on the same fleet: each gives a statistic an hour, and takes the release back over a bound.

All of them look at the overrides of the devices that changed, taken together: against a fixed threshold, against the
devices that wait by a z-test of two shares, and hour by hour by Kayenta's rule, which calls a metric "high" when the
98 % confidence interval of the Mann-Whitney shift lies above a quarter of its estimate (NetflixACAJudge and
MannWhitneyClassifier in github.com/spinnaker/kayenta). Waves open each day, as no rule of these holds them.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from rollout_parts.simulated import WAVE_HOURS, WAVES, Fleet, Floats

HOURS = WAVE_HOURS * len(WAVES)
COMPARED = WAVE_HOURS * (len(WAVES) - 1)  # in the last wave nobody waits
DECISIONS_MIN = 100
# Textbook bounds: one point over what was usual, p < 0.05 on one side, and Kayenta's confidence level.
NOMINAL = {
    "fixed threshold": 0.01,
    "z-test": NormalDist().inv_cdf(0.95),
    "Mann-Whitney canary": NormalDist().inv_cdf(0.99),
}
TOLERANCE = 0.25  # of the shift, Kayenta's


def statistics(fleet: Fleet, chance: np.random.Generator) -> dict[str, Floats]:
    """Of each rule, hour by hour (HOURS,); -inf where it has nothing to say."""
    treated, control = np.zeros((HOURS, 2)), np.zeros((HOURS, 2))  # overridden and not, in an hour
    for wave, size in enumerate(WAVES):
        hours = slice(wave * WAVE_HOURS, (wave + 1) * WAVE_HOURS)
        treated[hours] = _made(fleet.per_hour[:size], fleet.overridden_new[:size], chance)
        control[hours] = _made(fleet.per_hour[size:], fleet.overridden[size:], chance)
    usual = float((fleet.per_hour * fleet.overridden).sum() / fleet.per_hour.sum())
    return {
        "fixed threshold": _over(treated, usual),
        "z-test": _z(treated, control),
        "Mann-Whitney canary": _mann_whitney(treated, control),
    }


def _made(per_hour: Floats, overridden: Floats, chance: np.random.Generator) -> Floats:
    means = [float((per_hour * overridden).sum()), float((per_hour * (1 - overridden)).sum())]
    return chance.poisson(means, size=(WAVE_HOURS, 2)).astype(np.float64)


def _over(treated: Floats, usual: float) -> Floats:
    """Share overridden since the start, over what was usual in the fleet before."""
    events, all_ = np.cumsum(treated[:, 0]), np.cumsum(treated.sum(1))
    return np.where(all_ >= DECISIONS_MIN, events / np.maximum(all_, 1) - usual, -np.inf)


def _z(treated: Floats, control: Floats) -> Floats:
    """Of two shares since the start, as if decisions were independent."""
    result = np.full(HOURS, -np.inf)
    (a, n), (b, m) = ((np.cumsum(one[:COMPARED, 0]), np.cumsum(one[:COMPARED].sum(1))) for one in (treated, control))
    pooled = (a + b) / (n + m)
    error = np.sqrt(pooled * (1 - pooled) * (1 / np.maximum(n, 1) + 1 / np.maximum(m, 1)))
    result[:COMPARED] = np.where(n >= DECISIONS_MIN, (a / np.maximum(n, 1) - b / np.maximum(m, 1)) / error, -np.inf)
    return result


def _mann_whitney(treated: Floats, control: Floats) -> Floats:
    """The highest confidence, as a normal deviate, at which the rule still says "high"."""
    result = np.full(HOURS, -np.inf)
    ours, theirs = (one[:COMPARED, 0] / np.maximum(one[:COMPARED].sum(1), 1) for one in (treated, control))
    shifts = np.sort(ours[:1, None] - theirs[None, :1], axis=None)
    for hours in range(1, COMPARED + 1):
        if hours > 1:
            last = hours - 1
            more = np.concatenate([ours[last] - theirs[:hours], ours[:last] - theirs[last]])
            shifts = np.sort(np.concatenate([shifts, more]), kind="stable")
        below = np.searchsorted(shifts, TOLERANCE * abs(np.median(shifts)), side="right")
        spread = np.sqrt(hours * hours * (2 * hours + 1) / 12)
        result[hours - 1] = (hours * hours / 2 - below - 0.5) / spread
    return result


def outcome(statistic: Floats, bound: float) -> tuple[bool, float, int]:
    """Whether it was taken back, after how many hours, and how many devices had it by then."""
    over = np.flatnonzero(statistic > bound)
    if not len(over):
        return False, float(HOURS), WAVES[-1]
    return True, float(over[0] + 1), WAVES[over[0] // WAVE_HOURS]


def calibrated(equal: list[dict[str, Floats]]) -> dict[str, float]:
    """Bounds at which 1 % of the equal candidates are taken back."""
    return {rule: float(np.quantile([float(run[rule].max()) for run in equal], 0.99)) for rule in NOMINAL}
