"""What follows from a record alone, worked out once: records never change, and the hot loop asks at every frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
HELD_MAX = 64  # more bundles than any device opens; the oldest goes


class Memo(Generic[Key, Value]):
    """A function's values by the identity of its argument, which is held so that its identity stays its own.

    >>> lengths = Memo(len)
    >>> lengths(word := "window"), lengths(word)
    (6, 6)
    """

    def __init__(self, work_out: Callable[[Key], Value]) -> None:
        self._work_out = work_out
        self._held: dict[int, tuple[Key, Value]] = {}

    def __call__(self, key: Key) -> Value:
        """The value; whatever the function raises, and then nothing is remembered."""
        found = self._held.get(id(key))
        if found is not None:
            return found[1]
        value = self._work_out(key)
        while len(self._held) >= HELD_MAX:
            self._held.pop(next(iter(self._held)), None)  # another thread may have been first
        self._held[id(key)] = (key, value)
        return value
