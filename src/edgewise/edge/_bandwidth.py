"""A bandwidth cap as a pure decision: how many bytes may come now."""

from __future__ import annotations

from dataclasses import dataclass

BURST_S = 1.0  # after a pause as much may come at once as in this time
LEAST_S = 0.5  # no request for less than what this time allows: each costs a round trip and a header


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """A token bucket: bytes flow in with time and are spent by downloading.

    Args:
        bytes_per_s: the cap.
        bytes_left: that may come now; negative while too much came.
        at_s: monotonic time of the last look.
    """

    bytes_per_s: float
    bytes_left: float
    at_s: float

    def at(self, now_s: float) -> Bucket:
        """The bucket later on, never fuller than one burst."""
        gained = max(0.0, now_s - self.at_s) * self.bytes_per_s
        left = min(self.bytes_left + gained, self.bytes_per_s * BURST_S)
        return Bucket(bytes_per_s=self.bytes_per_s, bytes_left=left, at_s=now_s)

    def spent(self, count: int) -> Bucket:
        """The bucket after so many bytes came."""
        return Bucket(bytes_per_s=self.bytes_per_s, bytes_left=self.bytes_left - count, at_s=self.at_s)

    @property
    def allowed(self) -> int:
        """Bytes that may be asked for now; 0 means to wait.

        >>> bucket = full(1000, 0.0).spent(1000)
        >>> [bucket.at(now_s).allowed for now_s in (0.0, 0.4, 0.5, 1.0, 60.0)]
        [0, 0, 500, 1000, 1000]
        """
        enough = self.bytes_left >= self.bytes_per_s * LEAST_S
        return max(1, int(self.bytes_left)) if enough else 0


def full(bytes_per_s: float, now_s: float) -> Bucket:
    """A bucket that holds one burst."""
    return Bucket(bytes_per_s=bytes_per_s, bytes_left=bytes_per_s * BURST_S, at_s=now_s)


def smallest(*caps: float | None) -> float | None:
    """The cap that counts of several, None for no cap at all.

    >>> smallest(None, 3000, 2000), smallest(None, None)
    (2000, None)
    """
    return min((cap for cap in caps if cap is not None), default=None)
