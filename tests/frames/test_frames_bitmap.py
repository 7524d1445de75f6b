"""Uncompressed bitmaps are read as Pillow reads them, and everything else is left to it."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgewise.frames import BadPicture, decode_image
from edgewise.frames._bitmap import bitmap_pixels


def bitmap(width: int, height: int, seed: int = 1) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


@given(st.integers(1, 20), st.integers(1, 20), st.booleans())
def test_a_bitmap_of_any_size_and_direction_is_read_as_pillow_reads_it(width: int, height: int, down: bool) -> None:
    data = bytearray(bitmap(width, height))
    if down:
        struct.pack_into("<i", data, 22, -height)
    found = bitmap_pixels(bytes(data))
    assert found is not None
    assert np.array_equal(found, by_pillow(bytes(data)))
    assert np.array_equal(decode_image(bytes(data), channels=3), found)


@pytest.mark.parametrize(
    ("place", "form", "value"),
    [
        (14, "<I", 124),  # a newer header
        (18, "<i", 0),  # no width
        (18, "<i", -4),
        (22, "<i", 0),
        (26, "<H", 2),  # planes
        (28, "<H", 32),  # bits
        (30, "<I", 1),  # compression
        (46, "<I", 7),  # a palette
        (10, "<I", 20),  # pixels inside the header
        (10, "<I", 2**32 - 1),
        (18, "<i", 2**31 - 1),
        (22, "<i", -(2**31)),
    ],
)
def test_a_bitmap_that_is_not_plain_is_left_to_pillow(place: int, form: str, value: int) -> None:
    data = bytearray(bitmap(4, 3))
    struct.pack_into(form, data, place, value)
    assert bitmap_pixels(bytes(data)) is None


def test_a_bitmap_that_is_cut_short_is_refused() -> None:
    data = bitmap(5, 4)
    for length in (1, 2, 30, 54, len(data) - 1):
        assert bitmap_pixels(data[:length]) is None
    with pytest.raises(BadPicture):
        decode_image(data[:80], channels=3)
