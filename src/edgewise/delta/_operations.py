"""The operations of a delta, in the order in which they write the target, and their bytes in the header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from edgewise.delta._numbers import BY_CODE, GAIN_SHIFTS, NumberType
from edgewise.delta._varint import Fields, folded, varint

CHANNEL_NUMBERS_MIN = 8  # with fewer numbers in a channel its code would cost more than it saves


@dataclass(frozen=True, slots=True)
class Copy:
    """Bytes of the base as they are."""

    source: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Literal:
    """The next bytes of the literal stream."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor: numbers of the base, each channel times its gain, then stepped by a difference.

    Attributes:
        source: where the tensor begins in the base.
        count: how many numbers.
        channels: equal parts of the tensor that have a code (and a gain) of their own.
        gain_shift: digits of the gains behind the point; 0 where all gains are one and none is stored.
    """

    number_type: NumberType
    source: int
    count: int
    channels: int
    gain_shift: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor."""
        return self.count * self.number_type.size_bytes


@dataclass(frozen=True, slots=True)
class Snapped:
    """A float32 tensor: numbers of the base, each channel times its gain, plus whole multiples of its step."""

    source: int
    count: int
    channels: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor."""
        return self.count * 4


@dataclass(frozen=True, slots=True)
class Numbers:
    """New numbers of a tree, each behind a tag byte; nothing is taken from the base.

    Attributes:
        integers: varints if true, float32 if false.
        tag: the byte before each number.
    """

    integers: bool
    tag: int
    count: int
    size_bytes: int


Operation: TypeAlias = Copy | Literal | Difference | Snapped | Numbers


def write_operations(operations: list[Operation]) -> bytes:
    """Count, then each operation; sources relative to the end of the last source, which makes them mostly zero."""
    out, last = bytearray(varint(len(operations))), 0
    for operation in operations:
        match operation:
            case Copy(source, size_bytes):
                out += bytes([0]) + varint(folded(source - last)) + varint(size_bytes)
                last = source + size_bytes
            case Literal(size_bytes):
                out += bytes([1]) + varint(size_bytes)
            case Difference(number_type, source, count, channels, gain_shift):
                out += bytes([2, number_type.code, gain_shift]) + varint(folded(source - last))
                out += varint(count) + varint(channels)
                last = source + operation.size_bytes
            case Snapped(source, count, channels):
                out += bytes([3]) + varint(folded(source - last)) + varint(count) + varint(channels)
                last = source + operation.size_bytes
            case Numbers(integers, tag, count, size_bytes):
                out += bytes([4, int(integers), tag]) + varint(count) + varint(size_bytes)
    return bytes(out)


def read_operations(fields: Fields, operations_max: int) -> list[Operation]:
    """The operations that `write_operations` wrote, each one possible in itself; the base is checked by the caller.

    Raises:
        ValueError: there are too many, or one cannot be.
    """
    count = fields.number()
    if count > operations_max:
        raise ValueError(f"{count} operations, at most {operations_max} are allowed")
    operations, last = [], 0
    for _ in range(count):
        operation = _read_operation(fields, last)
        if operation.size_bytes < 1:
            raise ValueError("an operation writes nothing")
        if isinstance(operation, Copy | Difference | Snapped):
            last = operation.source + operation.size_bytes
        operations.append(operation)
    return operations


def _read_operation(fields: Fields, last: int) -> Operation:
    match fields.number():
        case 0:
            return Copy(last + fields.signed(), fields.number())
        case 1:
            return Literal(fields.number())
        case 2:
            return _read_difference(fields, last)
        case 3:
            operation = Snapped(last + fields.signed(), fields.number(), fields.number())
            _check_channels(operation.count, operation.channels)
            return operation
        case 4:
            return _read_numbers(fields)
        case other:
            raise ValueError(f"operation {other} is not known")


def _read_difference(fields: Fields, last: int) -> Difference:
    code, gain_shift = fields.number(), fields.number()
    if code not in BY_CODE or gain_shift not in GAIN_SHIFTS:
        raise ValueError(f"number type {code} with gain digits {gain_shift} is not known")
    operation = Difference(BY_CODE[code], last + fields.signed(), fields.number(), fields.number(), gain_shift)
    if gain_shift and operation.number_type.gain_shift == 0:
        raise ValueError(f"{operation.number_type.name} takes no gain")
    _check_channels(operation.count, operation.channels)
    return operation


def _read_numbers(fields: Fields) -> Numbers:
    integers, tag, count, size_bytes = (fields.number() for _ in range(4))
    least, most = (2, 11) if integers else (5, 5)
    if integers > 1 or tag > 127 or not count * least <= size_bytes <= count * most:
        raise ValueError(f"{count} numbers behind tag {tag} cannot take {size_bytes} bytes")
    return Numbers(bool(integers), tag, count, size_bytes)


def _check_channels(count: int, channels: int) -> None:
    if channels < 1 or count % channels or (channels > 1 and count // channels < CHANNEL_NUMBERS_MIN):
        raise ValueError(f"{count} numbers cannot have {channels} channels")
