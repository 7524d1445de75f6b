"""Alarms on stated values: raised where a limit is probably crossed, once until the value itself is back."""

from __future__ import annotations

from edgewise.frames import Decided
from edgewise.ports import Frame
from edgewise.wire import ABOVE, BELOW, Target


class LimitAlarms:
    """An act, for apps that bring none: an alarm when the whole interval lies beyond a limit of the target.

    The next one of that limit comes only after the stated value was back at it: an interval that touches the limit and
    leaves it again, frame after frame, is one crossing. Decisions that state no value raise none.

    >>> from datetime import UTC, datetime
    >>> act = LimitAlarms(Target(name="power", unit="MW", above=45))
    >>> frame = Frame("f", b"", "application/json", datetime(2026, 5, 4, tzinfo=UTC))
    >>> def say(low, value, high):
    ...     return act(frame, Decided("", 0.9, None, 0.5, None, "0" * 64, stated=(low, value, high)))
    >>> say(44, 48, 52)
    >>> say(46, 48, 50)
    'power is probably above 45 MW: 48 MW (46 to 50)'
    >>> say(44, 46, 52), say(46, 48, 50), say(40, 44, 50)
    (None, None, None)
    >>> say(46, 47, 48) is None
    False
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._beyond: str | None = None  # the limit of the last alarm, until the value is back

    def __call__(self, _frame: Frame, decision: Decided) -> str | None:
        """The text of an alarm, or None."""
        if decision.stated is None:
            return None
        low, value, high = decision.stated
        above, below = self._target.above, self._target.below
        if above is not None and low > above:
            return self._alarm(ABOVE, above, decision.stated)
        if below is not None and high < below:
            return self._alarm(BELOW, below, decision.stated)
        back = self._beyond == ABOVE and (above is None or value <= above)
        if back or (self._beyond == BELOW and (below is None or value >= below)):
            self._beyond = None
        return None

    def _alarm(self, side: str, limit: float, stated: tuple[float, float, float]) -> str | None:
        if self._beyond == side:
            return None
        self._beyond = side
        low, value, high = stated
        unit = f" {self._target.unit}" if self._target.unit else ""
        return f"{self._target.name} is probably {side} {limit:.6g}{unit}: {value:.6g}{unit} ({low:.6g} to {high:.6g})"
