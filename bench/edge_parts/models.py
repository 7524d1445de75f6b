"""The two networks of the benchmark, with random weights: a small one for sensors, one of MobileNetV2's shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from edge_parts.measure import say
from torch import nn

SMALL_SHAPE, SMALL_CLASSES = (3, 256), 8
VISION_SHAPE, VISION_CLASSES = (3, 224, 224), 1000


class SmallCnn(nn.Module):
    """1-D convolutions over a window of three channels and 256 steps, eight classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(3, 8, 7, 2, 3), nn.ReLU(), nn.Conv1d(8, 16, 5, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1),
            nn.Flatten(), nn.Linear(16, SMALL_CLASSES),
        )  # fmt: skip

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.layers(window), 1)


class Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        wide = [nn.Conv2d(inputs, hidden, 1), nn.ReLU6()] if expand > 1 else []
        self.layers = nn.Sequential(
            *wide, nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden), nn.ReLU6(), nn.Conv2d(hidden, outputs, 1)
        )
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.skip else self.layers(x)


class MobileNetLike(nn.Module):
    """Sandler et al., MobileNetV2, 2018, table 2, batch normalisation folded away."""

    TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU6()]
        channels = 32
        for expand, outputs, count, stride in self.TABLE:
            for index in range(count):
                layers.append(Inverted(channels, outputs, stride if index == 0 else 1, expand))
                channels = outputs
        layers += [nn.Conv2d(channels, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.layers = nn.Sequential(*layers, nn.Linear(1280, VISION_CLASSES))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.layers(picture), 1)


def networks(folder: Path) -> dict[str, Path]:
    """``small`` and ``vision`` as ONNX files, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, network, shape in (("small", SmallCnn, SMALL_SHAPE), ("vision", MobileNetLike, VISION_SHAPE)):
        made[name] = folder / f"{name}.onnx"
        if made[name].exists():
            continue
        say(f"exporting {name}")
        torch.manual_seed(0)
        torch.onnx.export(
            network().eval(), (torch.zeros(1, *shape),), str(made[name]), input_names=["input"],
            output_names=["scores"], dynamic_axes={"input": {0: "n"}, "scores": {0: "n"}}, opset_version=17,
            dynamo=False,
        )  # fmt: skip
    return made


def example(name: str) -> np.ndarray:
    """One input, float32 (1, …), the same each time."""
    shape = SMALL_SHAPE if name == "small" else VISION_SHAPE
    return np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
