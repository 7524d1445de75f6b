"""Trees as an ONNX graph, and more trees behind those of a base, whose bytes stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightgbm
import numpy as np
import onnx
from onnxmltools.convert import convert_lightgbm  # type: ignore[import-untyped]
from onnxmltools.convert.common.data_types import FloatTensorType  # type: ignore[import-untyped]

from edgewise.learn._trainer import Floats
from edgewise.ports import OnnxRuntime

MAKE = "edgewise-trees-1"  # changes whenever the trees of one make cannot serve the other
OPSET, TREES_OPSET = 15, 3  # of ai.onnx and ai.onnx.ml: read by every onnxruntime since 1.12
ENSEMBLE = "TreeEnsembleClassifier"
ONCE = ("post_transform", "classlabels_int64s", "classlabels_strings", "base_values")  # not one value a node or leaf
TREE_IDS = ("nodes_treeids", "class_treeids")


def export_trees(
    booster: lightgbm.Booster, present: Sequence[int], classes: int, columns: int, base: bytes | None
) -> bytes:
    """The trees as `input` -> `scores`, float32 (N, classes): a class that was not seen gets 0.

    Args:
        present: places of the classes that the trees tell apart, among all classes.
        base: a graph of this make for the same classes seen; its trees come first.
    """
    made = convert_lightgbm(
        booster,
        initial_types=[("input", FloatTensorType([None, columns]))],
        zipmap=False,
        target_opset=OPSET,
    )
    ensemble = next(node for node in made.graph.node if node.op_type == ENSEMBLE)
    if base is not None:
        ensemble = _joined(_ensemble(onnx.load_model_from_string(base)), ensemble)
    spread = np.zeros((len(present), classes), np.float32)
    spread[np.arange(len(present)), list(present)] = 1.0
    ensemble.input[:] = ["input"]
    ensemble.output[:] = ["label", "probabilities"]
    ensemble.name = "trees"
    nodes = [ensemble, onnx.helper.make_node("MatMul", ["probabilities", "spread"], ["scores"])]
    graph = onnx.helper.make_graph(
        nodes,
        "main",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["N", columns])],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", classes])],
        [onnx.numpy_helper.from_array(spread, "spread")],
    )
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid("ai.onnx.ml", TREES_OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, producer_name=MAKE)
    model.ir_version = 8
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def continued(data: bytes, present: Sequence[int], trees_max: int) -> bool:
    """Whether more trees for these classes can be put behind those of a graph."""
    model = onnx.load_model_from_string(data)
    if model.producer_name != MAKE:
        return False
    spread = onnx.numpy_helper.to_array(model.graph.initializer[0])
    seen = np.flatnonzero(spread.sum(axis=0)).tolist()
    trees = max(_values(_ensemble(model), "nodes_treeids")) + 1
    return seen == list(present) and trees < trees_max * len(present)


def scores_of(data: bytes, inputs: Floats) -> Floats:
    """The probabilities that a graph gives, float32 (N, classes)."""
    return np.asarray(OnnxRuntime().open(data, threads=1).run(inputs)["scores"], np.float32)


def _ensemble(model: onnx.ModelProto) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in model.graph.node if node.op_type == ENSEMBLE)
    return found


def _values(node: onnx.NodeProto, name: str) -> list[Any]:
    found = next((item for item in node.attribute if item.name == name), None)
    return [] if found is None else list(onnx.helper.get_attribute_value(found))


def _joined(first: onnx.NodeProto, second: onnx.NodeProto) -> onnx.NodeProto:
    """Both nodes' trees in one, those of the second under higher numbers."""
    joined = onnx.NodeProto()
    joined.CopyFrom(first)
    offset = max(_values(first, "nodes_treeids")) + 1
    for attribute in joined.attribute:
        if attribute.name in ONCE:
            continue
        more = _values(second, attribute.name)
        if attribute.name in TREE_IDS:
            more = [number + offset for number in more]
        for kind in ("ints", "floats", "strings"):
            getattr(attribute, kind).extend(more if len(getattr(attribute, kind)) else [])
    return joined


def export_quantiles(boosters: Sequence[lightgbm.Booster], columns: int, shift: float) -> bytes:
    """Three quantiles as `input` -> `scores`, float32 (N, 3), rising, their ends moved outwards by the shift.

    Args:
        boosters: one a quantile, the lower first.
    """
    nodes: list[onnx.NodeProto] = []
    for place, booster in enumerate(boosters):
        made = convert_lightgbm(
            booster,
            initial_types=[("input", FloatTensorType([None, columns]))],
            target_opset=OPSET,
        )
        ensemble = next(node for node in made.graph.node if node.op_type == "TreeEnsembleRegressor")
        ensemble.input[:] = ["input"]
        ensemble.output[:] = [f"trees_{place}"]
        ensemble.name = f"trees_{place}"
        nodes.append(ensemble)
    make = onnx.helper.make_node
    nodes += [
        make("Concat", [f"trees_{place}" for place in range(len(boosters))], ["apart"], axis=1),
        # Quantiles that were learned apart may cross; so they are put in order, before the shift and behind it.
        make("TopK", ["apart", "count"], ["rising", "order"], axis=1, largest=0, sorted=1),
        make("Add", ["rising", "shift"], ["moved"]),
        make("TopK", ["moved", "count"], ["scores", "order_moved"], axis=1, largest=0, sorted=1),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "main",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["N", columns])],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", len(boosters)])],
        [
            onnx.numpy_helper.from_array(np.array([len(boosters)], np.int64), "count"),
            onnx.numpy_helper.from_array(np.array([[-shift, 0.0, shift]], np.float32), "shift"),
        ],
    )
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid("ai.onnx.ml", TREES_OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, producer_name=MAKE)
    model.ir_version = 8
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
