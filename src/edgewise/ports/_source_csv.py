"""A CSV file replayed at the pace of its own time column."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from edgewise.ports._clock import Clock
from edgewise.ports._files import disk_error
from edgewise.ports._rows import BadReading, row_frame
from edgewise.ports._source import Frame
from edgewise.wire import CsvSpec, NotValid

PASS_ROWS_MAX = 5_000  # passed over in one call, so that going on in a long file never holds the loop up
SETTLE_S = 2.0  # a last line without its end is taken once it was left alone for so long
Line = tuple[int, list[str]]  # number of the row in the file from 0, cells


class CsvSource:
    """Rows of a file, each when its time has come; a file that grows is read on.

    A row is due ``(its time - the first row's time) / speed`` after the first one was given, by the monotonic clock: a
    wall clock that jumps changes nothing. Its frame is named ``NAME-PASS-ROW``, which is where it goes on from.

    Args:
        spec: file, speed and columns.
        after: name of the last frame that was recorded, None to begin.
        clock: paces the rows.
    Raises:
        NotValid: no such file, or its first line does not name the columns that the spec names.
    """

    def __init__(self, spec: CsvSpec, after: str | None, *, clock: Clock) -> None:
        self.spec = spec
        self.skipped = 0
        self.last_skip = ""
        self._clock = clock
        self._pass, self._row = _place(spec.name, after)  # the next row to give
        self._file, self._columns = _open(spec)
        self._at = 0  # number of the next line's row
        self._partial: tuple[bytes, float] | None = None
        self._held: Frame | None = None
        self._first: tuple[datetime, float] | None = None  # time of the first row given, and when
        self._dated = spec.row.time is not None

    def next(self) -> Frame | None:
        """The next row that is due. Raises NotNow: the disk fails."""
        try:
            frame = self._held or self._read()
        except OSError as error:
            raise disk_error(error, Path(self.spec.path)) from error
        self._held = frame
        if frame is None or self._clock.monotonic_s() < self._due_s(frame):
            return None
        self._held = None
        if self._dated and self._pass == 0:
            return frame
        return _dated(frame, self._clock.now())

    def close(self) -> None:
        self._file.close()

    # -- pace ----------------------------------------------------------------------------------------------------------

    def _due_s(self, frame: Frame) -> float:
        if self.spec.speed == 0:
            return 0.0
        if self._first is None:
            self._first = (frame.taken_at, self._clock.monotonic_s())
        began, began_s = self._first
        return began_s + (frame.taken_at - began).total_seconds() / self.spec.speed

    # -- reading -------------------------------------------------------------------------------------------------------

    def _read(self) -> Frame | None:
        for number, cells in self._lines():
            name = f"{self.spec.name}-{self._pass:06d}-{number:09d}"
            self._row = number + 1
            try:
                return self._frame(name, cells, number)
            except NotValid as error:
                self.skipped += 1
                self.last_skip = f"{self.spec.path} row {number + 1}: {error}"
        return None

    def _frame(self, name: str, cells: list[str], number: int) -> Frame:
        if len(cells) != len(self._columns):
            raise BadReading(f"{len(cells)} cells, the first line names {len(self._columns)} columns")
        texts = {self.spec.row.time, self.spec.row.group, *self.spec.row.facts}
        pairs = zip(self._columns, cells, strict=True)
        values = {column: cell if column in texts else _cell(cell) for column, cell in pairs}
        since = datetime.fromtimestamp(0, UTC) + timedelta(seconds=number * self.spec.every_s)
        return row_frame(values, self.spec.row, name=name, taken_at=since)

    def _lines(self) -> Iterator[Line]:
        """Rows from the next one to give; ends at the file's present end, or after its share of passing over."""
        passed = 0
        while passed < PASS_ROWS_MAX:
            data = self._line()
            if data is None:
                if not (self.spec.loop and self._at > 0):
                    return
                self._again()
                passed += 1
                continue
            passed += 1
            number = self._at
            self._at += 1
            if number < self._row or not data.strip():
                continue
            try:
                yield number, _split(data, self.spec)
            except (csv.Error, UnicodeDecodeError, BadReading) as error:
                self._row, self.skipped = number + 1, self.skipped + 1
                self.last_skip = f"{self.spec.path} row {number + 1}: {error}"

    def _line(self) -> bytes | None:
        """The next whole line, None at the present end. A line that is still being written waits."""
        before, since_s = self._partial or (b"", self._clock.monotonic_s())
        data = before + self._file.readline(self.spec.line_bytes_max + 1)
        if data.endswith(b"\n") or len(data) > self.spec.line_bytes_max:
            self._partial = None
            return data
        if not data:
            return None
        now_s = self._clock.monotonic_s()
        if data == before and now_s - since_s >= SETTLE_S:
            self._partial = None
            return data
        self._partial = (data, since_s if data == before else now_s)
        return None

    def _again(self) -> None:
        self._file.close()
        self._file, self._columns = _open(self.spec)
        self._at, self._row, self._pass, self._first = 0, 0, self._pass + 1, None


def _place(name: str, after: str | None) -> tuple[int, int]:
    """Pass and row that follow the frame of this name; the beginning where it is none of ours."""
    parts = (after or "").removeprefix(f"{name}-").split("-")
    if after is None or not after.startswith(f"{name}-") or len(parts) != 2 or not all(p.isdecimal() for p in parts):
        return 0, 0
    return int(parts[0]), int(parts[1]) + 1


def _open(spec: CsvSpec) -> tuple[BinaryIO, list[str]]:
    path = Path(spec.path)
    try:
        file = path.open("rb")
        head = file.readline(spec.line_bytes_max + 1).removeprefix(b"\xef\xbb\xbf")
    except FileNotFoundError as error:
        raise NotValid(f"{path} is not there; name the CSV file to replay", code="source_missing") from error
    except OSError as error:
        raise disk_error(error, path) from error
    try:
        return file, _columns(head, spec)
    except (csv.Error, UnicodeDecodeError, NotValid) as error:
        file.close()
        raise NotValid(f"{path}: its first line must name the columns: {error}", code="source_invalid") from error


def _columns(head: bytes, spec: CsvSpec) -> list[str]:
    columns = [column.strip() for column in _split(head, spec)]
    if not columns or len(set(columns)) != len(columns) or "" in columns:
        raise BadReading(f"each column needs a name of its own, seen {columns[:20]}")
    named = [item for item in (spec.row.time, spec.row.group, *spec.row.facts) if item is not None]
    if missing := sorted(set(named) - set(columns)):
        raise BadReading(f"there is no column {', '.join(missing)} among {', '.join(columns[:20])}")
    return columns


def _split(data: bytes, spec: CsvSpec) -> list[str]:
    if len(data) > spec.line_bytes_max:
        raise BadReading(f"a line of over {spec.line_bytes_max} bytes")
    text = data.decode("utf-8").rstrip("\r\n")
    return next(csv.reader([text], delimiter=spec.delimiter, strict=True), [])


def _cell(text: str) -> float | str | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        return text  # refused with its column's name, where rows are made


def _dated(frame: Frame, now: datetime) -> Frame:
    return Frame(
        name=frame.name,
        data=frame.data,
        media_type=frame.media_type,
        taken_at=now,
        group=frame.group,
        facts=frame.facts,
    )
