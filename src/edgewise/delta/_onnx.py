"""Reads the wire format of ONNX just far enough to find its arrays; values are never interpreted.

Source of the field numbers: onnx.proto of the ONNX project (ModelProto, GraphProto, NodeProto, AttributeProto,
TensorProto). Source of the wire format: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgewise.delta._numbers import BY_NAME
from edgewise.delta._regions import Region, RegionKind
from edgewise.delta._varint import read_varint

FIELDS_MAX = 2_000_000  # a file with more fields is treated as plain bytes; it bounds the time of a scan
TENSOR_BYTES_MIN = 16  # anything smaller costs more as an operation than as literal bytes
TAGGED_COUNT_MIN = 64
FLOATS_TAG = 7 << 3 | 5  # AttributeProto.floats, one fixed 32-bit value
INTEGERS_TAG = 8 << 3  # AttributeProto.ints, one varint
TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 10: "float16", 11: "float64", 16: "bfloat16"}

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    wire: int
    tag_at: int  # where the tag of the field begins
    start: int  # where its value begins
    stop: int


class _Walk:
    """Steps over the fields of messages inside one file and counts them against the bound."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self._left = FIELDS_MAX

    def fields(self, start: int, stop: int) -> Iterator[_Field]:
        """The fields of the message in this range.

        Raises:
            ValueError: it is not a message, or the file has too many fields.
        """
        position = start
        while position < stop:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"more than {FIELDS_MAX} fields")
            tag, value_at = read_varint(self.view, position, stop)
            value_at, after = self._extent(tag & 7, value_at, stop)
            if after > stop:
                raise ValueError("a field runs past its message")
            yield _Field(tag >> 3, tag & 7, position, value_at, after)
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

    def text(self, field: _Field) -> str:
        """The text in a field."""
        return bytes(self.view[field.start : field.stop]).decode("utf-8", "replace")

    def number(self, field: _Field) -> int:
        """The varint in a field."""
        return read_varint(self.view, field.start, field.stop)[0]

    def packed(self, field: _Field) -> list[int]:
        """The varints in a field, packed or a single one."""
        numbers, position = [], field.start
        while position < field.stop:
            value, position = read_varint(self.view, position, field.stop)
            numbers.append(value)
        return numbers


def onnx_regions(view: memoryview) -> list[Region]:
    """Initializers, constants and long attribute arrays of an ONNX model.

    Raises:
        ValueError: this is not a Protocol Buffers file.
    """
    walk = _Walk(view)
    found: list[Region] = []
    for field in walk.fields(0, len(view)):
        if field.number == 7 and field.wire == BYTES:
            found.extend(_graph(walk, field))
    return found


def _graph(walk: _Walk, graph: _Field) -> Iterator[Region]:
    for field in walk.fields(graph.start, graph.stop):
        if field.wire != BYTES:
            continue
        if field.number == 5:
            yield from _tensor(walk, field, "")
        elif field.number == 1:
            yield from _node(walk, field)


def _node(walk: _Walk, node: _Field) -> Iterator[Region]:
    name, attributes = "", []
    for field in walk.fields(node.start, node.stop):
        if field.number == 3 and field.wire == BYTES:
            name = walk.text(field)
        elif field.number == 5 and field.wire == BYTES:
            attributes.append(field)
    for attribute in attributes:
        yield from _attribute(walk, attribute, name)


def _attribute(walk: _Walk, attribute: _Field, node_name: str) -> Iterator[Region]:
    name, tensor, position = "", None, attribute.start
    runs: list[tuple[RegionKind, int, int]] = []
    while position < attribute.stop:  # long runs are stepped over at once, everything else field by field
        run = _tagged_run(walk.view, position, attribute.stop)
        if run is not None:
            runs.append(run)
            position = run[2]
            continue
        field = next(walk.fields(position, attribute.stop))
        if field.number == 1 and field.wire == BYTES:
            name = walk.text(field)
        elif field.number == 5 and field.wire == BYTES:
            tensor = field
        position = field.stop
    path = f"{node_name}/{name}"
    if tensor is not None:
        yield from _tensor(walk, tensor, path)
    for kind, start, stop in runs:
        yield Region(start=start, stop=stop, kind=kind, name=path)


def _tagged_run(view: memoryview, start: int, stop: int) -> tuple[RegionKind, int, int] | None:
    """The run of equal tags that starts here, if it is long enough to be worth an operation."""
    if stop - start < 2 * TAGGED_COUNT_MIN:
        return None
    if view[start] == FLOATS_TAG:
        count = tagged_floats_count(np.frombuffer(view[start:stop], np.uint8))
        if count >= TAGGED_COUNT_MIN:
            return RegionKind.TAGGED_FLOATS, start, start + 5 * count
    elif view[start] == INTEGERS_TAG:
        ends = tagged_integer_ends(np.frombuffer(view[start:stop], np.uint8))
        if len(ends) >= TAGGED_COUNT_MIN:
            return RegionKind.TAGGED_INTEGERS, start, start + int(ends[-1])
    return None


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


def _tensor(walk: _Walk, tensor: _Field, path: str) -> Iterator[Region]:
    shape: list[int] = []
    name, code, payload = path, 0, None
    for field in walk.fields(tensor.start, tensor.stop):
        if field.number == 1:
            shape.extend(walk.packed(field))
        elif field.number == 2 and field.wire == VARINT:
            code = walk.number(field)
        elif field.number == 8 and field.wire == BYTES:
            name = path + walk.text(field)
        elif field.wire == BYTES and (field.number == 9 or (field.number == 4 and code == 1)):
            payload = field  # raw_data, or float_data of a float32 tensor: the same bytes
    if payload is None or code not in TYPES or payload.stop - payload.start < TENSOR_BYTES_MIN:
        return
    number_type = BY_NAME[TYPES[code]]
    if (payload.stop - payload.start) % number_type.size_bytes:
        return
    yield Region(
        start=payload.start,
        stop=payload.stop,
        kind=RegionKind.TENSOR,
        name=name,
        number_type=number_type,
        channels=shape[0] if len(shape) > 1 else 1,
    )
