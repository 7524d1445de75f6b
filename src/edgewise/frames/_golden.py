"""Golden inputs: made from a seed, never from site data."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise.frames._prepare import input_shape
from edgewise.wire import ImageSpec, InputSpec, NotValid, TableSpec, canonical

VALUES_MAX = 64_000_000  # 256 MB; a manifest must not make a device run out of memory
COARSE = 8  # a picture is this many random tiles a side, plus fine noise: networks answer white noise all alike


def golden_inputs(spec: InputSpec, seed: int, count: int) -> NDArray[np.float32]:
    """Prepared inputs that are the same on every machine and with every numpy.

    Args:
        spec: the network's input.
        seed: 0 or more.
        count: how many inputs.
    Returns:
        float32 (count, C, H, W) for pictures, (count, F) for rows, (count, C, L) for series; zero mean and about unit
        deviation.
    Raises:
        NotValid: more than ``VALUES_MAX`` values, or a negative seed.
    Source: numpy promises the raw stream of PCG64 for all versions (NEP 19) but not that of ``Generator.normal``.

    >>> from edgewise.wire import TableSpec
    >>> golden_inputs(TableSpec(columns=("a",), fill=(0.0,), mean=(0.0,), std=(1.0,)), seed=3, count=2).shape
    (2, 1)
    """
    shape = (count, *input_shape(spec))
    size = int(np.prod(shape, dtype=np.int64))
    if size > VALUES_MAX or seed < 0 or count < 1:
        raise NotValid(
            f"golden inputs of {size} values with seed {seed}: at most {VALUES_MAX}, seed 0 or more",
            code="golden_invalid",
        )
    stream = np.random.PCG64(seed)
    fine = _uniform(stream, size).reshape(shape)
    if not isinstance(spec, ImageSpec):
        return fine
    coarse = _uniform(stream, count * spec.channels * COARSE * COARSE).reshape(count, spec.channels, COARSE, COARSE)
    rows = np.arange(spec.height) * COARSE // spec.height
    columns = np.arange(spec.width) * COARSE // spec.width
    tiles = coarse[:, :, rows[:, None], columns[None, :]]
    return (tiles * np.float32(0.9) + fine * np.float32(0.4)).astype(np.float32)


def golden_frames(specs: Sequence[InputSpec], seed: int, count: int) -> list[tuple[bytes, str]]:
    """Whole frames – pictures or JSON rows – that are the same on every machine: for what comes before the networks.

    Args:
        specs: of all graphs of a bundle, the first graph's first; all pictures or all rows.
        seed, count: as `golden_inputs`.
    Returns:
        bytes and media type of each: pictures of the first spec's size, rows with the columns of all specs.

    >>> from edgewise.wire import TableSpec
    >>> golden_frames([TableSpec(columns=("a",), fill=(0.0,), mean=(9.0,), std=(1.0,))], seed=3, count=1)[0][1]
    'application/json'
    """
    first = specs[0]
    if isinstance(first, ImageSpec):
        return [(_png(values), "image/png") for values in golden_inputs(first, seed, count)]
    tables = [spec for spec in specs if isinstance(spec, TableSpec)]
    scales = {name: pair for spec in tables for name, *pair in zip(spec.columns, spec.mean, spec.std, strict=True)}
    stream = np.random.PCG64(seed)
    drawn = _uniform(stream, count * len(scales)).reshape(count, len(scales))
    rows = [
        {name: mean + std * float(value) for (name, (mean, std)), value in zip(scales.items(), row, strict=True)}
        for row in drawn
    ]
    return [(canonical(row), "application/json") for row in rows]


def _png(values: NDArray[np.float32]) -> bytes:
    """A picture of values around 0: three deviations fill the range of a byte."""
    from PIL import Image

    pixels = np.clip(np.rint(128 + values.transpose(1, 2, 0) * (127 / 3)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def _uniform(stream: np.random.PCG64, count: int) -> NDArray[np.float32]:
    """float32 (count,), uniform on -sqrt(3) to sqrt(3): zero mean, unit deviation."""
    top = np.asarray(stream.random_raw(count), dtype=np.uint64) >> np.uint64(40)  # 24 bits: exact in a float32
    return (top.astype(np.float64) * (2 * 3**0.5 / 2**24) - 3**0.5).astype(np.float32)
