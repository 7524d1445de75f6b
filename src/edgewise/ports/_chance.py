"""Chance: ids, draws and orders. With a seed the same draws come again."""

from __future__ import annotations

import random
import secrets
from typing import Protocol


class Chance(Protocol):
    """Where everything random comes from."""

    def id(self) -> str:
        """128 random bits as 32 lower-case hexadecimal characters."""

    def random(self) -> float:
        """Uniform, from 0 up to but without 1."""

    def bytes(self, count: int) -> bytes:
        """Random bytes, for tokens and nonces."""

    def choice_order(self, count: int) -> list[int]:
        """The numbers 0 to count - 1 in random order, each order as likely as any other."""


class _Drawn:
    """All draws from one generator."""

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator

    def id(self) -> str:
        return self._generator.randbytes(16).hex()

    def random(self) -> float:
        return self._generator.random()

    def bytes(self, count: int) -> bytes:
        return self._generator.randbytes(count)

    def choice_order(self, count: int) -> list[int]:
        order = list(range(count))
        self._generator.shuffle(order)
        return order


class SystemChance(_Drawn):
    """The operating system's random bytes: nobody can guess them."""

    def __init__(self) -> None:
        super().__init__(random.SystemRandom())

    def id(self) -> str:
        return self.bytes(16).hex()

    def bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)  # SystemRandom.randbytes would go through one big integer


class SeededChance(_Drawn):
    """The same draws for the same seed. Anybody can guess them: for the simulator and tests only.

    >>> SeededChance(7).id() == SeededChance(7).id()
    True
    """

    def __init__(self, seed: int) -> None:
        super().__init__(random.Random(seed))
