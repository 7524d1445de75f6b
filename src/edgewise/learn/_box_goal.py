"""What a network that finds boxes learns: sure centres, few other ones, and how large the boxes are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgewise.learn._steps import Held, Recipe

SURE, NEAR = 2, 4  # exponents: of how wrong an answer is, and of how far a cell is from a centre
EXTENTS = 0.5  # weight of the extents beside the centres; our choice
VALIDATE_COUNT = 64


class BoxGoal:
    """Focal loss on the maps of centres, and the distance of the extents in cells with a centre.

    Args:
        held: its `truth` are the maps of `_box_data.targets`, float32 (N, K + 5, h, w).
    Source: Law and Deng, CornerNet, 2018 (focal loss with bells); Zhou, Wang, Krähenbühl, 2019.
    """

    def __init__(self, held: Held, recipe: Recipe) -> None:
        self._held, self._recipe = held, recipe

    def loss(self, network: nn.Module, picked: Tensor, chance: np.random.Generator) -> Tensor:
        """See `Goal.loss`. Pictures are mirrored, brighter or darker, and noisy; their maps are mirrored with them."""
        recipe = self._recipe
        pictures, truth = mirrored(self._held.features[picked], self._held.truth[picked], chance)
        count = len(picked)
        gain = 1 + torch.from_numpy(chance.uniform(-recipe.gain, recipe.gain, (count, 1, 1, 1)).astype(np.float32))
        noise = torch.from_numpy(chance.standard_normal(tuple(pictures.shape), dtype=np.float32)) * recipe.noise
        pictures = (pictures * gain + noise).to(recipe.device).contiguous(memory_format=torch.channels_last)
        centres, extents = network(pictures)
        return loss_of(centres, extents, truth.to(recipe.device))

    def validate(self, network: nn.Module, part: Sequence[int]) -> tuple[float, float]:
        """See `Goal.validate`; the recall is that of centres, found in their own cell or one beside it."""
        losses: list[float] = []
        hits: dict[int, list[float]] = {}
        for start in range(0, len(part), VALIDATE_COUNT):
            some = list(part[start : start + VALIDATE_COUNT])
            truth = self._held.truth[some]
            centres, extents = (one.cpu() for one in network(self._held.features[some].to(self._recipe.device)))
            losses.append(float(loss_of(centres, extents, truth)) * len(some))
            near = functional.max_pool2d(centres.sigmoid(), 3, stride=1, padding=1)
            classes = truth.shape[1] - 5
            at = (truth[:, :classes] == 1) & (truth[:, -1:] == 1)
            for picture, one, row, column in at.nonzero().tolist():
                hits.setdefault(one, []).append(float(near[picture, one, row, column] >= 0.5))
        recall = float(np.mean([np.mean(found) for found in hits.values()])) if hits else 0.0
        return sum(losses) / max(1, len(part)), recall


def loss_of(centres: Tensor, extents: Tensor, truth: Tensor) -> Tensor:
    """The loss of logits of centres (N, K, h, w) and extents (N, 4, h, w) beside the true maps (N, K + 5, h, w)."""
    classes = centres.shape[1]
    wanted, sizes, at = truth[:, :classes], truth[:, classes:-1], truth[:, -1:]
    is_centre = (wanted == 1).float()
    log_yes, log_no = functional.logsigmoid(centres), functional.logsigmoid(-centres)
    sure = centres.sigmoid()
    found = -((1 - sure) ** SURE) * log_yes * is_centre
    others = -(sure**SURE) * log_no * (1 - wanted) ** NEAR * (1 - is_centre)
    distance = ((extents - sizes).abs() * at).sum()
    return (found.sum() + others.sum()) / is_centre.sum().clamp(min=1) + EXTENTS * distance / at.sum().clamp(min=1)


def mirrored(pictures: Tensor, truth: Tensor, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Half of the pictures from right to left, half from bottom to top, each with its maps."""
    for axis, place in ((3, -3), (2, -2)):  # where the centre lies in its cell: x is the third last map, y the next
        flip = torch.from_numpy(chance.random(len(pictures)) < 0.5)[:, None, None, None]
        pictures = torch.where(flip, pictures.flip(axis), pictures)
        other = truth.flip(axis).clone()
        other[:, place] = (1 - other[:, place]) * other[:, -1]
        truth = torch.where(flip, other, truth)
    return pictures, truth
