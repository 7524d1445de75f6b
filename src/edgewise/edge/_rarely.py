"""Saying what happens again and again: the first time, the tenth, the hundredth; never a thousand lines."""

from __future__ import annotations

from collections.abc import Callable

from edgewise.edge._say import write_line
from edgewise.policy import error_words, may_name_frames
from edgewise.wire import DataPolicy


class Voice:
    """Takes lines: on the error stream, and in the device's own log once there is one."""

    def __init__(self) -> None:
        self.log: Callable[[str, str], None] | None = None

    def __call__(self, line: str) -> None:
        write_line(line)
        if self.log is not None:
            self.log("field", line.removeprefix("edgewise "))


class Rarely:
    """Counts one kind of trouble of one thing, and says it the first, tenth, hundredth… time.

    Args:
        what: the thing, such as ``source camera``.
        policy: decides whether an error's own words may be written, which may name a frame.
        write: takes a line.

    >>> lines: list[str] = []
    >>> rarely = Rarely("source csv", DataPolicy(), lines.append)
    >>> sum(rarely.say("passes over a frame", ValueError(f"row {row}")) for row in range(25))
    2
    >>> lines[0], len(lines)
    ('edgewise source csv passes over a frame: ValueError', 2)
    >>> lines[1]
    'edgewise source csv passes over a frame (10 times): ValueError'
    """

    def __init__(self, what: str, policy: DataPolicy, write: Callable[[str], None] = write_line) -> None:
        self.count = 0
        self._what = what
        self._names = may_name_frames(policy, "log")
        self._write = write

    def say(self, happens: str, error: BaseException, times: int = 1) -> bool:
        """Count this, and say it if it is the first of its order of magnitude; whether it was said."""
        before, self.count = self.count, self.count + times
        if len(str(self.count)) == len(str(before)) and before:
            return False
        again = f" ({self.count} times)" if self.count > 1 else ""
        self._write(f"edgewise {self._what} {happens}{again}: {error_words(error, names=self._names)}")
        return True

    def note(self, line: str) -> None:
        """Say something that goes with what was said."""
        self._write(f"edgewise {self._what} {line}")
