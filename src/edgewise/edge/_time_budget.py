"""How much of the time between frames a second bundle may take, as a pure decision: a token bucket on time."""

from __future__ import annotations

from dataclasses import dataclass, replace

BURST_S = 10.0  # after a pause as much may be taken at once as is earned in this time


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeBudget:
    """Seconds flow in while nothing acts, and are spent by the runs of the second bundle.

    While less than half a burst is left a frame is taken with a chance only, which falls to 0 as the budget does. The
    chance hangs on time alone, never on what a frame shows, so the frames taken are a fair sample of those decided on.

    Args:
        share: of the time in which nothing acts, over 0 to 1.
        left_s: that may be taken now; negative while a run took longer than was left.
        at_s: monotonic time of the last look.
    """

    share: float
    left_s: float
    at_s: float

    def at(self, now_s: float, acted_s: float = 0.0) -> TimeBudget:
        """The budget later on, of which time the acting bundle took so much."""
        earned_s = self.share * max(0.0, now_s - self.at_s - acted_s)
        return replace(self, left_s=min(self.left_s + earned_s, self.share * BURST_S), at_s=max(now_s, self.at_s))

    def spent(self, seconds: float) -> TimeBudget:
        """The budget after a run of so many seconds; a negative number gives back what was reckoned for one."""
        return replace(self, left_s=min(self.left_s - seconds, self.share * BURST_S))

    @property
    def chance(self) -> float:
        """With which chance the next frame is taken.

        >>> budget = full_time(0.5, 0.0)
        >>> [budget.spent(s).chance for s in (0.0, 2.5, 3.75, 5.0, 9.0)]
        [1.0, 1.0, 0.5, 0.0, 0.0]
        """
        return max(0.0, min(1.0, 2 * self.left_s / (self.share * BURST_S)))


def full_time(share: float, now_s: float) -> TimeBudget:
    """A budget that holds one burst."""
    return TimeBudget(share=share, left_s=share * BURST_S, at_s=now_s)
