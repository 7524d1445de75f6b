"""A writer for small ONNX files, for devices that have no `onnx` package: the wire format needs no more than this.

Source of the field numbers: onnx.proto of ONNX, IR version 9; of the encoding: the Protocol Buffers documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 9
FLOAT, INT, INTS = 1, 2, 7  # TensorProto.FLOAT; AttributeProto.INT and INTS


def network(
    nodes: Sequence[bytes],
    weights: Mapping[str, NDArray[np.float32]],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    *,
    opset: int = 17,
) -> bytes:
    """The bytes of a network whose tensors are float32; a size that is a word is left open."""
    graph = b"".join(_field(1, item) for item in nodes) + _field(2, b"g")
    graph += b"".join(_field(5, _tensor(name, value)) for name, value in weights.items())
    graph += b"".join(_field(11, _value(name, shape)) for name, shape in inputs.items())
    graph += b"".join(_field(12, _value(name, shape)) for name, shape in outputs.items())
    return _number(1, IR_VERSION) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, opset))


def node(kind: str, inputs: Sequence[str], output: str, **attributes: int | Sequence[int]) -> bytes:
    """One operator with one output."""
    data = b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode())
    data += _field(4, kind.encode())
    return data + b"".join(_field(5, _attribute(name, value)) for name, value in attributes.items())


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _field(1, name.encode()) + _number(3, value) + _number(20, INT)
    return _field(1, name.encode()) + b"".join(_number(8, item) for item in value) + _number(20, INTS)


def _tensor(name: str, value: NDArray[np.float32]) -> bytes:
    dims = b"".join(_number(1, size) for size in value.shape)
    return dims + _number(2, FLOAT) + _field(8, name.encode()) + _field(9, value.astype("<f4").tobytes())


def _value(name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(
        _field(1, _number(1, size) if isinstance(size, int) else _field(2, size.encode())) for size in shape
    )
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, FLOAT) + _field(2, dims)))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first.

    >>> _varint(300)
    b'\\xac\\x02'
    """
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
