"""Runs in fixed buffers: nothing is allocated, copied or looked up a frame, which is half of a small network's time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Outputs: TypeAlias = dict[str, NDArray[Any]]
Allocate: TypeAlias = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]


class Bound(Protocol):
    """A session with its buffers. One thread at a time; write ``input``, then run."""

    input: NDArray[Any]

    def run(self) -> Mapping[str, NDArray[Any]]:
        """The outputs by name; the next run may overwrite them. Raises as `Session.run_named`."""


class PublicBound:
    """The same promise by `run_named`, for whatever cannot be bound."""

    def __init__(self, session: Any, name: str, values: NDArray[Any], outputs: Sequence[str]) -> None:
        self.input = values
        self._run, self._outputs = session.run_named, list(outputs)
        self._feed = {name: values}

    def run(self) -> Mapping[str, NDArray[Any]]:
        results: Mapping[str, NDArray[Any]] = self._run(self._feed, self._outputs)
        return results


class OnnxBound:
    """An ONNX Runtime session bound to buffers in this process's memory; see `bind_onnx`."""

    def __init__(self, session: Any, name: str, values: NDArray[Any], outputs: Outputs) -> None:
        self.input, self.outputs = values, outputs
        binding = session.io_binding()
        binding.bind_input(name, "cpu", 0, values.dtype.type, list(values.shape), values.ctypes.data)
        for output, array in outputs.items():
            binding.bind_output(output, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)
        self._keep = (session, binding)
        # Private names, 4 µs faster than the public ones; `bind_onnx` checks that they do the same.
        self.start = functools.partial(session._sess.run_with_iobinding, binding._iobinding, None)

    def run(self) -> Mapping[str, NDArray[Any]]:
        """The outputs. Whatever ONNX Runtime raises: an output of another shape than before, above all."""
        self.start()
        return self.outputs


class SafeBound:
    """An `OnnxBound` that goes the public way for a frame whose outputs do not fit the buffers."""

    def __init__(self, fast: OnnxBound, public: PublicBound) -> None:
        self.input, self._outputs = fast.input, fast.outputs
        self._fast, self._public = fast.start, public.run

    def run(self) -> Mapping[str, NDArray[Any]]:
        try:
            self._fast()
        except Exception:  # ONNX Runtime raises a class of its own for each status
            return self._public()
        return self._outputs


def bind_onnx(
    session: Any, name: str, shape: tuple[int, ...], dtype: str, outputs: Sequence[str], allocate: Allocate
) -> OnnxBound | None:
    """The session bound to buffers, None where it cannot be: text, outputs of changing shape, other answers.

    It is tried at once on numbers drawn from a seed, and must give what the public way gives, bit for bit.

    Args:
        session: an `onnxruntime.InferenceSession` on the CPU.
        name, shape, dtype: of its one input; each size is given.
        outputs: names of the outputs wanted.
        allocate: gives a buffer of a shape and type.
    """
    try:
        feed = {name: _draw(shape, dtype)}
        wanted = session.run(list(outputs), feed)
        if any(getattr(array, "dtype", np.dtype(object)).hasobject for array in wanted):
            return None
        buffers = {output: allocate(array.shape, array.dtype) for output, array in zip(outputs, wanted, strict=True)}
        bound = OnnxBound(session, name, allocate(shape, dtype), buffers)
        bound.input[...] = feed[name]
        seen = bound.run()
        same = [np.array_equal(seen[output], array) for output, array in zip(outputs, wanted, strict=True)]
        bound.input[...] = 0
    except Exception:  # private names may go with any version of ONNX Runtime; the public way then says what is wrong
        return None
    return bound if all(same) else None


def _draw(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    drawn = np.random.default_rng(0).random(shape, np.float32)
    return drawn.astype(np.dtype(dtype))  # from 0 to 1: an index or a length made of it is small
