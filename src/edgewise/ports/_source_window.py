"""A source of rows, seen as windows of a series."""

from __future__ import annotations

from edgewise.frames import ROW_TYPE, SERIES_TYPE, BadSeries, Windower, series_bytes
from edgewise.ports._source import Frame, Source, await_frame
from edgewise.wire import NotValid, loads
from edgewise.wire.sources import SeriesWindow

ROWS_MAX = 4096  # looked at in one call: the decision loop must come back soon


class WindowSource:
    """Windows of the rows of another source. A window has the name, time and group of its last row.

    Rows that cannot be used are skipped and counted, and end the window in progress. After a start the first window is
    made of new rows only, so a restart costs at most one window.
    """

    def __init__(self, rows: Source, window: SeriesWindow) -> None:
        self._rows = rows
        self._window = window
        self._windower = Windower(window.columns, length=window.length, hop=window.hop, step_s=window.step_s)
        self._unusable = 0
        self.skipped = 0  # rows that could not be used, here or by the source of the rows
        self.last_skip = ""

    def next(self) -> Frame | None:
        """The next window, None while none is full. What the source of the rows raises passes through."""
        for _ in range(ROWS_MAX):
            row = self._rows.next()
            if self._rows.skipped + self._unusable > self.skipped:
                self.last_skip = self._rows.last_skip
            self.skipped = self._rows.skipped + self._unusable
            window = None if row is None else self._add(row)
            if row is None or window is not None:
                return window
        return None

    def wait(self, seconds_max: float) -> bool:
        """Wait for a row."""
        return await_frame(self._rows, seconds_max)

    def close(self) -> None:
        """Close the source of the rows."""
        self._rows.close()

    def _add(self, row: Frame) -> Frame | None:
        try:
            if row.media_type != ROW_TYPE:
                raise BadSeries(f"{row.name} is {row.media_type}, a window is made of rows ({ROW_TYPE})")
            values = loads(row.data)
            if not isinstance(values, dict):
                raise BadSeries(f"{row.name} is no JSON object of numbers")
            window = self._windower.add(values, row.taken_at)
        except NotValid as error:
            self._windower.drop()
            self._unusable += 1
            self.skipped += 1
            self.last_skip = str(error)
            return None
        return None if window is None else row._replace(data=series_bytes(window), media_type=SERIES_TYPE)
