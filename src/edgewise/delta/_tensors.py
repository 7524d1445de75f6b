"""What encoder and decoder both compute from the base: predictions and contexts of the tensors that changed."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise.delta._coding import NumberDecoder, encode_numbers
from edgewise.delta._numbers import BY_NAME, GAIN_SHIFTS, Bits, contexts, gain_factors, scaled
from edgewise.delta._operations import Difference, Operation, Snapped
from edgewise.delta._regions import ByteData
from edgewise.delta._varint import read_varint, varint

FLOAT32 = BY_NAME["float32"]
SNAP_GAIN_SHIFT = 16
NO_STEP = -128
_PAGE = 1 << 18


class Source(Protocol):
    """The base, read at any place."""

    def read_at(self, start: int, size_bytes: int) -> bytes | memoryview:
        """These bytes, or fewer at the end of the file."""


class MemorySource:
    """A base in memory or mapped into it."""

    def __init__(self, data: ByteData) -> None:
        self._view = memoryview(data).cast("B")

    def read_at(self, start: int, size_bytes: int) -> memoryview:
        """These bytes, not copied."""
        return self._view[start : start + size_bytes]


class FileSource:
    """A base in a file that can seek."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read_at(self, start: int, size_bytes: int) -> bytes:
        """These bytes."""
        self._file.seek(start)
        parts = []
        while size_bytes and (part := self._file.read(size_bytes)):
            parts.append(part)
            size_bytes -= len(part)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Channels:
    """Side table of one tensor.

    Attributes:
        codes: int8 (C,): size of the channel's update, or code of its step where the tensor is snapped.
        gains: int32 (C,) or empty.
    """

    codes: NDArray[np.int8]
    gains: NDArray[np.int32]


TensorOperation = Difference | Snapped


def gain_shift_of(operation: TensorOperation) -> int:
    """Digits of the operation's gains; 0 where it has none."""
    return operation.gain_shift if isinstance(operation, Difference) else SNAP_GAIN_SHIFT


def tensor_operations(operations: Sequence[Operation]) -> list[TensorOperation]:
    """Those that have a side table, in order."""
    return [each for each in operations if isinstance(each, Difference | Snapped)]


def write_tables(tensors: Sequence[TensorOperation], tables: Sequence[Channels]) -> bytes:
    """All side tables as one payload: the codes, then the gains of each precision."""
    parts = _pages(np.concatenate([table.codes for table in tables]).astype(np.int16))
    for shift in GAIN_SHIFTS[1:]:
        gains = [table.gains for each, table in zip(tensors, tables, strict=True) if gain_shift_of(each) == shift]
        parts += _pages(np.concatenate([np.empty(0, np.int32), *gains]))
    return b"".join(varint(len(part)) + part for part in parts)


def _pages(numbers: NDArray[Any]) -> list[bytes]:
    return [encode_numbers(numbers[first : first + _PAGE], modelled=True) for first in range(0, len(numbers), _PAGE)]


def read_tables(payload: bytes, tensors: Sequence[TensorOperation], decoder: NumberDecoder) -> list[Channels]:
    """The side tables, one for each tensor.

    Raises:
        ValueError: the payload does not hold exactly these.
    """
    reader = _PageReader(payload, decoder)
    codes = reader.read(sum(each.channels for each in tensors), np.dtype(np.int16)).astype(np.int8)
    gains = {
        shift: reader.read(sum(each.channels for each in tensors if gain_shift_of(each) == shift), np.dtype(np.int32))
        for shift in GAIN_SHIFTS[1:]
    }
    reader.expect_end()
    tables = []
    for each in tensors:
        mine, codes = codes[: each.channels], codes[each.channels :]
        shift, taken = gain_shift_of(each), np.empty(0, np.int32)
        if shift:
            taken, gains[shift] = gains[shift][: each.channels], gains[shift][each.channels :]
        tables.append(Channels(mine, taken))
    return tables


class _PageReader:
    def __init__(self, payload: bytes, decoder: NumberDecoder) -> None:
        self._payload = payload
        self._decoder = decoder
        self._position = 0

    def read(self, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        numbers = np.empty(count, dtype)
        for first in range(0, count, _PAGE):
            length, start = read_varint(self._payload, self._position, len(self._payload))
            self._position = start + length
            if self._position > len(self._payload):
                raise ValueError("a page runs past the side tables")
            self._decoder.read(self._payload[start : self._position], numbers[first : first + _PAGE])
        return numbers

    def expect_end(self) -> None:
        if self._position != len(self._payload):
            raise ValueError(f"{len(self._payload) - self._position} bytes are left over in the side tables")


class TensorStream:
    """The numbers of all tensors of one kind, one after another, whatever lies between them in the file."""

    def __init__(self, tensors: Sequence[TensorOperation], tables: Sequence[Channels]) -> None:
        self._tensors = tensors
        self._tables = tables
        self._starts = [0, *accumulate(each.count for each in tensors)]
        first = tensors[0]
        self.number_type = first.number_type if isinstance(first, Difference) else FLOAT32

    @property
    def count(self) -> int:
        """How many numbers the stream has."""
        return self._starts[-1]

    def _parts(self, first: int, stop: int) -> Iterator[tuple[TensorOperation, Channels, int, int]]:
        index = bisect_right(self._starts, first) - 1
        while first < stop:
            start, end = self._starts[index], min(stop, self._starts[index + 1])
            yield self._tensors[index], self._tables[index], first - start, end - start
            first, index = end, index + 1

    def predicted(self, source: Source, first: int, stop: int) -> tuple[Bits, NDArray[np.int16], NDArray[np.uint8]]:
        """Predictions, channel codes and hints of the numbers from ``first`` to ``stop``.

        Raises:
            ValueError: the base has become shorter.
        """
        size = self.number_type.size_bytes
        bits, codes = np.empty(stop - first, self.number_type.bits), np.empty(stop - first, np.int16)
        hints, at = np.zeros(stop - first, np.uint8), 0
        for tensor, table, start, end in self._parts(first, stop):
            here = slice(at, at + end - start)
            at = here.stop
            data = source.read_at(tensor.source + start * size, (end - start) * size)
            if len(data) != (end - start) * size:
                raise ValueError("the base ends early")
            bits[here] = np.frombuffer(data, self.number_type.bits)
            spread = Spread(tensor.count // tensor.channels, start, end)
            codes[here] = spread(table.codes)
            if shift := gain_shift_of(tensor):
                factors = spread(gain_factors(table.gains, shift))
                bits[here], hints[here] = scaled(bits[here], factors, self.number_type)
        return bits, codes, hints

    def contexts(self, predicted: Bits, codes: NDArray[np.int16], hints: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """Contexts of the numbers; all zero where tensors are snapped, as steps already even out their sizes."""
        if isinstance(self._tensors[0], Snapped):
            return np.zeros(len(predicted), np.uint16)
        return contexts(predicted, codes, hints, self.number_type)


class Spread:
    """Repeats a table entry for each number of its channel, for the numbers from ``start`` to ``stop`` of a tensor."""

    def __init__(self, channel_numbers: int, start: int, stop: int) -> None:
        self._first, self._stop = start // channel_numbers, -(-stop // channel_numbers)
        self._repeats = np.full(self._stop - self._first, channel_numbers, np.intp)
        self._repeats[0] -= start - self._first * channel_numbers
        self._repeats[-1] -= self._stop * channel_numbers - stop

    def __call__(self, table: NDArray[Any]) -> NDArray[Any]:
        """Table (C,) to (stop - start,)."""
        return np.repeat(table[self._first : self._stop], self._repeats)


def step_sizes(codes: NDArray[Any]) -> NDArray[np.float32]:
    """Steps of snapped channels, 2^(code / 2) as float32; 0 where the code is NO_STEP.

    Half powers of two let the encoder find the step again in a plain file: there are few to try.
    """
    return _STEPS[codes.astype(np.intp) + 128]


_STEPS = np.array(
    [0.0] + [math.ldexp(math.sqrt(2.0) if code % 2 else 1.0, code // 2) for code in range(-127, 128)], np.float32
)


def snapped_bits(predicted: Bits, steps: NDArray[np.float32], multiples: NDArray[Any]) -> Bits:
    """Predictions plus whole multiples of the step, float32 arithmetic with one rounding an operation. All (N,)."""
    with np.errstate(all="ignore"):
        moved = predicted.view(np.float32) + multiples.astype(np.float32) * steps
    return moved.view(FLOAT32.bits)
