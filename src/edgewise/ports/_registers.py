"""Numbers in 16-bit registers, both ways. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Literal

from edgewise.wire.sources import REGISTER_WORDS, RegisterType

WORDS_A_READ_MAX = 120  # Modbus allows 125
Words = Literal["big", "little"]
FORMATS = {"16": "h", "32": "i", "64": "q"}


def words_of(value: float, kind: RegisterType, order: Words = "big") -> list[int]:
    """The registers that hold this number.

    >>> words_of(-2, "int16"), words_of(1.0, "float32"), words_of(65_537, "uint32", "little")
    ([65534], [16256, 0], [1, 1])
    """
    data = struct.pack(">" + _format(kind), value if kind.startswith("float") else int(value))
    words = list(struct.unpack(f">{len(data) // 2}H", data))
    return words if order == "big" else words[::-1]


def number_of(words: Sequence[int], kind: RegisterType, order: Words = "big") -> float | int:
    """The number in these registers.

    >>> number_of([65534], "int16"), number_of([16256, 0], "float32")
    (-2, 1.0)
    """
    ordered = words if order == "big" else words[::-1]
    return struct.unpack(">" + _format(kind), struct.pack(f">{len(ordered)}H", *ordered))[0]  # type: ignore[no-any-return]


def scaled(raw: float, power: int) -> float:
    """The raw number times a power of ten, rounded once.

    >>> scaled(2301, -1), scaled(5, 2)
    (230.1, 500.0)
    """
    return raw / 10.0**-power if power < 0 else raw * 10.0**power


def blocks(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """First address and count of the fewest reads that cover these spans without touching a register between them.

    >>> blocks([(10, 2), (12, 1), (20, 2), (11, 1)])
    [(10, 3), (20, 2)]
    """
    made: list[tuple[int, int]] = []
    for start, count in sorted(set(spans)):
        if made:
            first, size = made[-1]
            end = max(first + size, start + count)
            if start <= first + size and end - first <= WORDS_A_READ_MAX:
                made[-1] = (first, end - first)
                continue
        made.append((start, count))
    return made


def _format(kind: RegisterType) -> str:
    if kind == "bool":
        return "H"
    if kind.startswith("float"):
        return "f" if REGISTER_WORDS[kind] == 2 else "d"
    letter = FORMATS[kind[-2:]]
    return letter.upper() if kind.startswith("u") else letter
