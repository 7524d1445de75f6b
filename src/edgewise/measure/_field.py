"""How good a release is in the field, from a random audit share of what it decided: by site, and over all of them.

Sites are strata with known sizes. Within a site a sample stands for 1 / (its inclusion probability) frames, and frames
of one part are not independent, so the variance is that of whole clusters. Sources: Särndal, Swensson and Wretman,
Model assisted survey sampling, 1992, sections 5.6 and 5.7 (ratio estimator in strata, linearised variance); Korn and
Graubard, Confidence intervals for proportions with small expected number of positive counts, 1998 (effective sample
size); Neyman, On the two different aspects of the representative method, 1934 (allocation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edgewise.measure._intervals import student_quantile
from edgewise.wire import Metric, NotValid

LEVEL = 0.95
HALF_WIDTH = 0.02
CLUSTERS_TRUSTED = 30
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Audited:
    """One labelled audit sample.

    Attributes:
        cluster: what it shares with others that are not independent of it, such as the part it shows.
        probability: with which it was drawn on the device, above 0 and at most 1.
        truth: its label.
    """

    site: str
    cluster: str
    probability: float
    right: bool
    truth: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldResult:
    """What is known of a release in the field.

    Attributes:
        accuracy: over all frames of all sites, each site with its share of them.
        sites: accuracy of each.
        recalls: of each label that was asked for, over all sites.
        wanted: labels that are still missing at each site for `accuracy` to be known within the half width.
        missing: sites with decisions and without two labelled samples: the whole says nothing of them.
    """

    accuracy: Metric
    sites: Mapping[str, Metric]
    recalls: Mapping[str, Metric]
    wanted: Mapping[str, int]
    missing: tuple[str, ...]


def field_result(
    audited: Sequence[Audited],
    decisions: Mapping[str, int],
    *,
    labels: Sequence[str] = (),
    half_width: float = HALF_WIDTH,
    level: float = LEVEL,
) -> FieldResult:
    """The accuracy in the field, and how many more labels where would make it exact enough.

    Args:
        decisions: frames that the release decided, by site: the strata's sizes.
        labels: whose recall is wanted.
        half_width: of the interval of the accuracy over all sites that is wanted.
    Raises:
        NotValid: a probability outside 0 to 1.

    >>> one = dict(site="north", probability=0.1, truth="pit")
    >>> seen = [Audited(cluster=str(n), right=n % 10 > 0, **one) for n in range(100)]
    >>> found = field_result(seen, {"north": 5000})
    >>> found.accuracy.value, round(found.accuracy.low, 2), round(found.accuracy.high, 2), found.wanted
    (0.9, 0.82, 0.95, {'north': 802})
    """
    if bad := next((one.probability for one in audited if not 0 < one.probability <= 1), None):
        raise NotValid(f"an inclusion probability is {bad}, needs to be above 0 and at most 1", code="share_invalid")
    by_site: dict[str, list[Audited]] = {}
    for one in audited:
        by_site.setdefault(one.site, []).append(one)
    sizes = {site: float(count) for site, count in decisions.items() if count > 0}
    for site, rows in by_site.items():
        sizes.setdefault(site, sum(1 / row.probability for row in rows))
    known = {site: by_site[site] for site in sizes if len(by_site.get(site, ())) > 1}

    def right(row: Audited) -> float:
        return float(row.right)

    sites = {site: _ratio({site: rows}, {site: 1.0}, right, lambda _row: True, level) for site, rows in known.items()}
    accuracy = _ratio(known, sizes, right, lambda _row: True, level)
    recalls = {
        label: _ratio(known, sizes, right, lambda row, label=label: row.truth == label, level)  # type: ignore[misc]
        for label in labels
    }
    return FieldResult(
        accuracy=accuracy,
        sites=sites,
        recalls=recalls,
        wanted=_wanted(by_site, sizes, half_width, level),
        missing=tuple(sorted(site for site in sizes if site not in known)),
    )


def _ratio(
    strata: Mapping[str, Sequence[Audited]],
    sizes: Mapping[str, float],
    value: Callable[[Audited], float],
    counts: Callable[[Audited], bool],
    level: float,
) -> Metric:
    """The mean of a value over those that count, in the whole population, with its interval.

    The interval is Wilson's with the effective sample size p (1 - p) / variance, wider by Student's t for few clusters.
    """
    rows = [(site, row) for site, inside in strata.items() for row in inside]
    counted = sum(counts(row) for _site, row in rows)
    if not counted:
        return Metric(value=None, n=0)
    total = {site: sum(1 / row.probability for row in inside) for site, inside in strata.items()}
    weight = np.array([sizes[site] / total[site] / row.probability for site, row in rows])
    inside = np.array([float(counts(row)) for _site, row in rows])
    values = np.array([value(row) for _site, row in rows])
    whole = float(weight @ inside)
    mean = float(weight @ (inside * values)) / whole
    parts = weight * inside * (values - mean) / whole
    variance, freedom = 0.0, 0
    places = np.array([site for site, _row in rows])
    names = np.array([row.cluster for _site, row in rows])
    for site in strata:
        here = places == site
        clusters = {name: float(parts[here & (names == name)].sum()) for name in np.unique(names[here])}
        sums = np.array(list(clusters.values()))
        seen = len(sums) / (len(sums) - 1) * float(((sums - sums.mean()) ** 2).sum()) if len(sums) > 1 else 0.0
        variance += max(seen, _least(weight[here] * inside[here], values[here], whole))
        freedom += len(sums) - 1
    effective = mean * (1 - mean) / variance if 0 < mean < 1 else _kish(weight * inside)
    return _interval(mean, effective, counted, max(freedom, 1), level)


def _least(weight: Floats, values: Floats, whole: float) -> float:
    """The variance that a stratum adds at least: where all of a few samples are right, it is not known to be none."""
    if not weight.sum():
        return 0.0
    share = (float(weight @ values) + 0.5 * weight.mean()) / (weight.sum() + weight.mean())
    return float((weight.sum() / whole) ** 2 * share * (1 - share) / _kish(weight))


def _kish(weight: Floats) -> float:
    """Effective number of cases by their weights alone."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def _interval(mean: float, effective: float, counted: int, freedom: int, level: float) -> Metric:
    spread, z = mean * (1 - mean), student_quantile((1 + level) / 2, freedom)
    middle = (mean + z * z / (2 * effective)) / (1 + z * z / effective)
    half = z * math.sqrt(spread / effective + z * z / (4 * effective * effective)) / (1 + z * z / effective)
    return Metric(
        value=mean, low=max(0.0, min(middle - half, mean)), high=min(1.0, max(middle + half, mean)), n=counted
    )


def _wanted(
    by_site: Mapping[str, Sequence[Audited]], sizes: Mapping[str, float], half_width: float, level: float
) -> dict[str, int]:
    """Labels that are still missing at each site, where the last one brings most (Neyman)."""
    everything = sum(sizes.values())
    if not everything:
        return {}
    spread = {}
    for site in sizes:
        rows = by_site.get(site, ())
        # Half a right and half a wrong one more: a site with no mistake yet is not known to make none.
        share = (sum(row.right for row in rows) + 0.5) / (len(rows) + 1)
        spread[site] = math.sqrt(share * (1 - share) * _design_effect(rows))
    score = sum(sizes[site] / everything * spread[site] for site in sizes)
    z = NormalDist().inv_cdf((1 + level) / 2)
    needed = (z * score / half_width) ** 2
    shares = {site: sizes[site] / everything * spread[site] / score for site in sizes}
    return {site: max(0, math.ceil(needed * shares[site]) - len(by_site.get(site, ()))) for site in sorted(sizes)}


def _design_effect(rows: Sequence[Audited]) -> float:
    """How much wider clusters and uneven weights make an interval than as many independent samples, from 1 to 10."""
    if len(rows) < 2:
        return 1.0
    weight = np.array([1 / row.probability for row in rows])
    values = np.array([float(row.right) for row in rows])
    mean = float(weight @ values) / float(weight.sum())
    sums: dict[str, float] = {}
    for row, one, value in zip(rows, weight, values, strict=True):
        sums[row.cluster] = sums.get(row.cluster, 0.0) + float(one * (value - mean) / weight.sum())
    plain = mean * (1 - mean) / len(rows)
    if not plain or len(sums) < 2:
        return 1.0
    clustered = len(sums) / (len(sums) - 1) * sum(part**2 for part in sums.values())
    seen = min(max(clustered / plain, 1.0), 10.0)
    return 1 + (seen - 1) * len(sums) / (len(sums) + CLUSTERS_TRUSTED)  # of few clusters it is mostly noise
