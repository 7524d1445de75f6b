"""A network in two versions, as bundles: what a fine-tune leaves behind, without training."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgewise.frames import golden_inputs
from edgewise.ports import OnnxRuntime, StoredBundle
from edgewise.wire import Blob, Golden, Graph, Manifest, Needs, Provenance, TableSpec, digest, encode

WIDTH = 192
LABELS = ("good", "crack", "pit")
SPEC = TableSpec(columns=("x", "y"), fill=(0, 0), mean=(0, 0), std=(1, 1))
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def network(version: int) -> bytes:
    """ONNX of about 150 KB. Version 1 is the base; the others are fine-tunes of it that moved its last layers."""
    rng = np.random.default_rng(0)
    weights = {
        "first": rng.standard_normal((2, WIDTH)),
        "second": rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5,
        "head": rng.standard_normal((WIDTH, len(LABELS))) / WIDTH**0.5,
    }
    if version > 1:
        moved = np.random.default_rng(version)
        weights["head"] += 0.05 * moved.standard_normal(weights["head"].shape)
        weights["second"][:, :8] += 0.002 * moved.standard_normal((WIDTH, 8))
    nodes = [
        helper.make_node("MatMul", ["input", "first"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["c"]),
        helper.make_node("Relu", ["c"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "head"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "two versions",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 2])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", len(LABELS)]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", WIDTH]),
        ],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def bundle(version: int) -> StoredBundle:
    """The version as a bundle: the network, and a table that never changes."""
    model, table = network(version), b"label,text\n" * 300
    inputs = golden_inputs(SPEC, 3, 2)
    scores = OnnxRuntime().open(model).run(inputs)["scores"]
    manifest = Manifest(
        name=f"net{version}",
        task="tabular-classification",
        graphs=(Graph(blob="net", input="input", scores="scores", embedding="embedding", pre=SPEC),),
        labels=LABELS,
        good_label="good",
        golden=Golden(seed=3, count=2, scores=tuple(tuple(float(value) for value in row) for row in scores)),
        needs=Needs(opset=17, ram_mb=10, latency_ms=1),
        provenance=Provenance(trained_at=NOW, trainer="none", code_version="0"),
        blobs={
            "net": Blob(sha256=digest(model), size_bytes=len(model)),
            "table": Blob(sha256=digest(table), size_bytes=len(table)),
        },
    )
    blobs = {digest(model): model, digest(table): table}
    return StoredBundle(manifest=manifest, digest=digest(encode(manifest)), blobs=blobs)
