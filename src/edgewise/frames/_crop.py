"""The part of a picture that a first network found, for a second one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgewise.frames._image import decode_image, prepare_image
from edgewise.frames._prepare import BadFrame
from edgewise.wire import ImageSpec, NotValid


class BadBox(NotValid):
    """The first network names a part that no picture has."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_box")


def crop(picture: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The pixels inside a box, at least one in each direction: every pixel that the box touches.

    Args:
        picture: uint8 (H, W, C).
        box: float32 (4,), x1, y1, x2, y2 from 0 to 1 of width and height; cut off at the picture's edges.
    Returns:
        uint8 (h, w, C), a view.
    Raises:
        BadBox: not finite, or its corners are the wrong way round.

    >>> crop(np.zeros((10, 20, 1), np.uint8), np.array([0.5, 0.0, 0.75, 1.0], np.float32)).shape
    (10, 5, 1)
    """
    values = [float(value) for value in np.asarray(box, np.float64).ravel()]
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise BadBox(f"a box needs four finite numbers from 0 to 1, got {values[:8]}")
    x1, y1, x2, y2 = (min(1.0, max(0.0, value)) for value in values)
    if x2 < x1 or y2 < y1:
        raise BadBox(f"a box needs x1 <= x2 and y1 <= y2, got {values}")
    height, width = picture.shape[:2]
    left, right = _span(x1, x2, width)
    top, bottom = _span(y1, y2, height)
    return picture[top:bottom, left:right]


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(math.floor(low * size), size - 1)
    return first, max(first + 1, min(size, math.ceil(high * size)))


def prepare_crop(
    data: bytes, media_type: str, spec: ImageSpec, box: NDArray[np.float32], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """A part of a picture as a network's input; otherwise as `prepare`.

    Raises:
        BadBox, BadPicture: the part or the picture cannot be used. BadFrame: no picture.
    """
    if not media_type.startswith("image/"):
        raise BadFrame(f"only pictures have parts, the frame is {media_type!r}; needs image/jpeg, image/png …")
    return prepare_image(np.ascontiguousarray(crop(decode_image(data, channels=spec.channels), box)), spec, out)
