"""The network for surfaces: a fixed first layer of local contrast, edges and spots, then a few learned layers.

With some hundred labels a network cannot also learn what an edge is. The first layer is therefore made from formulas,
is never trained, and its answers are computed once for each picture (docs/learn.md has the measurements).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgewise.learn._graph import GraphBuilder
from edgewise.wire import ImageSpec

ARCHITECTURE = "edgewise-surface-1"  # changes whenever the weights of one make cannot serve the other
DIRECTIONS = 4
FIRST, SECOND = 32, 48  # channels of the learned layers
GRID, GRID_CHANNELS = 4, 8  # a coarse map of where things are
DENSE_GRID, OVERALL_BOOST = 16, 6.0
ENERGY_FLOOR = 1e-4  # keeps the root's answer flat where there is nothing
CONTRAST_FLOOR = 0.01  # in units of the picture's own variance: below it, a surface counts as empty


def edge_filters(radius: int, sigma: float, cycles: float) -> NDArray[np.float32]:
    """Pairs of even and odd wavelets in four directions, float32 (8, 1, S, S), each with sum 0 and absolute sum 1.

    Args:
        radius: S is twice this and one more.
        sigma: width across the edge in pixels; along it the wavelet is 1/0.6 as long.
        cycles: radians for each pixel.
    Source: Gabor, Theory of communication, 1946; the even one is made blind to plain brightness.

    >>> edge_filters(3, 0.8, 2.0).shape
    (8, 1, 7, 7)
    """
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    made = []
    for direction in range(DIRECTIONS):
        angle = math.pi * direction / DIRECTIONS
        across = x * math.cos(angle) + y * math.sin(angle)
        along = -x * math.sin(angle) + y * math.cos(angle)
        window = np.exp(-(across**2 + (0.6 * along) ** 2) / (2 * sigma**2))
        for phase in (0.0, math.pi / 2):
            wave = window * np.cos(cycles * across + phase)
            wave -= window * (wave.sum() / window.sum())
            made.append(wave / np.abs(wave).sum())
    filters: NDArray[np.float32] = np.stack(made)[:, None].astype(np.float32)
    return filters


def spot_filter(radius: int, sigma: float) -> NDArray[np.float32]:
    """A bright spot against its surroundings, float32 (1, 1, S, S): a narrow bell less one twice as wide.

    >>> bool(abs(spot_filter(3, 0.8).sum()) < 1e-6)
    True
    """
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    narrow, wide = (np.exp(-(x * x + y * y) / (2 * width**2)) for width in (sigma, 2 * sigma))
    spot = narrow / narrow.sum() - wide / wide.sum()
    filters: NDArray[np.float32] = (spot / np.abs(spot).sum())[None, None].astype(np.float32)
    return filters


class Front(nn.Module):
    """The fixed layer: float32 (N, 1, H, W) -> (N, 14, H/4, W/4).

    Local mean and spread are taken out first, so that light that changes slowly over the part does not count. Then, at
    two sizes, come the strength of edges in four directions and of bright and dark spots, the strongest of each 4 × 4
    pixels; and last the picture itself and its local contrast, small.
    """

    channels = 2 * (DIRECTIONS + 2) + 2
    sizes = ((3, 0.8, 0.68 * math.pi), (5, 1.6, 0.34 * math.pi))

    def __init__(self) -> None:
        super().__init__()
        # Twice the strength brings the answers to about unit size.
        for place, (radius, sigma, cycles) in enumerate(self.sizes):
            self._keep(f"edges{place}", 2 * edge_filters(radius, sigma, cycles))
            spot = 2 * spot_filter(radius, sigma)
            self._keep(f"spots{place}", np.concatenate([spot, -spot]))
        pairs = np.zeros((DIRECTIONS, 2 * DIRECTIONS, 1, 1), np.float32)
        for direction in range(DIRECTIONS):
            pairs[direction, 2 * direction : 2 * direction + 2] = 1.0
        self._keep("pairs", pairs)

    def _keep(self, name: str, values: NDArray[np.float32]) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        centred = picture - _local_mean(picture)
        contrast = centred / torch.sqrt(_local_mean(centred * centred) + CONTRAST_FLOOR)
        maps = []
        for place, (radius, _, _) in enumerate(self.sizes):
            waves = functional.conv2d(contrast, self.get_buffer(f"edges{place}"), stride=2, padding=radius)
            edges = torch.sqrt(functional.conv2d(waves * waves, self.get_buffer("pairs")) + ENERGY_FLOOR)
            spots = functional.conv2d(contrast, self.get_buffer(f"spots{place}"), stride=2, padding=radius)
            maps.append(functional.max_pool2d(torch.cat([edges, functional.relu(spots)], 1), 2))
        maps += [functional.avg_pool2d(picture, 4), functional.avg_pool2d(contrast, 4)]
        return torch.cat(maps, 1)

    def write(self, graph: GraphBuilder, picture: str) -> str:
        """The same as nodes of an ONNX graph."""
        for name, values in self.named_buffers():
            graph.weight(f"front.{name}", values.numpy())
        for name, value in (("energy_floor", ENERGY_FLOOR), ("contrast_floor", CONTRAST_FLOOR)):
            graph.weight(name, np.array(value, np.float32))
        centred = graph.op("Sub", [picture, _write_local_mean(graph, picture)])
        variance = _write_local_mean(graph, graph.op("Mul", [centred, centred]))
        spread = graph.op("Sqrt", [graph.op("Add", [variance, "contrast_floor"])])
        contrast = graph.op("Div", [centred, spread])
        maps = []
        for place, (radius, _, _) in enumerate(self.sizes):
            sliding: dict[str, Any] = {"strides": [2, 2], "pads": [radius] * 4}
            waves = graph.op("Conv", [contrast, f"front.edges{place}"], **sliding)
            energy = graph.op("Conv", [graph.op("Mul", [waves, waves]), "front.pairs"])
            edges = graph.op("Sqrt", [graph.op("Add", [energy, "energy_floor"])])
            spots = graph.op("Relu", [graph.op("Conv", [contrast, f"front.spots{place}"], **sliding)])
            both = graph.op("Concat", [edges, spots], axis=1)
            maps.append(graph.op("MaxPool", [both], kernel_shape=[2, 2], strides=[2, 2]))
        maps += [
            graph.op("AveragePool", [source], kernel_shape=[4, 4], strides=[4, 4]) for source in (picture, contrast)
        ]
        return graph.op("Concat", maps, axis=1)


def _local_mean(values: Tensor) -> Tensor:
    """Mean over about 20 × 20 pixels: computed at a quarter of the size, which takes a tenth of the time."""
    small = functional.avg_pool2d(values, 4)
    small = functional.avg_pool2d(functional.pad(small, (2, 2, 2, 2), mode="replicate"), 5, 1)
    return functional.interpolate(small, scale_factor=4, mode="bilinear", align_corners=False)


def _write_local_mean(graph: GraphBuilder, values: str) -> str:
    graph.weight("mean_pads", np.array([0, 0, 2, 2, 0, 0, 2, 2], np.int64))
    graph.weight("mean_scales", np.array([1, 1, 4, 4], np.float32))
    small = graph.op("AveragePool", [values], kernel_shape=[4, 4], strides=[4, 4])
    small = graph.op("Pad", [small, "mean_pads"], mode="edge")
    small = graph.op("AveragePool", [small], kernel_shape=[5, 5], strides=[1, 1])
    return graph.op("Resize", [small, "", "mean_scales"], mode="linear", coordinate_transformation_mode="half_pixel")


class Network(nn.Module):
    """Front, one residual step down, a head on what it saw: overall, at its strongest, and where; and the dense head.

    The dense head looks at the front's answers alone. After the training steps both heads are
    fitted anew (`fit_linear`); what the network says in the end is the sum of both.
    """

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.front = Front()
        self.scale = nn.BatchNorm2d(Front.channels, affine=False)
        self.stem = nn.Conv2d(Front.channels, FIRST, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(FIRST)
        self.down = nn.Conv2d(FIRST, SECOND, 3, stride=2, padding=1, bias=False)
        self.down_norm = nn.BatchNorm2d(SECOND)
        self.mix = nn.Conv2d(SECOND, SECOND, 3, padding=1, bias=False)
        self.mix_norm = nn.BatchNorm2d(SECOND)
        self.skip = nn.Conv2d(FIRST, SECOND, 1, bias=False)
        self.place = nn.Conv2d(SECOND, GRID_CHANNELS, 1)
        self.width = 2 * SECOND + GRID_CHANNELS * GRID**2 + 2 * Front.channels
        self.level = nn.BatchNorm1d(self.width, affine=False)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(self.width, classes)
        self.dense = nn.Linear(Front.channels * (DENSE_GRID**2 + 2), classes).requires_grad_(False)
        nn.init.zeros_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)
        nn.init.zeros_(self.mix_norm.weight)  # the residual part starts silent, so the first steps are calm
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def embed(self, features: Tensor) -> Tensor:
        """Embedding, float32 (N, width), from the front's answers: about zero mean and unit spread in each column."""
        scaled = self.scale(features)
        first = functional.relu(self.stem_norm(self.stem(scaled)))
        inner = functional.relu(self.down_norm(self.down(first)))
        second = functional.relu(self.mix_norm(self.mix(inner)) + self.skip(functional.avg_pool2d(first, 2)))
        cell = second.shape[-1] // GRID
        parts = [
            second.mean((2, 3)),
            second.amax((2, 3)),
            functional.avg_pool2d(self.place(second), cell).flatten(1),
            scaled.mean((2, 3)),
            functional.avg_pool2d(scaled, 2).amax((2, 3)),
        ]
        level: Tensor = self.level(torch.cat(parts, 1))
        return level

    def forward(self, features: Tensor) -> Tensor:
        """Logits of the trained head, float32 (N, classes), from the front's answers."""
        logits: Tensor = self.head(self.drop(self.embed(features)))
        return logits

    def answer(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, float32 (N, classes), and embedding, float32 (N, width), from the front's answers: both heads."""
        embedding = self.embed(features)
        return (self.head(embedding) + self.dense(dense_features(features))).softmax(1), embedding

    def take(self, weights: Mapping[str, NDArray[np.float32]], *, known: int) -> None:
        """Start from the weights of a network with the first `known` of our classes."""
        state = self.state_dict()
        for name, values in state.items():
            if name not in weights or name.startswith("dense."):
                continue
            held = torch.from_numpy(np.array(weights[name]))
            if name.startswith("head."):
                values[:known] = held
            else:
                values.copy_(held)
        self.load_state_dict(state)

    def become(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Take over these weights of a network of the same make and classes."""
        held = {name: torch.from_numpy(np.array(weights[name])) for name in self.state_dict() if name in weights}
        self.load_state_dict(self.state_dict() | held)


def dense_features(features: Tensor) -> Tensor:
    """What the dense head looks at, float32 (N, 14 * 258): strongest answers on a 16 × 16 map, means, then maxima."""
    cell = features.shape[-1] // DENSE_GRID
    strongest = functional.max_pool2d(features, cell)
    return torch.cat([strongest.flatten(1), features.mean((2, 3)), features.amax((2, 3))], 1)


def dense_boost() -> NDArray[np.float32]:
    """How much cheaper a weight on each of `dense_features` is: means and maxima are few beside the map."""
    boost = np.ones(Front.channels * (DENSE_GRID**2 + 2), np.float32)
    boost[Front.channels * DENSE_GRID**2 :] = OVERALL_BOOST
    return boost


def export(network: Network, spec: ImageSpec) -> bytes:
    """The whole network as an ONNX file: `input` -> `scores` (probabilities) and `embedding`."""
    network = network.eval()
    graph = GraphBuilder()
    for name, values in network.state_dict().items():
        if values.dtype == torch.float32:
            graph.weight(name, values.contiguous().numpy())

    def norm(name: str, values: str, width: int) -> str:
        module = network.get_submodule(name)
        if not getattr(module, "affine", True):
            graph.weight(f"{name}.weight", np.ones(width, np.float32))
            graph.weight(f"{name}.bias", np.zeros(width, np.float32))
        names = [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return graph.op("BatchNormalization", [values, *names], epsilon=1e-5)

    def flat(values: str) -> str:
        return graph.op("Flatten", [values], axis=1)

    features = network.front.write(graph, "input")
    scaled = norm("scale", features, Front.channels)
    stem = graph.op("Conv", [scaled, "stem.weight"], pads=[1] * 4)
    first = graph.op("Relu", [norm("stem_norm", stem, FIRST)])
    down = graph.op("Conv", [first, "down.weight"], pads=[1] * 4, strides=[2, 2])
    inner = graph.op("Relu", [norm("down_norm", down, SECOND)])
    mixed = norm("mix_norm", graph.op("Conv", [inner, "mix.weight"], pads=[1] * 4), SECOND)
    half = graph.op("AveragePool", [first], kernel_shape=[2, 2], strides=[2, 2])
    second = graph.op("Relu", [graph.op("Add", [mixed, graph.op("Conv", [half, "skip.weight"])])])
    cells = [spec.height // 8 // GRID, spec.width // 8 // GRID]
    place = graph.op("Conv", [second, "place.weight", "place.bias"])
    pooled = graph.op("AveragePool", [scaled], kernel_shape=[2, 2], strides=[2, 2])
    parts = [
        flat(graph.op("GlobalAveragePool", [second])),
        flat(graph.op("GlobalMaxPool", [second])),
        flat(graph.op("AveragePool", [place], kernel_shape=cells, strides=cells)),
        flat(graph.op("GlobalAveragePool", [scaled])),
        flat(graph.op("GlobalMaxPool", [pooled])),
    ]
    joined = graph.op("Concat", parts, axis=1)
    embedding = norm("level", joined, network.width)
    graph.op("Identity", [embedding], name="embedding")
    trained = graph.op("Gemm", [embedding, "head.weight", "head.bias"], transB=1)
    logits = graph.op("Add", [trained, _write_dense(graph, features, spec)])
    graph.op("Softmax", [logits], name="scores", axis=1)
    return graph.build(
        input_name="input",
        input_shape=(spec.channels, spec.height, spec.width),
        outputs={"scores": network.head.out_features, "embedding": network.width},
        producer=ARCHITECTURE,
    )


def _write_dense(graph: GraphBuilder, features: str, spec: ImageSpec) -> str:
    cells = [spec.height // 4 // DENSE_GRID, spec.width // 4 // DENSE_GRID]
    parts = [
        graph.op("MaxPool", [features], kernel_shape=cells, strides=cells),
        graph.op("GlobalAveragePool", [features]),
        graph.op("GlobalMaxPool", [features]),
    ]
    seen = graph.op("Concat", [graph.op("Flatten", [part], axis=1) for part in parts], axis=1)
    return graph.op("Gemm", [seen, "dense.weight", "dense.bias"], transB=1)
