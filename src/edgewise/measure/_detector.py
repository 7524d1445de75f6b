"""When a stream of yes and no has changed: an e-detector, valid at every look and for dependent streams.

At each moment a likelihood ratio of "more hits than allowed" against "as many as allowed" could have been started; the
detector holds the sum of all of them. While no hit comes with a chance above the allowed share, given everything
before it, the sum grows by at most 1 a look in expectation. So the chance that it reaches a threshold c within n looks
is at most n / c (Doob), and the mean time to a false alarm is at least c. Nothing else is assumed: not independence,
not a known share.

Source: Shiryaev 1963 and Roberts 1966; as a sum of e-processes Shin, Ramdas and Rinaldo, E-detectors, 2024.
"""

from __future__ import annotations

from edgewise.wire import NotValid

# Alternatives between the allowed share and 1, as fractions of the way: slight, clear and nearly always. Our choice.
STEPS = (0.05, 0.25, 0.95)
SUM_MAX = 1e300  # what is held stays a finite number


class ShareDetector:
    """Tells when hits come more often than an allowed share.

    Args:
        share: allowed share of hits, above 0 and below 1.
        mean_count: least mean number of looks until a false alarm; within n looks its chance is at most n / mean_count.

    >>> detector = ShareDetector(0.01, mean_count=1e9)
    >>> detector.add_misses(100_000)
    >>> hits = 0
    >>> while not detector.alarm:
    ...     detector.add(True)
    ...     hits += 1
    >>> hits
    5
    """

    __slots__ = ("_hit", "_miss", "_sums", "count", "hits", "mean_count", "share")

    def __init__(self, share: float, *, mean_count: float) -> None:
        if not 0 < share < 1 or mean_count < 1:
            raise NotValid(
                f"allowed share {share} and mean count {mean_count}: needs a share above 0 and below 1, and at least 1",
                code="share_invalid",
            )
        self.share = share
        self.mean_count = mean_count
        others = [share + (1 - share) * step for step in STEPS]
        self._hit = tuple(other / share for other in others)
        self._miss = tuple((1 - other) / (1 - share) for other in others)
        self.clear()

    def clear(self) -> None:
        """Forget everything seen."""
        self._sums = [0.0] * len(self._hit)
        self.count = self.hits = 0

    def add(self, hit: bool) -> None:
        """Look at one more."""
        self.count += 1
        self.hits += hit
        factors = self._hit if hit else self._miss
        self._sums = [min((held + 1) * factor, SUM_MAX) for held, factor in zip(self._sums, factors, strict=True)]

    def add_misses(self, count: int) -> None:
        """Look at so many without a hit; the same as one by one, in one step."""
        self.count += count
        summed = []
        for held, factor in zip(self._sums, self._miss, strict=True):
            power = factor**count
            summed.append(held * power + factor * (1 - power) / (1 - factor))
        self._sums = summed

    @property
    def evidence(self) -> float:
        """The sum, from 0 up; in expectation at most the number of looks while all is well."""
        return sum(self._sums) / len(self._sums)

    @property
    def alarm(self) -> bool:
        """Whether the evidence has reached its threshold."""
        return self.evidence >= self.mean_count
