"""The device's own log: JSON lines, bounded in bytes, repeated messages folded; no decision ever waits for it."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from edgewise.ports import Clock, LogFiles
from edgewise.wire import EdgewiseError
from edgewise.wire.trace import trace_id

FOLD_S = 60.0
WAITING_MAX = 1000  # lines not written yet: more means that the disk is stuck
FOLDS_MAX = 64  # different messages that are folded at the same time
TEXT_MAX = 1000  # characters


@dataclass(kw_only=True, slots=True)
class _Fold:
    """A message that was written, and how often it came again since."""

    since_s: float
    times: int = 0


@dataclass(kw_only=True, slots=True)
class Counts:
    """What became of the lines."""

    written: int = 0
    folded: int = 0
    shed: int = 0
    error: str | None = field(default=None)


class DeviceLog:
    """Takes messages from any thread, at once; ``flush`` writes them, from a thread that may wait for the disk.

    The first of equal messages is written as it comes. Those that follow within a minute are counted, and told as one
    line at its end.

    Args:
        files: where the lines go.
        clock: for the lines' times; the minute of a fold is one of the monotonic clock.

    >>> from datetime import UTC, datetime
    >>> from edgewise.ports import MemoryClock, MemoryLogFiles
    >>> files, clock = MemoryLogFiles(bytes_max=10_000, files_max=2), MemoryClock(datetime(2026, 3, 1, tzinfo=UTC))
    >>> log = DeviceLog(files, clock)
    >>> for _ in range(313):
    ...     log.add("source", "the camera is gone")
    >>> clock.advance(60)
    >>> log.flush()
    >>> [json.loads(line)["text"] for line in files.tail(9)]
    ['the camera is gone', '… 312 times more in 60 s: the camera is gone']
    """

    def __init__(self, files: LogFiles, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._folds: OrderedDict[tuple[str, str], _Fold] = OrderedDict()
        self.counts = Counts()

    def add(self, what: str, text: str) -> None:
        """Note a message: what it is about, and a sentence."""
        key, now_s = (what, " ".join(text.split())[:TEXT_MAX]), self._clock.monotonic_s()
        with self._lock:
            fold = self._folds.get(key)
            if fold is not None and now_s - fold.since_s < FOLD_S:
                fold.times += 1
                self.counts.folded += 1
                return
            if fold is not None:
                self._end(key, now_s)
            self._folds[key] = _Fold(since_s=now_s)
            self._put(*key)
            if len(self._folds) > FOLDS_MAX:
                self._end(next(iter(self._folds)), now_s)

    def _end(self, key: tuple[str, str], now_s: float) -> None:
        fold = self._folds.pop(key)
        if fold.times:
            what, text = key
            self._put(what, f"… {fold.times} times more in {now_s - fold.since_s:.0f} s: {text}", times=fold.times)

    def _put(self, what: str, text: str, **more: int) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self.counts.shed += 1
            return
        line: dict[str, object] = {"at": self._clock.now().isoformat(timespec="milliseconds"), "part": "edge"}
        line |= {"what": what, "text": text, **more}
        trace = trace_id()
        if trace is not None:
            line["trace"] = trace
        self._waiting.append(json.dumps(line, ensure_ascii=False))

    def flush(self, *, final: bool = False) -> None:
        """Write what waits, and what folds came to their end. A disk that does not take it is no trouble.

        Args:
            final: end every fold.
        """
        now_s = self._clock.monotonic_s()
        with self._lock:
            for key in [key for key, fold in self._folds.items() if final or now_s - fold.since_s >= FOLD_S]:
                self._end(key, now_s)
            lines = list(self._waiting)
        if not lines:
            return
        try:
            self._files.append(lines)
        except EdgewiseError as error:
            self.counts.error = str(error)
            return
        with self._lock:
            for _ in lines:
                self._waiting.popleft()
            self.counts.written += len(lines)
            self.counts.error = None


def log_lines(files: LogFiles, count: int) -> list[dict[str, object]]:
    """The newest messages, oldest first; lines that a power cut spoilt are left out."""
    found = []
    for line in files.tail(count):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
