"""The event log: JSON lines in canonical form, so that the same seed gives the same bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from edgewise.ports import disk_error
from edgewise.wire import canonical


class EventLog:
    """What happened, in order. Always counted and hashed, and written to a file where one is named.

    Args:
        path: replaced when it exists; None keeps no file.
        start: moment 0 of the log's times.
    Raises:
        NotValid: the file cannot be written. NotNow: no space.
    """

    def __init__(self, path: Path | None, start: datetime) -> None:
        self._path = path
        self._start = start
        self._hash = hashlib.sha256()
        self.counts: Counter[str] = Counter()
        self._file: BinaryIO | None = None
        if path is not None:
            try:
                self._file = path.open("wb")
            except OSError as error:
                raise disk_error(error, path) from error

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def sha256(self) -> str:
        """SHA-256 of all lines so far."""
        return self._hash.hexdigest()

    def write(self, now: datetime, who: str, what: str, **facts: Any) -> None:
        """Add one line. Facts are plain JSON values; None is left out."""
        about = {name: value for name, value in facts.items() if value is not None}
        at_s = round((now - self._start).total_seconds(), 3)
        line = canonical({**about, "t": at_s, "who": who, "what": what}) + b"\n"
        self.counts[what] += 1
        self._hash.update(line)
        if self._file is None:
            return
        try:
            self._file.write(line)
        except OSError as error:
            assert self._path is not None
            raise disk_error(error, self._path) from error
