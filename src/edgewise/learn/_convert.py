"""A trained ONNX graph in smaller numbers, by ONNX Runtime's own converters: a graph in, a graph out.

The same graph and inputs give the same bytes. Inputs and outputs stay float32, so that a variant takes a device's
frames and is decided on as the network that it was made of.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgewise.learn._ranges import Range, fits, kept_of, look, skeleton
from edgewise.learn._trainer import Floats
from edgewise.ports import OnnxRuntime, Session, disk_error
from edgewise.wire import Graph, NotValid

WEIGHED = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # operators whose weights are worth keeping in a byte each
WEIGHT_BYTES_MIN = 4096  # smaller layers cost more time and bytes at their borders than they win; docs/learn.md
NODES_MAX = 48  # the heaviest ones; the others stay float32
SHIFT_EACH_MAX = 0.02  # of any probability by one layer alone: a layer that costs more stays float32; our choice
SHIFT_MAX = 0.05  # by all of them together
WHOLE = ("Softmax", "LogSoftmax")  # stay in 32 bits: probabilities must add up to one
EMPTY: Mapping[str, Range] = {}
Step = Callable[[float], None]


def to_fp16(data: bytes) -> bytes:
    """The graph with its weights and sums in 16-bit floats, half as large.

    A processor without such numbers computes in 32 bits after reading 16; the loss is that of the weights.

    Raises:
        NotValid: it cannot be converted.
    """
    from onnxruntime.transformers.float16 import (  # type: ignore[import-untyped]
        DEFAULT_OP_BLOCK_LIST,
        convert_float_to_float16,
    )

    with _quiet("fp16"):
        model = convert_float_to_float16(
            onnx.load_model_from_string(data), keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *WHOLE]
        )
    return _bytes(model)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantised:
    """A graph in 8-bit integers.

    Attributes:
        ranges: of values of the tensors around its layers.
        kept: how many of them are a base's.
    """

    data: bytes
    ranges: int
    kept: int


def to_int8(
    data: bytes, graph: Graph, inputs: Floats, *, base: bytes | None = None, step: Step = lambda _share: None
) -> Quantised:
    """The graph with its heavy layers in 8-bit integers, as far as its answers stay what they were.

    With the int8 form of a base that is the same graph, the base's layers are taken, and its ranges where they still
    fit (`_ranges.fits`): what does not change costs an update nothing. Where the answers then move too far, it is made
    as without a base.

    Each layer is first quantised alone: one that moves a probability by more than `SHIFT_EACH_MAX` stays float32. Then
    those that are left are quantised together, and the worst of them left out until all together move no probability by
    more than `SHIFT_MAX`. Weights get 7 bits and a scale for each channel: with 8, processors without VNNI saturate and
    would answer otherwise than where the variant was judged.

    Args:
        inputs: prepared training inputs, float32 (N, …); ranges of values are taken from them (min and max).
        base: the file of the base's int8 form.
        step: told how far it is, from 0 to 1; it may raise to stop.
    Raises:
        NotValid: nothing can be quantised.
    Source: the static quantisation of ONNX Runtime, QDQ format, docs/performance/model-optimizations/quantization.md.
    """
    runtime = OnnxRuntime()
    wanted = _scores(runtime.open(data, threads=1), graph, inputs)
    try:
        with tempfile.TemporaryDirectory(prefix="edgewise-int8-") as folder:
            work = _Quantiser(Path(folder), data, graph, inputs)
            if base is not None and (again := work.as_base(base, wanted)) is not None:
                return again
            shifts: dict[str, float] = {}
            heavy = work.heavy()
            for number, name in enumerate(heavy):
                step(number / (len(heavy) + 1))
                shifts[name] = work.shift([name], wanted)
            chosen = sorted((name for name in heavy if shifts[name] <= SHIFT_EACH_MAX), key=lambda name: shifts[name])
            while chosen and work.shift(chosen, wanted) > SHIFT_MAX:
                step(len(heavy) / (len(heavy) + 1))
                chosen.pop()
            if not chosen:
                raise NotValid(
                    f"none of its {len(heavy)} layers with at least {WEIGHT_BYTES_MIN} bytes of weights can be "
                    f"quantised without moving a probability by more than {SHIFT_EACH_MAX:g}; leave int8 out",
                    code="variant_impossible",
                )
            return work.told(work.quantised(chosen), kept=0)
    except OSError as error:
        raise disk_error(error, Path(tempfile.gettempdir())) from error


def worst_shift(ours: Floats, theirs: Floats) -> float:
    """The largest difference of a probability; infinite where there is no number."""
    worst = float(np.abs(ours - theirs).max(initial=0.0))
    return worst if np.isfinite(worst) else float("inf")


@dataclass
class _Quantiser:
    folder: Path
    data: bytes
    graph: Graph
    inputs: Floats

    def __post_init__(self) -> None:
        from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]

        model = onnx.load_model_from_string(self.data)
        for number, node in enumerate(model.graph.node):
            node.name = f"node{number}"  # layers are chosen by name, and exporters leave names out
        source, self.ready = self.folder / "named.onnx", self.folder / "ready.onnx"
        source.write_bytes(model.SerializeToString(deterministic=True))
        # Files on both sides: given a model, it leaves parts of it in the working folder. Its symbolic shapes fail on
        # sizes that depend on sizes, and are not needed for sizes that are written down.
        with _quiet("int8"):
            quant_pre_process(source, self.ready, skip_symbolic_shape=True)

    def heavy(self) -> list[str]:
        """Names of the layers that are worth it, the heaviest first."""
        model = onnx.load(self.ready)
        sizes = {item.name: _float_bytes(item) for item in model.graph.initializer}
        weights = {
            node.name: max((sizes.get(name, 0) for name in node.input), default=0)
            for node in model.graph.node
            if node.op_type in WEIGHED
        }
        found = [name for name, size in weights.items() if size >= WEIGHT_BYTES_MIN]
        return sorted(found, key=lambda name: (-weights[name], name))[:NODES_MAX]

    def as_base(self, base: bytes, wanted: Floats) -> Quantised | None:
        """The graph with the base's layers in integers and its ranges where they fit; None where that does not do."""
        held = kept_of(base, WEIGHED)
        if held is None or not set(held.layers) <= {node.name for node in onnx.load(self.ready).graph.node}:
            return None
        try:
            seen = look(onnx.load(self.ready), self.graph.input, self.inputs, held.ranges)
        except NotValid:
            return None  # another graph
        fitting = {name: one for name, one in held.ranges.items() if fits(one, seen[name])}
        made = self.quantised(held.layers, fitting)
        session = OnnxRuntime().open(_bytes(made), threads=1)
        shift = worst_shift(_scores(session, self.graph, self.inputs), wanted)
        if shift > SHIFT_MAX or skeleton(onnx.load_model_from_string(_bytes(made))) != held.skeleton:
            return None
        return self.told(made, kept=len(fitting))

    def told(self, made: onnx.ModelProto, *, kept: int) -> Quantised:
        """The file with what is known of its ranges."""
        data = _bytes(made)
        found = kept_of(data, WEIGHED)
        return Quantised(data=data, ranges=0 if found is None else len(found.ranges), kept=kept)

    def quantised(self, names: Sequence[str], ranges: Mapping[str, Range] = EMPTY) -> onnx.ModelProto:
        """The graph with these layers in integers, and these ranges instead of calibrated ones."""
        from onnxruntime.quantization import (  # type: ignore[import-untyped]
            QuantFormat,
            QuantType,
            quantize_static,
        )

        target, cache = self.folder / "int8.onnx", self.folder / "ranges.json"
        fixed = {
            name: [{"scale": np.array(one.scale, np.float32), "zero_point": np.array(one.zero_point, np.uint8)}]
            for name, one in ranges.items()
        }
        # They are the same for every choice of layers; a runtime from before it could keep them takes them each time.
        kept = "calibration_cache_path" in inspect.signature(quantize_static).parameters
        with _quiet("int8"):
            quantize_static(
                self.ready,
                target,
                _Reader(self.graph.input, self.inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(WEIGHED),
                nodes_to_quantize=list(names),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"TensorQuantOverrides": fixed} if fixed else {},
                **({"calibration_cache_path": cache} if kept else {}),
            )
        return onnx.load(target)

    def shift(self, names: Sequence[str], wanted: Floats) -> float:
        """How far the graph's answers move with these layers in integers."""
        session = OnnxRuntime().open(_bytes(self.quantised(names)), threads=1)
        return worst_shift(_scores(session, self.graph, self.inputs), wanted)


class _Reader:
    """Inputs one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, name: str, inputs: Floats) -> None:
        self._name, self._left = name, iter(inputs)

    def __iter__(self) -> Iterator[dict[str, Floats]]:
        return iter(self.get_next, None)

    def get_next(self) -> dict[str, Floats] | None:
        value = next(self._left, None)
        return None if value is None else {self._name: value[None]}


def _scores(session: Session, graph: Graph, inputs: Floats) -> Floats:
    """One by one, as on a device."""
    one_by_one = (inputs[at : at + 1] for at in range(len(inputs)))
    return np.concatenate([session.run_named({graph.input: one}, [graph.scores])[graph.scores] for one in one_by_one])


def _float_bytes(tensor: onnx.TensorProto) -> int:
    return 4 * int(np.prod(tensor.dims)) if tensor.data_type == onnx.TensorProto.FLOAT else 0


def _bytes(model: onnx.ModelProto) -> bytes:
    """The file, with the opsets of only those operators that it uses: a device's runtime may not know the others."""
    used = {node.domain for node in model.graph.node} | {"", "ai.onnx"}
    kept = [item for item in model.opset_import if item.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@contextlib.contextmanager
def _quiet(precision: str) -> Iterator[None]:
    """Inside, the converters' advice is not logged, and whatever they raise is an error for people."""
    root, held = logging.getLogger(), logging.NullHandler()
    root.addFilter(_nothing)
    root.addHandler(held)  # without a handler, logging would set up its own for the whole process
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # the converters raise whatever they meet
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise NotValid(
            f"this network cannot be converted to {precision}: {text}; leave {precision} out", code="variant_impossible"
        ) from error
    finally:
        root.removeHandler(held)
        root.removeFilter(_nothing)


def _nothing(_record: Any) -> bool:
    return False
