"""Micro-batching: requests that come at the same time run as one."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.ports._bound import Bound
from edgewise.ports._runtime import Session

Feed = Mapping[str, NDArray[Any]]


class BatchedSession:
    """A session whose runs by name may be joined; bound runs always run alone.

    A batch changes the last bits of the scores. So what a device decides, and a gate judges, is never batched: only
    requests of several clients of the local API are. The first to come waits for others, runs all and hands out.

    Args:
        session: whose first axis is free on every input; others are handed on as they are.
        batch_max: rows that run as one.
        wait_ms_max: that the first one waits.
    """

    def __init__(self, session: Session, *, batch_max: int, wait_ms_max: float) -> None:
        self.inputs, self.outputs = session.inputs, session.outputs
        self._session, self._batch_max, self._wait_s = session, batch_max, wait_ms_max / 1000
        self._free = all(tensor.shape is not None and tensor.shape[:1] == (-1,) for tensor in session.inputs)
        self._free = self._free and all(tensor.shape is None or tensor.shape[:1] == (-1,) for tensor in session.outputs)
        self._lock = threading.Lock()
        self._open: dict[Any, _Batch] = {}
        self._running = 0
        self.batches = 0  # runs that carried more than one request

    def run(self, values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        return self._session.run(values)

    def bind(self, shape: tuple[int, ...], outputs: Sequence[str] = ()) -> Bound:
        return self._session.bind(shape, outputs)

    def run_named(self, values: Feed, outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        key = self._key(values, outputs)
        if key is None:
            return self._session.run_named(values, outputs)
        with self._lock:
            batch = self._open.get(key)
            leads = batch is None or batch.rows + _rows(values) > self._batch_max
            if batch is None or leads:
                batch = self._open[key] = _Batch()
            index = batch.join(values)
            alone = leads and self._running == 0  # nobody else is here: waiting would only cost
            self._running += 1
        try:
            if leads:
                self._lead(key, batch, outputs, alone=alone)
            return batch.part(index)
        finally:
            with self._lock:
                self._running -= 1

    def _lead(self, key: Any, batch: _Batch, outputs: Sequence[str], *, alone: bool) -> None:
        if not alone:
            batch.full(self._batch_max).wait(self._wait_s)
        with self._lock:
            if self._open.get(key) is batch:
                del self._open[key]
        self.batches += len(batch.feeds) > 1
        batch.run(self._session, outputs)

    def _key(self, values: Feed, outputs: Sequence[str]) -> Any:
        """What two requests must share to run as one; None where this one runs alone."""
        arrays = [(name, np.asarray(value)) for name, value in sorted(values.items())]
        if not self._free or {name for name, _ in arrays} != {tensor.name for tensor in self.inputs}:
            return None
        if any(array.ndim == 0 or len(array) != len(arrays[0][1]) for _, array in arrays):
            return None
        if not 0 < len(arrays[0][1]) < self._batch_max:
            return None
        return tuple((name, array.dtype.str, array.shape[1:]) for name, array in arrays), tuple(outputs)


class _Batch:
    def __init__(self) -> None:
        self.feeds: list[Feed] = []
        self.rows = 0
        self._is_full, self._is_done = threading.Event(), threading.Event()
        self._full_at = 1 << 30
        self._results: dict[str, NDArray[Any]] = {}
        self._error: Exception | None = None

    def join(self, values: Feed) -> int:
        self.feeds.append(values)
        self.rows += _rows(values)
        if self.rows >= self._full_at:
            self._is_full.set()
        return len(self.feeds) - 1

    def full(self, rows: int) -> threading.Event:
        """Set once there are so many rows."""
        self._full_at = rows
        if self.rows >= rows:
            self._is_full.set()
        return self._is_full

    def run(self, session: Session, outputs: Sequence[str]) -> None:
        try:
            feed = {name: np.concatenate([item[name] for item in self.feeds]) for name in self.feeds[0]}
            self._results = session.run_named(feed if len(self.feeds) > 1 else self.feeds[0], outputs)
        except Exception as error:  # each of those who joined hears of it
            self._error = error
        self._is_done.set()

    def part(self, index: int) -> dict[str, NDArray[Any]]:
        """The rows of one request. Raises what the run raised."""
        self._is_done.wait()
        if self._error is not None:
            raise self._error
        start = sum(_rows(feed) for feed in self.feeds[:index])
        return {name: value[start : start + _rows(self.feeds[index])] for name, value in self._results.items()}


def _rows(values: Feed) -> int:
    return len(next(iter(values.values())))
