"""Masks of COCO: polygons, and runs of pixels, uncompressed or as the text of the COCO tools."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import BaseModel

from edgewise.wire import NotValid

Mask = NDArray[np.bool_]  # (height, width)


class Runs(BaseModel):
    """Lengths of runs of pixels down the columns, the first of pixels that are not meant."""

    size: tuple[int, int]  # height, width
    counts: str | list[int]


Drawn = Runs | list[list[float]] | None


def mask_in(drawn: Drawn, width: int, height: int, where: str) -> Mask | None:
    """The pixels that are meant; None where nothing is drawn. A polygon of less than three points draws nothing.

    Raises:
        NotValid: runs that do not fill the picture, or a polygon with an x that has no y.
    """
    if not drawn:
        return None
    if isinstance(drawn, Runs):
        return _of_runs(drawn, width, height, where)
    if not (polygons := [polygon for polygon in drawn if not is_line(polygon)]):
        return None
    canvas = Image.new("1", (width, height))
    for polygon in polygons:
        if len(polygon) % 2:
            raise NotValid(
                f"{where}: a polygon of {len(polygon)} numbers; needs an x and a y each", code="mask_invalid"
            )
        ImageDraw.Draw(canvas).polygon(polygon, fill=1)
    return np.asarray(canvas, dtype=np.bool_)


def is_line(polygon: Sequence[float]) -> bool:
    """Whether it has less than three points."""
    return len(polygon) < 6


def _of_runs(drawn: Runs, width: int, height: int, where: str) -> Mask:
    rows, columns = drawn.size
    runs = runs_of_text(drawn.counts, where) if isinstance(drawn.counts, str) else drawn.counts
    if (rows, columns) != (height, width) or min(runs, default=0) < 0 or sum(runs) != rows * columns:
        raise NotValid(
            f"{where}: a mask of {rows} x {columns} with runs of {sum(runs)} pixels in a picture of {height} x "
            f"{width}; they need to agree",
            code="mask_invalid",
        )
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.asarray(values.reshape(columns, rows).T, dtype=np.bool_)


def runs_of_text(text: str, where: str = "a mask") -> list[int]:
    """Runs from the COCO tools' text: groups of five bits, the sixth says that more follow; from the fourth run
    on each is told as the difference to the one before the last.

    >>> runs_of_text("52203")
    [5, 2, 2, 2, 5]
    """
    runs: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[place]) - 48 if place < len(text) else -1
            if not 0 <= bits < 64 or shift > 60:
                raise NotValid(f"{where}: the text of its runs is damaged; export it again", code="mask_invalid")
            value |= (bits & 31) << shift
            more, shift, place = bool(bits & 32), shift + 5, place + 1
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def png_of(mask: Mask) -> bytes:
    """A mask as a PNG, 0 and 255."""
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255, "L").save(file, "PNG", optimize=False)
    return file.getvalue()


def object_of(mask: Mask) -> dict[str, Any]:
    """`segmentation`, `bbox` and `area` of the whole mask as one object of uncompressed runs; it has some pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
    return {
        "bbox": box,
        "area": int(mask.sum()),
        "segmentation": {"size": list(mask.shape), "counts": _runs(mask.T.ravel())},
    }


def _runs(flat: Mask) -> Sequence[int]:
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs: list[int] = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    return [0, *runs] if flat[0] else runs
