"""Small ONNX networks made on the spot: honest ones, and one whose time and memory follow from what it is given."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgewise.wire import Norm

FEATURES, EMBEDDING = 120, 4


def onnx_model(nodes: list, inputs: list, outputs: list, weights: dict[str, np.ndarray] | None = None) -> bytes:
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def info(name: str, shape: list, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def picture_network(batch: str | int = "N") -> bytes:
    draw = np.random.default_rng(1)
    return onnx_model(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w1"], ["raw"]),
            helper.make_node("Tanh", ["raw"], ["embedding"]),
            helper.make_node("MatMul", ["embedding", "w2"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        ],
        [info("input", [batch, 1, 10, 12])],
        [info("scores", [batch, 3]), info("embedding", [batch, EMBEDDING])],
        {
            "w1": (draw.standard_normal((FEATURES, EMBEDDING)) / 11).astype(np.float32),
            "w2": draw.standard_normal((EMBEDDING, 3)).astype(np.float32),
        },
    )


def obedient_network() -> bytes:
    """Input (1, 2): how many turns of a loop to make, and how many megabytes to fill on the way."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Add", ["sum", "one"], ["more"]),
        ],
        "body",
        [info("turn", [], TensorProto.INT64), info("go_on", [], TensorProto.BOOL), info("sum", [1])],
        [info("still", [], TensorProto.BOOL), info("more", [1])],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    nodes = [
        helper.make_node("Cast", ["input"], ["asked"], to=TensorProto.INT64),
        helper.make_node("Gather", ["asked", "first"], ["turns"], axis=1),
        helper.make_node("Gather", ["asked", "second"], ["megabytes"], axis=1),
        helper.make_node("Reshape", ["turns", "none"], ["trips"]),
        helper.make_node("Loop", ["trips", "yes", "zero"], ["counted"], body=body),
        helper.make_node("Mul", ["megabytes", "quarter"], ["count"]),
        helper.make_node("Reshape", ["count", "flat"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["filled"]),
        helper.make_node("ReduceMax", ["filled"], ["top"], keepdims=0),
        helper.make_node("Add", ["counted", "top"], ["raw"]),
        helper.make_node("Reshape", ["raw", "row"], ["scores"]),
    ]
    weights = {
        "first": np.array(0),
        "second": np.array(1),
        "none": np.array([], np.int64),
        "flat": np.array([1]),
        "row": np.array([1, 1]),
        "quarter": np.array(250_000),
        "yes": np.array(True),
        "zero": np.zeros(1, np.float32),
    }
    return onnx_model(nodes, [info("input", [1, 2])], [info("scores", [1, 1])], weights)


def growing_network() -> bytes:
    """Its output has as many rows as there are positive inputs."""
    nodes = [helper.make_node("NonZero", ["input"], ["places"]), helper.make_node("Cast", ["places"], ["out"], to=1)]
    return onnx_model(nodes, [info("input", [1, 4])], [info("out", [2, "N"])])


def text_network() -> bytes:
    """Text in, the same text out."""
    nodes = [helper.make_node("Identity", ["words"], ["same"])]
    text = TensorProto.STRING
    return onnx_model(nodes, [info("words", ["N"], text)], [info("same", ["N"], text)])


def normed_network(seed: int) -> tuple[bytes, tuple[Norm, ...]]:
    """A network of rows with two columns and two normalisations, whose statistics are those of standard normal rows."""
    draw = np.random.default_rng(seed)
    nodes = [helper.make_node("MatMul", ["input", "w1"], ["raw1"]),
             helper.make_node("BatchNormalization", ["raw1", "one4", "zero4", "mean1", "var1"], ["norm1"]),
             helper.make_node("Tanh", ["norm1"], ["act1"]),
             helper.make_node("MatMul", ["act1", "w2"], ["raw2"]),
             helper.make_node("BatchNormalization", ["raw2", "one8", "zero8", "mean2", "var2"], ["norm2"]),
             helper.make_node("Tanh", ["norm2"], ["embedding"]),
             helper.make_node("MatMul", ["embedding", "w3"], ["logits"]),
             helper.make_node("Softmax", ["logits"], ["scores"], axis=1)]  # fmt: skip
    w1, w2 = draw.standard_normal((2, 4)), draw.standard_normal((4, 8))
    raw1 = np.random.default_rng(0).standard_normal((4000, 2)) @ w1
    raw2 = np.tanh((raw1 - raw1.mean(0)) / raw1.std(0)) @ w2
    weights = {"w1": w1, "w2": w2, "w3": draw.standard_normal((8, 3)), "one4": np.ones(4), "zero4": np.zeros(4),
               "one8": np.ones(8), "zero8": np.zeros(8), "mean1": raw1.mean(0), "var1": raw1.var(0),
               "mean2": raw2.mean(0), "var2": raw2.var(0)}  # fmt: skip
    model = onnx_model(
        nodes,
        [info("input", ["N", 2])],
        [info("scores", ["N", 3]), info("embedding", ["N", 8])],
        {name: value.astype(np.float32) for name, value in weights.items()},
    )
    norms = (
        Norm(values="raw1", mean="mean1", variance="var1"),
        Norm(values="raw2", mean="mean2", variance="var2"),
    )
    return model, norms
