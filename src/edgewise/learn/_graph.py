"""ONNX graphs written node by node: small, the same bytes every time, and of the opset we choose.

Both exporters of torch 2.13 were measured on this network (docs/learn.md): the one by tracing is deprecated and folds
the normalisations into weights under other names, so a later training could not start from them; the newer one takes
1.2 s instead of 5 ms, needs one more package and logs warnings of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewise.wire import Norm, NotValid

OPSET = 17  # read by every onnxruntime since 1.12
IR_VERSION = 8  # the oldest file format that goes with this opset


class GraphBuilder:
    """Collects nodes and weights; the names of weights stay, so that a later training can start from the file."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, NDArray[np.generic]] = {}

    def weight(self, name: str, values: NDArray[np.generic]) -> str:
        """A constant of the graph under this name."""
        self._weights[name] = values
        return name

    def op(self, kind: str, inputs: Sequence[str], *, name: str = "", **attributes: Any) -> str:
        """Add a node with one output; comes back with the output's name."""
        output = name or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def build(
        self, *, input_name: str, input_shape: Sequence[int], outputs: Mapping[str, int | Sequence[int]], producer: str
    ) -> bytes:
        """The finished file.

        Args:
            input_shape: without the free first axis.
            outputs: name to number of columns, each float32 (N, columns); or to all sizes behind the first axis.
        """
        graph = helper.make_graph(
            self._nodes,
            "main",
            [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["N", *input_shape])],
            [
                helper.make_tensor_value_info(
                    name, TensorProto.FLOAT, ["N", *([sizes] if isinstance(sizes, int) else sizes)]
                )
                for name, sizes in outputs.items()
            ],
            [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in self._weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name=producer)
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def read_weights(data: bytes) -> tuple[str, dict[str, NDArray[np.float32]]]:
    """Who wrote an ONNX file, and its float32 weights by name.

    Raises:
        NotValid: not an ONNX file.
    """
    try:
        model = onnx.load_model_from_string(data)
        weights = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    except Exception as error:  # protobuf and onnx raise classes of their own
        raise NotValid(
            f"the base's network cannot be read: {error}; start without a base", code="base_invalid"
        ) from error
    return model.producer_name, {name: array for name, array in weights.items() if array.dtype == np.float32}


CHANNELS_MIN = 4  # of a norm whose statistics are told: shorter arrays cannot be exchanged in the file


def norms_of(data: bytes) -> tuple[Norm, ...]:
    """The normalisations of an ONNX file whose statistics are arrays of its own, in the order in which they run."""
    graph = onnx.load_model_from_string(data).graph
    sizes = {item.name: item.dims[0] for item in graph.initializer if len(item.dims) == 1}
    return tuple(
        Norm(values=node.input[0], mean=node.input[3], variance=node.input[4])
        for node in graph.node
        if node.op_type == "BatchNormalization"
        and all(sizes.get(name, 0) >= CHANNELS_MIN for name in (node.input[3], node.input[4]))
    )
