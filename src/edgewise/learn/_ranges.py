"""Ranges of values of a base's int8 form: kept in the next one where they still fit, so that an update does not pay.

A range is an 8-bit form's scale and zero point of one tensor between two layers. Calibrated anew, each moves a little
with every training, and every weight scale, bias and rounding behind it moves along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from edgewise.learn._trainer import Floats
from edgewise.ports import OnnxRuntime
from edgewise.wire import NotValid

CLIPPED_MAX = 0.001  # of a tensor's values on the calibration samples that a kept range may cut off; our choice
WIDTH_MAX = 2.0  # a kept range is at most so many times as wide as a new one: one of eight bits is lost at most
LEVELS = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """The scale and zero point of an unsigned 8-bit tensor; it holds values from `low` to `high`.

    >>> Range(scale=0.5, zero_point=10).low, Range(scale=0.5, zero_point=10).high
    (-5.0, 122.5)
    """

    scale: float
    zero_point: int

    @property
    def low(self) -> float:
        return -self.zero_point * self.scale

    @property
    def high(self) -> float:
        return (LEVELS - self.zero_point) * self.scale


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What a base's form decided: its layers in integers, and the range of each tensor around them.

    Attributes:
        skeleton: the file without any numbers, to see whether another is the same graph.
    """

    layers: tuple[str, ...]
    ranges: Mapping[str, Range]
    skeleton: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A tensor's values on the calibration samples beside a range.

    Attributes:
        clipped: share of the values that the range cuts off, 0 to 1.
        low, high: the least and the greatest value, 0 among them.
    """

    clipped: float
    low: float
    high: float


def kept_of(int8: bytes, operators: tuple[str, ...]) -> Kept | None:
    """What an int8 form decided; None where it is none of this make.

    Args:
        operators: types of those whose weights can be integers.
    """
    try:
        model = onnx.load_model_from_string(int8)
    except Exception:  # protobuf raises classes of its own
        return None
    values = {one.name: one for one in model.graph.initializer}
    integers = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    ranges: dict[str, Range] = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in values:
            continue
        if len(node.input) < 3 or not set(node.input[1:3]) <= set(values):
            return None
        scale, zero = (onnx.numpy_helper.to_array(values[name]) for name in node.input[1:3])
        if scale.size != 1 or zero.size != 1 or zero.dtype != np.uint8 or not float(scale) > 0:
            return None
        ranges[node.input[0]] = Range(scale=float(scale), zero_point=int(zero))
    layers = tuple(
        node.name for node in model.graph.node if node.op_type in operators and set(node.input[:2]) <= integers
    )
    return Kept(layers=layers, ranges=ranges, skeleton=skeleton(model)) if layers and ranges else None


def skeleton(model: onnx.ModelProto) -> bytes:
    """The file without its numbers: two forms of one graph have the same."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        for name in ("raw_data", "float_data", "int32_data", "int64_data"):
            tensor.ClearField(name)
    data: bytes = bare.SerializeToString(deterministic=True)
    return data


def fits(held: Range, seen: Seen) -> bool:
    """Whether a range still serves: it cuts off next to nothing, and is not much wider than a new one would be.

    >>> fits(Range(scale=1 / 255, zero_point=0), Seen(clipped=0.0005, low=0.0, high=1.1))
    True
    >>> fits(Range(scale=1 / 255, zero_point=0), Seen(clipped=0.0, low=0.0, high=0.4))
    False
    """
    return seen.clipped <= CLIPPED_MAX and held.high - held.low <= WIDTH_MAX * (seen.high - seen.low)


def look(model: onnx.ModelProto, input_name: str, inputs: Floats, ranges: Mapping[str, Range]) -> dict[str, Seen]:
    """How the values of tensors lie beside their ranges; one input at a time.

    Args:
        model: the network before it is in integers.
        inputs: float32 (N, …).
    Raises:
        NotValid: it has no such tensors, or does not run.
    """
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {name for node in shown.graph.node for name in node.output}
    names = [name for name in ranges if name != input_name]
    if left := [name for name in names if name not in known]:
        raise NotValid(f"the network has no tensor {left[0][:80]!r}", code="variant_impossible")
    outputs = {one.name for one in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    session = OnnxRuntime().open(shown.SerializeToString(deterministic=True), threads=1)
    counts = dict.fromkeys(ranges, 0)
    cut = dict.fromkeys(ranges, 0)
    low, high = dict.fromkeys(ranges, 0.0), dict.fromkeys(ranges, 0.0)
    for at in range(len(inputs)):
        one = inputs[at : at + 1]
        given = session.run_named({input_name: one}, names) if names else {}
        for name, held in ranges.items():
            values = one if name == input_name else given[name]
            half = held.scale / 2  # a value so near rounds into the range
            cut[name] += int(((values < held.low - half) | (values > held.high + half)).sum())
            counts[name] += values.size
            low[name] = min(low[name], float(values.min(initial=0.0)))
            high[name] = max(high[name], float(values.max(initial=0.0)))
    return {name: Seen(clipped=cut[name] / max(1, counts[name]), low=low[name], high=high[name]) for name in ranges}
