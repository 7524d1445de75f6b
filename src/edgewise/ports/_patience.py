"""How slow a server may be: a silence is bounded, and so is a trickle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgewise.ports._clock import Clock
from edgewise.wire import NotNow

RATE_MIN_BYTES_S = 200.0  # slower than any link that a device is meant for


class TooSlow(NotNow):
    """The server answers, but slower than the least rate: the download is given up, what came so far is kept."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="slow_retrieval")


class Patience:
    """How long we still wait for one answer: full at first, used up by waiting, refilled by bytes at the least rate.

    Because it never grows over ``stall_s_max``, a fast beginning does not pay for a slow end.
    """

    def __init__(self, clock: Clock, stall_s_max: float, rate_min_bytes_s: float) -> None:
        self.clock = clock
        self.stall_s_max = stall_s_max
        self._rate_min_bytes_s = rate_min_bytes_s
        self._left_s = stall_s_max
        self._waited_s = 0.0
        self._got = 0
        self._url = ""

    def paced(self, pieces: Iterable[bytes], what: str) -> Iterator[bytes]:
        """The pieces as they come; only the waiting for them counts.

        Raises:
            TooSlow: they came below the least rate.
        """
        self.begin(what)
        source = iter(pieces)
        while True:
            self.left_s()
            before_s = self.clock.monotonic_s()
            piece = next(source, None)
            self.spend(self.clock.monotonic_s() - before_s)
            if piece is None:
                return
            self.reward(len(piece))
            yield piece

    def begin(self, url: str) -> None:
        self._left_s, self._waited_s, self._got, self._url = self.stall_s_max, 0.0, 0, url

    def left_s(self) -> float:
        if self._left_s <= 0:
            raise self.lost()
        return self._left_s

    def spend(self, seconds: float) -> None:
        self._left_s -= seconds
        self._waited_s += seconds

    def reward(self, size_bytes: int) -> None:
        self._got += size_bytes
        self._left_s = min(self.stall_s_max, self._left_s + size_bytes / self._rate_min_bytes_s)

    def lost(self) -> TooSlow:
        return TooSlow(
            f"{self._url} gave {self._got} bytes in {self._waited_s:.1f} s of waiting; at least "
            f"{self._rate_min_bytes_s:g} bytes/s are needed, with no silence over {self.stall_s_max:g} s; "
            "it is tried again later"
        )
