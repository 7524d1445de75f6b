"""Tiny networks of every tensor type, and values for them: for the tests of protocol v2's server and client."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from edgewise.edge.serve import open_models, run_app, serve_app
from edgewise.ports import address, listen

KINDS = {
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP64": (TensorProto.DOUBLE, np.float64),
    "FP16": (TensorProto.FLOAT16, np.float16),
    "BF16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "INT8": (TensorProto.INT8, np.int8),
    "INT16": (TensorProto.INT16, np.int16),
    "INT32": (TensorProto.INT32, np.int32),
    "INT64": (TensorProto.INT64, np.int64),
    "UINT8": (TensorProto.UINT8, np.uint8),
    "UINT16": (TensorProto.UINT16, np.uint16),
    "UINT32": (TensorProto.UINT32, np.uint32),
    "UINT64": (TensorProto.UINT64, np.uint64),
    "BOOL": (TensorProto.BOOL, np.bool_),
    "BYTES": (TensorProto.STRING, np.object_),
}


def network(nodes: list, inputs: list, outputs: list, constants: dict[str, int] | None = None) -> bytes:
    held = [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in (constants or {}).items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, held), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


def tensor(name: str, shape: list, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def echo_network(kind: str) -> bytes:
    """A network that gives back its input ``x`` of [N, 3] as ``y``."""
    return network(
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", ["N", 3], KINDS[kind][0])],
        [tensor("y", ["N", 3], KINDS[kind][0])],
    )


def values_of(kind: str) -> np.ndarray:
    """Two rows for `echo_network`, or one."""
    if kind == "BYTES":
        return np.array([["a", "", "Größe"], ["b" * 300, "c", "d"]], dtype=np.object_)
    if kind == "BOOL":
        return np.array([[True, False, True]])
    return np.array([[0, 1, 2], [3, 100, 120]]).astype(KINDS[kind][1])


@contextlib.contextmanager
def serving(models: list[Path], *, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[str]:
    """The address of a server of these networks, in a thread of this process."""
    servers: Queue[Any] = Queue()
    ready = threading.Event()
    with listen("127.0.0.1", port) as listener:
        thread = threading.Thread(
            target=run_app,
            args=(serve_app(open_models(models)), listener),
            kwargs={"tls": tls, "on_ready": ready.set, "on_server": servers.put},
        )
        thread.start()
        assert ready.wait(20)
        try:
            yield address(listener, secure=tls is not None)
        finally:
            servers.get().should_exit = True
            thread.join()
