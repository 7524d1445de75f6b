"""Uncompressed bitmaps: their pixels are in the file as they are, so nothing has to be decoded."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

HEAD = struct.Struct("<2s8xIIiiHHI12xI4x")  # BITMAPFILEHEADER and BITMAPINFOHEADER
HEADER_BYTES = 40  # of a BITMAPINFOHEADER
BITS, PLAIN = 24, 0  # of a pixel; not compressed


def bitmap_pixels(data: bytes) -> NDArray[np.uint8] | None:
    """The pixels of a 24-bit bitmap without compression, as Pillow gives them.

    Args:
        data: a file, of any kind.
    Returns:
        uint8 (H, W, 3), red, green, blue: a view of the file, which cannot be written to. None for every other file, a
        damaged one too: what is wrong with it, Pillow says.

    Source: Microsoft, BITMAPFILEHEADER and BITMAPINFOHEADER (rows from the bottom up unless the height is negative,
    each filled up to four bytes; blue before green before red).

    >>> file = struct.pack("<2s8xIIiiHHI12xII", b"BM", 54, 40, 1, 1, 1, 24, 0, 0, 0) + bytes([3, 2, 1, 0])
    >>> bitmap_pixels(file)
    array([[[1, 2, 3]]], dtype=uint8)
    """
    if not data.startswith(b"BM") or len(data) < HEAD.size:
        return None
    _, offset, header_bytes, width, height, planes, bits, compression, colours = HEAD.unpack_from(data)
    plain = (header_bytes, planes, bits, compression, colours) == (HEADER_BYTES, 1, BITS, PLAIN, 0)
    row_bytes = (3 * width + 3) & ~3
    if not plain or width <= 0 or height == 0 or offset < HEAD.size or offset + row_bytes * abs(height) > len(data):
        return None
    rows = np.frombuffer(data, np.uint8, row_bytes * abs(height), offset).reshape(abs(height), row_bytes)
    pixels = rows[:, : 3 * width].reshape(abs(height), width, 3)[:, :, ::-1]
    return pixels if height < 0 else pixels[::-1]
