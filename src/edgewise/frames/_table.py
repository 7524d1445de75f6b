"""From a row of named numbers to the network's input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.wire import NotValid, TableSpec


class BadRow(NotValid):
    """This row cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_row")


def prepare_row(row: Mapping[str, Any], spec: TableSpec) -> NDArray[np.float32]:
    """A row as the network's input: columns in the spec's order, missing values filled, then scaled.

    Args:
        row: numbers or booleans by column name; what is missing, None or NaN is filled, other columns are ignored.
        spec: columns, fill values, means and deviations.
    Returns:
        float32 (F,), F the number of columns.
    Raises:
        BadRow: a value is text, a list or infinite, or the spec's lists differ in length.

    >>> spec = TableSpec(columns=("a", "b"), fill=(0.0, 7.0), mean=(1.0, 5.0), std=(2.0, 1.0))
    >>> prepare_row({"a": 5, "b": None}, spec)
    array([2., 2.], dtype=float32)
    """
    count = len(spec.columns)
    if not count == len(spec.fill) == len(spec.mean) == len(spec.std) or min(spec.std) <= 0:
        raise BadRow(f"the spec needs {count} fill values, means and positive deviations, one a column")
    values = [_value(row, column, fill) for column, fill in zip(spec.columns, spec.fill, strict=True)]
    # float64 until the last step: large values with a small spread would lose their digits in float32.
    scaled = (np.array(values) - np.array(spec.mean)) / np.array(spec.std)
    return np.asarray(scaled, dtype=np.float32)


def _value(row: Mapping[str, Any], column: str, fill: float) -> float:
    value = row.get(column)
    if value is None:
        return fill
    if not isinstance(value, int | float):
        raise BadRow(f"column {column} is {str(value)[:60]!r}, needs a number or nothing")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise BadRow(f"column {column} is infinite or beyond the range of a float, needs a finite number")
    return fill if math.isnan(number) else number
