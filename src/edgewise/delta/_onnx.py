"""Reads the wire format of ONNX just far enough to find its arrays; values are never interpreted.

Source of the field numbers: onnx.proto of the ONNX project (ModelProto, GraphProto, NodeProto, AttributeProto,
TensorProto).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgewise.delta._numbers import BY_NAME
from edgewise.delta._protobuf import BYTES, VARINT, Field, Walk, tagged_floats_count, tagged_integer_ends
from edgewise.delta._regions import Region, RegionKind

TENSOR_BYTES_MIN = 16  # anything smaller costs more as an operation than as literal bytes
TAGGED_COUNT_MIN = 64
FLOATS_TAG = 7 << 3 | 5  # AttributeProto.floats, one fixed 32-bit value
INTEGERS_TAG = 8 << 3  # AttributeProto.ints, one varint
TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 10: "float16", 11: "float64", 16: "bfloat16"}


def onnx_regions(view: memoryview) -> list[Region]:
    """Initializers, constants and long attribute arrays of an ONNX model.

    Raises:
        ValueError: this is not a Protocol Buffers file.
    """
    walk = Walk(view)
    found: list[Region] = []
    for field in walk.fields(0, len(view)):
        if field.number == 7 and field.wire == BYTES:
            found.extend(_graph(walk, field))
    return found


def _graph(walk: Walk, graph: Field) -> Iterator[Region]:
    for field in walk.fields(graph.start, graph.stop):
        if field.wire != BYTES:
            continue
        if field.number == 5:
            yield from _tensor(walk, field, "")
        elif field.number == 1:
            yield from _node(walk, field)


def _node(walk: Walk, node: Field) -> Iterator[Region]:
    name, attributes = "", []
    for field in walk.fields(node.start, node.stop):
        if field.number == 3 and field.wire == BYTES:
            name = walk.text(field)
        elif field.number == 5 and field.wire == BYTES:
            attributes.append(field)
    for attribute in attributes:
        yield from _attribute(walk, attribute, name)


def _attribute(walk: Walk, attribute: Field, node_name: str) -> Iterator[Region]:
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


def _tensor(walk: Walk, tensor: Field, path: str) -> Iterator[Region]:
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
