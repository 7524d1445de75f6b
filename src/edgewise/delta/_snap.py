"""Snapped fine-tunes: a tuned network moved, by less than half a step each, to where its update is cheap to send.

Each weight becomes gain · base + k · step with a small whole number k. The snapped network is a network of its own: it
is what gets evaluated, gated and signed, so sending it loses nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgewise.delta._fit import GAIN_MAX, usable_channels
from edgewise.delta._match import pairs
from edgewise.delta._numbers import Bits, gain_factors, scaled
from edgewise.delta._operations import CHANNEL_NUMBERS_MIN
from edgewise.delta._regions import ByteData, Region
from edgewise.delta._scan import scan
from edgewise.delta._tensors import FLOAT32, NO_STEP, SNAP_GAIN_SHIFT, Channels, snapped_bits, step_sizes
from edgewise.wire import NotValid

STEP_RMS_MIN, STEP_RMS_MAX = 1 / 64, 4.0
MULTIPLE_MAX = 32_767
PROBE_CHANNELS = 4
ROUND_UP = 0.25  # in codes: steps come out 9 % larger on average, which saves an eighth of a bit for each weight
FINER_TRIES = 4
REFINEMENTS = 3


def snap(base: ByteData, tuned: ByteData, step_rms: float = 0.5) -> bytes:
    """The tuned model with every update of a weight channel rounded to whole steps.

    Only float32 tensors with an output channel axis are snapped; biases, statistics and everything else stay exact, and
    so does a tensor that cannot be found again by `encode`.

    Args:
        base: the model that devices run, ONNX or safetensors.
        tuned: the same model after fine-tuning.
        step_rms: size of a step relative to the root mean square of the channel's update; taken to a half power of
            two from 8 % below to 30 % above it. With 0.5 a weight takes about 3 bits, with 1.0 about 2; what it does
            to accuracy is for the gate to measure.
    Raises:
        NotValid: the step is out of range, or the two files share no tensor to snap.
    """
    if not STEP_RMS_MIN <= step_rms <= STEP_RMS_MAX:
        raise NotValid(f"step_rms is {step_rms}, needs to be from {STEP_RMS_MIN} to {STEP_RMS_MAX}", code="step_rms")
    snapped, count = bytearray(tuned), 0
    for old, new in pairs(scan(base), scan(tuned)):
        if not can_snap(new):
            continue
        count += 1
        first, second = _bits(base, old), _bits(tuned, new)
        if not np.array_equal(first, second):
            snapped[new.start : new.stop] = _snap_tensor(first, second, new.channels, step_rms).tobytes()
    if not count:
        raise NotValid(
            "the two models share no float32 tensor with output channels, so there is nothing to snap; "
            "give two versions of one ONNX or safetensors model",
            code="nothing_to_snap",
        )
    return bytes(snapped)


def can_snap(region: Region) -> bool:
    """Whether tensors like this one are snapped."""
    count = region.size_bytes // 4
    return region.number_type is FLOAT32 and usable_channels(count, region.channels, CHANNEL_NUMBERS_MIN) > 1


def _bits(data: ByteData, region: Region) -> Bits:
    return np.frombuffer(memoryview(data)[region.start : region.stop], FLOAT32.bits)


def _snap_tensor(base: Bits, tuned: Bits, channels: int, step_rms: float) -> Bits:
    """The snapped bits (N,), or the tuned ones where `recover` could not find the snapped form again."""
    old, new = _rows(base, channels), _rows(tuned, channels)
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        return tuned
    gains = _fit_gains(old, new)
    left = new - _predicted(base, gains, channels)
    codes = _step_codes(_root_mean_squares(left) * step_rms)
    for _ in range(FINER_TRIES):
        multiples = _multiples(left, codes)
        bits = _place(base, gains, codes, multiples, channels)
        lost = _not_recovered(base, bits, channels)
        if not lost.any():
            return bits
        codes = np.where(lost & (codes > NO_STEP + 1), codes - 1, codes)  # a finer step is found more easily
    return tuned


def _rows(bits: Bits, channels: int) -> NDArray[np.float32]:
    return bits.view(np.float32).reshape(channels, -1)


def _fit_gains(old: NDArray[np.float32], new: NDArray[np.float32]) -> NDArray[np.int32]:
    """Least squares gains (C,) with SNAP_GAIN_SHIFT digits."""
    with np.errstate(all="ignore"):
        energy = np.einsum("ij,ij->i", old, old).astype(np.float64)
        gain = np.einsum("ij,ij->i", old, new - old) / energy
    gain = np.where(np.isfinite(gain) & (np.abs(gain) <= GAIN_MAX), gain, 0.0)
    return np.rint(gain * 2.0**SNAP_GAIN_SHIFT).astype(np.int32)


def _root_mean_squares(left: NDArray[np.float32]) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        size: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", left, left).astype(np.float64) / left.shape[1])
    return size


def _predicted(base: Bits, gains: NDArray[np.int32], channels: int) -> NDArray[np.float32]:
    factors = np.repeat(gain_factors(gains, SNAP_GAIN_SHIFT), len(base) // channels)
    return _rows(scaled(base, factors, FLOAT32)[0], channels)


def _step_codes(steps: NDArray[np.float64]) -> NDArray[np.int16]:
    """Codes of half powers of two nearby, rather above; NO_STEP for zero or what is too small for a code."""
    with np.errstate(divide="ignore"):
        codes = np.rint(2 * np.log2(steps) + ROUND_UP)
    return np.where(codes > NO_STEP, np.clip(codes, NO_STEP + 1, 127), NO_STEP).astype(np.int16)


def _multiples(left: NDArray[np.float32], codes: NDArray[np.int16]) -> NDArray[np.float32]:
    """How many steps (C, n) of its channel each update is, rounded."""
    steps = step_sizes(codes)
    inverse = np.divide(np.float32(1), steps, out=np.zeros_like(steps), where=steps > 0)
    return np.clip(np.rint(left * inverse[:, None]), -MULTIPLE_MAX, MULTIPLE_MAX)


def _place(
    base: Bits, gains: NDArray[np.int32], codes: NDArray[np.int16], multiples: NDArray[np.float32], channels: int
) -> Bits:
    numbers = len(base) // channels
    predicted = scaled(base, np.repeat(gain_factors(gains, SNAP_GAIN_SHIFT), numbers), FLOAT32)[0]
    return snapped_bits(predicted, np.repeat(step_sizes(codes), numbers), multiples.ravel())


def _not_recovered(base: Bits, bits: Bits, channels: int) -> NDArray[np.bool_]:
    return _Search(base, bits, channels).run()


def recover(base: Bits, target: Bits, channels: int) -> tuple[Channels, NDArray[np.int16]] | None:
    """Side table and multiples (N,) of a snapped tensor, found from the plain numbers; None if it is not snapped.

    The update of a channel is tried against steps of every half power of two that its size allows. With the right one
    all quotients are whole; then the gain follows by least squares on what the steps leave, and every bit is compared.
    """
    channels = usable_channels(len(base), channels, CHANNEL_NUMBERS_MIN)
    if channels == 1:
        return None
    old, new = _rows(base, channels), _rows(target, channels)
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        return None
    changed = np.flatnonzero((old != new).any(axis=1))[:PROBE_CHANNELS]
    if not len(changed):
        return None
    for rows in (changed, np.arange(channels)):  # a few channels tell at once that most tensors are not snapped
        search = _Search(old[rows].ravel().view(np.uint32), new[rows].ravel().view(np.uint32), len(rows))
        if search.run().any():
            return None
    return Channels(search.codes.astype(np.int8), search.gains), search.multiples.ravel().astype(np.int16)


class _Search:
    """Looks for gain, step and multiples of every channel; what is found so far stays in its attributes."""

    def __init__(self, base: Bits, target: Bits, channels: int) -> None:
        self._old, self._target = _rows(base, channels), target.reshape(channels, -1)
        self.gains = _fit_gains(self._old, self._target.view(np.float32))
        self.codes = np.full(channels, NO_STEP, np.int16)
        self.multiples = np.zeros(self._old.shape, np.float32)

    def run(self) -> NDArray[np.bool_]:
        """Which channels (C,) could not be found."""
        lost = np.ones(len(self._old), bool)
        self._try(lost, self.gains, self.codes)
        left = self._target.view(np.float32) - _predicted(self._old.ravel().view(np.uint32), self.gains, len(self._old))
        size = _root_mean_squares(left)
        likely = _step_codes(size)
        for offset in _offsets():
            if not lost.any():
                break
            self._try(lost, self.gains, np.clip(likely + offset, NO_STEP + 1, 127).astype(np.int16))
        return lost

    def _try(self, lost: NDArray[np.bool_], gains: NDArray[np.int32], codes: NDArray[np.int16]) -> None:
        """Mark in ``lost`` the channels found with these steps, the gain refined from the given one."""
        rows = np.flatnonzero(lost)
        old, target, codes, gains = self._old[rows], self._target[rows], codes[rows], gains[rows]
        base = old.ravel().view(np.uint32)
        for _ in range(REFINEMENTS):
            multiples = _multiples(target.view(np.float32) - _predicted(base, gains, len(rows)), codes)
            refined = _fit_gains(old, target.view(np.float32) - multiples * step_sizes(codes)[:, None])
            if np.array_equal(refined, gains):
                break
            gains = refined
        else:
            multiples = _multiples(target.view(np.float32) - _predicted(base, gains, len(rows)), codes)
        found = (_place(base, gains, codes, multiples, len(rows)).reshape(target.shape) == target).all(axis=1)
        here = rows[found]
        self.gains[here], self.codes[here], self.multiples[here] = gains[found], codes[found], multiples[found]
        lost[here] = False


def _offsets() -> list[int]:
    """Step codes to try, relative to the size of the update, the default of `snap` first."""
    usual = round(2 * math.log2(0.5))
    lowest, highest = (round(2 * math.log2(bound)) for bound in (STEP_RMS_MIN, STEP_RMS_MAX))
    return sorted(range(lowest - 1, highest + 2), key=lambda offset: abs(offset - usual))
