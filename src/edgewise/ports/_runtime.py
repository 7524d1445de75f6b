"""Running a network: the promise, and ONNX Runtime in this process."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise.ports._bfloat import held_as, run_bfloat
from edgewise.ports._bound import Allocate, Bound, OnnxBound, PublicBound, SafeBound, bind_onnx
from edgewise.ports._runtime_settings import CPU, RuntimeSettings, chosen_providers
from edgewise.wire import NotValid

if TYPE_CHECKING:
    from edgewise.ports._vet import VetLimits
    from edgewise.wire import Graph, Needs

# ONNX tensor types as numpy names; what is missing here (bfloat16, maps, sequences) cannot be run through this port.
NUMPY_NAMES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",  # float32 in and out: `_bfloat.run_bfloat`
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """The name, type and shape that a network declares for an input or output."""

    name: str
    dtype: str  # numpy's name; "object" for text
    shape: tuple[int, ...] | None  # -1 where any size goes; None where even the number of axes is open


def only_input(inputs: Sequence[Tensor]) -> Tensor:
    """The network's one input.

    Raises:
        NotValid: it has none, or several.
    """
    if len(inputs) != 1:
        names = ", ".join(tensor.name for tensor in inputs)
        raise NotValid(f"this network has {len(inputs)} inputs ({names}), needs exactly one", code="model_invalid")
    return inputs[0]


class Session(Protocol):
    """One network, ready to run; many threads may share it."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def run(self, values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """All outputs by name, for the network's one input: float32 (N, …). NotValid: it does not take this input."""

    def run_named(self, values: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """The named outputs (all without names), for inputs by name. NotValid: it does not take these inputs."""

    def bind(self, shape: tuple[int, ...], outputs: Sequence[str] = ()) -> Bound:
        """Buffers for many runs of one shape, the fastest way to run it; raises nothing, its runs may.

        Args:
            shape: of the one input, the first axis too.
            outputs: names of those wanted, all without names.
        """


class Runtime(Protocol):
    """What runs networks."""

    def open(self, model: bytes, *, threads: int | None = None) -> Session:
        """A session, with another count of threads than the settings name where one is given.

        Raises:
            NotValid: with code ``model_invalid``: these bytes are not a network that runs here.
        """

    def vet(self, file: Path, graph: Graph, needs: Needs, limits: VetLimits) -> None:
        """Look at a network's file without opening it in this process, unless it cannot do harm.

        NotTrusted or NotValid: it is refused. NotNow: it cannot be looked at now.
        """


class OnnxRuntime:
    """ONNX Runtime in this process, by default on the CPU with one thread and without spinning (docs/runtime.md)."""

    def __init__(self, settings: RuntimeSettings | None = None) -> None:
        self.settings = settings or RuntimeSettings()

    def open(self, model: bytes, *, threads: int | None = None) -> Session:
        settings = self.settings if threads is None else replace(self.settings, threads=threads)
        return OnnxSession(open_onnx(model, settings), settings)

    def vet(self, file: Path, graph: Graph, needs: Needs, limits: VetLimits) -> None:
        from edgewise.ports._vet import vet_onnx  # whoever only runs networks never needs it

        vet_onnx(file, graph, needs, limits)


def open_onnx(model: bytes | str, settings: RuntimeSettings) -> Any:
    """An `onnxruntime.InferenceSession`.

    Args:
        model: the network, or the path of its file.
    Raises:
        NotValid: no network that runs here, or a provider that is not there.
    """
    # Imported late: 60 ms and 20 MB that a process without networks should not pay.
    import onnxruntime  # type: ignore[import-untyped]

    providers = chosen_providers(settings.providers, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    spinning = "1" if settings.spinning else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    options.log_severity_level = 4  # its errors reach the caller as exceptions; they need not be printed as well
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # ONNX Runtime raises a class of its own for each status
        raise NotValid(f"this network cannot be opened: {first_line(error)}", code="model_invalid") from error
    session.disable_fallback()  # a provider that fails is an error, not another provider and a line on the output
    lost = [name for name in providers if name not in session.get_providers()]
    if lost and "auto" not in settings.providers:
        raise NotValid(
            f"{lost[0]} is installed but does not start here (its driver or libraries are missing); choose provider "
            "auto or cpu",
            code="provider_missing",
        )
    _give_back()
    return session


def _give_back() -> None:
    """Give the system what opening a network took and freed: 15 of the 64 MB of a MobileNetV2, which glibc keeps."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class OnnxSession:
    """An ONNX Runtime session in this process."""

    def __init__(self, session: Any, settings: RuntimeSettings) -> None:
        self._session = session
        self.inputs = tuple(_tensor(node) for node in session.get_inputs())
        # Maps and sequences (scikit-learn's ZipMap) are left out: no tensor, so nothing that this port can hand on.
        self.outputs = tuple(_tensor(node) for node in session.get_outputs() if node.type in NUMPY_NAMES)
        if not self.outputs:
            raise NotValid("this network has no output that is a tensor; export it with tensors", code="model_invalid")
        self._output_names = [tensor.name for tensor in self.outputs]
        self._bfloat = {tensor.name: tensor.dtype for tensor in self.inputs}
        if not any(tensor.dtype == "bfloat16" for tensor in (*self.inputs, *self.outputs)):
            self._bfloat = {}
        self._warm_up(settings)

    def run(self, values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        return self.run_named({only_input(self.inputs).name: values})

    def run_named(self, values: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        names = list(outputs) or self._output_names
        try:
            if self._bfloat:
                results = run_bfloat(self._session, names, values, self._bfloat)
            else:
                results = self._session.run(names, dict(values))
        except Exception as error:  # as in open
            raise NotValid(f"the network does not take this input: {first_line(error)}", code="run_failed") from error
        return dict(zip(names, results, strict=True))

    def bind(self, shape: tuple[int, ...], outputs: Sequence[str] = ()) -> Bound:
        names, tensor = list(outputs) or self._output_names, self.inputs[0]
        public = PublicBound(self, tensor.name, np.zeros(shape, held_as(tensor.dtype)), names)
        fast = self.bind_buffers(shape, names, lambda size, dtype: np.zeros(size, dtype))
        if fast is None:
            return public
        return SafeBound(fast, PublicBound(self, tensor.name, fast.input, names))

    def bind_buffers(self, shape: tuple[int, ...], outputs: Sequence[str], allocate: Allocate) -> OnnxBound | None:
        """As `bind`, in buffers of the caller's making; None where the network cannot be bound."""
        on_cpu = self._session.get_providers() == [CPU]
        if not on_cpu or len(self.inputs) != 1 or self.inputs[0].dtype == "object" or self._bfloat:
            return None
        names, tensor = list(outputs) or self._output_names, self.inputs[0]
        return bind_onnx(self._session, tensor.name, shape, tensor.dtype, names, allocate)

    def _warm_up(self, settings: RuntimeSettings) -> None:
        """The first run allocates and is slow; a network whose sizes are not known is warmed up by its first frame."""
        feed = blank_inputs(self.inputs, settings.warm_up_values_max)
        try:
            for _ in range(settings.warm_up_runs if feed else 0):
                self._session.run(None, feed)
        except Exception:  # nobody asked for zeros; whether the network runs is seen when somebody does
            return


def blank_inputs(inputs: Sequence[Tensor], values_max: int) -> dict[str, NDArray[Any]] | None:
    """Zeros for one row of every input; None where a size is not declared, or there are more values than allowed."""
    feed: dict[str, NDArray[Any]] = {}
    for tensor in inputs:
        shape = None if tensor.shape is None else (*(max(size, 1) for size in tensor.shape[:1]), *tensor.shape[1:])
        if shape is None or min(shape, default=1) < 1 or math.prod(shape) > values_max:
            return None
        if tensor.dtype in ("object", "bfloat16"):
            return None
        feed[tensor.name] = np.zeros(shape, tensor.dtype)
    return feed


def _tensor(node: Any) -> Tensor:
    if node.type not in NUMPY_NAMES:
        raise NotValid(
            f"input {node.name} of this network is a {node.type}; needs one of {', '.join(NUMPY_NAMES)}",
            code="model_invalid",
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    return Tensor(name=node.name, dtype=NUMPY_NAMES[node.type], shape=shape)


def first_line(error: Exception) -> str:
    """What an exception of ONNX Runtime says, short."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
