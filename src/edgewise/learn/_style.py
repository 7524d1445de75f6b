"""Pictures in the manner of others: the amplitudes of one picture's spectrum moved towards those of another.

Where something is stays in the phases; how sharp, noisy, bright or ribbed a surface is lies in the amplitudes. So what
was labelled before a site drifted teaches in the manner of what the site sends now. Source: Xu et al., "A Fourier-based
framework for domain generalization" (amplitude mix), CVPR 2021.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mix_manners(pictures: Tensor, share: float, chance: np.random.Generator) -> Tensor:
    """Some pictures of a batch in the manner of others of it; each keeps its own mean and deviation.

    Args:
        pictures: float32 (N, C, H, W).
        share: of the pictures that are changed, each by a part drawn evenly from 0 to 1.
    """
    count = len(pictures)
    parts = chance.uniform(0, 1, count) * (chance.random(count) < share)
    part = torch.from_numpy(parts.astype(np.float32))[:, None, None, None]
    spectrum = torch.fft.rfft2(pictures)
    amplitudes = spectrum.abs()
    others = amplitudes[torch.from_numpy(chance.permutation(count))]
    mixed = torch.polar(amplitudes.lerp(others, part.expand_as(amplitudes)), spectrum.angle())
    found = torch.fft.irfft2(mixed, s=pictures.shape[-2:])
    axes = (1, 2, 3)
    centred = found - found.mean(axes, keepdim=True)
    level = centred.std(axes, keepdim=True).clamp_min(1e-6)
    styled: Tensor = centred / level * pictures.std(axes, keepdim=True) + pictures.mean(axes, keepdim=True)
    return styled
