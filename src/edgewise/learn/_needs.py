"""What a network asks of a device: opset, operators, memory, time on one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np
import onnx

from edgewise.learn._trainer import Floats
from edgewise.ports import OnnxRuntime, Session
from edgewise.ports.reference import measure_reference, op_name
from edgewise.wire import Needs

REFERENCE_S = 0.3
WARM_UP_RUNS, LATENCY_RUNS = 3, 15
VALUE_BYTES = {onnx.TensorProto.INT8: 1, onnx.TensorProto.UINT8: 1, onnx.TensorProto.BOOL: 1}


def measure_needs(graph: bytes, session: Session, inputs: Floats) -> Needs:
    """What the graph asks of a device: memory is an upper bound, from the tensors' shapes.

    The reference network's time goes with it, so that a device's own tells how fast the graph will be there.

    Args:
        graph: the ONNX file that the session runs.
        inputs: float32 (N, …); the first one is run.
    """
    latency_ms = round(statistics.median(laps_ms([session], inputs)[0]), 4)
    reference_ms = measure_reference(OnnxRuntime(), "vision", seconds=REFERENCE_S).p50_ms
    return needs_of(graph, inputs, latency_ms=latency_ms, reference_ms=reference_ms)


def laps_ms(sessions: Sequence[Session], inputs: Floats) -> list[list[float]]:
    """Milliseconds of some runs of each; they take turns, so that a busy moment hits them alike."""
    one = inputs[:1]
    laps: list[list[float]] = [[] for _ in sessions]
    for turn in range(WARM_UP_RUNS + LATENCY_RUNS):
        for session, seen in zip(sessions, laps, strict=True):
            before = time.perf_counter()
            session.run(one)
            if turn >= WARM_UP_RUNS:
                seen.append((time.perf_counter() - before) * 1000)
    return laps


def needs_of(graph: bytes, inputs: Floats, *, latency_ms: float, reference_ms: float | None) -> Needs:
    """What the graph asks of a device, with times that were measured before."""
    model = onnx.load_model_from_string(graph)
    return Needs(
        opset=next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx")),
        ram_mb=round((2 * len(graph) + _activation_bytes(model, inputs[:1])) / 1e6, 3),
        latency_ms=latency_ms,
        reference_ms=reference_ms,
        ops=operators(model),
    )


def operators(model: onnx.ModelProto) -> tuple[str, ...]:
    """Operators of the graph and those inside it, in order, without those that ONNX defines by others.

    >>> from onnx import helper
    >>> nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Softmax", ["y"], ["z"])]
    >>> operators(helper.make_model(helper.make_graph(nodes, "g", [], [])))
    ('Conv',)
    """
    found: set[tuple[str, str]] = set()
    graphs = [model.graph]
    while graphs:
        for node in graphs.pop().node:
            found.add((node.domain, node.op_type))
            for attribute in node.attribute:
                graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    own = {(function.domain, function.name) for function in model.functions}
    return tuple(sorted(op_name(*item) for item in found - own if not _defined_by_others(*item)))


def _defined_by_others(domain: str, operator: str) -> bool:
    try:
        schema = onnx.defs.get_schema(operator, domain=domain)
    except onnx.defs.SchemaError:
        return False  # ONNX Runtime's own operators are not in ONNX
    # Both are there at run time and not in the type stubs.
    return bool(getattr(schema, "has_function", False) or getattr(schema, "has_context_dependent_function", False))


def _activation_bytes(model: onnx.ModelProto, one: Floats) -> int:
    """Bytes of every tensor in the graph for a single input: what a runtime without any reuse of memory would hold.

    Halves count as whole floats: a processor computes with them as such.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    total = one.nbytes
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        sizes = [axis.dim_value or 1 for axis in kind.shape.dim]
        total += VALUE_BYTES.get(kind.elem_type, 4) * int(np.prod(sizes))
    return total
