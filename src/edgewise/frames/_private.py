"""Making a frame private before anything is queued. What cannot be made private cannot be kept (design section 5)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from edgewise.frames._containers import BadContainer, bare_jpeg, bare_png
from edgewise.frames._image import BadPicture, decode_image, open_image
from edgewise.wire import NotValid, canonical, loads

ROW_TYPE = "application/json"
Transform: TypeAlias = Literal["strip-metadata", "grey", "centre-crop"]
CROP_SHARE = 0.75  # of width and of height that centre-crop keeps; our choice: the border shows the surroundings
JPEG_QUALITY = 92  # where pixels change anyway; above it bytes grow faster than quality does


class CannotMakePrivate(NotValid):
    """The frame cannot be made private, so it cannot be kept."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="cannot_make_private")


def make_private(data: bytes, media_type: str, transforms: Sequence[str]) -> tuple[bytes, str]:
    """The frame after the transforms, in order, and its media type.

    ``strip-metadata`` leaves the pixels of JPEG and PNG files bit-equal and drops everything else (EXIF, XMP, comments,
    colour profiles, thumbnails, text, bytes after the end); other picture files become PNG; of rows only numbers,
    booleans and empty values stay. ``grey`` and ``centre-crop`` decode and encode again, without metadata.

    Args:
        data: a picture file or a JSON row.
        media_type: ``image/…`` or ``application/json``.
        transforms: names of transforms; none returns the frame as it is.
    Returns:
        New bytes, new media type.
    Raises:
        CannotMakePrivate: unreadable bytes, an unknown transform, or one that does not apply to this kind.

    >>> make_private(b'{"load": 3, "worker": "Ada"}', "application/json", ["strip-metadata"])
    (b'{"load":3}', 'application/json')
    """
    kind = media_type.partition(";")[0].strip().lower()
    for transform in transforms:
        if kind == ROW_TYPE:
            data = _private_row(data, transform)
        elif kind.startswith("image/"):
            data, kind = _private_picture(data, transform)
        else:
            raise CannotMakePrivate(f"{transform} of {media_type!r} is not known; needs a picture or {ROW_TYPE}")
    return data, kind if transforms else media_type


def _private_row(data: bytes, transform: str) -> bytes:
    if transform != "strip-metadata":
        raise CannotMakePrivate(f"{transform} cannot be done to a row of numbers; only strip-metadata can")
    try:
        row = loads(data)
        if not isinstance(row, dict):
            raise CannotMakePrivate(f"a row must be a JSON object, got {type(row).__name__}")
        return canonical(
            {name: value for name, value in row.items() if value is None or isinstance(value, int | float)}
        )
    except CannotMakePrivate:
        raise
    except NotValid as error:
        raise CannotMakePrivate(f"this row cannot be read, so it cannot be made private: {error}") from error


def _private_picture(data: bytes, transform: str) -> tuple[bytes, str]:
    try:
        match transform:
            case "strip-metadata":
                return _bare(data)
            case "grey":
                return _again(data, grey=True, crop=False)
            case "centre-crop":
                return _again(data, grey=False, crop=True)
    except (BadPicture, BadContainer) as error:
        raise CannotMakePrivate(f"{transform} failed, so this picture cannot be kept: {error}") from error
    raise CannotMakePrivate(f"transform {transform!r} is not known; needs strip-metadata, grey or centre-crop")


def _bare(data: bytes) -> tuple[bytes, str]:
    # The bytes decide, not the media type: a PNG named .jpg must lose its text chunks too.
    if data.startswith(b"\xff\xd8"):
        return bare_jpeg(data), "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return bare_png(data), "image/png"
    return _again(data, grey=False, crop=False)


def _again(data: bytes, *, grey: bool, crop: bool) -> tuple[bytes, str]:
    """Decoded, changed and encoded again: JPEG stays JPEG, everything else becomes PNG, which loses nothing."""
    with open_image(data) as header:
        is_jpeg = header.format in ("JPEG", "MPO")
        one_channel = grey or header.mode in ("L", "1", "LA") or header.mode.startswith("I;16")
    pixels = decode_image(data, channels=1 if one_channel else 3)
    if crop:
        height, width = pixels.shape[:2]
        keep_height, keep_width = max(1, round(height * CROP_SHARE)), max(1, round(width * CROP_SHARE))
        top, left = (height - keep_height) // 2, (width - keep_width) // 2
        pixels = pixels[top : top + keep_height, left : left + keep_width]
    picture = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if one_channel else pixels))
    file = io.BytesIO()
    if is_jpeg:
        picture.save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue(), "image/jpeg"
    picture.save(file, "PNG")
    return file.getvalue(), "image/png"
