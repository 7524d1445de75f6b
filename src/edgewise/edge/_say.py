"""Lines on the device's error stream, which ends up in a journal; no frame is named there unasked."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable

from edgewise.policy import error_words, may_name_frames
from edgewise.wire import DataPolicy

LINES_MAX = 64  # different ones that are remembered as said


def write_line(line: str) -> None:
    """One line on the error stream."""
    sys.stderr.write(line + "\n")


class Sayer:
    """Says what went wrong once, and again each time it has happened ten times as often; never a thousand lines.

    Args:
        policy: decides whether the text of an error may be written, which may name a frame or hold a value of it.
        write: takes a line; the error stream where not given.
        log: takes what it is about and the words, each time.

    >>> lines: list[str] = []
    >>> sayer = Sayer(DataPolicy(), lines.append)
    >>> for _ in range(25):
    ...     sayer.error("record", ValueError("no column 'Ada'"))
    >>> lines
    ['edgewise record: ValueError', 'edgewise record: ValueError (10 times)']
    """

    def __init__(
        self,
        policy: DataPolicy,
        write: Callable[[str], None] = write_line,
        log: Callable[[str, str], None] | None = None,
    ) -> None:
        self._names = may_name_frames(policy, "log")
        self._write = write
        self._log = log
        self._said: OrderedDict[str, int] = OrderedDict()

    def error(self, what: str, error: BaseException) -> None:
        """Say that this part of the device met this error."""
        words = error_words(error, names=self._names)
        if self._log is not None:
            self._log(what, words)
        line = f"edgewise {what}: {words}"
        count = self._said.pop(line, 0) + 1
        self._said[line] = count
        if len(self._said) > LINES_MAX:
            self._said.popitem(last=False)
        if count == 1:
            self._write(line)
        elif str(count).rstrip("0") == "1":
            self._write(f"{line} ({count} times)")
