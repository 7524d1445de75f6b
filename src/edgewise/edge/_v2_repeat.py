"""Requests that begin as the one before did: a sensor sends the same head and JSON with ever new numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from edgewise.edge._v2_messages import InferRequest
from edgewise.edge._v2_models import ServedModel
from edgewise.ports import Bound
from edgewise.wire import EdgewiseError


class Repeat:
    """Answers such requests with nothing read but their numbers, in buffers that are bound once.

    It belongs to the event loop: one request at a time.

    Attributes:
        prefix: the bytes with which such a request begins; only binary numbers follow.
        size: the bytes of a whole request.
    """

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        name: str,
        request: InferRequest,
        results: Mapping[str, NDArray[Any]],
        answer: bytes,
        bound: Bound,
        allowed: Callable[[], bool],
        *,
        prefix: bytes,
        observe: Callable[[str, int, float], None],
    ) -> None:
        """
        Args:
            request: of one input of plain numbers, with binary outputs only.
            results: its outputs. Others of another shape are answered in full.
            answer: what comes before the binary outputs in the answer, from its first header field on.
            allowed: asked before each answer.
            bound: buffers of the input's shape, for the outputs asked.
        """
        self._models, self._name, self._observe = models, name, observe
        self._served = models[name]
        self._answer, self._allowed = answer, allowed
        (values,) = request.inputs.values()
        self._bound = bound
        self._into = bound.input.reshape(-1).view("u1").data
        self._outputs = [(output, results[output].shape) for output in request.names]
        self.prefix = prefix
        self.size = len(prefix) + values.nbytes

    def answer(self, raw: memoryview) -> bytes | None:
        """The answer from its first header field on; None: this request must be looked at in full."""
        served = self._served
        if not served.is_short or self._models.get(self._name) is not served or not self._allowed():
            return None
        started = time.perf_counter()
        self._into[:] = raw
        try:
            results = self._bound.run()
        except EdgewiseError:
            return None  # it is run again where errors are told
        parts = [self._answer]
        for output, shape in self._outputs:
            array = results[output]
            if array.shape != shape:
                return None
            parts.append(array.tobytes())
        seconds = time.perf_counter() - started
        served.count(seconds)
        self._observe(self._name, 200, seconds)
        return b"".join(parts)
