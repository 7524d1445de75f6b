"""A source of rows as windows: named by the last row, what cannot be used is counted and passed over."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np

from edgewise.frames import SERIES_TYPE
from edgewise.ports import Frame, ListSource
from edgewise.ports._source_window import WindowSource
from edgewise.wire.sources import SeriesWindow

WINDOW = SeriesWindow(columns=("x", "y"), length=3, hop=2)


def row(number: int, data: bytes | None = None, media_type: str = "application/json") -> Frame:
    data = json.dumps({"x": number, "y": -number}).encode() if data is None else data
    return Frame(name=f"r{number:03d}", data=data, media_type=media_type, taken_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_windows_come_as_rows_complete_them_and_carry_the_last_rows_name() -> None:
    source = WindowSource(ListSource([row(number) for number in range(1, 6)]), WINDOW)
    first, second = source.next(), source.next()
    assert first is not None
    assert second is not None
    assert (first.name, second.name, first.media_type) == ("r003", "r005", SERIES_TYPE)
    assert np.frombuffer(second.data, "<f4").tolist() == [3, 4, 5, -3, -4, -5]
    assert source.next() is None
    assert source.skipped == 0


def test_rows_that_cannot_be_used_are_counted_and_end_the_window() -> None:
    rows = [row(1), row(2, b"text"), row(3, b"[1]"), row(4, b"{}", "image/png"), row(5), row(6), row(7)]
    source = WindowSource(ListSource(rows), WINDOW)
    window = source.next()
    assert window is not None
    assert np.frombuffer(window.data, "<f4").tolist() == [5, 6, 7, -5, -6, -7]
    assert source.skipped == 3
    assert "row" in source.last_skip
    source.close()
