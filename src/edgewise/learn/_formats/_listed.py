"""A list of labels beside the files: `labels.csv`, or the same as `labels.parquet`; rows of numbers stay in it."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from edgewise.learn._formats._bounds import ReadBounds
from edgewise.learn._formats._reading import Found, Reading, check_count
from edgewise.learn._formats._rows import Listed, samples_of
from edgewise.wire import NotValid

CSV = "labels.csv"
PARQUET = "labels.parquet"
WORD = float("nan")  # what a cell that is no number counts as


def read_csv(reading: Reading) -> Found | None:
    """The samples of `labels.csv`: of `file` where there is that column, else of its numeric columns."""
    path = reading.path(CSV)
    if path is None:
        return None
    _check_size(path, reading.bounds)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotValid(f"{path} is not UTF-8 text ({error}); save it as UTF-8", code="labels_invalid") from error
    columns, rows = _csv_rows(path, text, reading.bounds)
    listed = Listed(path=path, columns=columns, rows=rows, unit="line", first=2, number_of=number_in)
    return samples_of(listed, reading)


def _csv_rows(path: Path, text: str, bounds: ReadBounds) -> tuple[list[str], list[dict[str, str]]]:
    csv.field_size_limit(max(csv.field_size_limit(), bounds.cell_characters_max))  # the process's: only ever raised
    rows: list[dict[str, str]] = []
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = list(reader.fieldnames or ())
        for row in reader:
            if None in row or any(value is None for value in row.values()):
                raise NotValid(
                    f"{path} line {reader.line_num} has not the first line's {len(columns)} columns; correct it",
                    code="labels_invalid",
                )
            rows.append(row)
            if len(rows) > bounds.rows_max:
                raise NotValid(f"{path} has more than {bounds.rows_max} rows; split it", code="data_too_large")
    except csv.Error as error:
        raise NotValid(f"{path} is not a valid CSV file: {error}", code="labels_invalid") from error
    return columns, rows


def number_in(text: Any) -> float | None:
    """The number that a cell of text holds.

    >>> number_in("1.5"), number_in(" "), number_in("red"), number_in(None)
    (1.5, None, nan, None)
    """
    if text is None or not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        return WORD


def read_parquet(reading: Reading) -> Found | None:
    """The samples of `labels.parquet`, as of `labels.csv`; what is text there is never a feature.

    Raises:
        NotValid: pyarrow is not installed, or the list is wrong.
    """
    path = reading.path(PARQUET)
    if path is None:
        return None
    _check_size(path, reading.bounds)
    parquet, arrow = pyarrow()
    try:
        file = parquet.ParquetFile(path)
        check_count(file.metadata.num_rows, reading.bounds.rows_max, f"the rows of {path}")
        check_count(file.metadata.num_columns, reading.bounds.columns_max, f"the columns of {path}")
        check_count(_unpacked(file), reading.bounds.list_bytes_max, f"the bytes of {path} unpacked")
        rows: list[dict[str, Any]] = file.read().to_pylist()
        columns = list(file.schema_arrow.names)
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise NotValid(f"{path} is not readable Parquet: {error}; write it again", code="labels_invalid") from error
    plain = [{name: _plain(name, value, reading) for name, value in row.items()} for row in rows]
    listed = Listed(path=path, columns=columns, rows=plain, unit="row", first=1, number_of=number_of)
    return samples_of(listed, reading)


def _unpacked(file: Any) -> int:
    return sum(file.metadata.row_group(place).total_byte_size for place in range(file.metadata.num_row_groups))


def _plain(name: str, value: Any, reading: Reading) -> Any:
    """A cell as text, a number or nothing; others are told and left out."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and value != value:  # NaN, as pandas writes what is missing
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    reading.notes.count(f"cells of kind {type(value).__name__} were left out", f"column {name}")
    return None


def number_of(value: Any) -> float | None:
    """The number that a cell of a typed list holds.

    >>> number_of(2), number_of(True), number_of("2"), number_of(None)
    (2.0, nan, nan, None)
    """
    if value is None:
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else WORD


def _check_size(path: Path, bounds: ReadBounds) -> None:
    size_bytes = path.stat().st_size
    if size_bytes > bounds.list_bytes_max:
        raise NotValid(
            f"{path} has {size_bytes} bytes, at most {bounds.list_bytes_max} can be read", code="data_too_large"
        )


def pyarrow() -> tuple[Any, Any]:
    """pyarrow's Parquet and pyarrow itself.

    Raises:
        NotValid: it is not installed.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise NotValid(
            "Parquet needs the package pyarrow, which is not installed; install edgewise[hub] or use csv",
            code="format_not_installed",
        ) from error
    return parquet, pyarrow
