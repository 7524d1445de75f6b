"""Transforms of pixels: grey, cut out, made small, made unreadable in boxes. Arrays in, new arrays out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgewise.frames._cannot import CannotMakePrivate

Pixels: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are the first outside
CROP_SHARE = 0.75  # of width and of height that centre-crop keeps; our choice: the border shows the surroundings
CELLS_MAX = 6  # of a blurred box along its longer side: at most 6 x 6 colours are left of it, whoever was in it


def grey(pixels: Pixels) -> Pixels:
    """uint8 (H, W, 1): the picture without its colours, as Pillow weighs them (ITU-R 601)."""
    if pixels.shape[2] == 1:
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


def centre_crop(pixels: Pixels) -> Pixels:
    """The middle three quarters of each side."""
    height, width = pixels.shape[:2]
    keep_height, keep_width = max(1, round(height * CROP_SHARE)), max(1, round(width * CROP_SHARE))
    top, left = (height - keep_height) // 2, (width - keep_width) // 2
    return pixels[top : top + keep_height, left : left + keep_width]


def crop_region(pixels: Pixels, region: tuple[float, float, float, float]) -> Pixels:
    """What lies in a region whole; never a pixel that is partly outside it.

    Args:
        pixels: uint8 (H, W, C).
        region: left, top, right, bottom as shares of width and height.
    Raises:
        CannotMakePrivate: the region holds no whole pixel of so small a picture.

    >>> crop_region(np.zeros((10, 20, 1), np.uint8), (0.5, 0.0, 1.0, 0.5)).shape
    (5, 10, 1)
    """
    height, width = pixels.shape[:2]
    left, top = (math.ceil(edge - 1e-9) for edge in (region[0] * width, region[1] * height))
    right, bottom = (math.floor(edge + 1e-9) for edge in (region[2] * width, region[3] * height))
    if left >= right or top >= bottom:
        raise CannotMakePrivate(
            f"the region {region} holds no whole pixel of a picture of {width} x {height}; make private.region larger"
        )
    return pixels[top:bottom, left:right]


def downscale(pixels: Pixels, side_max: int) -> Pixels:
    """The picture with at most this many pixels along its longer side; a smaller one as it is."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side_max:
        return pixels
    from PIL import Image

    scale = side_max / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(_plane(pixels)).resize(size, Image.Resampling.BOX)
    return _stack(np.asarray(image))


def grown(box: Box, margin: float, shape: tuple[int, ...]) -> Box:
    """A box larger by a share of its own size on each side, inside a picture of this shape (H, W, …).

    >>> grown((10, 10, 20, 30), 0.5, (100, 22))
    (5, 0, 22, 40)
    """
    left, top, right, bottom = box
    wide, high = round((right - left) * margin), round((bottom - top) * margin)
    return max(0, left - wide), max(0, top - high), min(shape[1], right + wide), min(shape[0], bottom + high)


def blur_boxes(pixels: Pixels, boxes: Iterable[Box]) -> Pixels:
    """The picture with these boxes made unreadable; every pixel outside them is as it was.

    Each box becomes a mosaic of at most ``CELLS_MAX`` cells along its longer side, each the mean of its pixels, and is
    then blurred, so that no edge of a cell can be used to sharpen it again. Everything that is left of the box follows
    from those few means: two faces with the same means look the same afterwards.
    """
    result = pixels.copy()
    for left, top, right, bottom in boxes:
        if right > left and bottom > top:
            # From the original: boxes that overlap must not be read from one another.
            result[top:bottom, left:right] = _unreadable(pixels[top:bottom, left:right])
    return result


def _unreadable(part: Pixels) -> Pixels:
    height, width = part.shape[:2]
    from PIL import Image, ImageFilter

    cell = max(-(-max(height, width) // CELLS_MAX), min(8, max(height, width)))
    small = max(1, width // cell), max(1, height // cell)
    image = Image.fromarray(_plane(part)).resize(small, Image.Resampling.BOX)
    coarse = image.resize((width, height), Image.Resampling.NEAREST)
    return _stack(np.asarray(coarse.filter(ImageFilter.BoxBlur(cell / 2))))


def _plane(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _stack(pixels: Pixels) -> Pixels:
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
