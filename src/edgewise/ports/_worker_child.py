"""A worker; `_worker_start` runs it with the order that `_worker_process` writes.

It opens one network and answers one question after the other: an event asks, the shared memory says what, an event
answers. Where the session is bound to the shared buffers a run is two system calls and no copy.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # noqa: F401 - loaded before memory is limited

from edgewise.ports._rlimits import limit_files, limit_memory, says_out_of_memory
from edgewise.ports._runtime import OnnxSession, Tensor, open_onnx
from edgewise.ports._runtime_settings import RuntimeSettings
from edgewise.ports._worker_shared import BIND, FAILED, OK, RUN_BOUND, Shared
from edgewise.wire import NotValid

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
OOM_SCORE = "500"  # where memory runs out, this process goes before the agent does
TEXT_MAX = 400


class Worker:
    """One network and the memory it is asked through."""

    def __init__(self, session: OnnxSession, shared: Shared) -> None:
        self._session, self._shared = session, shared
        self.run_bound: Callable[[], Mapping[str, Any]] = _nothing_bound  # on what lies in the buffers

    def bind(self) -> None:
        """Bind the session to buffers in the shared memory, and say where they are."""
        said, shared = self._shared.heard(), self._shared
        self.run_bound = _nothing_bound
        shared.clear_bound()
        bound = self._session.bind_buffers(tuple(said["shape"]), said["outputs"], shared.allocate)
        if bound is None:
            shared.say({"bound": False})
            return
        outputs = [shared.place(name, array) for name, array in bound.outputs.items()]
        shared.say({"bound": True, "input": shared.place("input", bound.input), "outputs": outputs})
        self.run_bound = bound.run

    def run_named(self) -> None:
        """Run on the tensors that the message names, and say where the outputs are."""
        said = self._shared.heard()
        inputs = self._shared.get(said["inputs"], copy=False)
        results = self._session.run_named(inputs, said["outputs"])
        self._shared.say({"outputs": self._shared.put({name: np.asarray(item) for name, item in results.items()})})


def main(order: dict[str, Any]) -> None:
    """Answer until killed."""
    _die_with(order["parent"])
    shared = Shared(order["shared"], order["shared_bytes"])
    settings = RuntimeSettings(**order["settings"] | {"providers": tuple(order["settings"]["providers"])})
    if settings.providers == ("cpu",):  # other providers write caches
        limit_files(order["open_files_max"])
    os.eventfd_write(order["answer"], 1)  # everything is loaded; what goes wrong from here on is the network's doing
    limit_memory(order["memory_bytes"])
    try:
        session = OnnxSession(open_onnx(f"/proc/self/fd/{order['model']}", settings), settings)
        shared.say({"inputs": _plain(session.inputs), "outputs": _plain(session.outputs)})
    except Exception as error:
        shared.say(_told(error))
        shared.words[2] = FAILED
        os.eventfd_write(order["answer"], 1)
        return
    shared.words[2] = OK
    os.eventfd_write(order["answer"], 1)
    _serve(Worker(session, shared), shared, order["ask"], order["answer"])


def _serve(worker: Worker, shared: Shared, ask: int, answer: int) -> None:
    words, read, write = shared.words, os.eventfd_read, os.eventfd_write
    while True:
        read(ask)
        words[3] = 1
        try:
            if words[0] == RUN_BOUND:
                worker.run_bound()  # one call to the session: see `bind`
            elif words[0] == BIND:
                worker.bind()
            else:
                worker.run_named()
            words[2] = OK
        except Exception as error:
            shared.say(_told(error, "unbound" if words[0] == RUN_BOUND else "run_failed"))
            words[2] = FAILED
        write(answer, 1)


def _nothing_bound() -> Mapping[str, Any]:
    raise NotValid("no session is bound to buffers", code="unbound")


def _told(error: Exception, code: str = "run_failed") -> dict[str, str]:
    text = str(error)[:TEXT_MAX]
    if isinstance(error, MemoryError) or says_out_of_memory(text):
        text = "the network wants more memory than memory_mb_max allows; allow more, or export a smaller network"
        return {"code": "too_much_memory", "text": text}
    return {"code": error.code if isinstance(error, NotValid) else code, "text": text}


def _plain(tensors: tuple[Tensor, ...]) -> list[Any]:
    return [[tensor.name, tensor.dtype, tensor.shape] for tensor in tensors]


def _die_with(parent: int) -> None:
    """End when the agent ends, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)  # it ended before we could say so
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
