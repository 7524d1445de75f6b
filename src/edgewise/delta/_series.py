"""Columns of readings – times and values of some channels – as few bytes, and back, bit for bit.

A time is coded as its distance from an even pace, a value as a whole number of its decimal steps where that gives the
same bits back, else as the float itself; pcodec codes what is left. Columns with equal times share them. The decoder
knows how many readings to expect before it reads, and never makes room for more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewise.delta._coding import NumberDecoder, encode_numbers, number_coder_header
from edgewise.delta._varint import Fields, folded, varint
from edgewise.wire import NotValid

SERIES_VERSION = 1
RAW, FLOATS, WHOLE, STEPS = range(KINDS_OF_COLUMNS := 4)  # how the values of a column are coded
DECIMALS_MAX = 9
EXACT_MAX = 2**53  # up to here every whole number is a float
TIME_MAX = 2**53  # milliseconds, 285,000 years either way
FEW = 32
NARROW, WIDE, FOLDED = range(KINDS := 3)  # int32 or int64 by pcodec, or each by itself

Values = NDArray[np.float64] | NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """The readings of one channel that are all floats or all whole numbers.

    Attributes:
        channel: its number in the caller's list of channels.
        times_ms: int64 (N,), milliseconds since 1970, in any order.
        values: float64 (N,) or int64 (N,).
    """

    channel: int
    times_ms: NDArray[np.int64]
    values: Values


def encode_series(columns: Sequence[Column]) -> bytes:
    """The columns as one block of bytes.

    Raises:
        NotValid: a column that is empty, or whose times and values are not one array each of the same length.

    >>> times = np.arange(3) * 1000
    >>> block = encode_series([Column(channel=0, times_ms=times, values=np.array([20.5, -0.0, np.nan]))])
    >>> len(block), decode_series(block, channels=1, count=3)[0].values
    (37, array([20.5, -0. ,  nan]))
    """
    groups: dict[bytes, list[Column]] = {}
    for column in columns:
        _check(column)
        groups.setdefault(column.times_ms.astype("<i8").tobytes(), []).append(column)
    header = number_coder_header
    parts = [bytes([SERIES_VERSION]), varint(len(header)), header, varint(len(groups))]
    for group in groups.values():
        parts += [_times(group[0].times_ms.astype(np.int64)), varint(len(group))]
        for column in group:
            parts += [varint(column.channel), _column(column.values)]
    return b"".join(parts)


def decode_series(block: bytes, *, channels: int, count: int) -> list[Column]:
    """The columns of a block.

    Args:
        channels: how many there are; a column of another one is refused.
        count: readings that the block must hold; no more are ever made room for.
    Raises:
        NotValid: the block is damaged, of another version, or does not hold exactly so many readings.
    """
    try:
        columns = list(_read(Fields(block), channels, count))
    except (ValueError, OverflowError) as error:
        raise NotValid(f"a block of readings cannot be read: {error}", code="readings_invalid") from error
    return columns


def _check(column: Column) -> None:
    shapes = {np.shape(column.times_ms), np.shape(column.values)}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1 or not len(column.times_ms):
        raise NotValid(f"a column needs as many times as values, and some; seen {shapes}", code="shape_wrong")
    if column.times_ms.dtype != np.int64 or column.values.dtype not in (np.float64, np.int64):
        raise NotValid(
            f"times are {column.times_ms.dtype}, values {column.values.dtype}; need int64, and float64 or int64",
            code="shape_wrong",
        )
    if max(-int(column.times_ms.min()), int(column.times_ms.max())) > TIME_MAX:
        raise NotValid(f"a time is more than {TIME_MAX} ms away from 1970", code="time_wrong")


# -- writing -----------------------------------------------------------------------------------------------------------


def _times(times: NDArray[np.int64]) -> bytes:
    first, count = int(times[0]), len(times)
    step = (int(times[-1]) - first) // max(1, count - 1)
    return b"".join((varint(count), varint(folded(first)), varint(folded(step)), _numbers(np.diff(times) - step)))


def _column(values: Values) -> bytes:
    if values.dtype == np.int64:
        return bytes([WHOLE]) + _whole(values.astype(np.int64))
    floats = np.ascontiguousarray(values, dtype=np.float64)
    candidates = [bytes([RAW]) + floats.astype("<f8").tobytes()]
    if (found := _steps(floats)) is not None:
        decimals, steps = found
        candidates.append(bytes([STEPS, decimals]) + _whole(steps))
    coded = min((encode_numbers(floats, modelled=modelled) for modelled in (False, True)), key=len)
    candidates.append(bytes([FLOATS]) + varint(len(coded)) + coded)
    return min(candidates, key=len)


def _steps(floats: NDArray[np.float64]) -> tuple[int, NDArray[np.int64]] | None:
    """The fewest decimals with which all values are whole numbers of steps, and those; None where there are none."""
    if not np.isfinite(floats).all():
        return None
    bits = floats.view(np.int64)
    for decimals in range(DECIMALS_MAX + 1):
        scaled = np.rint(floats * 10.0**decimals)
        if np.abs(scaled).max() > EXACT_MAX:
            return None
        steps = scaled.astype(np.int64)
        if np.array_equal(_from_steps(steps, decimals).view(np.int64), bits):
            return decimals, steps
    return None


def _from_steps(steps: NDArray[np.int64], decimals: int) -> NDArray[np.float64]:
    # One IEEE 754 division of two exact numbers: the same bits on every machine.
    return steps.astype(np.float64) / np.float64(10**decimals)


def _whole(values: NDArray[np.int64]) -> bytes:
    """The first value, then the distances from it: small numbers pack better, and equal ones need no bytes at all."""
    rest = values[1:] - values[:1]  # may wrap around; the decoder's sum wraps back
    return varint(folded(int(values[0]))) + _numbers(rest)


def _numbers(values: NDArray[np.int64]) -> bytes:
    """Whole numbers in the shortest of our codes: its length and kind, then its bytes; one zero for only zeros."""
    if not values.any():
        return varint(0)
    small = bool((np.abs(values.astype(np.float64)) < 2.0**31).all())
    codes = [(NARROW if small else WIDE, encode_numbers(values.astype(np.int32 if small else np.int64), modelled=m))
             for m in (False, True)]  # fmt: skip
    if len(values) <= FEW:  # a head of 20 bytes and more does not pay for a few numbers
        codes.append((FOLDED, b"".join(varint(folded(int(value))) for value in values)))
    kind, data = min(codes, key=lambda code: len(code[1]))
    return varint(len(data) * KINDS + kind) + data


# -- reading -----------------------------------------------------------------------------------------------------------


def _read(fields: Fields, channels: int, count: int) -> Iterator[Column]:
    version = fields.bytes(1)[0]
    if version != SERIES_VERSION:
        raise ValueError(f"it has version {version}, this edgewise reads {SERIES_VERSION}")
    decoder, left = NumberDecoder(fields.bytes(fields.number())), count
    for _ in range(fields.number()):
        times = _read_times(fields, decoder, left)
        columns = fields.number()
        if not 1 <= columns * len(times) <= left:
            raise ValueError(f"{columns} columns of {len(times)} readings, {left} are left of {count}")
        left -= columns * len(times)
        for _ in range(columns):
            channel = fields.number()
            if channel >= channels:
                raise ValueError(f"a column of channel {channel}, there are {channels}")
            yield Column(channel=channel, times_ms=times, values=_read_column(fields, decoder, len(times)))
    if left or not fields.ended():
        raise ValueError(f"{left} of {count} readings are missing, or bytes are left over")


def _read_times(fields: Fields, decoder: NumberDecoder, left: int) -> NDArray[np.int64]:
    size = fields.number()
    if not 1 <= size <= left:
        raise ValueError(f"a column of {size} readings, {left} are left")
    first, step = fields.signed(), fields.signed()
    if abs(first) > TIME_MAX or abs(step) > 2 * TIME_MAX:
        raise ValueError(f"times start at {first} with a pace of {step}")
    times = np.empty(size, np.int64)
    times[0] = first
    times[1:] = _read_numbers(fields, decoder, size - 1) + step
    times = np.cumsum(times)
    if max(-int(times.min()), int(times.max())) > TIME_MAX:
        raise ValueError("a time is out of its bounds")
    return times


def _read_column(fields: Fields, decoder: NumberDecoder, size: int) -> Values:
    kind = fields.bytes(1)[0]
    match kind:
        case _ if kind == RAW:
            return np.frombuffer(fields.bytes(size * 8), "<f8").astype(np.float64)
        case _ if kind == FLOATS:
            floats = np.empty(size, np.float64)
            decoder.read(fields.bytes(fields.number()), floats)
            return floats
        case _ if kind == WHOLE:
            return _read_whole(fields, decoder, size)
        case _ if kind == STEPS:
            decimals = fields.bytes(1)[0]
            if decimals > DECIMALS_MAX:
                raise ValueError(f"{decimals} decimals, at most {DECIMALS_MAX}")
            return _from_steps(_read_whole(fields, decoder, size), decimals)
    raise ValueError(f"a column of kind {kind}, there are {KINDS_OF_COLUMNS}")


def _read_whole(fields: Fields, decoder: NumberDecoder, size: int) -> NDArray[np.int64]:
    values = np.full(size, fields.signed(), np.int64)
    values[1:] += _read_numbers(fields, decoder, size - 1)
    return values


def _read_numbers(fields: Fields, decoder: NumberDecoder, size: int) -> NDArray[np.int64]:
    length, kind = divmod(fields.number(), KINDS)
    if length == 0:
        return np.zeros(size, np.int64)
    if kind == FOLDED:
        inner = Fields(fields.bytes(length))
        values = np.array([inner.signed() for _ in range(size)], np.int64)
        if not inner.ended():
            raise ValueError("bytes are left over in a column")
        return values
    out = np.empty(size, np.int32 if kind == NARROW else np.int64)
    decoder.read(fields.bytes(length), out)
    return out.astype(np.int64)
