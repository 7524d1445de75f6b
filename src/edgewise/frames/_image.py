"""From the bytes of a picture to the network's input."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edgewise.frames._bitmap import bitmap_pixels
from edgewise.wire import ImageSpec, NotValid

if TYPE_CHECKING:
    from PIL import Image  # loaded late everywhere in this room: a device of rows and windows never needs it

PIXELS_MAX = 64_000_000  # a 64-megapixel camera; 192 MB once decoded in colour
IMAGE_BYTES_MAX = 64_000_000
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
DEVIATION_MIN = 1.0  # in grey levels: below one level a picture is flat, and dividing would only blow up noise


class BadPicture(NotValid):
    """These bytes are not a picture that can be used."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_picture")


def decode_image(data: bytes, *, channels: Literal[1, 3]) -> NDArray[np.uint8]:
    """The pixels of a JPEG, PNG, BMP, WebP or TIFF file, as stored.

    The orientation in EXIF is not followed: a device strips metadata before upload, and training must see what the
    device saw. Transparency is dropped, 16-bit values keep their upper 8 bits, of several pictures the first counts.

    Args:
        data: the file, at most ``IMAGE_BYTES_MAX`` bytes and ``PIXELS_MAX`` pixels.
        channels: 1 for grey, 3 for red, green, blue.
    Returns:
        uint8 (H, W, C), 0 to 255.
    Raises:
        BadPicture: unreadable, cut short, too large, or of a kind we do not read. Sizes are checked before decoding.

    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (4, 2), 200).save(file, "PNG")
    >>> decode_image(file.getvalue(), channels=3).shape
    (2, 4, 3)
    """
    pixels = bitmap_pixels(data) if channels == 3 and len(data) <= IMAGE_BYTES_MAX else None
    if pixels is not None:  # it has no more pixels than bytes
        return pixels
    with open_image(data) as picture:
        try:
            return _pixels(picture, channels)
        except BadPicture:
            raise
        except Exception as error:
            # Pillow's decoders raise almost any type on hostile bytes; each means the same to our caller.
            raise BadPicture(f"this picture cannot be decoded ({len(data)} bytes): {error}") from error


def open_image(data: bytes) -> Image.Image:
    """A picture whose header was read and whose size was checked; no pixel is decoded yet."""
    if len(data) > IMAGE_BYTES_MAX:
        raise BadPicture(f"this picture has {len(data)} bytes, at most {IMAGE_BYTES_MAX} are read")
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # as above
        raise BadPicture(_not_a_picture(data, error)) from error
    width, height = picture.size
    if width * height > PIXELS_MAX:
        raise BadPicture(f"this picture is {width} x {height} pixels, at most {PIXELS_MAX} pixels are decoded")
    return picture


def _not_a_picture(data: bytes, error: Exception) -> str:
    from PIL import Image

    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"this picture is too large, at most {PIXELS_MAX} pixels are decoded"
    return f"these {len(data)} bytes starting with {data[:8]!r} are not a picture; needs one of {', '.join(FORMATS)}"


def _pixels(picture: Image.Image, channels: Literal[1, 3]) -> NDArray[np.uint8]:
    if picture.mode.startswith("I;16"):
        grey = (np.asarray(picture, dtype=np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], channels, axis=2)
    if picture.mode in ("F", "I"):
        raise BadPicture(f"this picture has {picture.mode} pixels (32 bits), needs 8 or 16 bits")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # Pillow's only way to drop a palette's transparency without a warning
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels[:, :, None] if channels == 1 else pixels


def prepare_image(
    picture: NDArray[np.uint8], spec: ImageSpec, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """A picture as the network's input: resized, padded where the spec says so, normalised, channels first.

    With ``per_image`` the picture's own mean and deviation (over all its channels, so that colour casts stay) take the
    place of the spec's. Padding is the mean, so it is exactly 0 in the output.

    Args:
        picture: uint8 (H, W, C), C as the spec's channels.
        spec: size, fit and normalisation.
        out: float32 (C, spec.height, spec.width) to write into, such as one row of a batch; made when None.
    Returns:
        float32 (C, spec.height, spec.width), about zero mean and unit deviation.
    Raises:
        BadPicture: the array has another type or shape.

    >>> white = np.full((5, 9, 1), 255, np.uint8)
    >>> prepare_image(white, ImageSpec(width=8, height=8, mean=(0.5,), std=(0.25,)))[0, 0, 0]
    np.float32(2.0)
    """
    _check(picture, spec, out)
    small = _resize(picture, *_inner_size(picture, spec))
    if out is None:
        out = np.empty((spec.channels, spec.height, spec.width), np.float32)
    top, left = (spec.height - small.shape[0]) // 2, (spec.width - small.shape[1]) // 2
    inner = out[:, top : top + small.shape[0], left : left + small.shape[1]]
    if inner.shape != out.shape:
        out.fill(0.0)
    for channel, (scale, shift) in enumerate(_affine(small, spec)):
        plane = inner[channel]
        plane[...] = small[:, :, channel]  # first, and apart: numpy multiplies floats in place twice as fast as bytes
        np.multiply(plane, scale, out=plane)
        np.add(plane, shift, out=plane)
    return out


def _check(picture: NDArray[np.uint8], spec: ImageSpec, out: NDArray[np.float32] | None) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or 0 in picture.shape:
        raise BadPicture(f"a picture must be uint8 (H, W, C), got {picture.dtype} {picture.shape}")
    if picture.shape[2] != spec.channels:
        raise BadPicture(f"this picture has {picture.shape[2]} channels, the spec needs {spec.channels}")
    if len(spec.mean) != spec.channels or len(spec.std) != spec.channels or min(spec.std) <= 0:
        raise BadPicture(
            f"the spec needs {spec.channels} means and positive deviations, has {spec.mean} and {spec.std}"
        )
    shape = (spec.channels, spec.height, spec.width)
    if out is not None and (out.dtype != np.float32 or out.shape != shape):
        raise BadPicture(f"out must be float32 {shape}, got {out.dtype} {out.shape}")


def _inner_size(picture: NDArray[np.uint8], spec: ImageSpec) -> tuple[int, int]:
    """Width and height that the picture takes inside the network's input."""
    if spec.fit == "stretch":
        return spec.width, spec.height
    height, width = picture.shape[:2]
    scale = min(spec.width / width, spec.height / height)
    return (
        min(spec.width, max(1, round(width * scale))),
        min(spec.height, max(1, round(height * scale))),
    )


def _resize(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Bilinear with antialiasing. Pillow computes it in integers, so every CPU gives the same pixels."""
    if picture.shape[:2] == (height, width):
        return picture
    from PIL import Image

    grey = picture.shape[2] == 1
    image = Image.fromarray(picture[:, :, 0] if grey else picture)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return pixels[:, :, None] if grey else pixels


def _affine(small: NDArray[np.uint8], spec: ImageSpec) -> list[tuple[np.float32, np.float32]]:
    """Scale and shift of each channel, so that ``pixel * scale + shift`` is the network's input."""
    if spec.per_image:
        mean, deviation = _own_statistics(small)
        return [(np.float32(1 / deviation), np.float32(-mean / deviation))] * spec.channels
    pairs = zip(spec.mean, spec.std, strict=True)
    return [(np.float32(1 / (255 * std)), np.float32(-mean / std)) for mean, std in pairs]


def _own_statistics(small: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and deviation in grey levels, from integer sums: no order of summing changes the result."""
    values = small.reshape(-1).astype(np.int64)
    mean = int(values.sum()) / values.size
    variance = int(np.dot(values, values)) / values.size - mean * mean
    return mean, max(DEVIATION_MIN, max(variance, 0.0) ** 0.5)
