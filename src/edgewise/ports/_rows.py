"""From what a sensor says to a row: numbers by column name, and beside them time, group and facts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from edgewise.ports._source import Fact, Frame
from edgewise.wire import NotValid, RowFields

ROW_TYPE = "application/json"
COLUMNS_MAX = 4096
YEAR_9999_S = 253_402_300_799.0
PICTURES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"BM": "image/bmp",
    b"II*\0": "image/tiff",
}


class BadReading(NotValid):
    """What the sensor said is no row."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_reading")


def row_frame(values: Mapping[str, Any], fields: RowFields, *, name: str, taken_at: datetime, group: str = "") -> Frame:
    """A frame that holds these values as a row.

    Args:
        values: what the sensor said, by name.
        fields: which of them are time, group and facts; the others are columns.
        taken_at: where no member says so.
    Raises:
        BadReading: a column is text or a list, no column has a number, the time is none, or there are too many.

    >>> said = {"load": 3, "at": 1767225600, "line": "A"}
    >>> row = row_frame(said, RowFields(time="at", facts=("line",)), name="x-1", taken_at=datetime.now(UTC))
    >>> row.data, row.taken_at.isoformat(), dict(row.facts)
    (b'{"load": 3}', '2026-01-01T00:00:00+00:00', {'line': 'A'})
    """
    if len(values) > COLUMNS_MAX:
        raise BadReading(f"a row of {len(values)} values, at most {COLUMNS_MAX} are taken")
    left, facts = dict(values), {}
    if fields.time is not None and fields.time in left:
        taken_at = read_time(left.pop(fields.time))
    if fields.group is not None and fields.group in left:
        group = str(left.pop(fields.group))[:128]
    for fact in fields.facts:
        if isinstance(value := left.pop(fact, None), str | int | float):
            facts[fact] = _short(value)
    columns = {column: _number(column, value) for column, value in left.items()}
    if all(value is None for value in columns.values()):
        raise BadReading("no column holds a number")
    data = json.dumps(columns, allow_nan=False).encode()
    return Frame(name=name, data=data, media_type=ROW_TYPE, taken_at=taken_at, group=group, facts=facts)


def read_row(data: bytes) -> dict[str, Any]:
    """The JSON object in these bytes. BadReading: there is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadReading(f"{shown(data)} is not a JSON object of numbers") from error
    if not isinstance(value, dict):
        raise BadReading(f"{shown(data)} is JSON, but not an object of numbers by column name")
    return value


def read_time(value: object) -> datetime:
    """The moment that a text (RFC 3339) or a number (Unix seconds) means. BadReading: none."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is not None and 0 <= number <= YEAR_9999_S:
        return datetime.fromtimestamp(number, UTC)
    try:
        when = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise BadReading(
            f"the time is {str(value)[:60]!r}, needs RFC 3339 such as 2026-01-31T12:00:00Z, or Unix seconds"
        ) from error
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def picture_type(data: bytes) -> str | None:
    """The media type of a picture by its first bytes, None for anything else.

    >>> picture_type(bytes.fromhex("ffd8ffe0")), picture_type(b"23 degrees")
    ('image/jpeg', None)
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in PICTURES.items() if data.startswith(magic)), None)


def message_frame(data: bytes, fields: RowFields, *, name: str, taken_at: datetime) -> Frame:
    """A frame from one message: a picture, known by its first bytes, or a row as JSON. BadReading: neither."""
    if (media_type := picture_type(data)) is not None:
        return Frame(name=name, data=data, media_type=media_type, taken_at=taken_at)
    return row_frame(read_row(data), fields, name=name, taken_at=taken_at)


def shown(data: bytes) -> str:
    """The beginning of some bytes, for messages."""
    return repr(data[:40].decode("utf-8", "replace")) + ("…" if len(data) > 40 else "")


def _number(column: str, value: object) -> float | int | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, int | float) or math.isinf(value):
        raise BadReading(f"{column[:60]} is {str(value)[:60]!r}, needs a finite number")
    return value


def _short(value: Fact) -> Fact:
    return value[:256] if isinstance(value, str) else value


def live_name(source: str, now: datetime, count: int) -> str:
    """A frame's name at a source that numbers none: unique on the device, after a restart and a set-back clock too.

    >>> live_name("press", datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC), 7)
    'press-20260102T030405000678-000007'
    """
    return f"{source}-{now:%Y%m%dT%H%M%S%f}-{count:06d}"
