"""Pictures as a worse camera would have taken them, the same each time: what robustness is measured on.

The kinds and their order of strength follow Hendrycks and Dietterich, "Benchmarking neural network robustness to common
corruptions and perturbations", ICLR 2019, for cameras that inspect: out of focus, another light, noise, and a part that
lies elsewhere. Not among the room's names: a device never needs it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgewise.frames._image import decode_image
from edgewise.wire import NotValid

Pixels = NDArray[np.float32]  # (H, W, C), 0 to 255
BLUR_SHARE = 0.01  # of the shorter side: deviation of the blur, one pixel at least
DARKER = 0.6
SLOPE = 0.4  # of full scale, from one edge to the other
FLAT = 0.5  # of the contrast
NOISE = 0.06  # of full scale
SHIFT = 0.05  # of each side

HARMS: Mapping[str, str] = MappingProxyType(
    {
        "blur": f"out of focus by {BLUR_SHARE:.0%} of the shorter side, one pixel at least",
        "darker": f"{DARKER:.0%} of the light",
        "light from one side": f"{SLOPE:.0%} of full scale from left to right",
        "contrast": f"{FLAT:.0%} of the contrast",
        "noise": f"{NOISE:.0%} of full scale",
        "shift": f"moved by {SHIFT:.0%} of each side",
    }
)


def harmed(data: bytes, kind: str, *, channels: int = 3) -> bytes:
    """A picture with one of `HARMS`, as a PNG file. The same picture gives the same bytes.

    Args:
        data: the file, as `decode_image` reads it.
        channels: 1 for grey, 3 for colour.
    Raises:
        NotValid: another kind, or a picture that cannot be read.

    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (8, 8), 100).save(file, "PNG")
    >>> int(decode_image(harmed(file.getvalue(), "darker", channels=1), channels=1)[0, 0, 0])
    60
    """
    if kind not in _WAYS:
        raise NotValid(f"there is no harm {kind!r}; there are {', '.join(HARMS)}", code="harm_unknown")
    pixels = decode_image(data, channels=3 if channels == 3 else 1)
    seed = int.from_bytes(hashlib.sha256(data + kind.encode()).digest()[:8])
    made = _WAYS[kind](pixels.astype(np.float32), np.random.Generator(np.random.PCG64(seed)))
    whole = np.clip(np.rint(made), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(whole[..., 0] if whole.shape[2] == 1 else whole).save(file, "PNG")
    return file.getvalue()


def _blur(pixels: Pixels, _chance: np.random.Generator) -> Pixels:
    reach = max(1.0, BLUR_SHARE * min(pixels.shape[:2]))
    planes = [Image.fromarray(pixels[..., one].astype(np.uint8)) for one in range(pixels.shape[2])]
    return np.stack([np.asarray(one.filter(ImageFilter.GaussianBlur(reach)), np.float32) for one in planes], axis=2)


def _darker(pixels: Pixels, _chance: np.random.Generator) -> Pixels:
    return DARKER * pixels


def _one_side(pixels: Pixels, _chance: np.random.Generator) -> Pixels:
    across = np.linspace(-0.5, 0.5, pixels.shape[1], dtype=np.float32)[None, :, None]
    return np.asarray(pixels + 255 * SLOPE * across, np.float32)


def _contrast(pixels: Pixels, _chance: np.random.Generator) -> Pixels:
    return np.asarray(pixels.mean() + FLAT * (pixels - pixels.mean()), np.float32)


def _noise(pixels: Pixels, chance: np.random.Generator) -> Pixels:
    return pixels + 255 * NOISE * chance.standard_normal(pixels.shape, dtype=np.float32)


def _shift(pixels: Pixels, chance: np.random.Generator) -> Pixels:
    down, right = (round(SHIFT * side) * int(chance.choice((-1, 1))) for side in pixels.shape[:2])
    rows = np.clip(np.arange(pixels.shape[0]) - down, 0, pixels.shape[0] - 1)
    columns = np.clip(np.arange(pixels.shape[1]) - right, 0, pixels.shape[1] - 1)
    return np.ascontiguousarray(pixels[rows][:, columns])


_WAYS: Mapping[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "blur": _blur,
    "darker": _darker,
    "light from one side": _one_side,
    "contrast": _contrast,
    "noise": _noise,
    "shift": _shift,
}
