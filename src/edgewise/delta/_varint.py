"""Variable-length integers, seven bits a byte, as Protocol Buffers write them: for our header and for reading ONNX."""

from __future__ import annotations

from typing import Protocol

VARINT_BYTES_MAX = 10  # enough for 64 bits; a longer one is refused


class Indexable(Protocol):
    """Bytes, bytearray, memoryview or mmap: anything whose items are numbers from 0 to 255."""

    def __getitem__(self, index: int, /) -> int: ...


def read_varint(data: Indexable, position: int, stop: int) -> tuple[int, int]:
    """The unsigned integer at this position, and the position behind it.

    Raises:
        ValueError: it runs past ``stop`` or is longer than ten bytes.

    >>> read_varint(bytes([0xAC, 0x02]), 0, 2)
    (300, 2)
    """
    value = shift = 0
    last = min(stop, position + VARINT_BYTES_MAX)
    while position < last:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise ValueError("a number runs past its end")


def varint(value: int) -> bytes:
    """The bytes of an unsigned integer.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def folded(value: int) -> int:
    """A signed integer as an unsigned one, small for small sizes: 0, -1, 1, -2 become 0, 1, 2, 3.

    >>> [folded(value) for value in (0, -1, 1, -2)]
    [0, 1, 2, 3]
    """
    return value << 1 if value >= 0 else (-value << 1) - 1


def unfolded(value: int) -> int:
    """The signed integer that `folded` folded.

    >>> [unfolded(value) for value in (0, 1, 2, 3)]
    [0, -1, 1, -2]
    """
    return value >> 1 if value & 1 == 0 else -((value + 1) >> 1)


class Fields:
    """Reads the numbers of a header one after another; every read past the end is a ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def number(self) -> int:
        """The next unsigned integer."""
        value, self._position = read_varint(self._data, self._position, len(self._data))
        return value

    def signed(self) -> int:
        """The next signed integer."""
        return unfolded(self.number())

    def bytes(self, length: int) -> bytes:
        """The next bytes."""
        if length > len(self._data) - self._position:
            raise ValueError(f"{length} bytes wanted, {len(self._data) - self._position} are left")
        taken = self._data[self._position : self._position + length]
        self._position += length
        return taken

    def ended(self) -> bool:
        """Whether everything has been read."""
        return self._position == len(self._data)
