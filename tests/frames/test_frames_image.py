"""Pixels to network input: the same everywhere, whole or refused."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgewise.frames import (
    IMAGE_BYTES_MAX,
    PIXELS_MAX,
    BadFrame,
    BadPicture,
    decode_image,
    prepare,
    prepare_image,
    prepare_many,
)
from edgewise.wire import ImageSpec, TableSpec

ROW_SPEC = TableSpec(columns=("a",), fill=(0.0,), mean=(0.0,), std=(1.0,))


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def file_of(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, kind, **options)
    return file.getvalue()


specs = st.builds(
    ImageSpec,
    width=st.integers(8, 40),
    height=st.integers(8, 40),
    fit=st.sampled_from(["stretch", "pad"]),
    per_image=st.booleans(),
)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_lossless_file_gives_back_its_pixels(kind, channels):
    pixels = noise(13, 17, channels)
    data = file_of(pixels, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decode_image(data, channels=channels), pixels)


@pytest.mark.parametrize(
    ("mode", "value"),
    [("1", 1), ("L", 255), ("LA", (255, 3)), ("RGBA", (255, 255, 255, 0)), ("I;16", 0xFFFF), ("CMYK", (0, 0, 0, 0))],
)
def test_white_is_white_in_every_mode(mode, value):
    file = io.BytesIO()
    Image.new(mode, (9, 8), value).save(file, "TIFF" if mode == "CMYK" else "PNG")
    assert decode_image(file.getvalue(), channels=1).min() == 255
    assert decode_image(file.getvalue(), channels=3).shape == (8, 9, 3)


def test_a_palette_with_transparency_is_read():
    picture = Image.fromarray(noise(8, 8, 3)).quantize(8)
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=bytes([0, 128, 255]))
    assert decode_image(file.getvalue(), channels=3).shape == (8, 8, 3)


def test_the_orientation_in_exif_is_not_followed():
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = noise(16, 32, 1)
    turned = file_of(pixels, "JPEG", exif=exif.tobytes())
    assert np.array_equal(decode_image(turned, channels=1), decode_image(file_of(pixels, "JPEG"), channels=1))


def png_claiming(width: int, height: int) -> bytes:
    """A small file that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


PICTURE = file_of(noise(64, 64, 1), "JPEG")
HOSTILE = {
    "nothing": b"",
    "text": b"not a picture at all",
    "a cut JPEG": PICTURE[: len(PICTURE) // 2],
    "a JPEG header": PICTURE[:20],
    "a cut PNG": file_of(noise(64, 64, 1), "PNG")[:-40],
    "64 megapixels and a bit": png_claiming(8001, 8000),
    "a bomb": png_claiming(100_000, 100_000),
    "2 to the 31 wide": png_claiming(2**31 - 1, 2**31 - 1),
    "a kind we do not read": b"GIF89a" + bytes(200),
    "too many bytes": PICTURE + bytes(IMAGE_BYTES_MAX),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_bytes_are_refused_at_once(what):
    started = time.perf_counter()
    with pytest.raises(BadPicture):
        decode_image(HOSTILE[what], channels=1)
    assert time.perf_counter() - started < 0.5


def test_32_bit_pixels_are_refused_by_name():
    file = io.BytesIO()
    Image.new("F", (8, 8)).save(file, "TIFF")
    with pytest.raises(BadPicture, match="32 bits"):
        decode_image(file.getvalue(), channels=1)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_picture_is_refused_or_decoded_but_never_anything_else(data):
    whole = data.draw(st.sampled_from([PICTURE, file_of(noise(20, 20, 3), "PNG"), file_of(noise(20, 20, 3), "BMP")]))
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        pixels = decode_image(bytes(damaged), channels=3)
    except BadPicture:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.size <= 3 * PIXELS_MAX


@settings(max_examples=60, deadline=None)
@given(spec=specs, height=st.integers(1, 60), width=st.integers(1, 60), seed=st.integers(0, 9))
def test_a_prepared_picture_has_the_shape_asked_for_and_the_buffer_gives_the_same_bits(spec, height, width, seed):
    pixels = noise(height, width, 1, seed)
    alone = prepare_image(pixels, spec)
    buffer = np.full((3, 1, spec.height, spec.width), np.nan, np.float32)
    into = prepare_image(pixels, spec, out=buffer[1])
    assert alone.dtype == np.float32
    assert alone.shape == (1, spec.height, spec.width)
    assert np.isfinite(alone).all()
    assert into.base is buffer
    assert np.array_equal(alone, buffer[1])
    assert np.isnan(buffer[[0, 2]]).all()


@pytest.mark.parametrize(
    "spec",
    [
        ImageSpec(width=24, height=24),
        ImageSpec(width=24, height=16, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
        ImageSpec(width=24, height=16, fit="pad", per_image=True),
        ImageSpec(width=64, height=48, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3, fit="pad", per_image=True),
    ],
)
def test_the_same_jpeg_gives_the_same_bits_in_a_batch_and_alone(spec):
    files = [(file_of(noise(30 + i, 50 - i, 3, i), "JPEG"), "image/jpeg") for i in range(5)]
    batch = prepare_many(files, spec)
    backwards = prepare_many(files[::-1], spec)
    for index, (data, media_type) in enumerate(files):
        alone = prepare(data, media_type, spec)
        assert np.array_equal(alone, batch[index])
        assert np.array_equal(alone, backwards[-1 - index])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), channels=st.sampled_from([1, 3]), fit=st.sampled_from(["stretch", "pad"]))
def test_per_image_gives_zero_mean_and_unit_deviation(seed, channels, fit):
    spec = ImageSpec(
        width=20, height=20, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels, fit=fit, per_image=True
    )
    pixels = noise(20, 20, channels, seed)
    prepared = prepare_image(pixels, spec)
    assert abs(float(prepared.mean())) < 1e-5
    assert abs(float(prepared.std()) - 1) < 1e-5


def test_per_image_does_not_see_light_and_contrast():
    spec = ImageSpec(width=16, height=16, per_image=True)
    dark = (noise(16, 16, 1) // 4).astype(np.uint8)
    bright = dark * 3 + 40
    assert np.abs(prepare_image(dark, spec) - prepare_image(bright, spec)).max() < 1e-5


def test_a_flat_picture_stays_flat_and_finite():
    prepared = prepare_image(np.full((9, 9, 1), 77, np.uint8), ImageSpec(width=8, height=8, per_image=True))
    assert np.abs(prepared).max() == 0


def test_padding_is_the_mean_and_keeps_the_aspect_ratio():
    spec = ImageSpec(width=40, height=20, fit="pad", mean=(0.3,), std=(0.1,))
    prepared = prepare_image(np.full((10, 10, 1), 255, np.uint8), spec)
    assert (prepared[0, :, :10] == 0).all()
    assert (prepared[0, :, 30:] == 0).all()
    assert prepared[0, :, 10:30] == pytest.approx(7.0, abs=1e-5)


def test_values_are_scaled_by_the_mean_and_deviation_of_their_channel():
    spec = ImageSpec(width=8, height=8, channels=3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    prepared = prepare_image(np.full((8, 8, 3), 255, np.uint8), spec)
    assert [float(prepared[c, 0, 0]) for c in range(3)] == pytest.approx([1.8, 3.2, 0.7], abs=1e-6)


@pytest.mark.parametrize(
    ("pixels", "out"),
    [
        (np.zeros((8, 8), np.uint8), None),
        (np.zeros((8, 8, 3), np.uint8), None),
        (np.zeros((8, 8, 1), np.float32), None),
        (np.zeros((0, 8, 1), np.uint8), None),
        (np.zeros((8, 8, 1), np.uint8), np.zeros((1, 8, 8), np.float64)),
        (np.zeros((8, 8, 1), np.uint8), np.zeros((8, 8), np.float32)),
    ],
)
def test_a_wrong_array_is_refused(pixels, out):
    with pytest.raises(BadPicture):
        prepare_image(pixels, ImageSpec(width=8, height=8), out)


def test_a_spec_whose_means_do_not_fit_is_refused():
    with pytest.raises(BadPicture, match="needs 3 means"):
        prepare_image(noise(8, 8, 3), ImageSpec(width=8, height=8, channels=3))


@pytest.mark.parametrize(
    ("data", "media_type", "spec"),
    [
        (PICTURE, "application/json", ImageSpec(width=8, height=8)),
        (b"{}", "image/jpeg", ROW_SPEC),
        (b"{}", "text/plain", ROW_SPEC),
    ],
)
def test_a_frame_of_another_kind_is_refused(data, media_type, spec):
    with pytest.raises(BadFrame):
        prepare(data, media_type, spec)
