"""What both sides of opening a model of others share: what can be missing, and the inputs on which it is compared."""

from __future__ import annotations

import numpy as np

from edgewise.frames import golden_inputs
from edgewise.learn._trainer import Floats
from edgewise.wire import ImageSpec, InputSpec

SEED = 20_26
PICTURES, ROWS = 4, 64
SCALES = (1.0, 10.0, 100.0)  # columns as they come may hold tens or hundreds


class Missing(Exception):
    """What a model lacks to become a network.

    Attributes:
        about: the thing in one word, as in a `Finding`.
    """

    def __init__(self, about: str, text: str) -> None:
        super().__init__(text)
        self.about = about


def parity_inputs(spec: InputSpec) -> Floats:
    """Prepared inputs, float32 (N, …): 4 pictures, or 64 rows or series each time as they are, tenfold, a hundredfold.

    They are generated, the same on both sides and on every machine.

    >>> from edgewise.wire import TableSpec
    >>> parity_inputs(TableSpec(columns=("a",), fill=(0.0,), mean=(0.0,), std=(1.0,))).shape
    (192, 1)
    """
    if isinstance(spec, ImageSpec):
        return golden_inputs(spec, SEED, PICTURES)
    rows = golden_inputs(spec, SEED, ROWS)
    return np.concatenate([rows * np.float32(scale) for scale in SCALES])


def batches(inputs: Floats, size: int | None) -> list[Floats]:
    """The inputs in pieces of one size, repeated where they do not fill one; in one piece for a free size.

    >>> [len(piece) for piece in batches(np.zeros((5, 1), np.float32), 2)]
    [2, 2]
    >>> [len(piece) for piece in batches(np.zeros((5, 1), np.float32), 8)]
    [8]
    """
    if size is None:
        return [inputs]
    if size > len(inputs):
        return [np.resize(inputs, (size, *inputs.shape[1:]))]
    return [inputs[at : at + size] for at in range(0, len(inputs) - size + 1, size)]
