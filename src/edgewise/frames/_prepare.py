"""From the bytes of any frame to the network's input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgewise.frames._image import decode_image, prepare_image
from edgewise.frames._past import prepare_past
from edgewise.frames._series import SERIES_TYPE, prepare_series, series_writer
from edgewise.frames._table import BadRow, prepare_row
from edgewise.wire import ImageSpec, InputSpec, NotValid, PastSpec, SeriesSpec, loads

Preparer: TypeAlias = Callable[[bytes, str], object]


class BadFrame(NotValid):
    """The frame is of another kind than the network takes."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_frame")


def input_shape(spec: InputSpec) -> tuple[int, ...]:
    """The shape of one prepared input: (C, H, W) for pictures, (F,) for rows and for the past, (C, L) for series.

    >>> input_shape(ImageSpec(width=32, height=16))
    (1, 16, 32)
    """
    if isinstance(spec, ImageSpec):
        return (spec.channels, spec.height, spec.width)
    if isinstance(spec, PastSpec):
        return (len(spec.takes),)
    return (len(spec.columns), spec.length) if isinstance(spec, SeriesSpec) else (len(spec.columns),)


def prepare(
    data: bytes, media_type: str, spec: InputSpec, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """One frame as the network's input.

    Args:
        data: a picture file, a JSON object of numbers for tables, float32 numbers for series.
        media_type: ``image/…``, ``application/json`` or ``SERIES_TYPE``.
        spec: what the network takes.
        out: float32 of ``input_shape(spec)`` to write into; made when None.
    Returns:
        float32 of ``input_shape(spec)``.
    Raises:
        BadPicture, BadRow, BadSeries: the frame cannot be used.
        BadFrame: a picture where the network takes rows, or the like.

    >>> from edgewise.wire import TableSpec
    >>> spec = TableSpec(columns=("a",), fill=(0.0,), mean=(0.0,), std=(2.0,))
    >>> prepare(b'{"a": 3}', "application/json", spec)
    array([1.5], dtype=float32)
    """
    if isinstance(spec, SeriesSpec):
        _check_series(media_type)
        return prepare_series(data, spec, out)
    if isinstance(spec, PastSpec):
        _check_series(media_type)
        return prepare_past(data, spec, out)
    kind = media_type.partition(";")[0].strip().lower()
    if isinstance(spec, ImageSpec):
        if not kind.startswith("image/"):
            raise BadFrame(f"this bundle takes pictures, the frame is {media_type!r}; needs image/jpeg, image/png …")
        return prepare_image(decode_image(data, channels=spec.channels), spec, out)
    if kind != "application/json":
        raise BadFrame(f"this bundle takes rows of numbers, the frame is {media_type!r}; needs application/json")
    try:
        row = loads(data)
    except NotValid as error:
        raise BadRow(f"the row cannot be read: {error}") from error
    if not isinstance(row, dict):
        raise BadRow(f"a row must be a JSON object of numbers by column name, got {type(row).__name__}")
    values = prepare_row(row, spec)
    if out is None:
        return values
    if out.dtype != np.float32 or out.shape != values.shape:
        raise BadRow(f"out must be float32 {values.shape}, got {out.dtype} {out.shape}")
    out[...] = values
    return out


def preparer(spec: InputSpec, out: NDArray[np.float32]) -> Preparer:
    """``prepare`` for many frames into one place.

    Args:
        out: float32 of ``input_shape(spec)``, contiguous.
    Returns:
        A function of a frame's bytes and media type that fills ``out`` and raises as ``prepare``.
    """
    if not isinstance(spec, SeriesSpec):
        return lambda data, media_type: prepare(data, media_type, spec, out)
    write = series_writer(spec, out)

    def prepare_window(data: bytes, media_type: str) -> None:
        if media_type != SERIES_TYPE:
            _check_series(media_type)
        write(data)

    return prepare_window


def _check_series(media_type: str) -> None:
    if media_type != SERIES_TYPE:
        raise BadFrame(f"this bundle takes windows of a series, the frame is {media_type!r}; needs {SERIES_TYPE}")


def prepare_many(frames: Sequence[tuple[bytes, str]], spec: InputSpec) -> NDArray[np.float32]:
    """Several frames as one batch, each bit-equal to what ``prepare`` gives for it alone.

    Args:
        frames: pairs of bytes and media type.
        spec: what the network takes.
    Returns:
        float32 (N, …) with ``input_shape(spec)`` after N.
    Raises:
        BadPicture, BadRow, BadFrame: as ``prepare``.
    """
    batch = np.empty((len(frames), *input_shape(spec)), np.float32)
    for row, (data, media_type) in zip(batch, frames, strict=True):
        prepare(data, media_type, spec, out=row)
    return batch
