"""What is served by protocol v2: networks under names, what they declare, what they did; the same for REST and gRPC."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from edgewise import __version__
from edgewise.edge._v2_messages import BadRequest, RequestReader
from edgewise.frames import SERIES_TYPE, input_shape
from edgewise.ports import Bound, Pipeline, Tensor
from edgewise.ports.tensors import DATATYPES
from edgewise.wire import Decision, EdgewiseError, ImageSpec, NotValid, PastSpec, SeriesSpec

INLINE_S_MAX = 0.0005  # a run shorter than this is done on the event loop: the hop to a thread and back costs more
MEDIAN_STEP = 1.05
BOUNDS_MAX = 8  # sets of buffers that are kept for a network
EXTENSIONS = ["binary_tensor_data", "model_configuration", "statistics", "model_repository"]
PLATFORM = "onnxruntime_onnx"
BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Asked(Protocol):
    """What is needed of a session here; a `ports.Session` is one."""

    @property
    def inputs(self) -> tuple[Tensor, ...]: ...
    @property
    def outputs(self) -> tuple[Tensor, ...]: ...
    def run_named(self, values: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """As `Session.run_named`."""


class ServedModel:
    """A network under a name: a bundle's, which also decides, or any ONNX file's."""

    def __init__(
        self, session: Asked, *, version: str = "1", pipeline: Pipeline | None = None, release: str | None = None
    ):
        self.session = session
        self.inputs = session.inputs if pipeline is None else (_prepared_input(pipeline),)
        self.outputs = session.outputs
        self.version = version
        self.pipeline = pipeline
        self.release = release
        self.declared = {tensor.name: tensor.dtype for tensor in self.outputs}
        self.reader = RequestReader(self.inputs, self.outputs)
        self.runs = 0
        self.failures = 0
        self.run_s_total = 0.0
        self.last_run_at = 0.0  # Unix time
        self._run_s = INLINE_S_MAX  # about the median; starts at the bound, so that the first run goes to a thread
        self._bounds: dict[tuple[tuple[int, ...], tuple[str, ...]], Bound] = {}
        self._counting = threading.Lock()  # runs come from the event loop and from threads

    @classmethod
    def of_pipeline(cls, pipeline: Pipeline, release: str | None = None) -> ServedModel:
        """A bundle; its version is the start of its digest."""
        return cls(pipeline.session, version=pipeline.bundle[:12], pipeline=pipeline, release=release)

    @property
    def is_short(self) -> bool:
        """Whether a run is too short to be worth a thread."""
        return self._run_s < INLINE_S_MAX

    def infer(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The outputs by name. NotValid: the network does not take these inputs."""
        started = time.perf_counter()
        try:
            results = self.session.run_named(inputs, outputs)
        except EdgewiseError:
            self._count_failure()
            raise
        self.count(time.perf_counter() - started)
        return results

    def bound(self, shape: tuple[int, ...], outputs: tuple[str, ...]) -> Bound | None:
        """Buffers for runs of this shape on the event loop; the same ones for the same shape and outputs.

        None where the session has none.
        """
        key = shape, outputs
        bind: Callable[..., Bound] | None = getattr(self.session, "bind", None)
        if key not in self._bounds and bind is not None:
            if len(self._bounds) >= BOUNDS_MAX:
                self._bounds.clear()
            self._bounds[key] = bind(shape, outputs)
        return self._bounds.get(key)

    def count(self, seconds: float) -> None:
        """Note a run that took so long."""
        self._count(seconds)
        # Follows the median, which one run that was interrupted does not move much (as a mean would).
        self._run_s = min(self._run_s * MEDIAN_STEP, 1.0) if seconds > self._run_s else self._run_s / MEDIAN_STEP

    def decide(self, data: bytes) -> Decision:
        """The bundle's decision on a frame. NotValid: no bundle, or a frame that cannot be used."""
        if self.pipeline is None:
            raise NotValid("this is a plain network, which cannot decide; serve a bundle for that", code="not_a_bundle")
        # What the bundle takes is certain, what a client writes into Content-Type is not: curl calls everything a form.
        spec = self.pipeline.graph.pre
        media_type = SERIES_TYPE if isinstance(spec, SeriesSpec | PastSpec) else "application/json"
        media_type = "image/*" if isinstance(spec, ImageSpec) else media_type
        started = time.perf_counter()
        try:
            decision = self.pipeline.decide(self.pipeline.answer(data, media_type), self.release)
        except EdgewiseError:
            self._count_failure()
            raise
        self._count(time.perf_counter() - started)
        return decision

    def _count(self, seconds: float) -> None:
        with self._counting:
            self.runs += 1
            self.run_s_total += seconds
            self.last_run_at = time.time()

    def _count_failure(self) -> None:
        with self._counting:
            self.failures += 1


def _prepared_input(pipeline: Pipeline) -> Tensor:
    """A bundle's input: the prepared frame, whose shape the manifest knows even where the network leaves it open."""
    (declared,) = pipeline.session.inputs
    batch = declared.shape[0] if declared.shape else -1
    return Tensor(name=declared.name, dtype=declared.dtype, shape=(batch, *input_shape(pipeline.graph.pre)))


class Repository(Mapping[str, ServedModel]):
    """Networks that can be unloaded and loaded again; the mapping is of those that are loaded.

    Args:
        loaded: the networks by name.
        openers: what opens each of them again.
    """

    def __init__(self, loaded: Mapping[str, ServedModel], openers: Mapping[str, Callable[[], ServedModel]]) -> None:
        self._openers = dict(openers)
        self._loaded = dict(loaded)
        self._turn = threading.Lock()

    def __getitem__(self, name: str) -> ServedModel:
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded)

    def __len__(self) -> int:
        return len(self._loaded)

    @property
    def unloaded(self) -> list[str]:
        """The names that were given at the start and are not loaded now."""
        return [name for name in self._openers if name not in self._loaded]

    def load(self, name: str) -> None:
        """Open the network anew, from its file as it is now; the old one serves until then. Raises as the opener."""
        with self._turn:
            served = self._opener(name)()
            self._loaded = {**self._loaded, name: served}  # replaced as a whole: others read it without a lock

    def unload(self, name: str) -> None:
        """Stop serving a network. One that is not loaded stays so. BadRequest: no such name was given at the start."""
        with self._turn:
            self._opener(name)
            self._loaded = {other: served for other, served in self._loaded.items() if other != name}

    def _opener(self, name: str) -> Callable[[], ServedModel]:
        if name not in self._openers:
            known = ", ".join(self._openers)
            raise BadRequest(
                f"no network {name[:80]!r} was given when this server started; there is {known}", "not_found"
            )
        return self._openers[name]


class Served:
    """The questions of the protocol about what is served, answered as plain values.

    Args:
        models: by name; looked at anew for each question, so an agent may change it while it runs.
    """

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        self._models = models

    def server(self) -> dict[str, Any]:
        return {"name": "edgewise", "version": __version__, "extensions": EXTENSIONS}

    def is_ready(self) -> bool:
        return len(self._models) > 0

    def find(self, name: str, version: str | None = None) -> ServedModel:
        """The network under this name. BadRequest with code ``not_found``: there is none, or not in this version."""
        served = self._models.get(name)
        if served is None or version not in (None, "", served.version):
            raise BadRequest(self._absent(name, version), "not_found")
        return served

    def _absent(self, name: str, version: str | None) -> str:
        if name in self._unloaded():
            return f"network {name!r} is not loaded; POST /v2/repository/models/{name}/load brings it back"
        known = ", ".join(f"{other} (version {model.version})" for other, model in self._models.items()) or "none"
        wanted = f"{name[:80]!r}" if not version else f"{name[:80]!r} version {version[:80]}"
        return f"no network {wanted} is served here; there is {known[:500]}"

    def _unloaded(self) -> list[str]:
        return self._models.unloaded if isinstance(self._models, Repository) else []

    def metadata(self, name: str, version: str | None) -> dict[str, Any]:
        served = self.find(name, version)
        return {
            "name": name,
            "versions": [served.version],
            "platform": PLATFORM,
            "inputs": [_declared(tensor) for tensor in served.inputs],
            "outputs": [_declared(tensor) for tensor in served.outputs],
        }

    def configuration(self, name: str, version: str | None) -> dict[str, Any]:
        served = self.find(name, version)
        return {
            "name": name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "max_batch_size": 0,  # the batch is the first axis of the declared shapes
            "input": [_port(tensor) for tensor in served.inputs],
            "output": [_port(tensor) for tensor in served.outputs],
        }

    def statistics(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """What one network did, or each of them."""
        names = list(self._models) if not name else [name]
        return {"model_stats": [_statistics(each, self.find(each, version)) for each in names]}

    def index(self, *, ready_only: bool = False) -> list[dict[str, str]]:
        """Every network that is served, or could be."""
        loaded = [
            {"name": name, "version": served.version, "state": "READY", "reason": ""}
            for name, served in self._models.items()
        ]
        absent = [
            {"name": name, "version": "", "state": "UNAVAILABLE", "reason": "unloaded"} for name in self._unloaded()
        ]
        return loaded if ready_only else loaded + absent

    def load(self, name: str, *, changes: bool = False) -> None:
        """Load a network again. Takes as long as opening one. BadRequest: it cannot be done here.

        Args:
            changes: whether another configuration or other files were sent along.
        """
        if changes:
            raise BadRequest("networks are loaded as they are on this machine; leave config and files out")
        self._repository().load(name)

    def unload(self, name: str) -> None:
        """Stop serving a network. BadRequest: it cannot be done here."""
        self._repository().unload(name)

    def _repository(self) -> Repository:
        if not isinstance(self._models, Repository):
            raise BadRequest("what runs on this device follows its assignment; nothing is loaded or unloaded here")
        return self._models


def _declared(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": DATATYPES[tensor.dtype], "shape": list(_shape(tensor))}


def _port(tensor: Tensor) -> dict[str, Any]:
    kind = "TYPE_STRING" if tensor.dtype == "object" else f"TYPE_{DATATYPES[tensor.dtype]}"
    return {"name": tensor.name, "data_type": kind, "dims": list(_shape(tensor))}


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return (-1,) if tensor.shape is None else tensor.shape


def _statistics(name: str, served: ServedModel) -> dict[str, Any]:
    ran = {"count": served.runs, "ns": round(served.run_s_total * 1e9)}
    return {
        "name": name,
        "version": served.version,
        "last_inference": round(served.last_run_at * 1000),
        "inference_count": served.runs,
        "execution_count": served.runs,
        "inference_stats": {"success": ran, "fail": {"count": served.failures, "ns": 0}, "compute_infer": ran},
    }


class Tally:
    """Requests by name and status, and their times, cheap enough for every request."""

    def __init__(self) -> None:
        self.answered: dict[tuple[str, int], int] = {}
        self.seconds: dict[str, tuple[list[int], float]] = {}  # counts by bucket, the last beyond all; and the sum
        self._turn = threading.Lock()

    def __call__(self, name: str, status: int, seconds: float) -> None:
        with self._turn:
            self.answered[name, status] = self.answered.get((name, status), 0) + 1
            counts, total = self.seconds.get(name) or ([0] * (len(BUCKETS_S) + 1), 0.0)
            counts[bisect_left(BUCKETS_S, seconds)] += 1
            self.seconds[name] = counts, total + seconds
