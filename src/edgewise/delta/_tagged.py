"""Arrays of trees: numbers with a tag byte before each, as Protocol Buffers write repeated fields not packed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.delta._coding import NumberDecoder, encode_numbers, zstd_decode, zstd_encode
from edgewise.delta._varint import read_varint, varint

MODELLED, PLANES, FEW = 0, 1, 2


def float_numbers(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The float32 values of a run of (tag, four bytes). data: uint8 (5 N,)."""
    return data.reshape(-1, 5)[:, 1:].copy().view("<f4").ravel()


def integer_numbers(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The values of a run of (tag, varint), given where each pair ends. data: uint8; ends: int64 (N,)."""
    starts = np.concatenate([[0], ends[:-1]]) + 1
    numbers = np.zeros(len(ends), np.uint64)
    for digit in range(int((ends - starts).max())):
        has = starts + digit < ends
        low = (data[starts[has] + digit] & 127).astype(np.uint64)
        numbers[has] |= low << np.uint64(7 * digit)
    return numbers.view(np.int64)


def tagged_bytes(numbers: NDArray[Any], tag: int) -> bytes:
    """The run again: float32 or int64 (N,) with the tag before each.

    >>> tagged_bytes(np.array([300, 1]), 64).hex(" ")
    '40 ac 02 40 01'
    """
    if numbers.dtype == np.float32:
        out = np.empty((len(numbers), 5), np.uint8)
        out[:, 0] = tag
        out[:, 1:] = numbers.astype("<f4").view(np.uint8).reshape(-1, 4)
        return out.tobytes()
    return _tagged_varints(numbers.view(np.uint64), tag)


def _tagged_varints(numbers: NDArray[np.uint64], tag: int) -> bytes:
    digits = np.ones(len(numbers), np.intp)
    for digit in range(1, 10):
        digits += numbers >> np.uint64(7 * digit) > 0
    starts = np.cumsum(digits + 1) - digits - 1
    out = np.empty(int((digits + 1).sum()), np.uint8)
    out[starts] = tag
    for digit in range(int(digits.max(initial=0))):
        has = digits > digit
        low = ((numbers[has] >> np.uint64(7 * digit)) & np.uint64(127)).astype(np.uint8)
        out[starts[has] + 1 + digit] = low | np.where(digits[has] > digit + 1, np.uint8(128), np.uint8(0))
    return out.tobytes()


def encode_array(numbers: NDArray[Any]) -> bytes:
    """The shortest of three ways: modelled by pcodec, byte planes under Zstandard, a table of the few values.

    numbers: float32 or int64 (N,), 1 ≤ N ≤ 2^18.
    """
    ways = [bytes([MODELLED]) + encode_numbers(numbers, modelled=True), bytes([PLANES]) + zstd_encode(_planes(numbers))]
    if numbers.dtype == np.float32:
        table, index = np.unique(numbers.view(np.uint32), return_inverse=True)
        packed = zstd_encode(_planes(table))
        ways.append(
            bytes([FEW]) + varint(len(table)) + varint(len(packed)) + packed + encode_numbers(index.astype(np.uint32))
        )
    return min(ways, key=len)


def decode_array(payload: bytes, count: int, dtype: np.dtype[Any], decoder: NumberDecoder) -> NDArray[Any]:
    """The numbers (count,) that `encode_array` coded.

    Raises:
        ValueError: the payload does not hold them.
    """
    way, data = payload[0] if payload else MODELLED, payload[1:]
    if way == PLANES:
        return _from_planes(zstd_decode(data, count * dtype.itemsize), dtype)
    if way == FEW and dtype == np.float32:
        return _few_numbers(data, count, decoder)
    if way != MODELLED:
        raise ValueError(f"coding {way} of an array is not known")
    numbers = np.empty(count, dtype)
    decoder.read(data, numbers)
    return numbers


def _few_numbers(data: bytes, count: int, decoder: NumberDecoder) -> NDArray[Any]:
    size, position = read_varint(data, 0, len(data))
    length, position = read_varint(data, position, len(data))
    if not 1 <= size <= count:
        raise ValueError(f"a table of {size} values for {count} numbers")
    table = _from_planes(zstd_decode(data[position : position + length], size * 4), np.dtype(np.uint32))
    index = np.empty(count, np.uint32)
    decoder.read(data[position + length :], index)
    if int(index.max()) >= size:
        raise ValueError(f"index {int(index.max())} into a table of {size}")
    return table[index].view(np.float32)


def _planes(numbers: NDArray[Any]) -> bytes:
    return numbers.view(np.uint8).reshape(-1, numbers.itemsize).T.tobytes()


def _from_planes(data: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1).T.copy().view(dtype).ravel()
