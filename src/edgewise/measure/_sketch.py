"""A day's sketch from embeddings and scores, and the basis that travels in the bundle to make it.

The basis reduces an embedding to at most 64 directions in which the training data has deviation 1 (whitening), of which
16 mixtures are summed, and holds the mean of each class there. The distance of a frame from the nearest of these means
is its novelty: what belongs to no known class is far from all of them, wherever the network puts it.

Source: the distance as in Lee, Lee, Lee and Shin, A simple unified framework for detecting out-of-distribution samples,
2018; counting it by steps of the training data, and the 16 mixtures, are our choice (docs/drift.md has what they gave).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewise.wire import NotValid, SketchBasis
from edgewise.wire.sketch import BINS, CLASSES_MAX, CLIP, DIMENSIONS, STEPS, UNITS, DaySketch

Floats = NDArray[np.floating]
DIRECTIONS_MAX = 64
QUANTILES = (0.5, 0.8, 0.95, 0.98)  # of novelty in training, between the first steps
BEYOND = (1.3, 1.7)  # times the last of them, between the others
CONFIDENCE_PER_STEP = 3  # steps of confidence for each factor of ten of what is missing to 1
RIDGE = 1e-3  # of the widest direction: narrower ones count as so wide, or rounding would be taken for novelty


@dataclass(frozen=True, kw_only=True, slots=True)
class Sketcher:
    """Makes sketches of one bundle's frames.

    Attributes:
        center: float32 (D,), the embedding's mean in training.
        whiten: float32 (D, W), to directions with a deviation of 1 within a class.
        mix: float32 (W, 16), to the directions that are summed.
        means: float32 (C, W), of each class that training had.
        steps: float32 (6,), squared distances between the steps of novelty.
    """

    center: NDArray[np.float32]
    whiten: NDArray[np.float32]
    mix: NDArray[np.float32]
    means: NDArray[np.float32]
    steps: NDArray[np.float32]

    @classmethod
    def fit(cls, embeddings: Floats, decided: NDArray[np.integer]) -> Sketcher:
        """From training's own embeddings (N, D) and the classes (N,) that the network decides for them.

        Raises:
            NotValid: fewer samples than twice the directions, or shapes that do not belong together.
        """
        if embeddings.ndim != 2 or decided.shape != (len(embeddings),):
            raise NotValid(f"embeddings {embeddings.shape} and classes {decided.shape}: needs (N, D), (N,)",
                           code="shape_wrong")  # fmt: skip
        width = min(embeddings.shape[1], DIRECTIONS_MAX)
        if len(embeddings) < 2 * width:
            raise NotValid(f"{len(embeddings)} samples for a sketch's basis, needs {2 * width}", code="too_few_samples")
        values = embeddings.astype(np.float64)
        center = values.mean(axis=0)
        classes = [one for one in np.unique(decided) if (decided == one).sum() >= 2]
        within = values.copy()
        for one in classes:
            within[decided == one] -= values[decided == one].mean(axis=0)
        sizes, axes = np.linalg.eigh(within.T @ within / len(within))
        sizes, axes = sizes[::-1][:width], axes[:, ::-1][:, :width]
        whiten = axes / np.sqrt(np.maximum(sizes, RIDGE * max(sizes[0], 1e-12)))
        white = (values - center) @ whiten
        means = np.stack([white[decided == one].mean(axis=0) for one in classes] or [np.zeros(width)])
        steps = np.quantile(_distances(white, means), QUANTILES)
        steps = np.concatenate([steps, steps[-1] * np.array(BEYOND)])
        return cls(
            **{
                name: np.asarray(value, np.float16).astype(np.float32)
                for name, value in (
                    ("center", center), ("whiten", whiten), ("mix", _mix(values - center, whiten)), ("means", means))
            },
            steps=np.asarray(steps, np.float32),
        )  # fmt: skip

    @classmethod
    def of_basis(cls, basis: SketchBasis) -> Sketcher:
        """The one that a bundle brings.

        Raises:
            NotValid: its numbers do not have the declared shapes.
        """
        width = basis.width
        return cls(
            center=_unpacked(basis.center, (-1,)),
            whiten=_unpacked(basis.whiten, (-1, width)),
            mix=_unpacked(basis.mix, (width, DIMENSIONS)),
            means=_unpacked(basis.means, (-1, width)),
            steps=np.asarray(basis.steps, np.float32),
        )

    def basis(self) -> SketchBasis:
        """What the bundle's manifest holds of it; half precision."""
        return SketchBasis(
            width=self.whiten.shape[1],
            **{name: _packed(getattr(self, name)) for name in ("center", "whiten", "mix", "means")},
            steps=tuple(round(float(step), 4) for step in self.steps),
        )

    def sketch(self, embeddings: Floats, decided: NDArray[np.integer], confidence: Floats, classes: int) -> DaySketch:
        """Of frames.

        Args:
            embeddings: float (N, D); what is no number counts as the mean.
            decided: int (N,), the class of each, from 0.
            confidence: float (N,), 0 to 1.
            classes: how many the bundle has.
        Raises:
            NotValid: no frames, or shapes that do not belong together.
        """
        count = len(embeddings)
        if not count or embeddings.ndim != 2 or embeddings.shape[1] != len(self.center):
            raise NotValid(f"embeddings are {embeddings.shape}, needs (1 or more, {len(self.center)})",
                           code="shape_wrong")  # fmt: skip
        if decided.shape != (count,) or confidence.shape != (count,):
            raise NotValid(f"{decided.shape} classes and {confidence.shape} confidences for {count} frames",
                           code="shape_wrong")  # fmt: skip
        away = np.nan_to_num(embeddings.astype(np.float32) - self.center, nan=0.0, posinf=0.0, neginf=0.0)
        white = away @ self.whiten
        units = np.rint(np.clip(white @ self.mix, -CLIP, CLIP) * UNITS).astype(np.int64)
        novelty = np.searchsorted(self.steps, _distances(white, self.means))
        return DaySketch(
            count=count,
            sums=tuple(units.sum(axis=0).tolist()),
            classes=_counted(np.minimum(decided, CLASSES_MAX - 1), min(classes, CLASSES_MAX)),
            novelty=_counted(novelty, STEPS),
            confidence=_counted(confidence_bin(confidence), BINS),
        )


def confidence_bin(confidence: Floats) -> NDArray[np.int64]:
    """Which of the 12 bins each confidence falls into: three for each factor of ten that is missing to 1.

    >>> confidence_bin(np.array([0.2, 0.5, 0.9, 0.99, 1.0])).tolist()
    [0, 0, 3, 6, 11]
    """
    missing = np.clip(1 - np.nan_to_num(confidence.astype(np.float64)), 1e-9, 1.0)
    return np.clip((-np.log10(missing) * CONFIDENCE_PER_STEP + 1e-9).astype(np.int64), 0, BINS - 1)


def confidence_of_bin() -> NDArray[np.float64]:
    """(12,): a confidence for each bin, the middle of its logarithmic width; that of the last is 1 - 10^-3.83."""
    return np.asarray(1 - 10 ** (-(np.arange(BINS) + 0.5) / CONFIDENCE_PER_STEP))


def _mix(away: NDArray[np.float64], whiten: NDArray[np.float64]) -> NDArray[np.float64]:
    """Random mixtures of the embedding's own standardised values, each with deviation 1, from whitened directions."""
    rng = np.random.default_rng(0)
    spread = np.maximum(away.std(axis=0), 1e-9)
    mixed = (away / spread) @ rng.standard_normal((away.shape[1], DIMENSIONS))
    found = np.linalg.lstsq(away @ whiten, mixed / np.maximum(mixed.std(axis=0), 1e-9), rcond=None)[0]
    return np.asarray(found)


def _distances(white: NDArray[np.floating], means: NDArray[np.floating]) -> NDArray[np.floating]:
    """Squared distance of each row (N, W) from the nearest mean (C, W)."""
    squares = (white**2).sum(axis=1)[:, None] - 2 * white @ means.T + (means**2).sum(axis=1)
    return np.asarray(np.maximum(squares.min(axis=1), 0))


def _counted(places: NDArray[np.integer], length: int) -> tuple[int, ...]:
    return tuple(np.bincount(places, minlength=length)[:length].tolist())


def _packed(values: NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype("<f2").tobytes()).decode()


def _unpacked(text: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        return np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32).reshape(shape)
    except ValueError as error:
        raise NotValid(f"a sketch's basis does not have shape {shape}: {error}", code="shape_wrong") from error
