"""Making a frame private before anything is queued. What cannot be made private cannot be kept (design section 5)."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgewise.frames._cannot import CannotMakePrivate
from edgewise.frames._containers import BadContainer, bare_jpeg, bare_png
from edgewise.frames._detect import FACES, PLATES
from edgewise.frames._hide import Hider, is_instead
from edgewise.frames._image import BadPicture, decode_image, open_image
from edgewise.frames._people import blurred, without
from edgewise.frames._pixels import Pixels, centre_crop, crop_region, downscale, grey
from edgewise.frames._series import SERIES_TYPE
from edgewise.wire import PICTURE_TRANSFORMS, ROW_TRANSFORMS, NotValid, PrivateSettings, canonical, loads

ROW_TYPE = "application/json"
JPEG_QUALITY = 92  # where pixels change anyway; above it bytes grow faster than quality does
DEFAULT = PrivateSettings()


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A frame that was made private: its bytes, and what was found in it by kind – never the values."""

    data: bytes
    media_type: str
    found: Mapping[str, int] = field(default_factory=dict)


def make_private(
    data: bytes, media_type: str, transforms: Sequence[str], settings: PrivateSettings = DEFAULT, *, key: bytes = b""
) -> tuple[bytes, str]:
    """The frame after the transforms, in order, and its media type; `made_private` also counts what it found.

    >>> make_private(b'{"load": 3, "worker": "Ada"}', "application/json", ["strip-metadata"])
    (b'{"load":3}', 'application/json')
    """
    made = made_private(data, media_type, transforms, settings, key=key)
    return made.data, made.media_type


def made_private(
    data: bytes, media_type: str, transforms: Sequence[str], settings: PrivateSettings = DEFAULT, *, key: bytes = b""
) -> Made:
    """The frame after the transforms, in order.

    ``strip-metadata`` leaves the pixels of JPEG and PNG files bit-equal and drops everything else (EXIF, XMP, comments,
    colour profiles, thumbnails, text, bytes after the end); other picture files become PNG; of rows only numbers,
    booleans, empty values and listed texts stay. All other transforms of pictures decode once and encode once, without
    metadata. ``hide-identifiers`` is for rows.

    Args:
        data: a picture file or a JSON row.
        media_type: ``image/…``, ``application/json`` or a window of a series.
        transforms: names of transforms; none returns the frame as it is.
        settings: their numbers.
        key: of keyed hashes, where the settings ask for them.
    Raises:
        CannotMakePrivate: unreadable bytes, an unknown transform, one that does not apply to this kind, or a frame that
            the transform says must not be kept (codes ``face_found``, ``uncertain``, ``detector_missing``).
    """
    kind = media_type.partition(";")[0].strip().lower()
    if not transforms:
        return Made(data=data, media_type=media_type)
    found: Counter[str] = Counter()
    if kind == ROW_TYPE:
        made = _private_row(data, transforms, settings, key, found)
    elif kind == SERIES_TYPE:
        made = _private_series(data, transforms)
    elif kind.startswith("image/"):
        made, kind = _private_picture(data, transforms, settings, found)
    else:
        raise CannotMakePrivate(f"{transforms[0]} of {media_type!r} is not known; needs a picture, a row or a series")
    return Made(data=made, media_type=kind, found=dict(found))


def _known(transforms: Sequence[str], known: frozenset[str], what: str) -> None:
    for name in transforms:
        if name not in known:
            raise CannotMakePrivate(f"{name!r} cannot be done to {what}; known are {', '.join(sorted(known))}")


# -- rows --------------------------------------------------------------------------------------------------------------


def _private_row(
    data: bytes, transforms: Sequence[str], settings: PrivateSettings, key: bytes, found: Counter[str]
) -> bytes:
    _known(transforms, ROW_TRANSFORMS, "a row of numbers")
    try:
        row = loads(data)
        if not isinstance(row, dict):
            raise CannotMakePrivate(f"a row must be a JSON object, got {type(row).__name__}")
        for name in transforms:
            if name == "strip-metadata":
                row = _numbers(row, frozenset(settings.text_fields), found)
            else:
                row = _hidden(row, settings, key, found)
        return canonical(row)
    except CannotMakePrivate:
        raise
    except NotValid as error:
        raise CannotMakePrivate(f"this row cannot be read, so it cannot be made private: {error}") from error


def _numbers(row: dict[str, object], listed: frozenset[str], found: Counter[str]) -> dict[str, object]:
    stays: dict[str, object] = {
        name: value
        for name, value in row.items()
        if value is None
        or isinstance(value, int | float)
        or (isinstance(value, str) and (name in listed or is_instead(value)))
    }
    if gone := len(row) - len(stays):
        found["text"] += gone
    return stays


def _hidden(row: dict[str, object], settings: PrivateSettings, key: bytes, found: Counter[str]) -> dict[str, object]:
    hider = Hider(action=settings.identifiers, key=key, listed=frozenset(settings.text_fields))
    hidden: dict[str, object] = hider.value(row)
    found.update(hider.found)
    return hidden


def _private_series(data: bytes, transforms: Sequence[str]) -> bytes:
    """A window of numbers holds nothing else, if it is one."""
    _known(transforms, ROW_TRANSFORMS, "a window of numbers")
    if not data or len(data) % 4 or not np.isfinite(np.frombuffer(data, "<f4")).all():
        raise CannotMakePrivate(f"these {len(data)} bytes are no window of finite numbers", code="unreadable")
    return data


# -- pictures ----------------------------------------------------------------------------------------------------------


def _private_picture(
    data: bytes, transforms: Sequence[str], settings: PrivateSettings, found: Counter[str]
) -> tuple[bytes, str]:
    _known(transforms, PICTURE_TRANSFORMS, "a picture")
    steps = [name for name in transforms if name != "strip-metadata"]
    try:
        if not steps:
            return _bare(data)
        pixels, is_jpeg = _decoded(data)
        for name in steps:
            pixels = _step(name, pixels, settings, found)
        return _encoded(pixels, is_jpeg)
    except (BadPicture, BadContainer) as error:
        raise CannotMakePrivate(
            f"{transforms[0]} failed, so this picture cannot be kept: {error}", code="unreadable"
        ) from error


def _step(name: str, pixels: Pixels, settings: PrivateSettings, found: Counter[str]) -> Pixels:
    match name:
        case "grey":
            return grey(pixels)
        case "centre-crop":
            return centre_crop(pixels)
        case "crop-region":
            return crop_region(pixels, settings.region)
        case "downscale":
            return downscale(pixels, settings.side_max)
        case "blur-faces":
            return blurred(pixels, FACES, "face", settings, found)
        case "blur-plates":
            return blurred(pixels, PLATES, "plate", settings, found)
        case "drop-faces":
            return without(pixels, FACES, "face")
    raise AssertionError(f"{name} is listed for pictures and has no step here")


def _bare(data: bytes) -> tuple[bytes, str]:
    # The bytes decide, not the media type: a PNG named .jpg must lose its text chunks too.
    if data.startswith(b"\xff\xd8"):
        return bare_jpeg(data), "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return bare_png(data), "image/png"
    pixels, is_jpeg = _decoded(data)
    return _encoded(pixels, is_jpeg)


def _decoded(data: bytes) -> tuple[Pixels, bool]:
    """Pixels with one channel where the file has no colours, and whether it is a JPEG."""
    with open_image(data) as header:
        is_jpeg = header.format in ("JPEG", "MPO")
        one_channel = header.mode in ("L", "1", "LA") or header.mode.startswith("I;16")
    return decode_image(data, channels=1 if one_channel else 3), is_jpeg


def _encoded(pixels: Pixels, is_jpeg: bool) -> tuple[bytes, str]:
    """JPEG stays JPEG, everything else becomes PNG, which loses nothing."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
    file = io.BytesIO()
    if is_jpeg:
        picture.save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue(), "image/jpeg"
    picture.save(file, "PNG")
    return file.getvalue(), "image/png"
