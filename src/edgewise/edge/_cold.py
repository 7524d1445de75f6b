"""What can be said about a frame without any bundle."""

from __future__ import annotations

import numpy as np

from edgewise.edge._clusters import Floats
from edgewise.frames import Decided, decode_image
from edgewise.ports import Frame
from edgewise.wire import NotValid, loads

SIDE = 16
# A sample needs a decision; before the first bundle this one says that there was none.
UNDECIDED = Decided(label="undecided", confidence=0.0, defect=None, margin=0.0, release=None, bundle="0" * 64)


def plain_embedding(frame: Frame) -> Floats | None:
    """What the frame looks like: a small grey picture, or a row's numbers; None when it cannot be read.

    Returns:
        float32 (256,) for pictures, standardised; (columns,) for rows.
    """
    try:
        if frame.media_type.startswith("image/"):
            return _thumbnail(decode_image(frame.data, channels=1)[:, :, 0].astype(np.float32))
        row = loads(frame.data)
        if not isinstance(row, dict):
            return None
        values = [row[name] for name in sorted(row) if isinstance(row[name], int | float)]
        return np.array(values, dtype=np.float32) if values else None
    except NotValid:
        return None


def _thumbnail(pixels: Floats) -> Floats:
    rows = np.array_split(pixels, min(SIDE, len(pixels)))
    cells = [[float(cell.mean()) for cell in np.array_split(row, min(SIDE, row.shape[1]), axis=1)] for row in rows]
    small = np.array(cells, dtype=np.float32).ravel()
    return np.asarray((small - small.mean()) / (small.std() + 1e-6), dtype=np.float32)
