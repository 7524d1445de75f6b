"""How often a thread beside the decisions looks: soon after something happened, seldom while nothing does.

Waking up costs more than looking: 0.1 ms on a small machine, so that two threads that look twenty times a second take
half a percent of a core for nothing.
"""

from __future__ import annotations

import threading


class Rounds:
    """The turns of one thread.

    Args:
        pace_s: between two turns while there is something to do; what comes within it is done in one turn.
        quiet_s_max: longest pause while there is nothing.

    >>> stop, rounds = threading.Event(), Rounds(pace_s=0.001, quiet_s_max=60)
    >>> rounds.ring()
    >>> rounds.rest(stop, wanted_s=60)  # not for a minute: somebody rang
    True
    """

    def __init__(self, *, pace_s: float, quiet_s_max: float) -> None:
        self._pace_s, self._quiet_s_max = pace_s, max(pace_s, quiet_s_max)
        self._bell = threading.Event()

    def ring(self) -> None:
        """There is something to do. Any thread may ring, as often as it likes."""
        if not self._bell.is_set():  # a tenth of what setting it again costs, and the decision loops ring
            self._bell.set()

    def rest(self, stop: threading.Event, wanted_s: float) -> bool:
        """Wait for the next turn; False once it is time to stop.

        Args:
            stop: set by somebody who rings as well.
            wanted_s: a turn is wanted after so many seconds, whether or not somebody rings.
        """
        if self._bell.wait(min(max(wanted_s, self._pace_s), self._quiet_s_max)):
            stop.wait(self._pace_s)
            self._bell.clear()  # before the turn: who rings during it wants another one
        return not stop.is_set()
