"""A child process in which what strangers made is opened for the first time: told what to do, watched, ended.

The child is a module of this package that says ``ready`` when everything is imported and its limits hold (`_rlimits`),
then one line of JSON – with ``bytes``, where bytes follow, how many – and those bytes.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewise.ports._foreign import HEAD_BYTES, foreign
from edgewise.ports._rlimits import limit_files, limit_memory, says_out_of_memory
from edgewise.wire import NotNow, NotTrusted, NotValid, canonical, loads

__all__ = [
    "ENVIRONMENT",
    "HEAD_BYTES",
    "ChildLimits",
    "ask_child",
    "foreign",
    "limit_files",
    "limit_memory",
    "says_out_of_memory",
]

ANSWER_BYTES_MAX = 1 << 16
PIECE_BYTES = 1 << 18
# What a child needs to find its libraries; tokens and settings are not passed on.
ENVIRONMENT = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "HOME",
    "TMPDIR",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildLimits:
    """Every bound of one child.

    Attributes:
        memory_bytes: more than the child has when it is ready; the child sets it, this is what messages say.
        cpu_s: of processor time; the child sets it too.
        wall_s: from start to end, seen from here.
        answer_bytes_max: of all that it writes.
        environment: more variables than `ENVIRONMENT`.
    """

    memory_bytes: int
    cpu_s: float
    wall_s: float
    answer_bytes_max: int = ANSWER_BYTES_MAX
    environment: Mapping[str, str] = field(default_factory=dict)


def ask_child(module: str, order: Mapping[str, object], limits: ChildLimits) -> tuple[dict[str, Any], bytes]:
    """What the child answers: its line of JSON, and the bytes behind it.

    Args:
        module: run as ``python -m MODULE ORDER``; its order is JSON.
    Raises:
        NotTrusted: the child refused what it opened (its ``code`` and ``text``), or did not survive it. NotNow: the
            child could not be started.
    """
    command = [sys.executable, "-P", "-m", module, canonical(dict(order)).decode()]
    held = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    environment = held | {"OMP_NUM_THREADS": "1"} | dict(limits.environment)
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
    except OSError as error:
        raise _cannot_start(str(error)) from error
    with child:
        try:
            output, in_time = _read(child, limits)
        finally:
            child.kill()
        status = child.wait()
    ready, _, rest = output.partition(b"\n")
    if ready != b"ready":
        raise _cannot_start(f"it ended with {status}")
    if not in_time:
        raise NotTrusted(f"the network was not open after {limits.wall_s:.0f} s", code="too_slow")
    line, ended, data = rest.partition(b"\n")
    answer = _answer(line) if ended else None
    if answer is None or len(data) != answer.get("bytes", 0):
        raise _died(status, limits)
    if "code" in answer:
        raise _refusal(str(answer["code"]), str(answer["text"]), limits)
    return answer, data


def _answer(line: bytes) -> dict[str, Any] | None:
    try:
        answer = loads(line)
    except NotValid:
        return None
    return answer if isinstance(answer, dict) else None


def _read(child: subprocess.Popen[bytes], limits: ChildLimits) -> tuple[bytes, bool]:
    """What the child writes, up to a bound, and whether it ended in time."""
    assert child.stdout is not None
    output, end = bytearray(), time.monotonic() + limits.wall_s
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while len(output) < limits.answer_bytes_max:
            if not selector.select(max(0.0, end - time.monotonic())):
                return bytes(output), False
            piece = os.read(child.stdout.fileno(), PIECE_BYTES)
            if not piece:
                return bytes(output), _ends(child, max(1.0, end - time.monotonic()))
            output += piece
    return bytes(output), True


def _ends(child: subprocess.Popen[bytes], within_s: float) -> bool:
    try:
        child.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _refusal(code: str, text: str, limits: ChildLimits) -> NotTrusted:
    if code == "too_much_memory":
        text = f"opening it took over {limits.memory_bytes >> 20} MB, which is what its size and its manifest allow"
    return NotTrusted(text, code=code)


def _died(status: int, limits: ChildLimits) -> NotTrusted:
    name = signal.Signals(-status).name if status < 0 else f"exit code {status}"
    if status == -signal.SIGPROF:
        return NotTrusted(f"opening it took over {limits.cpu_s:.1f} s of processor time", code="too_slow")
    if status == -signal.SIGKILL:
        return _refusal("too_much_memory", "", limits)
    return NotTrusted(f"the process that opened it ended with {name}", code="crashed")


def _cannot_start(why: str) -> NotNow:
    return NotNow(
        f"the process in which networks are opened first cannot be started ({why}); free some memory", code="vet_failed"
    )
