"""A bundle of two real networks: one finds the bright quarter of a picture, the other grades that part."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgewise.ports import OnnxRuntime, Pipeline, open_pipeline, write_bundle
from edgewise.wire import After, Blob, Golden, Graph, ImageSpec, Manifest, Needs, Provenance, digest, encode

helper = pytest.importorskip("onnx.helper", reason="the extra `learn` brings onnx")
LABELS = ("empty", "part", "light", "dark")
FIRST = ImageSpec(width=16, height=16, mean=(0.0,), std=(1.0,))
SECOND = ImageSpec(width=8, height=8, mean=(0.0,), std=(1.0,))
NOW = datetime(2026, 3, 1, tzinfo=UTC)
QUARTERS = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]


def floats(name: str, shape: list[int], values: Any) -> Any:
    return helper.make_tensor(name, 1, shape, np.asarray(values, np.float32).ravel().tolist())


def integers(name: str, values: list[int]) -> Any:
    return helper.make_tensor(name, 7, [len(values)], values)


def model(nodes: list[Any], side: int, outputs: dict[str, list[Any]], held: list[Any]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", 1, [1, 1, side, side])],
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in outputs.items()],
        held,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def finder(*, boxes: str = "sorted") -> bytes:
    """Is there something bright, and in which quarter: label part, and the quarters' boxes, the brightest first."""
    node = helper.make_node
    nodes = [
        node("AveragePool", ["input"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        node("Reshape", ["pooled", "flat"], ["means"]),
        node("ReduceMax", ["means"], ["brightest"], axes=[1], keepdims=1),
        node("Mul", ["brightest", "steep"], ["steeper"]),
        node("Add", ["steeper", "shift"], ["logits"]),
        node("Softmax", ["logits"], ["two"], axis=1),
        node("Mul", ["two", "zero"], ["none"]),
        node("Concat", ["two", "none"], ["scores"], axis=1),
        node("Reshape", ["brightest", "one"], ["doubt"]),
        node("TopK", ["means", "four"], ["_", "order"], axis=1),
        node("Reshape", ["order", "four"], ["places"]),
    ]
    held = [
        integers("flat", [1, 4]), integers("four", [4]), integers("one", [1]),
        floats("zero", [1], [0]), floats("steep", [1, 2], [-20, 20]),
        floats("shift", [1, 2], [10.8, -10.8]), floats("quarters", [4, 4], QUARTERS),
    ]  # fmt: skip
    if boxes == "sorted":
        nodes.append(node("Gather", ["quarters", "places"], ["boxes"], axis=0))
    else:
        rows = 0 if boxes == "none" else 1
        held += [floats("fixed", [rows, 4], [[np.nan] * 4] * rows)]
        nodes.append(node("Identity", ["fixed"], ["boxes"]))
    return model(nodes, 16, {"scores": [1, 4], "boxes": ["m", 4], "doubt": [1]}, held)


def grader() -> bytes:
    """Is what it sees light or dark, by its mean."""
    node = helper.make_node
    nodes = [
        node("GlobalAveragePool", ["input"], ["pooled"]),
        node("Reshape", ["pooled", "flat"], ["mean"]),
        node("Mul", ["mean", "steep"], ["steeper"]),
        node("Add", ["steeper", "shift"], ["logits"]),
        node("Softmax", ["logits"], ["two"], axis=1),
        node("Mul", ["two", "zero"], ["none"]),
        node("Concat", ["none", "two"], ["scores"], axis=1),
    ]
    held = [
        integers("flat", [1, 1]), floats("zero", [1], [0]), floats("steep", [1, 2], [20, -20]),
        floats("shift", [1, 2], [-14, 14]),
    ]  # fmt: skip
    return model(nodes, 8, {"scores": [1, 4]}, held)


def manifest_of(blobs: dict[str, bytes], *, part: bool = True, **more: Any) -> Manifest:
    graphs = (
        Graph(name="find", blob="finder", input="input", scores="scores", boxes="boxes", pre=FIRST),
        Graph(
            name="grade", blob="grader", input="input", scores="scores", pre=SECOND,
            after=After(graph="find", labels=("part",), crop=part),
        ),
    )  # fmt: skip
    values: dict[str, Any] = {
        "name": "two-steps",
        "task": "image-classification",
        "graphs": graphs,
        "labels": LABELS,
        "golden": Golden(seed=0, count=1, scores=((0.25,) * 4,)),
        "needs": Needs(opset=17, ram_mb=20, latency_ms=1),
        "provenance": Provenance(trained_at=NOW, trainer="none", code_version="0"),
        "blobs": {name: Blob(sha256=digest(data), size_bytes=len(data)) for name, data in blobs.items()},
    }
    return Manifest(**(values | more))


class Made:
    """A bundle of two stages with its golden answers."""

    def __init__(self, *, boxes: str = "sorted", part: bool = True, seed: int = 5) -> None:
        self.networks = {"finder": finder(boxes=boxes), "grader": grader()}
        self.blobs = {digest(data): data for data in self.networks.values()}
        draft = manifest_of(self.networks, part=part)
        self.manifest = draft
        if boxes == "sorted":
            golden = open_pipeline(draft, "0" * 64, self.blobs.__getitem__, OnnxRuntime()).make_golden(
                seed=seed, count=8
            )
            self.manifest = draft.model_copy(update={"golden": golden})

    def open(self, manifest: Manifest | None = None) -> Pipeline:
        manifest = manifest or self.manifest
        return open_pipeline(manifest, digest(encode(manifest)), self.blobs.__getitem__, OnnxRuntime())

    def write(self, folder: Path) -> Path:
        write_bundle(folder, encode(self.manifest), self.blobs)
        return folder


def picture(quarter: int | None, level: int) -> bytes:
    """A dark picture of 40 × 40 with one bright quarter."""
    pixels = np.full((40, 40), 10, np.uint8)
    if quarter is not None:
        row, column = divmod(quarter, 2)
        pixels[row * 20 : row * 20 + 20, column * 20 : column * 20 + 20] = level
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
