"""Events as lines: in a file that is rotated within a bound, or on the console."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edgewise.ports._files import disk_error
from edgewise.wire import ConsoleSink, FileSink, NotNow, SinkEvent, encode


class LinesFile:
    """JSON lines. An alarm is on disk when ``send`` comes back; the file and its older ones keep below their bound.

    ``x.jsonl`` is the newest, then ``x.jsonl.1`` and so on; together at most ``bytes_max`` x ``files_max`` bytes.
    """

    def __init__(self, spec: FileSink, folder: Path) -> None:
        self._spec = spec
        self.path = folder / spec.path

    def send(self, event: SinkEvent) -> None:
        line = encode(event) + b"\n"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._size() + len(line) > self._spec.bytes_max:
                self._rotate()
            # Opened anew each time: somebody else may move or delete the file.
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                self._append(handle, line)
                if event.event == "alarm":
                    os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise disk_error(error, self.path) from error

    def idle(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _append(self, handle: int, line: bytes) -> None:
        before = os.fstat(handle).st_size
        if os.write(handle, line) != len(line):
            os.ftruncate(handle, before)  # no half line for those who read along
            raise NotNow(f"no space left for {self.path}; free some", code="disk_full")

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _rotate(self) -> None:
        for number in range(self._spec.files_max - 1, 0, -1):
            older = self._numbered(number)
            newer = self._numbered(number - 1)
            if newer.exists():
                newer.replace(older)
        if self._spec.files_max == 1:
            self.path.unlink(missing_ok=True)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path


class Console:
    """Lines on standard output, for people or as JSON."""

    def __init__(self, spec: ConsoleSink) -> None:
        self._spec = spec

    def send(self, event: SinkEvent) -> None:
        text = encode(event).decode() if self._spec.format == "json" else _sentence(event)
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            raise NotNow(f"standard output takes nothing: {error}", code="console_closed") from error

    def idle(self) -> None:
        pass

    def close(self) -> None:
        pass


def _sentence(event: SinkEvent) -> str:
    said = f": {event.text}" if event.text else ""
    return f"{event.at:%Y-%m-%d %H:%M:%S} {event.event} {event.label} ({event.confidence:.2f}) on {event.frame}{said}"
