"""Nothing but the picture is left of a frame that was made private."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from edgewise.frames import CannotMakePrivate, decode_image, make_private
from edgewise.wire import digest

SECRET = b"Ada-Lovelace-47.11N-8.22E"


def picture(mode: str = "RGB", seed: int = 0, size: tuple[int, int] = (48, 40)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def telling_jpeg(mode: str = "RGB", **options: object) -> bytes:
    """A JPEG with a secret in every place that a camera or a program puts one."""
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    file = io.BytesIO()
    picture(mode).save(
        file, "JPEG", exif=exif.tobytes(), comment=SECRET, icc_profile=SECRET * 9, dpi=(300, 300), **options
    )
    data = file.getvalue()
    extra = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
        for marker, payload in [
            (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET),
            (0xED, b"Photoshop 3.0\0" + SECRET),
            (0xE0, b"JFXX\0\x10" + SECRET),
            (0xFE, SECRET),
        ]
    )
    start = 2 + 2 + struct.unpack(">H", data[4:6])[0]  # after the first segment, which must stay the first
    return data[:start] + extra + data[start:] + b"\xff\xd8" + SECRET  # and a film behind the end


def telling_png(mode: str = "RGB") -> bytes:
    about = PngImagePlugin.PngInfo()
    about.add_text("Author", SECRET.decode())
    about.add_text("Comment", SECRET.decode() * 30, zip=True)
    about.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    file = io.BytesIO()
    picture(mode).save(file, "PNG", pnginfo=about, exif=exif.tobytes(), icc_profile=SECRET * 9, dpi=(300, 300))
    return file.getvalue() + SECRET


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("L", {}),
        ("RGB", {}),
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": 0, "quality": 95}),
        ("RGB", {"restart_marker_blocks": 2}),
        ("RGB", {"optimize": True}),
        ("CMYK", {}),
        ("RGB", {"keep_rgb": True}),
    ],
)
def test_a_jpeg_keeps_its_pixels_bit_by_bit_and_nothing_else(mode, options):
    data = telling_jpeg(mode, **options)
    assert SECRET in data
    private, media_type = make_private(data, "image/jpeg", ["strip-metadata"])
    assert media_type == "image/jpeg"
    assert np.array_equal(pixels(private), pixels(data))
    assert SECRET not in private
    for word in (b"Exif", b"http", b"ICC", b"Photoshop", b"JFXX", b"Lovelace"):
        assert word not in private
    assert not any(Image.open(io.BytesIO(private)).getexif())
    assert make_private(private, media_type, ["strip-metadata"])[0] == private


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png_keeps_its_pixels_bit_by_bit_and_nothing_else(mode):
    data = telling_png(mode)
    assert SECRET in data
    private, media_type = make_private(data, "image/png", ["strip-metadata"])
    assert media_type == "image/png"
    assert np.array_equal(pixels(private), pixels(data))
    assert not Image.open(io.BytesIO(private)).info.keys() - {"transparency"}
    for word in (SECRET, b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"pHYs"):
        assert word not in private


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), width=st.integers(1, 70), height=st.integers(1, 70), quality=st.integers(1, 95))
def test_any_jpeg_keeps_its_pixels(seed, width, height, quality):
    file = io.BytesIO()
    picture(seed=seed, size=(width, height)).save(file, "JPEG", quality=quality, comment=SECRET)
    private, _ = make_private(file.getvalue(), "image/jpeg", ["strip-metadata"])
    assert np.array_equal(pixels(private), pixels(file.getvalue()))
    assert SECRET not in private


def test_the_bytes_decide_which_file_it_is_and_not_the_media_type():
    private, media_type = make_private(telling_png(), "image/jpeg", ["strip-metadata"])
    assert media_type == "image/png"
    assert SECRET not in private


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP"])
def test_other_files_become_png_without_loss(kind):
    file = io.BytesIO()
    options: dict[str, object] = {"lossless": True, "xmp": SECRET} if kind == "WEBP" else {}
    picture().save(file, kind, **options)
    private, media_type = make_private(file.getvalue(), f"image/{kind.lower()}", ["strip-metadata"])
    assert media_type == "image/png"
    assert np.array_equal(decode_image(private, channels=3), decode_image(file.getvalue(), channels=3))
    assert SECRET not in private


@pytest.mark.parametrize("data", [telling_jpeg(), telling_png()])
def test_grey_has_one_channel_and_no_metadata(data):
    private, _ = make_private(data, "image/jpeg", ["strip-metadata", "grey"])
    assert Image.open(io.BytesIO(private)).mode == "L"
    assert SECRET not in private
    assert SECRET not in make_private(data, "image/jpeg", ["grey"])[0]


def test_centre_crop_keeps_the_middle():
    private, _ = make_private(telling_png(), "image/png", ["centre-crop"])
    assert np.array_equal(pixels(private), np.asarray(picture())[5:35, 6:42])
    assert SECRET not in private


def test_no_transform_changes_nothing():
    assert make_private(b"anything", "text/plain", []) == (b"anything", "text/plain")


def test_the_same_frame_gives_the_same_private_bytes():
    first = make_private(telling_jpeg(), "image/jpeg", ["strip-metadata", "grey", "centre-crop"])
    assert digest(first[0]) == digest(
        make_private(telling_jpeg(), "image/jpeg", ["strip-metadata", "grey", "centre-crop"])[0]
    )


def test_of_a_row_only_numbers_stay():
    row = b'{"b": 2.5, "a": 1, "ok": true, "none": null, "name": "Ada", "list": [1], "deep": {"x": 1}}'
    assert make_private(row, "application/json", ["strip-metadata"])[0] == b'{"a":1,"b":2.5,"none":null,"ok":true}'


def hiding_png() -> bytes:
    """A PNG with bytes behind the end of its compressed pixels, where no decoder looks."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(72)) + SECRET) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "media_type", "transform"),
    [
        (b"", "image/jpeg", "strip-metadata"),
        (b"\xff\xd8\xff\xd9", "image/jpeg", "strip-metadata"),
        (b"no picture", "image/jpeg", "strip-metadata"),
        (telling_jpeg()[:900], "image/jpeg", "strip-metadata"),
        (telling_jpeg()[:-400], "image/jpeg", "grey"),
        (telling_png()[:900], "image/png", "strip-metadata"),
        (telling_png()[:200] + b"x" + telling_png()[201:], "image/png", "strip-metadata"),
        (hiding_png(), "image/png", "strip-metadata"),
        (telling_png(), "image/png", "blur-names"),
        (b"{}", "application/json", "grey"),
        (b"[]", "application/json", "strip-metadata"),
        (b'{"a": 1e999}', "application/json", "strip-metadata"),
        (b"{", "application/json", "strip-metadata"),
        (b"film", "video/mp4", "strip-metadata"),
    ],
)
def test_what_cannot_be_made_private_is_refused(data, media_type, transform):
    with pytest.raises(CannotMakePrivate):
        make_private(data, media_type, [transform])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b""]))
def test_any_bytes_are_made_private_or_refused(tail, start):
    try:
        make_private(start + tail, "image/jpeg", ["strip-metadata"])
    except CannotMakePrivate:
        return


@pytest.mark.parametrize("plant", ["plant_a_ballscrew", "plant_b_magnetic_tile", "plant_c_hot_strip"])
def test_real_photographs_keep_their_pixels(data_root, plant):
    with zipfile.ZipFile(data_root / "manufacturing" / plant / "images.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        for name in names[:: max(1, len(names) // 20)]:
            data = archive.read(name)
            private, _ = make_private(data, "image/jpeg", ["strip-metadata"])
            assert np.array_equal(pixels(private), pixels(data))
            assert len(private) <= len(data)
