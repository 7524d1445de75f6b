"""Reference networks, made of a seed, and what this machine makes of them: speed and opset, measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise.ports._onnx_check import may_run
from edgewise.ports._onnx_write import network, node
from edgewise.ports._runtime import Runtime, Session
from edgewise.wire import NotValid, ReferenceRun

OPSET_TRIED_MAX = 64
# Channels and strides of the separable layers for pictures: MobileNet's form (Howard et al. 2017) at half its width.
VISION = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1), (256, 1), (512, 2), (512, 1))


class _Layers:
    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self.nodes: list[bytes] = []
        self.weights: dict[str, NDArray[np.float32]] = {}

    def weight(self, *shape: int) -> str:
        """A weight's name; its spread keeps the values of the next layer near one."""
        name = f"w{len(self.weights)}"
        spread = np.sqrt(2 / max(1, int(np.prod(shape[1:]))))
        self.weights[name] = (self._draw.standard_normal(shape) * spread).astype(np.float32)
        return name

    def conv(self, before: str, shape: Sequence[int], stride: int, *, groups: int = 1) -> str:
        """A convolution of (out, in / groups, *kernel) and a rectifier; comes back with the output's name."""
        kernel = list(shape[2:])
        out, raw = f"a{len(self.nodes)}", f"c{len(self.nodes)}"
        pads = [size // 2 for size in kernel] * 2
        options: dict[str, int | Sequence[int]] = {
            "kernel_shape": kernel,
            "strides": [stride] * len(kernel),
            "pads": pads,
            "group": groups,
        }
        self.nodes.append(node("Conv", [before, self.weight(*shape)], raw, **options))
        self.nodes.append(node("Relu", [raw], out))
        return out

    def finish(self, before: str, channels: int, classes: int, size: Sequence[int]) -> bytes:
        """The network's bytes: mean over places, one score a class."""
        self.nodes += [
            node("GlobalAveragePool", [before], "mean"),
            node("Flatten", ["mean"], "embedding", axis=1),
            node("MatMul", ["embedding", self.weight(channels, classes)], "logits"),
            node("Softmax", ["logits"], "scores", axis=1),
        ]
        return network(self.nodes, self.weights, {"input": ["N", *size]}, {"scores": ["N", classes]})


def window_network() -> bytes:
    """A small one: a window of three channels and 256 steps to eight classes."""
    layers = _Layers(1)
    at = layers.conv("input", (8, 3, 7), 4)
    at = layers.conv(at, (16, 8, 5), 2)
    at = layers.conv(at, (32, 16, 3), 2)
    return layers.finish(at, 32, 8, (3, 256))


def vision_network() -> bytes:
    """One for pictures: three channels at 224 × 224 to ten classes, about 120 million multiplications."""
    layers, channels = _Layers(2), 16
    at = layers.conv("input", (channels, 3, 3, 3), 2)
    for wide, stride in VISION:
        at = layers.conv(at, (channels, 1, 3, 3), stride, groups=channels)
        at = layers.conv(at, (wide, channels, 1, 1), 1)
        channels = wide
    return layers.finish(at, channels, 10, (3, 224, 224))


REFERENCES: dict[str, tuple[Callable[[], bytes], tuple[int, ...]]] = {
    "window": (window_network, (1, 3, 256)),
    "vision": (vision_network, (1, 3, 224, 224)),
}


def measure_reference(runtime: Runtime, name: str, *, seconds: float = 0.5, runs_max: int = 2000) -> ReferenceRun:
    """How long a run of a reference network takes here, as a bundle's decisions are run."""
    make, shape = REFERENCES[name]
    return measure_session(runtime.open(make()), shape, seconds=seconds, runs_max=runs_max)


def measure_session(
    session: Session, shape: tuple[int, ...], *, seconds: float, runs_max: int = 2000, runs_min: int = 5
) -> ReferenceRun:
    """How long a bound run takes: for so many seconds, and at least `runs_min` times."""
    bound = session.bind(shape)
    bound.input[...] = np.random.default_rng(0).random(shape)
    laps: list[float] = []
    bound.run()
    end = time.perf_counter() + seconds
    while len(laps) < runs_min or (len(laps) < runs_max and time.perf_counter() < end):
        began = time.perf_counter()
        bound.run()
        laps.append((time.perf_counter() - began) * 1000)
    p50, p95 = (max(1e-6, round(float(value), 5)) for value in np.percentile(laps, [50, 95]))
    return ReferenceRun(p50_ms=p50, p95_ms=p95, runs=len(laps))


def opset_max(runtime: Runtime) -> int:
    """The newest opset that the runtime here opens: asked, since no library says so."""
    weight = np.ones(1, np.float32)
    for opset in range(OPSET_TRIED_MAX, 0, -1):
        tiny = network([node("Add", ["input", "w"], "out")], {"w": weight}, {"input": [1]}, {"out": [1]}, opset=opset)
        try:
            runtime.open(tiny)
        except NotValid:
            continue
        return opset
    raise NotValid("the runtime here opens no network at all; install onnxruntime again", code="runtime_broken")


def ops_missing() -> tuple[str, ...]:
    """Operators that ONNX Runtime here knows of and has no code for, in order; () where it does not say.

    A build for one purpose leaves out what that does not need. Those that ONNX defines by others are named here too,
    although any runtime can write them out; `Needs.ops` never asks for one of them.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[import-untyped]

    try:
        code = {(found.domain, found.op_name) for found in state.get_all_opkernel_def()}
        known = {(found.domain, found.name) for found in state.get_all_operator_schema()}
    except AttributeError:  # not every build can be asked
        return ()
    missing = known - code - {("", "Constant")}  # becomes a weight when a network is opened
    return tuple(sorted(op_name(domain, name) for domain, name in missing if may_run(domain, name)))


def op_name(domain: str, operator: str) -> str:
    """How an operator is named in needs and capability cards.

    >>> op_name("", "Conv"), op_name("ai.onnx.ml", "Scaler")
    ('Conv', 'ai.onnx.ml.Scaler')
    """
    return operator if domain in ("", "ai.onnx") else f"{domain}.{operator}"


def load_share() -> float:
    """How busy the machine is: runnable processes over a minute, for each core; 1 means that all cores have work."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)
