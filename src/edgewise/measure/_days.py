"""Days of a fleet as numbers that can be compared: features of sketches, and how much they vary from day to day.

Frames of one part are near-copies, so a day's mean varies far more than its frame count says. How much is not computed
from frames but learned from the fleet: the covariance of differences between days that follow each other on the same
device, pooled over all devices. A device that has changed for good spoils one difference, and the largest differences
are left out, so members that drift hardly touch it.

Sources: variance from successive differences, von Neumann, Kent, Bellinson and Hart, The mean square successive
difference, 1941; shrinkage Chen, Wiesel, Eldar and Hero, Shrinkage algorithms for MMSE covariance estimation, 2010
(OAS); 2 * sqrt of a share has nearly the same variance at any share, Bartlett, The square root transformation in
analysis of variance, 1936; quantiles of chi-squared, Wilson and Hilferty, The distribution of chi-square, 1931.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edgewise.wire import DaySketch, NotValid
from edgewise.wire.sketch import BRIGHTNESS_UNITS, UNITS

Floats = NDArray[np.float64]
DIFFERENCES_PER_FEATURE = 15  # fewer would make the covariance say more than it knows: then the look is left out
DIFFERENCES_MIN = 100  # under so many nothing is tested
NARROW = 0.05  # least variance of a direction beside a feature's own: what hardly varies is not normal at all
WIDER = 1.6  # times the covariance: days have heavier tails than normal ones; chosen on seeds 0, 3 and 4
SUMS_WIDER = 1.25  # the same of what many devices add up to, which is nearer to normal
LIGHTS = 2  # brightness and contrast, the last features
FAR_STEPS = 3  # of novelty that are looked at one by one
SHARE_MIN = 0.008  # added to shares, so that a part more or less of a rare kind is no large change (Anscombe 1948)
TRIMMED_SHARE = 0.02  # of the differences, the largest, when their covariance is estimated a second time
WEIGHT_MIN, WEIGHT_MAX = 0.02, 1.0  # of a day beside one with the usual number of frames
COORDINATE_MAX = 3.0  # deviations from what is usual on the device, in one whitened coordinate: no day proves more


@dataclass(frozen=True, kw_only=True, slots=True)
class Yardstick:
    """What a usual day-to-day change is in this fleet, in several looks at a sketch, each for a kind of drift.

    Attributes:
        whiten: (F, W), to the coordinates of all looks side by side; in each look a change from a device's own mean
            has deviation 1 in every direction.
        widths: coordinates of each look; they add up to W.
        frames: of a usual day; the median.
        differences: pairs of days behind it.
    """

    whiten: Floats
    widths: tuple[int, ...]
    frames: float
    differences: int

    def white(self, days: Sequence[DaySketch]) -> Floats:
        """(T, W) coordinates of days."""
        return np.asarray(_filled(np.stack([features_of(day) for day in days])) @ self.whiten)

    def weights(self, days: Sequence[DaySketch]) -> Floats:
        """(T,): how much each day counts, by its frames; a day with more than usual counts as one."""
        counts = np.array([day.count for day in days], np.float64)
        return np.asarray(np.clip(counts / self.frames, WEIGHT_MIN, WEIGHT_MAX))


def features_of(day: DaySketch) -> Floats:
    """A sketch as numbers: shares beyond each step of novelty, of classes, 16 means, shares of confidence, and light.

    The light of a day without any is NaN.

    >>> features_of(DaySketch(count=4, sums=(64,) * 16, classes=(4, 0))).round(2).tolist()[:4]
    [2.01, 0.18, 0.5, 0.5]
    """
    beyond = np.cumsum(np.array(day.novelty, np.float64)[::-1])[::-1][1:]
    shares = [2 * np.sqrt(np.array(counts, np.float64) / day.count + SHARE_MIN) for counts in (
        beyond, day.classes, day.confidence)]  # fmt: skip
    means = np.array(day.sums, np.float64) / (UNITS * day.count)
    light = np.full(LIGHTS, np.nan) if day.light is None else _light(*day.light)
    return np.concatenate([shares[0], shares[1], means, shares[2], light])


def _light(count: int, brightness: int, contrast: int) -> Floats:
    """The mean brightness, 0 to 1, and how often the deviation halves."""
    return np.array([brightness / count / BRIGHTNESS_UNITS, contrast / count / UNITS])


def _filled(features: Floats) -> Floats:
    """Features (T, F) of one device's days, with its own mean where a day has none, 0 where no day has any."""
    known = ~np.isnan(features)
    counts = known.sum(axis=0)
    means = np.where(known, features, 0).sum(axis=0) / np.maximum(counts, 1)
    return np.asarray(np.where(known, features, means))


def _looks(day: DaySketch) -> list[list[int]]:
    """Which features are looked at together: novelty, classes and means; the means; each far novelty; the light.

    Shares of all classes add up to 1, so the last class is left out. Confidence tells little that novelty does not, and
    days of it vary least like a normal distribution.
    """
    novel, classes, means = max(len(day.novelty) - 1, 0), len(day.classes), len(day.sums)
    first = novel + classes
    middle = list(range(first, first + means))
    together = [*range(novel), *range(novel, max(first - 1, novel)), *middle]
    lights = list(range(len(features_of(day)) - LIGHTS, len(features_of(day))))
    return [together, middle, *([one] for one in range(max(novel - FAR_STEPS, 0), novel)), lights]


def yardstick(streams: Sequence[Sequence[DaySketch]]) -> Yardstick | None:
    """From the days of each device, oldest first; None while the fleet has too few days.

    Raises:
        NotValid: sketches of different make, which cannot be compared.
    """
    streams = [stream for stream in streams if len(stream) >= 2]
    if not streams:
        return None
    features = [np.stack([features_of(day) for day in stream]) for stream in streams]
    shapes = {found.shape[1] for found in features}
    if len(shapes) > 1:
        raise NotValid(f"sketches with {sorted(shapes)} features cannot be compared", code="sketches_differ")
    differences = np.concatenate([np.diff(found, axis=0) for found in features]) / np.sqrt(2)
    known = [(look, _known(differences[:, look])) for look in _looks(streams[0][0])]
    looks = [
        (look, rows) for look, rows in known if len(rows) >= max(DIFFERENCES_MIN, len(look) * DIFFERENCES_PER_FEATURE)
    ]
    if not looks:
        return None
    parts = []
    for look, rows in looks:
        part = np.zeros((differences.shape[1], len(look)))
        part[look] = _robust_whitening(rows)
        parts.append(part)
    return Yardstick(
        whiten=np.concatenate(parts, axis=1),
        widths=tuple(len(look) for look, _ in looks),
        frames=float(np.median([day.count for stream in streams for day in stream])),
        differences=len(differences),
    )


def _known(rows: Floats) -> Floats:
    return rows[~np.isnan(rows).any(axis=1)]


def _robust_whitening(differences: Floats) -> Floats:
    """(W, W) whitening of rows (N, W), hardly moved by the largest of them."""
    sizes = ((differences @ _whitening(_shrunk(differences))) ** 2).sum(axis=1)
    covariance = _shrunk(differences[sizes <= np.quantile(sizes, 1 - TRIMMED_SHARE)])
    # Without the largest the rest looks narrower than it is: brought to the median that all of them have.
    count, width = differences.shape
    few = count / (count - width - 1)  # what a covariance learned from so many hides; Anderson 2003, 7.7
    usual = float(np.median(((differences @ _whitening(covariance)) ** 2).sum(axis=1)))
    return _whitening(covariance * WIDER * few * max(usual / chi2_quantile(0.5, width), 1.0))


def chi2_quantile(share: float, freedom: float) -> float:
    """Under which a share of chi-squared values lies, to about 1 %.

    >>> round(chi2_quantile(0.95, 22), 1)
    33.9
    """
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + NormalDist().inv_cdf(share) * np.sqrt(part)) ** 3)


def _shrunk(rows: Floats) -> Floats:
    """Covariance of rows (N, F) around 0, in part replaced by its own diagonal; by how much, as OAS says."""
    count, width = rows.shape
    raw = rows.T @ rows / count
    spread = np.sqrt(np.maximum(np.diag(raw), 1e-8))
    unit = raw / np.outer(spread, spread)
    square, trace = float((unit**2).sum()), float(np.trace(unit)) ** 2
    part = ((1 - 2 / width) * square + trace) / max((count + 1 - 2 / width) * (square - trace / width), 1e-12)
    part = min(part, 1.0)
    return np.asarray(((1 - part) * unit + part * np.eye(width)) * np.outer(spread, spread))


def _whitening(covariance: Floats) -> Floats:
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-10))
    sizes, axes = np.linalg.eigh(covariance / np.outer(spread, spread))
    return np.asarray(axes / np.sqrt(np.maximum(sizes, NARROW)) / spread[:, None])
