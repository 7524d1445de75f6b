"""A word to come to an end, which a signal handler may give too."""

from __future__ import annotations

import contextlib
import queue

WAKE_S = 0.5


class Stop:
    """Whether to come to an end. Any thread may ask and wait, and so may a signal handler.

    A `threading.Event` is not safe there: the handler runs in the main thread wherever that happens to be, and would
    wait for ever for a lock that its own thread holds. ``SimpleQueue.put`` is reentrant by its documentation.

    >>> stop = Stop()
    >>> stop.wait(0.001), stop.is_asked
    (False, False)
    >>> stop.ask()
    >>> stop.wait(), stop.is_asked
    (True, True)
    """

    def __init__(self) -> None:
        self._asked = False
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def is_asked(self) -> bool:
        return self._asked

    def ask(self) -> None:
        """Come to an end soon. Asked twice it changes nothing."""
        self._asked = True
        self._bell.put(None)

    def wait(self, seconds_max: float | None = None) -> bool:
        """Whether to come to an end, as soon as that is asked and at the latest after this time; None for no bound.

        The main thread never waits for longer than `WAKE_S` at once: the system may hand a signal to another thread,
        which does not wake this one, and Python runs the handler here.
        """
        left = seconds_max
        while not self._asked and (left is None or left > 0):
            step = WAKE_S if left is None else min(left, WAKE_S)
            left = None if left is None else left - step
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=step)
                self._bell.put(None)  # others may wait for it too
        return self._asked
