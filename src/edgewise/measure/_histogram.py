"""A latency histogram whose sums are exact: device, site and fleet add up without a loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgewise.wire import NotValid

PER_DECADE = 40  # buckets grow by 5.9 %, so a quantile is at most 3 % off
LOWEST_MS, HIGHEST_MS = 1e-3, 1e6
LOWEST_AT = round(-PER_DECADE * math.log10(LOWEST_MS))  # added to a logarithm times PER_DECADE: the bucket
BUCKETS = round(PER_DECADE * math.log10(HIGHEST_MS / LOWEST_MS))  # 360


class Histogram:
    """Counts of latencies in fixed logarithmic buckets; what lies outside 1 µs to 1,000 s counts at the end.

    >>> times = Histogram()
    >>> for ms in (1.0, 2.0, 3.0, 100.0):
    ...     times.add(ms)
    >>> times.count, round(times.quantile(0.5), 1)
    (4, 2.1)
    >>> Histogram.from_plain(times.plain()).plain() == times.plain()
    True
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    @property
    def count(self) -> int:
        """How many latencies were added."""
        return sum(self._counts.values())

    def add(self, ms: float) -> None:
        """Count one latency. A negative or undefined one counts in the lowest bucket rather than failing a hot loop."""
        self.add_all((ms,))

    def add_all(self, times_ms: Sequence[float]) -> None:
        """Count several latencies, each as ``add`` does."""
        counts, log10 = self._counts, math.log10
        for ms in times_ms:
            inside = LOWEST_MS < ms < HIGHEST_MS  # False for what is undefined
            bucket = int(log10(ms) * PER_DECADE + LOWEST_AT) if inside else (BUCKETS - 1 if ms >= HIGHEST_MS else 0)
            counts[bucket] = counts.get(bucket, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Add another's counts to these."""
        for bucket, count in list(other._counts.items()):  # a loop may go on counting meanwhile
            self._counts[bucket] = self._counts.get(bucket, 0) + count

    def __add__(self, other: Histogram) -> Histogram:
        total = Histogram()
        total.merge(self)
        total.merge(other)
        return total

    def quantile(self, share: float) -> float | None:
        """The latency in ms that this share of all stays at or below; None when nothing was added.

        Raises:
            NotValid: a share outside 0 to 1.
        """
        if not 0 <= share <= 1:
            raise NotValid(f"the quantile asked for is {share}, needs to be from 0 to 1", code="share_invalid")
        left = max(1, math.ceil(share * self.count))
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                # The middle of the bucket on the logarithmic scale: the same relative error to either side.
                return float(LOWEST_MS * 10 ** ((bucket + 0.5) / PER_DECADE))
        return None

    def plain(self) -> dict[str, int]:
        """Bucket number to count, for JSON; empty buckets are left out."""
        return {str(bucket): self._counts[bucket] for bucket in sorted(self._counts)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, int]) -> Histogram:
        """The histogram of `plain()`.

        Raises:
            NotValid: a bucket that does not exist, or a negative count.
        """
        result = cls()
        for name, count in plain.items():
            if not name.isdecimal() or int(name) >= BUCKETS or count < 0:
                raise NotValid(
                    f"a latency histogram has bucket {name!r} with count {count}; "
                    f"needs 0 to {BUCKETS - 1} and no negative count",
                    code="histogram_invalid",
                )
            result._counts[int(name)] = count
        return result
