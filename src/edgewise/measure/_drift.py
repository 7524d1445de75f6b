"""Whether what a network sees has changed at a site: additive sums, and an e-detector on the means of short windows.

The first windows after a start are taken for normal, however bursty they are: their spread from window to window is
the yardstick. A later window's distance is ranked among theirs, the rank becomes an e-value, and a Shiryaev–Roberts sum
of these tells a change. While windows stay exchangeable with the first ones, a false alarm takes `mean_count` windows
in the mean; the yardstick is finite, so the promise holds on average over yardsticks, which the simulation checks.

Source: conformal p-values by rank and their calibration to e-values, Vovk, Gammerman and Shafer, Algorithmic learning
in a random world, 2005, and Vovk and Wang, E-values, 2021; the sum as in Shin, Ramdas and Rinaldo, E-detectors, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgewise.wire import NotValid

Floats = NDArray[np.float64]
KAPPA = 0.3  # of the calibrator κ p^(κ-1): small ranks count much, at a price while all is well; our choice
SUM_MAX = 1e300


@dataclass(kw_only=True, slots=True)
class ChannelSums:
    """Count, sum and sum of squares by channel; additive, so that device, site and fleet are sums.

    >>> sums = ChannelSums.of(np.array([[1.0, 2.0], [3.0, 2.0]]))
    >>> (sums + sums).mean().tolist(), sums.deviation().tolist()
    ([2.0, 2.0], [1.0, 0.0])
    """

    count: int
    total: Floats  # (C,)
    square: Floats  # (C,)

    @classmethod
    def of(cls, values: NDArray[np.floating], *, clip: float | None = None) -> ChannelSums:
        """Those of values (N, C).

        Args:
            clip: values are brought into ± this first, and what is no number counts as 0; None leaves them alone.
        Raises:
            NotValid: another number of axes.

        >>> ChannelSums.of(np.array([[9.0], [np.nan], [-1.0]]), clip=2.0).total.tolist()
        [1.0]
        """
        if values.ndim != 2:
            raise NotValid(f"values have shape {values.shape}, needs (N, C)", code="shape_wrong")
        exact = values.astype(np.float64)
        if clip is not None:
            exact = np.clip(np.where(np.isnan(exact), 0.0, exact), -clip, clip)
        return cls(count=len(exact), total=exact.sum(axis=0), square=(exact**2).sum(axis=0))

    def __add__(self, other: ChannelSums) -> ChannelSums:
        return ChannelSums(
            count=self.count + other.count, total=self.total + other.total, square=self.square + other.square
        )

    def mean(self) -> Floats:
        return self.total / max(self.count, 1)

    def deviation(self) -> Floats:
        """Standard deviation (C,), never negative."""
        spread = self.square / max(self.count, 1) - self.mean() ** 2
        return np.asarray(np.sqrt(np.maximum(spread, 0.0)))


@dataclass(kw_only=True, slots=True)
class WindowDetector:
    """Tells when the means of windows are no longer like the first ones.

    Attributes:
        calibration: windows that are taken for normal.
        mean_count: windows until a false alarm, in the mean.
    """

    calibration: int = 64
    mean_count: float = 3000.0
    windows: int = 0
    evidence: float = 0.0
    _first: list[Floats] = field(default_factory=list)
    _center: Floats | None = None
    _spread: Floats | None = None
    _scores: Floats | None = None

    def add(self, mean: Floats) -> None:
        """Look at one more window's means (D,)."""
        self.windows += 1
        if self._scores is None:
            self._first.append(np.asarray(mean, np.float64))
            if len(self._first) >= self.calibration:
                self._calibrate()
            return
        assert self._center is not None
        assert self._spread is not None
        score = float((((mean - self._center) / self._spread) ** 2).mean())
        rank = (1 + int((self._scores >= score).sum())) / (1 + len(self._scores))
        self.evidence = min((self.evidence + 1) * KAPPA * rank ** (KAPPA - 1), SUM_MAX)

    def _calibrate(self) -> None:
        first = np.array(self._first)
        self._center, self._spread = first.mean(axis=0), np.maximum(first.std(axis=0), 1e-9)
        count = len(first)
        # Each window's distance from the others: one that took part in the centre would look closer than it is.
        others = (first.sum(axis=0) - first) / (count - 1)
        spread = np.maximum(np.sqrt(np.maximum(
            ((first**2).sum(axis=0) - first**2) / (count - 1) - others**2, 0.0)), 1e-9)  # fmt: skip
        self._scores = (((first - others) / spread) ** 2).mean(axis=1)
        self._first = []

    @property
    def alarm(self) -> bool:
        """Whether the evidence has reached its threshold."""
        return self.evidence >= self.mean_count
