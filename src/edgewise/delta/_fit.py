"""Fits the side table of a changed tensor: a gain and the size of the update for each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.delta._numbers import Bits, NumberType, gain_factors, scaled, values
from edgewise.delta._operations import CHANNEL_NUMBERS_MIN
from edgewise.delta._tensors import Channels

FIT_NUMBERS_MIN = 16  # a code and a gain take about 3 bytes; spread over fewer numbers they cost more than they save
GAIN_MAX = 0.45  # a channel that changes more is no scaled copy of the base; the gain must also fit 32 bits
GAIN_WORTH = 0.9  # gains are used where they leave at most this share of the squared update
NO_UPDATE = -120
FINE_SHIFT = 26
CANCELLED = 1e-4
FINE_UPDATE = 2.0**-16  # relative to the weights; below it a gain with 16 digits would be coarser than the update


@dataclass(frozen=True, slots=True)
class Fit:
    """How to predict one tensor."""

    channels: int
    gain_shift: int
    table: Channels


def usable_channels(count: int, channels: int, least: int = FIT_NUMBERS_MIN) -> int:
    """The number of channels if the tensor divides into them and each is long enough, otherwise 1."""
    assert least >= CHANNEL_NUMBERS_MIN, "the decoder refuses shorter channels"
    return channels if channels > 1 and count % channels == 0 and count // channels >= least else 1


def fit(base: Bits, target: Bits, number_type: NumberType, channels: int) -> Fit:
    """Gains by least squares and the root mean square of what they leave, for each channel.

    Folding batch normalisation into a convolution scales each output channel, so after a fine-tune a channel is often
    its old self times a number near one.

    Args:
        base, target: bits (N,).
        channels: size of the tensor's first axis.
    """
    channels = usable_channels(len(base), channels)
    with np.errstate(all="ignore"):  # infinities and NaN are numbers like others here: they only spoil the fit
        old, update = _as_floats(base, number_type, channels), _as_floats(target, number_type, channels)
        update = update - old
        gains, shift = _gains(old, update, number_type)
        if shift:
            factors = np.repeat(gain_factors(gains, shift), len(base) // channels)
            predicted, _ = scaled(base, factors, number_type)
            update = _as_floats(target, number_type, channels) - _as_floats(predicted, number_type, channels)
        codes = update_codes(_mean_squares(update), number_type)
    return Fit(channels, shift, Channels(codes, gains))


def _as_floats(bits: Bits, number_type: NumberType, channels: int) -> NDArray[Any]:
    numbers = values(bits, number_type)
    wide = np.float64 if number_type.size_bytes == 8 or number_type.name == "int32" else np.float32
    return numbers.astype(wide, copy=False).reshape(channels, -1)


def _mean_squares(update: NDArray[Any]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", update, update).astype(np.float64) / update.shape[1]
    if not np.isfinite(squares).all():
        squares = np.mean(np.where(np.isfinite(update), update.astype(np.float64), 0.0) ** 2, axis=1)
    return squares


def update_codes(squares: NDArray[np.float64], number_type: NumberType) -> NDArray[np.int8]:
    """Mean squares (C,) as codes: 2 log2 of the root for floats, 4 log2 for integers."""
    octave_parts = 1 if number_type.is_float else 2
    finite = np.where(np.isfinite(squares) & (squares > 0), squares, 1.0)
    codes = np.where(squares > 0, np.rint(octave_parts * np.log2(finite)), NO_UPDATE)
    return np.clip(codes, NO_UPDATE, -NO_UPDATE).astype(np.int8)


def _gains(old: NDArray[Any], update: NDArray[Any], number_type: NumberType) -> tuple[NDArray[np.int32], int]:
    """Gains (C,) and their digits, or none and 0 where they are not worth it."""
    none = np.empty(0, np.int32)
    if len(old) == 1 or not number_type.gain_shift:
        return none, 0
    gain, left, energy, squares = _least_squares(old, update)
    if not (np.isfinite(energy) and np.isfinite(squares)):
        return none, 0
    if left < CANCELLED * squares and old.dtype == np.float32:  # the rest is below what float32 sums can tell
        gain, left, energy, squares = _least_squares(old.astype(np.float64), update.astype(np.float64))
    if left > GAIN_WORTH * squares:
        return none, 0
    shift = number_type.gain_shift
    if number_type.is_float and left < FINE_UPDATE**2 * energy:
        shift = FINE_SHIFT
    return np.rint(gain.astype(np.float64) * 2.0**shift).astype(np.int32), shift


def _least_squares(old: NDArray[Any], update: NDArray[Any]) -> tuple[NDArray[Any], float, float, float]:
    """Gains (C,) less one; and summed over all channels the squares of what they leave, of the base, of the update."""
    energy, overlap, squares = (np.einsum("ij,ij->i", *pair) for pair in ((old, old), (old, update), (update, update)))
    gain = np.divide(overlap, energy, out=np.zeros_like(overlap), where=energy > 0)
    gain[np.abs(gain) > GAIN_MAX] = 0
    left = np.maximum(squares - 2 * gain * overlap + gain * gain * energy, 0).sum()
    return gain, float(left), float(energy.sum()), float(squares.sum())
