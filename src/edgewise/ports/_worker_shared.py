"""The memory that an agent and a worker share: a head with question and answer, then two places for tensors.

No tensor is ever pickled or sent: both sides look at the same bytes. The first place is for runs by name, written
anew for each; the second for a session bound to buffers, which stay where they are.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgewise.wire import NotValid

HEAD_BYTES = 1 << 18  # four words, then a message as JSON
WORDS_BYTES = 64
ALIGN = 64  # of tensors: a cache line, and more than any vector instruction asks for
# The four words: what is asked for, the message's length, what is answered, whether the question was begun.
RUN_NAMED, BIND, RUN_BOUND = 1, 2, 3
OK, FAILED = 1, 2
Place: TypeAlias = tuple[str, str, list[int], int]
"""A tensor's name, type, shape and offset."""


@dataclass(frozen=True, slots=True)
class _Room:
    start: int
    end: int


class Shared:
    """Shared memory as both sides see it. Pages that are never touched cost nothing.

    Args:
        fd: of the memory; it may be closed afterwards.
        size: of it in bytes.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.memory = mmap.mmap(fd, size)
        self.words = memoryview(self.memory)[:16].cast("I")
        half = HEAD_BYTES + (size - HEAD_BYTES) // 2 // ALIGN * ALIGN
        self._named, self._bound = _Room(HEAD_BYTES, half), _Room(half, size)
        self._bound_at = half

    @staticmethod
    def create(size: int) -> int:
        """The file descriptor of new shared memory, in no folder: nobody else can open it."""
        fd = os.memfd_create("edgewise-worker", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        return fd

    # -- messages ------------------------------------------------------------------------------------------------------

    def say(self, message: Any) -> None:
        """Write a message. NotValid: it is too long."""
        data = json.dumps(message).encode()
        if len(data) > HEAD_BYTES - WORDS_BYTES:
            raise NotValid(f"a message of {len(data)} bytes does not fit a worker's head", code="run_failed")
        self.memory[WORDS_BYTES : WORDS_BYTES + len(data)] = data
        self.words[1] = len(data)

    def heard(self) -> Any:
        """The message that the other side wrote."""
        return json.loads(self.memory[WORDS_BYTES : WORDS_BYTES + self.words[1]])

    # -- tensors -------------------------------------------------------------------------------------------------------

    def put(self, tensors: Mapping[str, NDArray[Any]]) -> list[Place]:
        """Copy tensors into the place for runs by name. NotValid: they do not fit."""
        places: list[Place] = []
        at = self._named.start
        for name, tensor in tensors.items():
            plain = np.ascontiguousarray(tensor).reshape(np.shape(tensor))
            data = _text_bytes(plain) if plain.dtype.hasobject else None
            size = plain.nbytes if data is None else len(data)
            if at + size > self._named.end:
                raise _no_room(size, self._named)
            if data is None:
                self.view(plain.shape, plain.dtype, at)[...] = plain
                places.append((name, plain.dtype.str, list(plain.shape), at))
            else:
                self.memory[at : at + size] = data
                places.append((name, f"text {size}", list(plain.shape), at))
            at += -(-size // ALIGN) * ALIGN
        return places

    def get(self, places: Sequence[Place], *, copy: bool) -> dict[str, NDArray[Any]]:
        """The tensors at these places; without a copy they change with the memory."""
        found: dict[str, NDArray[Any]] = {}
        for name, dtype, shape, at in places:
            if dtype.startswith("text "):
                lines = json.loads(self.memory[at : at + int(dtype[5:])])
                found[name] = np.array(lines, dtype=object).reshape(shape)
            else:
                view = self.view(shape, dtype, at)
                found[name] = view.copy() if copy else view
        return found

    def view(self, shape: Sequence[int], dtype: DTypeLike, at: int) -> NDArray[Any]:
        """An array over the shared bytes themselves."""
        kind, count = np.dtype(dtype), math.prod(shape)
        return np.frombuffer(self.memory, kind, count, at).reshape(shape)

    def clear_bound(self) -> None:
        """Forget the buffers of a session that was bound before."""
        self._bound_at = self._bound.start

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A buffer in the place for bound sessions. NotValid: no room is left."""
        at, size = self._bound_at, math.prod(shape) * np.dtype(dtype).itemsize
        if at + size > self._bound.end:
            raise _no_room(size, self._bound)
        self._bound_at += -(-size // ALIGN) * ALIGN
        return self.view(shape, dtype, at)

    def place(self, name: str, tensor: NDArray[Any]) -> Place:
        """Where a buffer made by `allocate` lies."""
        start = np.frombuffer(self.memory, np.uint8, 1).ctypes.data
        return name, tensor.dtype.str, list(tensor.shape), tensor.ctypes.data - start


def _text_bytes(tensor: NDArray[Any]) -> bytes:
    lines = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in tensor.flat]
    return json.dumps(lines).encode()


def _no_room(size: int, room: _Room) -> NotValid:
    return NotValid(
        f"a tensor of {size} bytes does not fit the {(room.end - room.start) >> 20} MB that are shared with a worker; "
        "allow more shared_mb_max",
        code="tensor_huge",
    )
