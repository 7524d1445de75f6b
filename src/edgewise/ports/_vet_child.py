"""The limited process in which a network is opened for the first time: ``python -m edgewise.ports._vet_child ORDER``.

ORDER is JSON: the fields of `_vet.Order`. On the standard output: a line ``ready`` when everything is imported and the
limits hold, then one line of JSON, the answer. A process that ends without an answer did not survive the network.
"""

from __future__ import annotations

import json
import mmap
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from edgewise.ports._onnx_check import check
from edgewise.ports._onnx_tensors import Bounds, Unfit
from edgewise.ports._rlimits import limit_files, limit_memory, says_out_of_memory

OPEN_FILES_MAX = 64
TEXT_MAX = 400
# What ONNX Runtime says of versions that it does not know.
BEYOND = re.compile(r"till opset (\d+)|max supported IR version: (\d+)")


def main(order: dict[str, Any]) -> dict[str, Any]:
    """The answer to an order."""
    _limit_rest(order["cpu_s"])
    _say("ready")
    try:
        # Twice: the file itself is checked within a fixed memory, a network needs more the larger it is.
        limit_memory(order["check_bytes"])
        found = _check(Path(order["file"]), Bounds(**order["bounds"]))
        limit_memory(order["open_bytes"])
        _open(order)
    except Unfit as error:
        return {"code": error.code, "text": str(error)[:TEXT_MAX]}
    except MemoryError:
        return {"code": "too_much_memory", "text": ""}
    return {"opset": found.opset, "nodes": found.nodes}


def _check(file: Path, bounds: Bounds) -> Any:
    with file.open("rb") as handle:
        if not file.stat().st_size:
            raise Unfit("onnx_invalid", "the file is empty; needs an ONNX network")
        mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)

    def forget(start: int, stop: int) -> None:
        """Give pages of the map back, so that a large file does not fill the memory."""
        start -= start % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, start, stop - start)

    return check(memoryview(mapped), bounds, forget)


def _open(order: dict[str, Any]) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # an arena takes twice what it needs
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(order["file"], options, providers=["CPUExecutionProvider"])
        if order["input"] is not None:
            values = np.random.default_rng(0).standard_normal(order["shape"], np.float32)
            session.run(None, {order["input"]: values})
    except MemoryError:
        raise
    except Exception as error:  # ONNX Runtime raises a class of its own for each status
        raise _unfit(str(error)) from error


def _unfit(text: str) -> Unfit:
    beyond = BEYOND.search(text)
    if beyond is not None:
        return Unfit("opset_beyond", f"the runtime here reads up to {beyond[0].replace('till ', '')}; {_last(text)}")
    if says_out_of_memory(text):
        return Unfit("too_much_memory", "")
    return Unfit("network_fails", f"the runtime cannot run it: {_last(text)}")


def _last(text: str) -> str:
    """The first line without the places in ONNX Runtime's source that it begins with."""
    lines = text.strip().splitlines() or ["no reason given"]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+:\d+ .*?\) ", "", lines[0])[:TEXT_MAX]


def _limit_rest(cpu_s: float) -> None:
    """No files written, no core dumps, and an end to computing."""
    limit_files(OPEN_FILES_MAX)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # ends the process; RLIMIT_CPU knows whole seconds only


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _say(json.dumps(main(json.loads(sys.argv[1]))))
