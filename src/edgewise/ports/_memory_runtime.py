"""The runtime's in-memory twin: networks made of a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgewise.ports._bound import Bound, PublicBound
from edgewise.ports._runtime import Session, Tensor
from edgewise.wire import Graph, Needs, NotValid, loads

if TYPE_CHECKING:
    from edgewise.ports._vet import VetLimits


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

    def open(self, model: bytes, *, threads: int | None = None) -> Session:
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

    def bind(self, shape: tuple[int, ...], outputs: Sequence[str] = ()) -> Bound:
        return PublicBound(self, "input", np.zeros(shape, np.float32), outputs)

    def _projection(self, features: int) -> NDArray[np.float64]:
        if features not in self._projections:
            drawn = np.random.default_rng([self._seed, 0, features]).standard_normal((features, self._embedding))
            self._projections = {features: drawn / max(1.0, features**0.5)}  # one only: the memory stays bounded
        return self._projections[features]
