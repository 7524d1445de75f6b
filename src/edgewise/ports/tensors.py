"""The tensor types of the Open Inference Protocol v2: their names, and texts as bytes; for its client and its server.

Source: Open Inference Protocol, REST, version 2, and its binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATATYPES = {
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "bool": "BOOL",
    "object": "BYTES",
}
"""The protocol's name of a type by numpy's; "object" is text."""
DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}
ITEM_BYTES = {
    datatype: 2 if datatype == "BF16" else np.dtype(dtype).itemsize
    for datatype, dtype in DTYPES.items()
    if datatype != "BYTES"
}


DECIDE_SUFFIX = ".decide"
"""`edge serve` serves each bundle's decisions on whole frames under its name with this behind it."""


def pack_texts(values: Iterable[str | bytes]) -> bytes:
    """Texts in a row, each after its length in 4 bytes, little-endian.

    >>> pack_texts(["ab", b""])
    b'\\x02\\x00\\x00\\x00ab\\x00\\x00\\x00\\x00'
    """
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    return b"".join([len(text).to_bytes(4, "little") + text for text in texts])


def unpack_texts(raw: memoryview, count: int) -> list[bytes] | None:
    """Exactly so many texts; None where the bytes are not that.

    >>> unpack_texts(memoryview(pack_texts(["ab", ""])), 2)
    [b'ab', b'']
    """
    values: list[bytes] = []
    at = 0
    while at < len(raw) and len(values) < count:
        size = int.from_bytes(raw[at : at + 4], "little")
        values.append(bytes(raw[at + 4 : at + 4 + size]))
        at += 4 + size
    return values if at == len(raw) and len(values) == count else None


def widened(raw: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 numbers, given as their bits, as the same numbers in float32; exact.

    >>> widened(np.array([0x3FC0], np.uint16))
    array([1.5], dtype=float32)
    """
    return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)


def narrowed(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16 numbers, ties to even; NaN stays NaN.

    >>> [hex(bits) for bits in narrowed(np.array([1.5, 1 + 2**-8, 1 + 3 * 2**-8], np.float32))]
    ['0x3fc0', '0x3f80', '0x3f82']
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    result: NDArray[np.uint16] = rounded.astype(np.uint16)
    nan = np.isnan(values)
    if nan.any():  # rounding could carry a NaN's bits on to infinity
        result = np.where(nan, np.uint16(0x7FC0), result)
    return result


def objects(values: list[Any]) -> NDArray[Any]:
    """A flat array that holds these objects: numpy's own text arrays give every text the longest one's size."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
