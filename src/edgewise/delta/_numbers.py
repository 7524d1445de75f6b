"""Arithmetic on the bits of numbers that gives the same bits on every machine.

Encoder and decoder both run these functions, so each operation is either integer arithmetic or one IEEE 754 rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[Any]  # unsigned integers of the size of the numbers, their bits
TINY = np.float32(1e-30)  # processors that flush subnormal numbers to zero would disagree below 1.2e-38; far from it
CONTEXTS = 1024
CONTEXT_ZERO = 512  # the context of a channel code 0 at exponent 0
FRACTION_STEPS = 4
MIRRORED = np.uint8(4)  # flag beside the steps 0 to 3


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberType:
    """One type of number in a tensor.

    Attributes:
        code: its number in the container format.
        bits: unsigned type of the same size, little-endian.
        signed: signed type of the same size.
        values: type to calculate with; for bfloat16 there is none, see `values`.
        exponent_shift, exponent_mask, exponent_bias: where the exponent is; shift 0 for integers.
        gain_shift: binary digits of a channel's gain behind the point where its update is coarse.
    """

    code: int
    name: str
    bits: np.dtype[np.unsignedinteger]
    signed: np.dtype[np.signedinteger]
    values: np.dtype[Any] | None
    exponent_shift: int = 0
    exponent_mask: int = 0
    exponent_bias: int = 0
    gain_shift: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of one number."""
        return self.bits.itemsize

    @property
    def is_float(self) -> bool:
        """Whether numbers have a sign bit and an exponent."""
        return self.exponent_shift > 0


def _number_type(code: int, name: str, size_bytes: int, values: str | None, **extra: int) -> NumberType:
    bits, signed = np.dtype(f"<u{size_bytes}"), np.dtype(f"<i{size_bytes}")
    return NumberType(
        code=code, name=name, bits=bits, signed=signed, values=np.dtype(values) if values else None, **extra
    )


def _float(code: int, name: str, size_bytes: int, values: str | None, fraction: int, gain_shift: int) -> NumberType:
    mask = (1 << (8 * size_bytes - 1 - fraction)) - 1
    return _number_type(
        code,
        name,
        size_bytes,
        values,
        exponent_shift=fraction,
        exponent_mask=mask,
        exponent_bias=mask >> 1,
        gain_shift=gain_shift,
    )


NUMBER_TYPES = (
    _float(1, "float32", 4, "<f4", 23, 16),
    _float(2, "float16", 2, "<f2", 10, 16),
    _float(3, "bfloat16", 2, None, 7, 0),
    _float(4, "float64", 8, "<f8", 52, 0),
    _number_type(5, "int8", 1, "i1", gain_shift=12),
    _number_type(6, "uint8", 1, "u1", gain_shift=12),
    _number_type(7, "int32", 4, "<i4"),
)
BY_NAME = {each.name: each for each in NUMBER_TYPES}
BY_CODE = {each.code: each for each in NUMBER_TYPES}
GAIN_SHIFTS = (0, 12, 16, 26)  # 0: no gain; 26 where an update is so fine that 16 digits would blur it


def ordered(bits: Bits, number_type: NumberType) -> Bits:
    """Bits as unsigned integers in the order of the numbers, so that a small step is a small difference.

    A float is sign and magnitude; flipping all bits of negative ones and the sign of the others puts them in order.
    Integers stay as they are: their differences wrap around and come back the same way.

    >>> ordered(np.array([-1.0, 0.0, 1.0], "<f4").view("<u4"), BY_NAME["float32"]).tolist()
    [1082130431, 2147483648, 3212836864]
    """
    if not number_type.is_float:
        return bits
    sign = number_type.bits.type(1 << (8 * number_type.size_bytes - 1))
    negative = (bits.view(number_type.signed) >> (8 * number_type.size_bytes - 1)).view(number_type.bits)
    rank: Bits = bits ^ (negative | sign)
    return rank


def unordered(rank: Bits, number_type: NumberType) -> Bits:
    """The bits whose `ordered` form this is."""
    if not number_type.is_float:
        return rank
    sign = number_type.bits.type(1 << (8 * number_type.size_bytes - 1))
    positive = (rank.view(number_type.signed) >> (8 * number_type.size_bytes - 1)).view(number_type.bits)
    bits: Bits = rank ^ (~positive | sign)
    return bits


def differences(target: Bits, predicted: Bits, hints: NDArray[np.uint8], number_type: NumberType) -> NDArray[Any]:
    """Wrapping differences of the ordered forms; 8-bit ones as int16, which the number coder takes.

    A product that was rounded down is more likely to be followed by a step up than down; mirroring those that were
    rounded up lets both kinds share a context.
    """
    steps = (ordered(target, number_type) - ordered(predicted, number_type)).view(number_type.signed)
    return mirrored(steps.astype(np.int16), hints) if number_type.size_bytes == 1 else steps


def mirrored(steps: NDArray[np.int16], hints: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Steps with the other sign where the hint says so; twice is the identity."""
    return np.where(hints >= MIRRORED, -steps, steps)


def advanced(predicted: Bits, steps: NDArray[Any], hints: NDArray[np.uint8], number_type: NumberType) -> Bits:
    """The target again: the inverse of `differences`."""
    if number_type.size_bytes == 1:
        steps = mirrored(steps, hints)
    back = steps.astype(number_type.signed, copy=False).view(number_type.bits)
    return unordered(ordered(predicted, number_type) + back, number_type)


def gain_factors(gains: NDArray[np.int32], shift: int) -> NDArray[np.float32]:
    """Channel gains 1 + gain / 2^shift as float32. gains: int32 (C,)."""
    return (1.0 + gains.astype(np.float64) * 2.0**-shift).astype(np.float32)


def scaled(bits: Bits, factors: NDArray[np.float32], number_type: NumberType) -> tuple[Bits, NDArray[np.uint8]]:
    """The base numbers times a factor each, rounded to their own type; and a hint how far the rounding went.

    Args:
        bits: base numbers (N,).
        factors: float32 (N,).
    Returns:
        The bits of the prediction (N,), and for 8-bit integers uint8 (N,): 0 where the product lay on a whole
        number, up to 3 near the middle between two, plus 4 (MIRRORED) where it lay above. Zeros for floats.
    """
    with np.errstate(all="ignore"):  # hostile numbers may overflow; the hash of the target decides in the end
        values = bits.view(cast("np.dtype[Any]", number_type.values)).astype(np.float32)
        product = values * factors
        if number_type.is_float:
            product = np.where(np.abs(values) < TINY, values, product)
            return product.astype(number_type.values).view(number_type.bits), np.zeros(len(bits), np.uint8)
        limits = np.iinfo(cast("np.dtype[Any]", number_type.values))
        whole = np.clip(np.rint(product), limits.min, limits.max)
        fraction = product - whole
        hint = np.minimum(np.abs(fraction) * np.float32(2 * FRACTION_STEPS), FRACTION_STEPS - 1).astype(np.uint8)
        hint += np.where(fraction > 0, MIRRORED, np.uint8(0))
        return whole.astype(number_type.values).view(number_type.bits), hint


def contexts(
    predicted: Bits, channel_codes: NDArray[np.int16], hints: NDArray[np.uint8], number_type: NumberType
) -> NDArray[np.uint16]:
    """The context of each number, from 0 to 1023: numbers of one context have updates of about one size.

    Args:
        predicted: bits (N,).
        channel_codes: int16 (N,), size of the channel's update: 2 log2 of its root mean square for floats, 4 log2
            for integers.
        hints: uint8 (N,) from `scaled`.

    An update of about constant size takes steps inversely as large as the spacing of floats, which doubles with each
    exponent; so code - 2 exponent tells the size of the steps in half powers of two.
    """
    if number_type.is_float:
        exponent = (predicted >> number_type.bits.type(number_type.exponent_shift)).astype(np.int16)
        exponent &= number_type.exponent_mask
        context = channel_codes - 2 * (exponent - number_type.exponent_bias)
    else:
        context = channel_codes * FRACTION_STEPS + (hints & MIRRORED - 1).astype(np.int16)
    clipped: NDArray[np.uint16] = np.clip(context + CONTEXT_ZERO, 0, CONTEXTS - 1).astype(np.uint16)
    return clipped


def values(bits: Bits, number_type: NumberType) -> NDArray[Any]:
    """The numbers themselves; bfloat16 as float32, of which it is the upper half."""
    if number_type.values is None:
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view(number_type.values)
