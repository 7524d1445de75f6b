"""Where a training runs: in a process of its own on this machine, or on a Ray cluster; the work is the same."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import psutil

from edgewise.learn._checkpoint import Checkpoint
from edgewise.learn._task import Made, Task, do
from edgewise.learn._trainer import Cancelled, Progress
from edgewise.ports import FolderBlobs
from edgewise.wire import EdgewiseError, NotNow, NotTrusted, NotValid

LOOK_S = 0.2
END_S = 5.0
GRACE_LOOKS = 5  # after a training was ended from outside
TEXT_MAX = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingLimits:
    """Every bound of one training.

    Attributes:
        memory_bytes_max: resident, its own children included; None is four fifths of the machine's memory.
    """

    memory_bytes_max: int | None = None
    seconds_max: float = 86_400.0

    @property
    def memory_max(self) -> int:
        return self.memory_bytes_max or int(0.8 * psutil.virtual_memory().total)


class Executor(Protocol):
    """Runs trainings; several may run at the same time, each called from a thread of its own."""

    @property
    def parallel(self) -> int:
        """How many trainings it runs at once, at least 1."""

    def run(self, task: Task, blobs: FolderBlobs, go_on: Progress, checkpoint: Checkpoint | None = None) -> Made:
        """What the training made.

        Args:
            blobs: hold all that the task names.
            go_on: told how far it is, about every `LOOK_S`; it raises Cancelled to end the training.
        Raises:
            NotValid: why there is nothing, in one sentence. Cancelled: `go_on` raised it; nothing runs any more.
        """


class InProcess:
    """In the caller's process: for tests, and for trainers that are trusted. A crash of one is a crash of both."""

    parallel = 1

    def run(self, task: Task, blobs: FolderBlobs, go_on: Progress, checkpoint: Checkpoint | None = None) -> Made:
        try:
            return do(task, blobs.get, go_on, checkpoint)
        except (EdgewiseError, Cancelled):
            raise
        except Exception as error:
            # A trainer is a plug-in: whatever it raises must end the order, not the worker.
            raise crashed(task, type(error).__name__, str(error)) from error


class LocalProcess:
    """In a process of its own, which is ended when it takes too much memory or time, or is not wanted any more."""

    parallel = 1

    def __init__(self, limits: TrainingLimits | None = None) -> None:
        self._limits = limits or TrainingLimits()

    def run(self, task: Task, blobs: FolderBlobs, go_on: Progress, checkpoint: Checkpoint | None = None) -> Made:
        # A fork of a process with threads and a network would hang. This forks from a small server beside it, which has
        # imported what takes seconds once for all trainings; it ends with this process.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["edgewise.learn._task", "edgewise.learn._vision"])
        ours, theirs = context.Pipe()
        child = context.Process(target=_train_here, args=(theirs, task, blobs.path, checkpoint))
        child.start()
        theirs.close()
        try:
            return self._watch(child, ours, task, go_on)
        finally:
            _end(child)
            ours.close()

    def _watch(self, child: BaseProcess, told: Connection, task: Task, go_on: Progress) -> Made:
        started_s, stage = time.monotonic(), ("start", 0.0)
        while True:
            if told.poll(LOOK_S):
                try:
                    kind, value = told.recv()
                except (EOFError, OSError):
                    child.join(END_S)
                    # Whoever ended it may have told us to stop too, and a signal takes its time.
                    for _ in range(GRACE_LOOKS):
                        go_on(*stage)
                        time.sleep(LOOK_S)
                    raise _ended(child.exitcode, stage) from None
                if kind != "progress":
                    return outcome(kind, value, task)
                stage = value
            go_on(*stage)
            self._check(child, time.monotonic() - started_s, stage)

    def _check(self, child: BaseProcess, seconds: float, stage: tuple[str, float]) -> None:
        limits = self._limits
        if seconds > limits.seconds_max:
            raise NotValid(
                f"the training was at {stage[0]}, {stage[1]:.0%}, after {seconds:.0f} s, at most "
                f"{limits.seconds_max:g} s are allowed; give it fewer steps, or the worker more time (--seconds-max)",
                code="training_too_long",
            )
        used = resident(child.pid)
        if used > limits.memory_max:
            raise NotValid(
                f"the training took {used / 1e6:.0f} MB of memory while at {stage[0]}, at most "
                f"{limits.memory_max / 1e6:.0f} MB are allowed; take fewer or smaller samples, or allow more with "
                "--memory-mb",
                code="training_too_large",
            )


def outcome(kind: str, value: Any, task: Task) -> Made:
    """What a process that trains has told last."""
    if kind == "made":
        assert isinstance(value, Made)
        return value
    if kind == "crashed":
        raise crashed(task, *value)
    family, text, code = value
    errors: dict[str, Callable[..., EdgewiseError]] = {"NotNow": NotNow, "NotTrusted": NotTrusted}
    raise errors.get(family, NotValid)(text, code=code)


def told_outcome(
    task: Task, read_blob: Callable[[str], bytes], progress: Progress, checkpoint: Checkpoint | None
) -> Any:
    """`do` with whatever happens as plain values, for the way between two processes."""
    try:
        return "made", do(task, read_blob, progress, checkpoint)
    except EdgewiseError as error:
        return "refused", (type(error).__name__, str(error), error.code)
    except MemoryError:
        text = "the training ran out of memory; take fewer or smaller samples"
        return "refused", ("NotValid", text, "out_of_memory")
    except Exception as error:
        return "crashed", (type(error).__name__, str(error))


def crashed(task: Task, kind: str, text: str) -> NotValid:
    """A trainer raised what is no error of ours."""
    line = " ".join(text.split())[:TEXT_MAX] or "no message"
    return NotValid(f"the trainer {task.order.trainer} stopped with {kind}: {line}", code="trainer_crashed")


def resident(pid: int | None) -> int:
    """Bytes of memory of a process and its children; 0 where it has ended."""
    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def _train_here(told: Connection, task: Task, blobs: Path, checkpoint: Checkpoint | None) -> None:
    """The process that trains. It ends with whoever asked for it, however that ends; what ends a group passes it by."""
    os.setsid()
    threading.Thread(target=_end_with, args=(told,), name="end-with-worker", daemon=True).start()
    told_at = 0.0

    def progress(what: str, share: float) -> None:
        nonlocal told_at
        if time.monotonic() - told_at < LOOK_S / 2:
            return
        told_at = time.monotonic()
        try:
            told.send(("progress", (what, share)))
        except OSError:
            raise SystemExit(1) from None

    told.send(told_outcome(task, FolderBlobs(blobs).get, progress, checkpoint))


def _end_with(told: Connection) -> None:
    """Wait for the other side to close: it never says anything."""
    with contextlib.suppress(EOFError, OSError):
        told.recv()
    os._exit(1)


def _ended(code: int | None, stage: tuple[str, float]) -> NotValid:
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
    hint = "; most often the machine ran out of memory: take fewer or smaller samples" if code == -9 else ""
    return NotValid(f"the process that trained {how} at {stage[0]}, {stage[1]:.0%}{hint}", code="training_ended")


def _end(child: BaseProcess) -> None:
    for stop in (child.terminate, child.kill):
        if not child.is_alive():
            break
        stop()
        child.join(END_S)
    child.join(END_S)
    child.close()
