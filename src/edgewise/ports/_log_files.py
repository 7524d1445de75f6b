"""Lines of a log in files of bounded size: the newest are kept, the oldest file goes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from edgewise.ports._files import disk_error


class LogFiles(Protocol):
    """Where a log's lines go."""

    def append(self, lines: Iterable[str]) -> None:
        """Keep these lines, each without its line end.

        Raises:
            NotNow: the disk is full or fails. NotValid: the folder cannot be written.
        """

    def tail(self, count: int) -> list[str]:
        """The newest lines, oldest first; whole ones only."""


class RotatingFiles:
    """``NAME.jsonl`` and, older and older, ``NAME.1.jsonl``, ``NAME.2.jsonl`` … in a folder.

    Nothing is synced: a log is not worth a flash cell's life, and what matters is in the outbox.

    Args:
        folder: made with the first line.
        bytes_max: of one file; a longer line is cut.
        files_max: at least 1.
    """

    def __init__(self, folder: Path, name: str = "device", *, bytes_max: int, files_max: int) -> None:
        self._folder = folder
        self._name = name
        self._bytes_max = bytes_max
        self._files_max = files_max

    def append(self, lines: Iterable[str]) -> None:
        data = [line.encode()[: self._bytes_max - 1] + b"\n" for line in lines]
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(data)
        except OSError as error:
            raise disk_error(error, self._folder) from error

    def _write(self, lines: Iterable[bytes]) -> None:
        descriptor, size = self._open()
        try:
            for line in lines:
                if size and size + len(line) > self._bytes_max:
                    os.close(descriptor)
                    self._turn()
                    descriptor, size = self._open()
                os.write(descriptor, line)
                size += len(line)
        finally:
            os.close(descriptor)

    def _open(self) -> tuple[int, int]:
        descriptor = os.open(self._path(0), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return descriptor, os.fstat(descriptor).st_size

    def _turn(self) -> None:
        for age in range(self._files_max - 1, 0, -1):
            older = self._path(age - 1)
            if older.exists():
                older.replace(self._path(age))
        if self._files_max == 1:
            self._path(0).unlink(missing_ok=True)

    def _path(self, age: int) -> Path:
        return self._folder / (f"{self._name}.jsonl" if age == 0 else f"{self._name}.{age}.jsonl")

    def tail(self, count: int) -> list[str]:
        found: deque[str] = deque(maxlen=max(count, 0) or None)
        if count <= 0:
            return []
        for age in range(self._files_max - 1, -1, -1):
            try:
                data = self._path(age).read_bytes()
            except OSError:
                continue
            # A power cut may leave half a line, or zeros, at the end of a file.
            found.extend(line.decode(errors="replace") for line in data.split(b"\n")[:-1] if line and b"\0" not in line)
        return list(found)


class MemoryLogFiles:
    """Lines in memory, of bounded size as well.

    >>> files = MemoryLogFiles(bytes_max=10, files_max=2)
    >>> files.append(["one", "two", "three", "four"])
    >>> files.tail(9)
    ['three', 'four']
    """

    def __init__(self, *, bytes_max: int, files_max: int) -> None:
        self._bytes_max = bytes_max
        self._files: deque[list[str]] = deque([[]], maxlen=files_max)

    def append(self, lines: Iterable[str]) -> None:
        for whole in lines:
            line = whole.encode()[: self._bytes_max - 1].decode(errors="replace")
            size = sum(len(item.encode()) + 1 for item in self._files[-1])
            if size and size + len(line.encode()) + 1 > self._bytes_max:
                self._files.append([])
            self._files[-1].append(line)

    def tail(self, count: int) -> list[str]:
        lines = [line for file in self._files for line in file]
        return lines[-count:] if count > 0 else []
