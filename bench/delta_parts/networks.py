"""Two networks of well-known shape, small enough to train inside a benchmark.

Sources of the shapes: Sandler et al., MobileNetV2, 2018, table 2; He et al., Deep Residual Learning, 2016, table 1.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CLASSES = 10


class Unit(nn.Module):
    """Convolution, batch normalisation, activation; export folds the first two into one convolution."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, act: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.act = act or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.conv(x)))

    def fold(self) -> None:
        """Fold the normalisation into the convolution, for export."""
        self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        widen = [Unit(inputs, hidden, 1, act=nn.ReLU6())] if expand > 1 else []
        self.layers = nn.Sequential(
            *widen, Unit(hidden, hidden, 3, stride, groups=hidden, act=nn.ReLU6()), Unit(hidden, outputs, 1)
        )
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.skip else self.layers(x)


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Unit(inputs, outputs, 3, stride, act=nn.ReLU()), Unit(outputs, outputs, 3))
        self.short = Unit(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layers(x) + self.short(x))


class Network(nn.Module):
    """Blocks, mean over the picture, one linear layer."""

    def __init__(self, blocks: list[nn.Module], features: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(features, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(x).mean((2, 3)))

    def fold(self) -> Network:
        """Fold every normalisation, for export."""
        for module in list(self.modules()):
            if isinstance(module, Unit):
                module.fold()
        return self


def mobilenet_v2_like() -> Network:
    """2.2 million weights, 8.9 MB; strides 1 less than the original for 48-pixel pictures."""
    table = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    blocks: list[nn.Module] = [Unit(3, 32, 3, 2, act=nn.ReLU6())]
    inputs = 32
    for expand, outputs, count, stride in table:
        for index in range(count):
            blocks.append(InvertedResidual(inputs, outputs, stride if index == 0 else 1, expand))
            inputs = outputs
    return Network([*blocks, Unit(320, 1280, 1, act=nn.ReLU6())], 1280)


def resnet18_like() -> Network:
    """11.2 million weights, 44.7 MB."""
    blocks: list[nn.Module] = [Unit(3, 64, 7, 2, act=nn.ReLU()), nn.MaxPool2d(2)]
    inputs = 64
    for outputs in (64, 128, 256, 512):
        for index in range(2):
            blocks.append(BasicBlock(inputs, outputs, 2 if index == 0 and outputs > 64 else 1))
            inputs = outputs
    return Network(blocks, 512)
