"""OpenCV, quiet and on one thread; pictures from its arrays."""

from __future__ import annotations

import os
from typing import Any

from edgewise.ports._extras import library
from edgewise.wire import CameraSpec, NotValid, VideoSpec

MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp"}


def opencv(what: str) -> Any:
    """The module. NotValid: it is not installed.

    It and FFmpeg inside write each failure to standard error by themselves, a camera that is off a thousand times; we
    say it once instead. Decisions need the cores more than a decoder does.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    cv2 = library("cv2", "camera", what)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    cv2.setNumThreads(1)
    return cv2


def packed(cv2: Any, pixels: Any, spec: VideoSpec | CameraSpec) -> bytes:
    """A picture's file from pixels, uint8 (height, width, 3) in the order blue, green, red.

    Raises:
        NotValid: it has more pixels than ``pixels_max``, or cannot be packed.
    """
    height, width = pixels.shape[:2]
    if height * width > spec.pixels_max:
        raise NotValid(f"a picture of {width} x {height}, at most {spec.pixels_max} pixels are taken")
    options = [cv2.IMWRITE_JPEG_QUALITY, spec.jpeg_quality] if spec.format == "jpeg" else []
    done, data = cv2.imencode(f".{spec.format}", pixels, options)
    if not done:
        raise NotValid(f"a picture of {width} x {height} cannot be packed as {spec.format}")
    return bytes(data)
