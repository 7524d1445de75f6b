"""Whether the pixels of a DICOM object may show text about a patient: by what it says of itself, and by a look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.frames._cannot import CannotMakePrivate

RISKY_MODALITIES = frozenset({"US", "SC", "OT", "XC", "ES", "GM", "SM", "IVUS", "OP", "DOC", "SR", "HC", "IO"})
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and everything below it
ULTRASOUND = ("1.2.840.10008.5.1.4.1.1.3.", "1.2.840.10008.5.1.4.1.1.6.")
UNPACKED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"})
RLE = "1.2.840.10008.1.2.5"
JPEG = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81))
# Text: in a line of pixels many steps between dark and bright, for a few lines running.
STEP_MIN = 0.3  # of the picture's range
STEPS_MIN = 8  # in a stretch of `STRETCH` pixels
STRETCH = 64
LINES_MIN = 5
SIDE_MAX = 4096


def check_encoding(dataset: Any) -> None:
    """Nothing, when the encoded pixels hold nothing but pixels.

    Raises:
        CannotMakePrivate: a JPEG with comments or applications' data in it, or an encoding that is not looked into
            (code ``pixels_forbidden``).
    """
    if "PixelData" not in dataset:
        return
    encoding = str(dataset.file_meta.TransferSyntaxUID)
    if encoding in UNPACKED:
        return _check_size(dataset)
    if encoding == RLE and _look(dataset) is not None:
        return
    if encoding not in JPEG:
        raise CannotMakePrivate("its pixels are in an encoding that is not looked into", code="pixels_forbidden")
    from pydicom.encaps import generate_frames

    count = int(dataset.get("NumberOfFrames", 1) or 1)
    try:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
    except Exception as error:  # as with all of pydicom on hostile bytes
        raise CannotMakePrivate("its encoded pixels cannot be taken apart", code="unreadable") from error
    if any(_has_words(frame) for frame in frames):
        raise CannotMakePrivate("something else lies between its encoded pixels", code="pixels_forbidden")


def _check_size(dataset: Any) -> None:
    """As many bytes as the picture needs: in more of them, after a wrong length, the rest of the object may lie."""
    try:
        samples = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("SamplesPerPixel", 1))
        bits = samples * int(dataset.get("NumberOfFrames", 1) or 1) * int(dataset.BitsAllocated)
    except (AttributeError, TypeError, ValueError) as error:
        raise CannotMakePrivate("its pixels have no size", code="pixels_forbidden") from error
    if not 0 <= len(dataset.PixelData) - (bits + 7) // 8 <= 1:
        raise CannotMakePrivate("its pixels have another size than it says", code="pixels_forbidden")


def _has_words(jpeg: bytes) -> bool:
    """Whether a comment or an application's segment, other than JFIF's and Adobe's, or something after the end."""
    end = jpeg.rfind(b"\xff\xd9")
    if len(jpeg) - end > 3:
        return True
    place = 2
    while jpeg[:2] == b"\xff\xd8" and place + 4 <= len(jpeg) and jpeg[place] == 0xFF and jpeg[place + 1] != 0xDA:
        marker, size = jpeg[place + 1], int.from_bytes(jpeg[place + 2 : place + 4], "big")
        harmless = (marker == 0xE0 and size == 16) or (marker == 0xEE and size == 14)
        if (0xE0 <= marker <= 0xEF and not harmless) or marker == 0xFE:
            return True
        place += 2 + size
    return False


def burned_in(dataset: Any) -> list[str]:
    """Why the pixels may show text, in words; empty when nothing speaks for it.

    An object that says ``BurnedInAnnotation`` NO is believed about its kind, and looked at all the same.
    """
    said = str(dataset.get("BurnedInAnnotation", "")).upper()
    reasons = ["it says that annotations are burned in"] if said == "YES" else []
    if said != "NO" and _is_risky_kind(dataset):
        reasons.append("objects of its kind often show names in their pixels")
    seen = _look(dataset)
    if seen is None:
        reasons.append("its pixels could not be looked at")
    elif seen:
        reasons.append("something in its pixels looks like text")
    return reasons


def _is_risky_kind(dataset: Any) -> bool:
    kind = str(dataset.get("SOPClassUID", ""))
    image_type = [str(word).upper() for word in _many(dataset.get("ImageType"))]
    return (
        str(dataset.get("Modality", "")).upper() in RISKY_MODALITIES
        or kind == SECONDARY_CAPTURE
        or kind.startswith((SECONDARY_CAPTURE + ".", *ULTRASOUND))
        or "SCREEN SAVE" in image_type
        or (len(image_type) > 1 and image_type[0] == "DERIVED" and image_type[1] == "SECONDARY")
    )


def _many(value: Any) -> Sequence[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _look(dataset: Any) -> bool | None:
    """Whether the first frame holds something like text; None when it cannot be decoded."""
    if "PixelData" not in dataset:
        return False
    try:
        pixels = np.asarray(dataset.pixel_array)
    except Exception:  # decoders are many and raise almost anything; each means the same here
        return None
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        pixels = pixels[0]
    return looks_like_text(pixels if pixels.ndim == 2 else pixels.max(axis=2))


def looks_like_text(pixels: NDArray[Any]) -> bool:
    """Whether lines of a picture step between dark and bright as often as letters do.

    A coarse detector of our own, made for labels of scanners; docs/privacy.md has what it finds and misses.

    Args:
        pixels: (H, W), any numbers.

    >>> looks_like_text(np.zeros((64, 64)))
    False
    """
    plane = np.asarray(pixels, dtype=np.float32)[:SIDE_MAX, :SIDE_MAX]
    low, high = float(plane.min()), float(plane.max())
    if high <= low or plane.shape[1] < 16:
        return False
    plane = (plane - low) / (high - low)
    # Strokes are one to four pixels wide, and a smooth edge is no step at all.
    steps = np.abs(plane[:, 2:] - plane[:, :-2]) > STEP_MIN
    starts = steps[:, 1:] & ~steps[:, :-1]
    counts = np.cumsum(np.pad(starts.astype(np.int32), ((0, 0), (1, 0))), axis=1)
    stretch = min(STRETCH, counts.shape[1] - 1)
    busy = (counts[:, stretch:] - counts[:, :-stretch]).max(axis=1) >= STEPS_MIN
    runs = np.convolve(busy.astype(np.int32), np.ones(LINES_MIN, np.int32), "valid")
    return bool(runs.size and runs.max() >= LINES_MIN)
