"""Steps over the bytes of Protocol Buffers without decoding them, in a bounded number of steps.

Source of the wire format: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgewise.delta._varint import read_varint

FIELDS_MAX = 2_000_000  # a file with more fields is treated as plain bytes; it bounds the time of a scan
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: its number, wire type and where it lies, in bytes from the start of the file."""

    number: int
    wire: int
    tag_at: int  # where the tag of the field begins
    start: int  # where its value begins
    stop: int


class Walk:
    """Steps over the fields of messages inside one file and counts them against the bound."""

    def __init__(self, view: memoryview, *, fields_max: int = FIELDS_MAX) -> None:
        self.view = view
        self._fields_max = self._left = fields_max

    def fields(self, start: int, stop: int) -> Iterator[Field]:
        """The fields of the message in this range.

        Raises:
            ValueError: it is not a message, or the file has too many fields.
        """
        position = start
        while position < stop:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"more than {self._fields_max} fields")
            tag, value_at = read_varint(self.view, position, stop)
            value_at, after = self._extent(tag & 7, value_at, stop)
            if after > stop:
                raise ValueError("a field runs past its message")
            if not 8 <= tag < 1 << 32:  # parsers cut longer tags, each in its way
                raise ValueError(f"tag {tag} is impossible")
            yield Field(tag >> 3, tag & 7, position, value_at, after)
            position = after

    def _extent(self, wire: int, position: int, stop: int) -> tuple[int, int]:
        if wire == VARINT:
            return position, read_varint(self.view, position, stop)[1]
        if wire == BYTES:
            length, position = read_varint(self.view, position, stop)
            return position, position + length
        if wire in (FIXED32, FIXED64):
            return position, position + (4 if wire == FIXED32 else 8)
        raise ValueError(f"wire type {wire} is not known")

    def text(self, field: Field) -> str:
        """The text in a field."""
        return bytes(self.view[field.start : field.stop]).decode("utf-8", "replace")

    def number(self, field: Field) -> int:
        """The varint in a field."""
        return read_varint(self.view, field.start, field.stop)[0]

    def packed(self, field: Field) -> list[int]:
        """The varints in a field, packed or a single one."""
        numbers, position = [], field.start
        while position < field.stop:
            value, position = read_varint(self.view, position, field.stop)
            numbers.append(value)
        return numbers


def tagged_floats_count(data: np.ndarray) -> int:
    """How many times the first byte returns as a tag with four bytes behind it, from the start. data: uint8 (N,)."""
    tags = data[: len(data) // 5 * 5 : 5]
    other = np.flatnonzero(tags != data[0])
    return int(other[0]) if len(other) else len(tags)


def tagged_integer_ends(data: np.ndarray) -> np.ndarray:
    """Where each (tag, varint) pair of the run at the start ends: int64 (count,). data: uint8 (N,).

    A byte below 128 ends a varint, and the tag is one such byte; so in a run these bytes alternate between tag and end.
    """
    below = np.flatnonzero(data < 128)
    below = below[: len(below) // 2 * 2]
    tags, ends = below[0::2], below[1::2] + 1
    if not len(ends):
        return ends
    expected = np.concatenate([[0], ends[:-1]])
    broken = np.flatnonzero((tags != expected) | (data[tags] != data[0]) | (ends - tags > 11))
    return ends[: int(broken[0])] if len(broken) else ends
