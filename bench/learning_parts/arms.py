"""Ways to choose which frames of a site and round are sent: this loop's own, and those it is measured against."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewise.edge.keep import Seen, remember, select
from edgewise.ports import SeededChance

Floats = NDArray[np.float32]
CROPS = 10  # of a site and round, in bytes: so many of mean size
SEDNA_THRESHOLD = 0.5  # Sedna's default for its CrossEntropyFilter


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a device knows of the frames of one site and round.

    Attributes:
        sizes: bytes of each frame.
        scores: float32 (N, C), probabilities. embeddings: float32 (N, D).
    """

    sizes: Sequence[int]
    scores: Floats
    embeddings: Floats

    @property
    def budget_bytes(self) -> int:
        return math.ceil(CROPS * sum(self.sizes) / len(self.sizes))

    @property
    def margins(self) -> Floats:
        best = np.sort(self.scores, axis=1)
        return np.asarray(best[:, -1] - best[:, -2], np.float32)

    @property
    def entropies(self) -> Floats:
        """Of the probabilities, 0 to 1."""
        safe = np.where(self.scores > 0, self.scores, 1)
        return np.asarray(-(safe * np.log(safe)).sum(axis=1) / math.log(self.scores.shape[1]), np.float32)


Choice = Callable[[Look], list[int]]


class Ours:
    """What a device of edgewise keeps: `edge.keep.select` on one period of a round, one for each site."""

    def __init__(self, seed: int) -> None:
        self._chance = SeededChance(seed)
        self._remembered: Floats | None = None

    def __call__(self, look: Look) -> list[int]:
        seen = [
            Seen(margin=float(margin), size_bytes=size, embedding=point)
            for margin, size, point in zip(look.margins, look.sizes, look.embeddings, strict=True)
        ]
        # A new network is there each round, and embeddings of two networks cannot be compared.
        picks = [pick.index for pick in select(seen, look.budget_bytes, self._chance)]
        self._remembered = remember(None, [look.embeddings[index] for index in picks])
        return picks


class Random:
    """Frames by lot."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64([seed, 70]))

    def __call__(self, look: Look) -> list[int]:
        return _within(look, self._rng.permutation(len(look.sizes)).tolist())


def entropy(look: Look) -> list[int]:
    """The frames of highest entropy."""
    return _within(look, np.argsort(-look.entropies, kind="stable").tolist())


def sedna(look: Look) -> list[int]:
    """KubeEdge Sedna's CrossEntropyFilter: whatever is hard, first come, until the budget is spent.

    Hard is what has 1 - entropy / log(classes) below the threshold. Source: kubeedge/sedna, hard example mining.
    """
    return _within(look, np.flatnonzero(1 - look.entropies < SEDNA_THRESHOLD).tolist())


def everything(look: Look) -> list[int]:
    """All of them."""
    return list(range(len(look.sizes)))


def nothing(_look: Look) -> list[int]:
    """None of them."""
    return []


def _within(look: Look, order: Sequence[int]) -> list[int]:
    """The first ones that fit into the budget."""
    left, picks = look.budget_bytes, []
    for index in order:
        if look.sizes[index] <= left:
            left -= look.sizes[index]
            picks.append(index)
    return picks
