"""Small models in two versions, for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

Weights = dict[str, np.ndarray]


def onnx_bytes(weights: Mapping[str, np.ndarray], trees: Mapping[str, list[float] | list[int]] | None = None) -> bytes:
    """A graph that holds these initializers and, in one node, these attribute arrays."""
    nodes = [helper.make_node("Conv", ["input", name], [f"{name}_out"], name=f"conv_{name}") for name in weights]
    if trees:
        nodes.append(helper.make_node("TreeEnsembleRegressor", ["input"], ["trees"], name="trees", **trees))
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])]
    return helper.make_model(helper.make_graph(nodes, "test", inputs, [], tensors)).SerializeToString()


@pytest.fixture(scope="session")
def as_onnx() -> Callable[..., bytes]:
    return onnx_bytes


@pytest.fixture(scope="session")
def weights() -> Weights:
    """Three layers and a bias."""
    rng = np.random.default_rng(0)
    shapes = {"first": (16, 3, 3, 3), "second": (32, 16, 3, 3), "third": (64, 32, 3, 3), "bias": (64,)}
    return {name: (rng.standard_normal(shape) * 0.05).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def tuned(weights: Weights) -> Weights:
    """The same after a fine-tune: each channel scaled a little, each weight moved a little."""
    rng = np.random.default_rng(1)
    moved = {}
    for name, array in weights.items():
        gain = 1 + 0.02 * rng.standard_normal((array.shape[0], *[1] * (array.ndim - 1)))
        moved[name] = (array * gain + 5e-4 * rng.standard_normal(array.shape)).astype(np.float32)
    return moved


@pytest.fixture(scope="session")
def pair(weights: Weights, tuned: Weights) -> tuple[bytes, bytes]:
    """Both versions as ONNX."""
    return onnx_bytes(weights), onnx_bytes(tuned)
