"""Networks in processes of their own: what a network does to its process, it does not do to the agent."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgewise.ports._bfloat import held_as
from edgewise.ports._bound import Bound, PublicBound
from edgewise.ports._runtime import Session, Tensor, only_input
from edgewise.ports._runtime_settings import RuntimeSettings
from edgewise.ports._worker_process import Process, Restarts, WorkerLimits, refusal
from edgewise.ports._worker_shared import BIND, OK, RUN_BOUND, RUN_NAMED, Shared
from edgewise.wire import Graph, Needs, NotNow, NotValid

if TYPE_CHECKING:
    from edgewise.ports._vet import VetLimits

BREAKS = ("worker_died", "too_slow", "too_much_memory")


class WorkerRuntime:
    """A child process for each session, over shared memory and events; never a pipe on the hot path.

    A network that crashes, hangs or wants too much memory raises `NotValid` with code ``worker_died``, ``too_slow`` or
    ``too_much_memory``. Its process is started again at the next run, a bounded number of times a minute; beyond that
    runs raise `NotNow` with the code of what broke last. ``counts`` says how often each happened.
    """

    def __init__(self, settings: RuntimeSettings | None = None, limits: WorkerLimits | None = None) -> None:
        self.settings = settings or RuntimeSettings()
        self.limits = limits or WorkerLimits()
        self.counts: Counter[str] = Counter()

    def open(self, model: bytes, *, threads: int | None = None) -> Session:
        settings = self.settings if threads is None else replace(self.settings, threads=threads)
        return WorkerSession(model, settings, self.limits, self.counts)

    def vet(self, file: Path, graph: Graph, needs: Needs, limits: VetLimits) -> None:
        from edgewise.ports._vet import vet_onnx

        vet_onnx(file, graph, needs, limits)


class WorkerSession:
    """A network in a child process. Threads may share it; they take turns."""

    def __init__(
        self, model: bytes, settings: RuntimeSettings, limits: WorkerLimits, counts: Counter[str] | None = None
    ) -> None:
        self._settings, self._limits = settings, limits
        self._counts = Counter() if counts is None else counts
        self._restarts = Restarts(limits.restarts_per_minute_max)
        self._turn = threading.Lock()
        size = limits.shared_mb_max << 20
        self._model, self._memory = _File(_memory_of(model)), _File(Shared.create(size))
        self._shared = Shared(self._memory.fd, size)
        # What it said and no more: an error holds its traceback, and so this session, whose end ends the child.
        self._last_break = ("worker_died", "it ended")
        self._bound, self._bound_last = 0, 0  # the number of the binding that the child holds, 0 for none
        self._process: Process | None = None
        process = self._start()
        self.inputs = tuple(_tensor(item) for item in process.opened["inputs"])
        self.outputs = tuple(_tensor(item) for item in process.opened["outputs"])

    def run(self, values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        return self.run_named({only_input(self.inputs).name: values})

    def run_named(self, values: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        with self._turn:
            self._ready()
            self._shared.say({"inputs": self._shared.put(values), "outputs": list(outputs)})
            return self._shared.get(self._ask(RUN_NAMED)["outputs"], copy=True)

    def bind(self, shape: tuple[int, ...], outputs: Sequence[str] = ()) -> Bound:
        bound = None
        if len(self.inputs) == 1:
            bound = WorkerBound(self, shape, outputs)
            try:
                with self._turn:
                    self._ready()
                    return bound if self.attach(bound) else self._unbound(shape, outputs)
            except (NotNow, NotValid):
                pass  # its runs say what is wrong
        return self._unbound(shape, outputs)

    def _unbound(self, shape: tuple[int, ...], outputs: Sequence[str]) -> PublicBound:
        tensor = self.inputs[0]
        return PublicBound(self, tensor.name, np.zeros(shape, held_as(tensor.dtype)), outputs)

    # -- for a bound session, which takes its turn itself --------------------------------------------------------------

    def attach(self, bound: WorkerBound) -> bool:
        """Let the child bind its session to buffers of this shape; False where it cannot be bound."""
        self._bound = 0
        self._shared.say({"shape": list(bound.shape), "outputs": list(bound.names)})
        said = self._ask(BIND)
        if not said["bound"]:
            return False
        bound.input = self._shared.get([said["input"]], copy=False)["input"]
        bound.outputs = self._shared.get(said["outputs"], copy=False)
        self._bound_last += 1
        self._bound = bound.number = self._bound_last
        return True

    def run_bound(self, bound: WorkerBound) -> None:
        """Run on what lies in the buffers."""
        with self._turn:
            # The hot path: every call and look-up left out here is a part of the 8 µs that a worker may cost.
            process = self._process
            if process is None or self._bound != bound.number:
                self._run_bound_again(bound)
                return
            answer = process.ask(RUN_BOUND)
            if answer == OK:
                return
            if answer or process.is_to_blame:
                self._raise(answer)
            self._run_bound_again(bound)  # the child had ended while nobody asked: the frame is not lost

    def _run_bound_again(self, bound: WorkerBound) -> None:
        """The frame lies in buffers of a former binding; it is kept while the child binds anew."""
        frame = bound.input.copy()
        process = self._ready()
        if not self.attach(bound):
            raise NotValid("the network can no longer be bound to buffers", code="run_failed")
        bound.input[...] = frame
        answer = process.ask(RUN_BOUND)
        if answer != OK:
            self._raise(answer)

    # -- the process ---------------------------------------------------------------------------------------------------

    def _start(self) -> Process:
        try:
            process = Process(self._model.fd, self._memory.fd, self._shared, self._settings, self._limits)
        except NotValid as error:
            raise self._broken(error) from error
        self._process, self._bound = process, 0
        self._counts["started"] += 1
        return process

    def _ready(self) -> Process:
        """A living process. NotNow: the last one broke, and was started again too often."""
        process = self._process
        if process is not None and process.is_alive():
            return process
        if process is not None:  # it ended while nobody asked anything of it: no frame was lost
            self._broken(process.failure())
        if not self._restarts.allow():
            code, text = self._last_break
            raise NotNow(
                f"this network's worker broke {self._restarts.count} times, it is started again at most "
                f"{self._limits.restarts_per_minute_max} times a minute; the last time: {text}",
                code=code,
            )
        self._counts["restarted"] += 1
        return self._start()

    def _ask(self, what: int) -> Mapping[str, Any]:
        assert self._process is not None
        answer = self._process.ask(what)
        if answer != OK:
            self._raise(answer)
        said: Mapping[str, Any] = self._shared.heard()
        return said

    def _raise(self, answer: int) -> NoReturn:
        assert self._process is not None
        if not answer:
            raise self._broken(self._process.failure())
        raise self._told(refusal(self._shared.heard()))

    def _told(self, error: NotValid) -> NotValid:
        """An error that the child could still tell; after one about memory it is ended, for its arena stays large."""
        return self._broken(error) if error.code in BREAKS else error

    def _broken(self, error: NotValid) -> NotValid:
        if error.code in BREAKS:
            self._counts[error.code] += 1
            self._last_break = (error.code, str(error))
        if self._process is not None:
            self._process.end()
        self._process, self._bound = None, 0
        return error

    @property
    def pid(self) -> int | None:
        """The child's process, None while there is none."""
        return self._process.pid if self._process else None


class WorkerBound:
    """A session in a child, bound to buffers in shared memory."""

    def __init__(self, session: WorkerSession, shape: tuple[int, ...], names: Sequence[str]) -> None:
        self.shape, self.names = shape, names
        self.input: NDArray[Any] = np.zeros(0)
        self.outputs: Mapping[str, NDArray[Any]] = {}
        self.number = 0
        self._session = session

    def run(self) -> Mapping[str, NDArray[Any]]:
        try:
            self._session.run_bound(self)
        except NotValid as error:
            if error.code != "unbound":
                raise
            # The outputs have another shape than the buffers: this frame goes by name.
            return self._session.run_named({self._session.inputs[0].name: self.input}, self.names)
        return self.outputs


class _File:
    """A file descriptor that is closed when nobody holds it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        weakref.finalize(self, os.close, fd)


def _memory_of(data: bytes) -> int:
    fd = os.memfd_create("edgewise-network", os.MFD_CLOEXEC)
    with os.fdopen(fd, "wb", closefd=False) as file:
        file.write(data)
    return fd


def _tensor(item: Sequence[Any]) -> Tensor:
    name, dtype, shape = item
    return Tensor(name=name, dtype=dtype, shape=None if shape is None else tuple(shape))
