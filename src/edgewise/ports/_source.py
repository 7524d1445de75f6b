"""Where frames come from: cameras and sensors, here a folder that they write to."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias

from edgewise.ports._files import disk_error
from edgewise.ports._folder_watch import FolderWatch
from edgewise.wire import NotNow, NotValid

Fact: TypeAlias = str | float | int | bool
MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".bmp": "image/bmp",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".row": "application/json",  # one JSON object of numbers by column name
}
NO_FACTS: Mapping[str, Fact] = MappingProxyType({})
FRAME_BYTES_MAX = 64_000_000
SIDECAR_BYTES_MAX = 64_000
SETTLED_S = 3.0  # a folder's time of change is older than this: no coarser clock of a file system hides another change
LIST_EVERY_S = 1.0  # some file systems never tell of a change


class Frame(NamedTuple):
    """One picture or row, with what its source knows about it. A tuple, for those are made fastest."""

    name: str  # unique at its source, and in order of arrival
    data: bytes
    media_type: str
    taken_at: datetime
    group: str = ""  # part, spindle, patient: what must never be split between training and evaluation
    facts: Mapping[str, Fact] = NO_FACTS


class Source(Protocol):
    """A stream of frames. What cannot be used, or finds no room, is passed over and counted."""

    @property
    def skipped(self) -> int:
        """Frames passed over."""

    @property
    def last_skip(self) -> str:
        """Why the last of them was."""

    def next(self) -> Frame | None:
        """The next frame, None when there is none now; waits for nothing.

        Raises:
            NotNow: the source cannot be read now; it is tried again by itself. NotValid: a person has to look.
        """

    def close(self) -> None:
        """Let go of threads, sockets and files; asked twice changes nothing."""


def await_frame(source: Source, seconds_max: float) -> bool:
    """Wait until a frame may be there, at most so long. False at once where the source has no ``wait``, or cannot tell.

    A source may have a method ``wait(seconds_max) -> bool``, so that nobody looks again and again.
    """
    wait = getattr(source, "wait", None)
    return wait is not None and wait(seconds_max)


class ListSource:
    """Frames from a list; more may be added while it runs."""

    def __init__(self, frames: Iterable[Frame] = ()) -> None:
        self.skipped = 0
        self.last_skip = ""
        self._frames = deque(frames)

    def add(self, frame: Frame) -> None:
        self._frames.append(frame)

    def next(self) -> Frame | None:
        return self._frames.popleft() if self._frames else None

    def close(self) -> None:
        self._frames.clear()


class FolderSource:
    """Frames from a folder in the order of their names: a camera writes ``x.jpg.part``, then renames it to ``x.jpg``.

    A file ``x.jpg.json`` written before the picture may name its ``group``, its ``taken_at`` and other facts.
    Files that start with a dot, end in ``.part`` or are no frames are not looked at; what cannot be read is skipped
    and counted, because a decision loop must go on.

    Args:
        path: the folder.
        after: only names greater than this one; None starts with the first.
    """

    def __init__(self, path: Path, after: str | None = None) -> None:
        self.path = Path(path)
        self.after = after
        self.skipped = 0
        self.last_skip = ""  # why the last one was skipped
        self._waiting: deque[str] = deque()
        self._unchanged: tuple[int, float] | None = None  # the folder's time of change, and until when that counts
        self._folder = (0, 0)  # device and number of the folder that was read last: it may be another one some day
        self._watch: FolderWatch | None = None
        self._watched = (0, 0)  # the folder that the watch is of, or could not be of
        if not self.path.is_dir():
            raise NotValid(
                f"{self.path} is not a folder; name the folder in which frames appear", code="source_missing"
            )

    def next(self) -> Frame | None:
        # The folder is read again only when all that was seen is used up: listing 100,000 names outlasts a frame.
        if not self._waiting:
            self._waiting.extend(self._newer())
        while self._waiting:
            self.after = name = self._waiting.popleft()
            try:
                return self._read(name)
            except (OSError, NotValid) as error:
                self.skipped += 1
                self.last_skip = f"{name}: {error}"
        return None

    def wait(self, seconds_max: float) -> bool:
        """Wait for the next name; False where nobody tells of one."""
        if self._waiting:
            return True
        if self._watched != self._folder:
            self._watch_anew()
            return True  # what came before the watch began is seen by looking once more
        if self._watch is None:
            return False
        self._watch.wait(seconds_max)
        return True

    def close(self) -> None:
        self._waiting.clear()
        if self._watch is not None:
            self._watch.close()
        self._watch, self._watched = None, self._folder

    def _watch_anew(self) -> None:
        self.close()
        try:
            self._watch = FolderWatch(self.path)
        except NotNow:
            return  # it is looked into again and again

    def _newer(self) -> list[str]:
        # A listing may miss a file renamed while it is read and yet hold a later one, and what is passed over never
        # comes again. So a second listing fills the first: all up to its last name were there before that one began.
        if self._is_unchanged():
            return []
        first = self._listed()
        if not first:
            return []
        last = max(first)
        return sorted(name for name in self._listed() if name <= last)

    def _is_unchanged(self) -> bool:
        """Whether the folder is as it was when nothing new was in it; asked ten times a second while nothing comes."""
        try:
            about = os.stat(self.path)  # noqa: PTH116 - Path.stat takes three times as long
        except OSError as error:
            raise disk_error(error, self.path) from error
        changed_ns, self._folder = about.st_mtime_ns, (about.st_dev, about.st_ino)
        if self._unchanged is not None and self._unchanged[0] == changed_ns and time.monotonic() < self._unchanged[1]:
            return True
        settled = time.time_ns() - changed_ns > SETTLED_S * 1e9
        # Before it is listed: a name that comes meanwhile changes the folder's time.
        self._unchanged = (changed_ns, time.monotonic() + LIST_EVERY_S) if settled else None
        return False

    def _listed(self) -> list[str]:
        try:
            names = os.listdir(self.path)  # noqa: PTH208 - names alone: a folder may hold 100,000
        except OSError as error:
            raise disk_error(error, self.path) from error
        return [name for name in names if (self.after is None or name > self.after) and _is_frame(name)]

    def _read(self, name: str) -> Frame:
        file = self.path / name
        about = file.stat()
        if about.st_size > FRAME_BYTES_MAX:
            raise NotValid(f"{about.st_size} bytes, at most {FRAME_BYTES_MAX} are read", code="frame_too_large")
        facts = self._sidecar(name)
        taken_at = _time(facts.pop("taken_at", None), datetime.fromtimestamp(about.st_mtime, UTC))
        return Frame(
            name=name,
            data=file.read_bytes(),
            media_type=MEDIA_TYPES[file.suffix.lower()],
            taken_at=taken_at,
            group=str(facts.pop("group", "")),
            facts={key: value for key, value in facts.items() if isinstance(value, str | int | float)},
        )

    def _sidecar(self, name: str) -> dict[str, Any]:
        file = self.path / f"{name}.json"
        if not file.is_file():
            return {}
        try:
            with file.open("rb") as handle:
                value = json.loads(handle.read(SIDECAR_BYTES_MAX))
        except (ValueError, RecursionError) as error:
            raise NotValid(f"its sidecar {file.name} is not JSON of at most {SIDECAR_BYTES_MAX} bytes") from error
        if not isinstance(value, dict):
            raise NotValid(f"its sidecar {file.name} must hold a JSON object")
        return value


def _is_frame(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in MEDIA_TYPES


def _time(text: object, otherwise: datetime) -> datetime:
    if text is None:
        return otherwise
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise NotValid(f"its sidecar's taken_at is {text!r}, needs RFC 3339 such as 2026-01-31T12:00:00Z") from error
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
