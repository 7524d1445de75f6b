"""Real networks that are fine until a frame says otherwise: with a value above 10 in it, each shows its fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgewise.frames import golden_inputs
from edgewise.ports import OnnxRuntime
from edgewise.wire import Blob, Golden, Graph, Manifest, Needs, Provenance, TableSpec, digest, encode

SPEC = TableSpec(columns=("x", "y"), fill=(0, 0), mean=(0, 0), std=(1, 1))
LABELS = ("good", "crack", "pit")
FAULTS = ("none", "nan", "infinite", "range", "raises", "slow", "hangs", "memory", "collapsed", "still", "saturated")


def network(fault: str, seed: int = 1) -> bytes:
    """Two numbers in, three probabilities and an embedding out; ``none`` is a network without a fault."""
    helper = pytest.importorskip("onnx.helper", reason="the extra `learn` brings onnx")
    weights = np.random.default_rng(seed).standard_normal((2, 3)).astype(np.float32) * 2
    bias = np.zeros(3, np.float32)
    if fault in ("collapsed", "still"):
        weights = weights * (0.001 if fault == "collapsed" else 0)
        bias[2] = 3
    if fault == "saturated":
        weights *= 10_000
    values: dict[str, Any] = {"weights": weights, "bias": bias, "ten": np.float32(10), "one": np.float32(1)}
    nodes = [
        helper.make_node("MatMul", ["input", "weights"], ["embedding"]),
        helper.make_node("Add", ["embedding", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["fine"], axis=1),
        helper.make_node("ReduceMax", ["input"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "ten"], ["faulty"]),
        helper.make_node("Cast", ["faulty"], ["fault"], to=1),
        *_fault(helper, fault, values),
    ]
    graph = helper.make_graph(
        nodes,
        "faulty",
        [helper.make_tensor_value_info("input", 1, ["n", 2])],
        [helper.make_tensor_value_info(name, 1, ["n", 3]) for name in ("scores", "embedding")],
        [_constant(helper, name, value) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def _fault(helper: Any, fault: str, values: dict[str, Any]) -> list[Any]:
    node = helper.make_node
    match fault:
        case "nan" | "infinite":
            values["above"] = np.float32(0 if fault == "nan" else 1)
            return [
                node("Sub", ["one", "fault"], ["below"]),  # 0 when faulty
                node("Mul", ["fault", "above"], ["over"]),
                node("Div", ["over", "below"], ["odd"]),
                node("Add", ["fine", "odd"], ["scores"]),
            ]
        case "range":
            return [node("Add", ["one", "fault"], ["twice"]), node("Mul", ["fine", "twice"], ["scores"])]
        case "raises":
            values |= {"seven": np.float32(7), "none": np.float32(0)}
            return [
                node("Mul", ["fault", "seven"], ["place"]),
                node("Cast", ["place"], ["place64"], to=7),
                node("Gather", ["fine", "place64"], ["taken"], axis=1),  # there is no seventh column
                node("ReduceSum", ["taken"], ["sum"], keepdims=0),
                node("Mul", ["sum", "none"], ["nothing"]),
                node("Add", ["fine", "nothing"], ["scores"]),
            ]
        case "slow" | "hangs":
            return _loop(helper, values, 300_000.0 if fault == "slow" else 1e15)
        case "memory":
            values["many"] = np.array([40_000_000], np.float32)
            return [
                node("Mul", ["fault", "many"], ["count"]),
                node("Cast", ["count"], ["count64"], to=7),
                node("ConstantOfShape", ["count64"], ["block"]),
                node("ReduceSum", ["block"], ["nothing"], keepdims=0),
                node("Add", ["fine", "nothing"], ["scores"]),
            ]
    return [node("Identity", ["fine"], ["scores"])]


def _loop(helper: Any, values: dict[str, Any], turns: float) -> list[Any]:
    values |= {"turns": np.float32(turns), "start": np.float32(0), "go": np.array(True)}
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Sin", ["held"], ["next"]), helper.make_node("Identity", ["on"], ["on_next"])],
        "body",
        [info("turn", 7, []), info("on", 9, []), info("held", 1, [])],
        [info("on_next", 9, []), info("next", 1, [])],
    )
    return [
        helper.make_node("Mul", ["fault", "turns"], ["trips"]),
        helper.make_node("Cast", ["trips"], ["trips64"], to=7),
        helper.make_node("Loop", ["trips64", "go", "start"], ["nothing"], body=body),
        helper.make_node("Add", ["fine", "nothing"], ["scores"]),
    ]


def _constant(helper: Any, name: str, value: Any) -> Any:
    array = np.asarray(value)
    kinds = {"float32": 1, "int64": 7, "bool": 9}
    return helper.make_tensor(name, kinds[array.dtype.name], array.shape, array.ravel().tolist())


def faulty_bundle(bench: Any, fault: str, seed: int = 1) -> str:
    """A bundle of such a network, known to the bench's hub; it passes its own golden inputs. Comes back: its digest."""
    data = network(fault, seed)
    inputs = golden_inputs(SPEC, seed, 4)
    session = OnnxRuntime().open(data)
    rows = [session.run(inputs[index : index + 1])["scores"][0] for index in range(4)]
    manifest = Manifest(
        name="parts-net",
        task="tabular-classification",
        graphs=(Graph(blob="net", input="input", scores="scores", embedding="embedding", pre=SPEC),),
        labels=LABELS,
        good_label="good",
        golden=Golden(seed=seed, count=4, scores=tuple(tuple(float(v) for v in row) for row in rows)),
        needs=Needs(opset=17, ram_mb=10, latency_ms=1),
        provenance=Provenance(trained_at="2026-03-01T00:00:00Z", trainer=fault, code_version="0"),
        blobs={"net": Blob(sha256=digest(data), size_bytes=len(data))},
    )
    text = encode(manifest)
    bench.hub.blobs[digest(data)], bench.manifests[digest(text)] = data, text
    return digest(text)
