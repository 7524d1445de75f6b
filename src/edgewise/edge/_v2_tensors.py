"""Tensors of the Open Inference Protocol v2, as JSON values and as raw bytes. Nothing is believed before it is checked.

Source: Open Inference Protocol, REST, version 2, and its binary tensor data extension.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.ports import Tensor
from edgewise.ports.tensors import DATATYPES, ITEM_BYTES, narrowed, objects, pack_texts, unpack_texts, widened
from edgewise.wire import NotValid

LITTLE_ENDIAN = sys.byteorder == "little"
LITTLE = {  # how numbers are held while they are read; numpy has no bfloat16, so float32 stands for it
    dtype: np.dtype("float32" if dtype == "bfloat16" else dtype).newbyteorder("<") for dtype in DATATYPES
}
AXES_MAX = 32
VALUES_MAX = 64_000_000  # of one tensor: 256 MB in float32, more than any body that is let in


class BadTensor(NotValid):
    """A tensor in a request is not what it says, or not what the network takes."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_tensor")


def read_tensor(item: Mapping[str, Any], wanted: Tensor, raw: memoryview | None) -> NDArray[Any]:
    """The array of one input of a request.

    Args:
        item: the input's JSON object, with ``name``, ``shape``, ``datatype`` and, without raw bytes, ``data``.
        wanted: what the network declares for this input.
        raw: its bytes (little-endian, row-major), where they came beside the JSON.
    Returns:
        An array of the network's type, of the shape that the request names.
    Raises:
        BadTensor: anything does not fit; the message says what.
    """
    name = wanted.name
    need_type(item.get("datatype"), wanted)
    shape = checked_shape(item.get("shape"), wanted)
    if raw is not None:
        if "data" in item:
            raise BadTensor(f"input {name!r} has both JSON data and binary data, needs one of them")
        return from_bytes(raw, wanted, shape)
    if "data" not in item:
        raise BadTensor(f"input {name!r} has no data")
    return _from_json(item["data"], wanted, shape, math.prod(shape)).reshape(shape)


def need_type(datatype: Any, wanted: Tensor) -> None:
    """BadTensor: a request names another type than the network takes."""
    if datatype != DATATYPES[wanted.dtype]:
        raise BadTensor(f"input {wanted.name!r} is {_short(datatype)}, this network takes {DATATYPES[wanted.dtype]}")


def checked_shape(value: Any, wanted: Tensor) -> tuple[int, ...]:
    """The sizes of an input, as a request names them. BadTensor: they are none, or not what the network takes."""
    name = wanted.name
    # `type(...) is int` and not isinstance: true is an int in Python, but no size.
    if (
        not isinstance(value, list)
        or len(value) > AXES_MAX
        or not all(type(size) is int and size >= 0 for size in value)
    ):
        raise BadTensor(f"input {name!r} has shape {_short(value)}, needs up to {AXES_MAX} sizes of 0 or more")
    if max(value, default=0) > VALUES_MAX or math.prod(value) > VALUES_MAX:
        raise BadTensor(f"input {name!r} has shape {_short(value)}, at most {VALUES_MAX} values are taken")
    if wanted.shape is not None and not (
        len(value) == len(wanted.shape)
        and all(fixed in (-1, size) for fixed, size in zip(wanted.shape, value, strict=True))
    ):
        raise BadTensor(f"input {name!r} has shape {_short(value)}, this network takes {list(wanted.shape)}")
    return tuple(value)


def from_bytes(raw: memoryview, wanted: Tensor, shape: tuple[int, ...]) -> NDArray[Any]:
    """An input out of its bytes. BadTensor: not exactly as many as the shape needs."""
    count = math.prod(shape)
    if wanted.dtype == "object":
        return _texts(raw, wanted.name, count).reshape(shape)
    needed = count * ITEM_BYTES[DATATYPES[wanted.dtype]]
    if len(raw) != needed:
        raise BadTensor(f"input {wanted.name!r} has {len(raw)} bytes of binary data, shape and type need {needed}")
    return array_of_bytes(raw, wanted.dtype).reshape(shape)


def array_of_bytes(raw: memoryview, dtype: str) -> NDArray[Any]:
    """Numbers out of their bytes, little-endian; the same memory where it can be. bfloat16 comes as float32."""
    if dtype == "bool":
        # A byte other than 0 and 1 would be no valid bool in memory.
        return np.not_equal(np.frombuffer(raw, np.uint8), 0)
    if dtype == "bfloat16":
        return widened(np.frombuffer(raw, "<u2"))
    values: NDArray[Any] = np.frombuffer(raw, LITTLE[dtype])
    # The JSON before it has any length, so the bytes may begin anywhere; a copy is cheaper than unaligned arithmetic.
    return values if values.flags.aligned else values.copy()


def from_values(values: Sequence[Any], wanted: Tensor, shape: tuple[int, ...]) -> NDArray[Any]:
    """An input out of a flat list of numbers or texts, as gRPC gives them. BadTensor: too many, too few, too large."""
    if len(values) != math.prod(shape):
        raise BadTensor(
            f"input {wanted.name!r} has {len(values)} values, its shape {list(shape)} needs {math.prod(shape)}"
        )
    if wanted.dtype == "object":
        return objects([_utf8(value, wanted.name) for value in values]).reshape(shape)
    try:
        return np.array(values, LITTLE[wanted.dtype]).reshape(shape)
    except OverflowError as error:
        raise _beyond(wanted) from error


def _beyond(wanted: Tensor) -> BadTensor:
    return BadTensor(f"input {wanted.name!r} holds a number beyond the range of {DATATYPES[wanted.dtype]}")


def _texts(raw: memoryview, name: str, count: int) -> NDArray[Any]:
    """Each text is its length in 4 bytes, then its bytes."""
    values = unpack_texts(raw, count)
    if values is None:
        raise BadTensor(f"input {name!r} needs exactly {count} texts, each after its length in 4 bytes")
    return objects([_utf8(value, name) for value in values])


def _utf8(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadTensor(f"input {name!r} has a text that is not UTF-8; networks here take UTF-8 only") from error


def _from_json(data: Any, wanted: Tensor, shape: tuple[int, ...], count: int) -> NDArray[Any]:
    values = _flat(data, shape, wanted.name)
    if len(values) != count:
        raise BadTensor(f"input {wanted.name!r} has {len(values)} values, its shape {list(shape)} needs {count}")
    kinds = set(map(type, values))
    if not kinds <= _kinds(wanted.dtype):
        wrong = ", ".join(sorted(kind.__name__ for kind in kinds - _kinds(wanted.dtype)))
        raise BadTensor(
            f"input {wanted.name!r} holds values of type {wrong}, {DATATYPES[wanted.dtype]} takes none such"
        )
    if wanted.dtype == "object":
        return objects(values)
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
            array: NDArray[Any] = np.array(values, LITTLE[wanted.dtype])
    except OverflowError as error:
        raise _beyond(wanted) from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _beyond(wanted)
    return array


def _kinds(dtype: str) -> set[type]:
    if dtype == "object":
        return {str}
    if dtype == "bool":
        return {bool}
    return {int, float} if "float" in dtype else {int}


def _flat(data: Any, shape: tuple[int, ...], name: str) -> list[Any]:
    """The values of JSON data that is flat already or nested exactly as the shape says."""
    if not isinstance(data, list):
        raise BadTensor(f"input {name!r} has data of type {type(data).__name__}, needs a list")
    if not data or not isinstance(data[0], list):
        return data
    level = [data]
    for size in shape:
        if not all(isinstance(part, list) and len(part) == size for part in level):
            raise BadTensor(f"the lists of input {name!r} are not nested as its shape {list(shape)} says")
        level = list(itertools.chain.from_iterable(level))
    return level


def write_json(array: NDArray[Any], name: str) -> list[Any]:
    """An output's values as a flat list.

    Raises:
        BadTensor: JSON has no word for NaN or infinity; binary data has.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadTensor(f"output {name!r} is not finite for this input, which JSON cannot say; ask for binary data")
    values = array.reshape(-1).tolist()
    if array.dtype.kind == "O":
        return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
    return list(values)


def write_bytes(array: NDArray[Any], declared: str) -> bytes:
    """An output's values as raw bytes, little-endian, row-major; texts each after their length in 4 bytes.

    Args:
        declared: numpy's name of the type that the network declares.
    """
    if array.dtype.kind == "O":
        return pack_texts(array.reshape(-1).tolist())
    if declared == "bfloat16":
        return narrowed(array).astype("<u2", copy=False).tobytes()
    return (array if array.dtype.isnative and LITTLE_ENDIAN else array.astype(array.dtype.newbyteorder("<"))).tobytes()


def datatype_of(array: NDArray[Any], declared: str) -> str:
    """The protocol's name for an output's type."""
    if declared == "bfloat16":
        return "BF16"
    return DATATYPES["object" if array.dtype.kind in "OUS" else array.dtype.name]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
