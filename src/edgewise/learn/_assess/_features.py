"""What a plain model sees of a sample: enough to say whether labels agree with it, and whether sites differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgewise.frames import decode_image, fingerprint
from edgewise.learn._dataset import TrainingSample
from edgewise.wire import NotValid, digest, loads

Floats = NDArray[np.float32]
SIDE, CELLS, DIRECTIONS = 64, 8, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """The samples that could be read, with what is known of their contents.

    Attributes:
        features: float32 (N, D).
        marks: fingerprints, int8 (N, 4096); None for rows.
        looks: brightness, contrast and sharpness, float32 (N, 3); None for rows.
        digests: of the contents.
        unreadable: the others, each with its reason.
    """

    samples: tuple[TrainingSample, ...]
    features: Floats
    marks: NDArray[np.int8] | None
    looks: Floats | None
    digests: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]


def look(samples: Sequence[TrainingSample], progress: Callable[[str, float], None]) -> Looked:
    """Read every sample once. Pictures and rows are not mixed: the first readable one decides which it is.

    Raises:
        NotValid: nothing can be read.
    """
    kept: list[TrainingSample] = []
    unreadable: list[tuple[str, str]] = []
    digests: list[str] = []
    pictures: list[tuple[Floats, NDArray[np.int8], Floats]] = []
    rows: list[dict[str, float]] = []
    is_table = bool(samples) and not samples[0].media_type.startswith("image/")
    for number, sample in enumerate(samples):
        progress("read", number / len(samples))
        try:
            data = sample.read()
            if is_table:
                rows.append(_numbers(data))
            else:
                pictures.append(_of_picture(data))
        except (NotValid, OSError) as error:
            unreadable.append((sample.name, str(error)))
            continue
        kept.append(sample)
        digests.append(digest(data))
    if not kept:
        first = f", first {unreadable[0][0]}: {unreadable[0][1]}" if unreadable else ""
        raise NotValid(f"none of the {len(samples)} samples can be read{first}", code="data_unreadable")
    return Looked(
        samples=tuple(kept),
        features=_table(rows) if is_table else np.stack([one[0] for one in pictures]),
        marks=None if is_table else np.stack([one[1] for one in pictures]),
        looks=None if is_table else np.stack([one[2] for one in pictures]),
        digests=tuple(digests),
        unreadable=tuple(unreadable),
    )


def _of_picture(data: bytes) -> tuple[Floats, NDArray[np.int8], Floats]:
    pixels = decode_image(data, channels=1)
    grey = pixels[:, :, 0].astype(np.float32)
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    down, right = (np.asarray(change, np.float32) for change in np.gradient(small))
    looks = np.array(
        [small.mean() / 255, small.std() / 255, np.hypot(down, right).mean() / (small.std() + 1)], np.float32
    )
    return _histograms(small, down, right), fingerprint(pixels), looks


def _histograms(small: Floats, down: Floats, right: Floats) -> Floats:
    """Edges by direction in each of 8 × 8 cells, and mean and spread of the cells, float32 (640,).

    Source: Dalal and Triggs, Histograms of oriented gradients, CVPR 2005; without their blocks.
    """
    strength = np.hypot(down, right)
    bins = ((np.arctan2(down, right) % np.pi) / np.pi * DIRECTIONS).astype(int) % DIRECTIONS
    cell = SIDE // CELLS
    where = np.arange(SIDE) // cell
    place = (where[:, None] * CELLS + where[None, :]) * DIRECTIONS + bins
    edges = np.bincount(place.ravel(), strength.ravel(), CELLS * CELLS * DIRECTIONS).reshape(-1, DIRECTIONS)
    edges = np.sqrt(edges / (edges.sum() + 1e-6))
    blocks = small.reshape(CELLS, cell, CELLS, cell)
    level = (blocks.mean((1, 3)) - small.mean()) / (small.std() + 1)
    spread = blocks.std((1, 3)) / (small.std() + 1)
    return np.concatenate([edges.ravel(), level.ravel(), spread.ravel()]).astype(np.float32)


def _numbers(data: bytes) -> dict[str, float]:
    row = loads(data)
    if not isinstance(row, dict):
        raise NotValid("the row is no JSON object of numbers", code="row_invalid")
    values = {name: float(value) for name, value in row.items() if type(value) in (int, float)}
    for name, value in row.items():
        if isinstance(value, list) and value and all(type(one) in (int, float) for one in value):
            series = np.array(value, np.float64)
            values |= {f"{name} mean": float(series.mean()), f"{name} spread": float(series.std())}
    if not values:
        raise NotValid("the row holds no number", code="row_invalid")
    return values


def _table(rows: Sequence[dict[str, float]]) -> Floats:
    names = sorted({name for row in rows for name in row})
    table = np.array([[row.get(name, np.nan) for name in names] for row in rows], np.float64)
    table[~np.isfinite(table)] = np.nan
    middle = np.nanmedian(np.where(np.isnan(table).all(axis=0), 0.0, table), axis=0)
    table = np.where(np.isnan(table), middle, table)
    return np.asarray((table - table.mean(axis=0)) / (table.std(axis=0) + 1e-9), np.float32)
