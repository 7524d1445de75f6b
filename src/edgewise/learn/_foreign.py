"""A model of scikit-learn or PyTorch as an ONNX network: opened in a limited process, compared with the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgewise.learn._foreign_common import batches, parity_inputs
from edgewise.learn._kinds import Kind
from edgewise.learn._trainer import Floats
from edgewise.ports import OnnxRuntime
from edgewise.ports.limited import ChildLimits, ask_child
from edgewise.wire import InputSpec, NotNow, NotValid, plain

CHILD = "edgewise.learn._foreign_child"
PARITY_MAX = 1e-3  # of an output, or of its largest value where that is above 1: what float32 costs, our choice
MEMORY_BYTES, MEMORY_PER_BYTE = 1 << 30, 8  # beside what its libraries take
CPU_S, CPU_S_PER_BYTE = 60.0, 1 / 1e6
NETWORK_BYTES_MAX = 1 << 30  # of the ONNX file and all answers
NEEDED = {
    "skops": (("skops", "skl2onnx"), "edgewise[learn]"),
    "torchscript": (("torch", "onnxscript"), "edgewise[vision]"),
    "exported": (("torch", "onnxscript"), "edgewise[vision]"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """What came out of the process.

    Attributes:
        network: an ONNX file; None where something is missing.
        missing: what it is about, and what is needed.
        facts: what the model told of itself: its class, classes, columns, shape of its input.
        shift: largest difference between the model and the network, see `PARITY_MAX`.
    """

    network: bytes | None
    missing: tuple[str, str] | None
    facts: dict[str, Any]
    shift: float = 0.0


def opened(file: Path, kind: Kind, spec: InputSpec | None, trusted: Sequence[str] = ()) -> Opened:
    """The model of a file as a network.

    Args:
        kind: by `kind_of`.
        spec: how a frame becomes the input; None: only what the model tells of itself.
        trusted: types of scikit-learn that the user vouches for.
    Raises:
        NotTrusted: it holds what could do more than compute, or broke a limit. NotValid: its library is not installed.
        NotNow: the process cannot be started.
    """
    modules, extra = NEEDED[kind]
    if left := [name for name in modules if find_spec(name) is None]:
        raise NotValid(f"{' and '.join(left)} cannot be loaded; pip install '{extra}'", code="extra_missing")
    size = file.stat().st_size
    memory, cpu_s = MEMORY_BYTES + MEMORY_PER_BYTE * size, CPU_S + CPU_S_PER_BYTE * size
    order = {
        "file": str(file.resolve()),
        "kind": kind,
        "spec": None if spec is None else plain(spec),
        "trusted": list(trusted),
        "memory_bytes": memory,
        "cpu_s": cpu_s,
    }
    limits = ChildLimits(
        memory_bytes=memory,
        cpu_s=cpu_s,
        wall_s=60 + 5 * cpu_s,
        answer_bytes_max=NETWORK_BYTES_MAX,
        environment={"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"},  # whatever its library asks for, no pickle is run
    )
    answer, data = ask_child(CHILD, order, limits)
    facts = dict(answer["facts"])
    if (missing := answer.get("missing")) is not None:
        return Opened(network=None, missing=(str(missing[0]), str(missing[1])), facts=facts)
    assert spec is not None, "without a spec, an input is missing"
    network, said = _taken_apart(data, answer)
    return _compared(network, said, spec, facts)


def _taken_apart(data: bytes, answer: dict[str, Any]) -> tuple[bytes, dict[str, Floats]]:
    sizes = [int(size) for size in answer["sizes"]]
    ends = np.cumsum(sizes)
    said: dict[str, Floats] = {}
    for (name, shape), start, end in zip(answer["outputs"].items(), ends[:-1], ends[1:], strict=True):
        said[name] = np.frombuffer(data[start:end], np.float32).reshape(shape)
    return data[: sizes[0]], said


def _compared(network: bytes, said: dict[str, Floats], spec: InputSpec, facts: dict[str, Any]) -> Opened:
    """The network, if it says what the model said."""
    shape = facts.get("input") or ["N"]
    pieces = batches(parity_inputs(spec), shape[0] if isinstance(shape[0], int) else None)
    worst = 0.0
    try:
        session = OnnxRuntime().open(network, threads=1)
        for name, wanted in said.items():
            given = np.concatenate([session.run_named({"input": piece}, [name])[name] for piece in pieces])
            if given.shape != wanted.shape:
                raise NotValid(f"its output has shape {given.shape}, the model's {wanted.shape}", code="parity")
            scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
            shift = float(np.abs(given - wanted).max(initial=0.0)) / scale
            worst = max(worst, shift if np.isfinite(shift) else float("inf"))
    except NotNow:
        raise
    except NotValid as error:
        return Opened(network=None, missing=("parity", f"written as ONNX it does not run: {error}"), facts=facts)
    if worst > PARITY_MAX:
        text = (
            f"written as ONNX it says something else than the model, by {worst:.2g} on {len(np.concatenate(pieces))} "
            f"generated inputs, at most {PARITY_MAX:g} is allowed; export it as ONNX where it was made"
        )
        return Opened(network=None, missing=("parity", text), facts=facts)
    return Opened(network=network, missing=None, facts=facts, shift=worst)
