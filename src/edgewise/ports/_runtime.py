"""Running a network: ONNX Runtime, and a twin that needs no model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise.wire import Graph, Needs, NotValid, loads

if TYPE_CHECKING:
    from edgewise.ports._vet import VetLimits

# ONNX tensor types as numpy names; what is missing here (bfloat16, maps, sequences) cannot be run through this port.
NUMPY_NAMES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
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


class Session(Protocol):
    """One network, ready to run; many threads may share it."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def run(self, values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """All outputs by name, for the network's one input: float32 (N, …). NotValid: it does not take this input."""

    def run_named(self, values: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """The named outputs (all without names), for inputs by name. NotValid: it does not take these inputs."""


class Runtime(Protocol):
    """What runs networks."""

    def open(self, model: bytes, *, threads: int = 1) -> Session:
        """A session. NotValid with code ``model_invalid``: these bytes are not a network that runs here."""

    def vet(self, file: Path, graph: Graph, needs: Needs, limits: VetLimits) -> None:
        """Look at a network's file without opening it in this process, unless it cannot do harm.

        NotTrusted or NotValid: it is refused. NotNow: it cannot be looked at now.
        """


class OnnxRuntime:
    """ONNX Runtime on the CPU, with one thread and without spinning by default.

    Spinning doubles the CPU time and, on a busy machine, makes a run slower as well (docs/ports.md).
    """

    def open(self, model: bytes, *, threads: int = 1) -> Session:
        # Imported late: 60 ms and 20 MB that a process without networks should not pay.
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 4  # its errors reach the caller as exceptions; they need not be printed as well
        try:
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a class of its own for each status
            raise NotValid(f"this network cannot be opened: {_first_line(error)}", code="model_invalid") from error
        return _OnnxSession(session)

    def vet(self, file: Path, graph: Graph, needs: Needs, limits: VetLimits) -> None:
        from edgewise.ports._vet import vet_onnx  # whoever only runs networks never needs it

        vet_onnx(file, graph, needs, limits)


class _OnnxSession:
    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(_tensor(node) for node in session.get_inputs())
        # Maps and sequences (scikit-learn's ZipMap) are left out: no tensor, so nothing that this port can hand on.
        self.outputs = tuple(_tensor(node) for node in session.get_outputs() if node.type in NUMPY_NAMES)
        if not self.outputs:
            raise NotValid("this network has no output that is a tensor; export it with tensors", code="model_invalid")
        self._output_names = [tensor.name for tensor in self.outputs]

    def run(self, values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        if len(self.inputs) != 1:
            names = ", ".join(tensor.name for tensor in self.inputs)
            raise NotValid(
                f"this network has {len(self.inputs)} inputs ({names}), needs exactly one", code="model_invalid"
            )
        return self.run_named({self.inputs[0].name: values})

    def run_named(self, values: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        names = list(outputs) or self._output_names
        try:
            results = self._session.run(names, dict(values))
        except Exception as error:  # as in open
            raise NotValid(f"the network does not take this input: {_first_line(error)}", code="run_failed") from error
        return dict(zip(names, results, strict=True))


def _tensor(node: Any) -> Tensor:
    if node.type not in NUMPY_NAMES:
        raise NotValid(
            f"input {node.name} of this network is a {node.type}; needs one of {', '.join(NUMPY_NAMES)}",
            code="model_invalid",
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    return Tensor(name=node.name, dtype=NUMPY_NAMES[node.type], shape=shape)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


class MemoryRuntime:
    """Networks made of a seed: fast, the same everywhere, and needing nothing but numpy.

    The model's bytes are JSON: ``{"classes": 3, "seed": 1, "embedding": 8}``. An input is projected by a matrix that
    follows from the seed and squashed: that is the embedding. Scores are the softmax of ``readout`` (classes rows of
    embedding numbers) and ``bias`` applied to it; both may be given in the JSON, which is how a simulated trainer
    learns, and follow from the seed where they are not.

    >>> session = MemoryRuntime().open(b'{"classes": 3, "seed": 1, "embedding": 8}')
    >>> session.run(np.ones((2, 5), np.float32))["scores"].shape
    (2, 3)
    """

    def open(self, model: bytes, *, threads: int = 1) -> Session:
        del threads  # numpy decides
        about = loads(model)
        try:
            return _MemorySession(
                classes=int(about["classes"]),
                seed=int(about["seed"]),
                embedding=int(about["embedding"]),
                readout=about.get("readout"),
                bias=about.get("bias"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotValid(
                f"this is not a network of numbers made of a seed: {error!r}", code="model_invalid"
            ) from error

    def vet(self, file: Path, graph: Graph, needs: Needs, limits: VetLimits) -> None:
        del graph, needs, limits  # a few numbers can do no harm
        self.open(file.read_bytes())


class _MemorySession:
    def __init__(self, *, classes: int, seed: int, embedding: int, readout: Any, bias: Any) -> None:
        if not (1 <= classes <= 10_000 and 1 <= embedding <= 10_000 and seed >= 0):
            raise ValueError(f"classes {classes}, embedding {embedding}, seed {seed}")
        self._seed, self._embedding = seed, embedding
        drawn = np.random.default_rng([seed, 1]).standard_normal((classes, embedding))
        self._readout = drawn if readout is None else np.asarray(readout, np.float64)
        self._bias = np.zeros(classes) if bias is None else np.asarray(bias, np.float64)
        if self._readout.shape != (classes, embedding) or self._bias.shape != (classes,):
            raise ValueError(f"readout {self._readout.shape}, bias {self._bias.shape}")
        self._projections: dict[int, NDArray[np.float64]] = {}
        self.inputs: tuple[Tensor, ...] = (Tensor(name="input", dtype="float32", shape=None),)
        self.outputs: tuple[Tensor, ...] = (
            Tensor(name="scores", dtype="float32", shape=(-1, classes)),
            Tensor(name="embedding", dtype="float32", shape=(-1, embedding)),
        )

    def run(self, values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        if values.ndim < 2 or values.dtype != np.float32:
            raise NotValid(f"the network takes float32 (N, …), got {values.dtype} {values.shape}", code="run_failed")
        flat = values.reshape(len(values), -1).astype(np.float64)
        embedding = np.tanh(flat @ self._projection(flat.shape[1]))
        logits = embedding @ self._readout.T + self._bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = powers / powers.sum(axis=1, keepdims=True)
        return {"scores": scores.astype(np.float32), "embedding": embedding.astype(np.float32)}

    def run_named(self, values: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        names = list(outputs) or ["scores", "embedding"]
        if set(values) != {"input"} or not set(names) <= {"scores", "embedding"}:
            raise NotValid(f"the network does not take {sorted(values)} for {names}", code="run_failed")
        results = self.run(values["input"])
        return {name: results[name] for name in names}

    def _projection(self, features: int) -> NDArray[np.float64]:
        if features not in self._projections:
            drawn = np.random.default_rng([self._seed, 0, features]).standard_normal((features, self._embedding))
            self._projections = {features: drawn / max(1.0, features**0.5)}  # one only: the memory stays bounded
        return self._projections[features]
