"""How bright a picture is and how much it varies: what a network may hardly notice, and a lamp's age shows in.

A network that first brings each picture to the same mean and deviation answers the same when the light changes, and
its embeddings stay – until pixels saturate or noise comes up. Two plain numbers of some frames see it before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise.wire import NotValid
from edgewise.wire.sketch import BRIGHTNESS_UNITS, CONTRAST_MAX, UNITS, Light

LIGHT_SIDE = 64  # of the grey picture that is looked at


def light_of(grey: NDArray[np.floating]) -> Light:
    """Of one picture.

    Args:
        grey: float (height, width), 0 black to 1 white.
    Returns:
        one frame's `Light`: its mean in units of 1/1024, and how often its deviation halves from 1, at most 10 times,
        in units of 1/32.
    Raises:
        NotValid: not a picture of finite numbers.

    >>> half = np.array([[0.25, 0.75], [0.75, 0.25]])
    >>> light_of(half), light_of(half / 2), light_of(np.zeros((2, 2)))
    ((1, 512, 64), (1, 256, 96), (1, 0, 320))
    """
    middle, spread = float(grey.mean()), float(grey.std())
    if grey.ndim != 2 or not (math.isfinite(middle) and math.isfinite(spread)):
        raise NotValid(f"a picture of shape {grey.shape} has no light; needs (height, width) of numbers",
                       code="shape_wrong")  # fmt: skip
    halvings = min(max(-math.log2(max(spread, 2.0**-CONTRAST_MAX)), 0.0), CONTRAST_MAX)
    return 1, round(min(max(middle, 0.0), 1.0) * BRIGHTNESS_UNITS), round(halvings * UNITS)


def lights_together(lights: Sequence[Light]) -> Light | None:
    """The light of all these frames; None where there are none.

    >>> lights_together([(1, 32, 0), (2, 4, 6)])
    (3, 36, 6)
    """
    if not lights:
        return None
    count, brightness, contrast = (sum(part) for part in zip(*lights, strict=True))
    return count, brightness, contrast
