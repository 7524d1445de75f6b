"""The arrays of an ONNX file: where they lie, how large they say that they are, and whether they hold numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.delta import BYTES, FIXED32, VARINT, Field, Walk, tagged_floats_count, tagged_integer_ends

# Bits of one value by TensorProto.DataType; text has none.
TYPE_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 8: 0, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
TEXT, FLOAT16, BFLOAT16 = 8, 10, 16
# The bits that are all set in a number that is none: type code -> (unsigned type, exponent bits).
EXPONENTS = {
    1: ("<u4", 0x7F800000), 10: ("<u2", 0x7C00), 11: ("<u8", 0x7FF0000000000000), 14: ("<u4", 0x7F800000),
    15: ("<u8", 0x7FF0000000000000), 16: ("<u2", 0x7F80),
}  # fmt: skip
FLOATS_TAG, INTEGERS_TAG = 7 << 3 | FIXED32, 8 << 3 | VARINT
RUN_MIN = 64  # tagged numbers in a row from which numpy is faster than a loop
CHUNK_BYTES = 4 << 20
RUN_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How much an ONNX file may hold."""

    fields_max: int = 250_000  # of Protocol Buffers; long arrays count once
    nodes_max: int = 50_000  # with every function written out where it is called
    depth_max: int = 16  # graphs inside nodes inside graphs
    text_bytes_max: int = 4096  # of one name; not of documentation
    values_max: int = 2**31  # of one tensor, and of one declared input or output


class Unfit(Exception):
    """The file is refused: a stable code, and a sentence that says what, the value seen and the value needed."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class TensorCheck:
    """Walks over one file. Numbers are cut to the size of their field, as a parser does.

    Args:
        view: the file's bytes, mapped rather than read.
        bounds: how much it may hold.
        forget: told each range that is not needed any more, so that its pages can be given back.
    """

    def __init__(self, view: memoryview, bounds: Bounds, forget: Callable[[int, int], None]) -> None:
        self._walk = Walk(view, fields_max=bounds.fields_max)
        self._view = view
        self._bounds = bounds
        self._forget = forget

    def _sparse(self, tensor: Field) -> None:
        for field in self._fields(tensor, "a sparse tensor", once={1, 2}):
            if field.number in (1, 2) and field.wire == BYTES:
                self._tensor(field)
            elif field.number == 3:
                self._axes([field], "a sparse tensor")

    def _tensor(self, tensor: Field) -> None:
        name, kind, dims = "", 0, []
        held: list[Field] = []
        for field in self._fields(tensor, "a tensor", once={2, 3, 8, 9, 14}, runs=True):
            if field.number == 1:
                dims.append(field)
            elif field.number == 2 and field.wire == VARINT:
                kind = signed(self._walk.number(field), 32)
            elif field.number == 8 and field.wire == BYTES:
                name = self._text(field, "a tensor's name")
            elif field.number == 13 or (field.number == 14 and field.wire == VARINT and self._walk.number(field)):
                raise Unfit(
                    "external_data",
                    f"a tensor's values lie outside the file{self._location(field)}; needs them inside the file",
                )
            elif field.number in (4, 5, 6, 7, 9, 10, 11):
                held.append(field)
        if kind not in TYPE_BITS:
            raise Unfit("tensor_invalid", f"tensor {name[:80]!r} is of type {kind}; needs a type from 1 to 26")
        values = self._axes(dims, f"tensor {name[:80]!r}")
        self._check_held(name, kind, values, held)

    def _location(self, field: Field) -> str:
        """Where external data is said to lie, for the message only."""
        if field.number != 13 or field.wire != BYTES:
            return ""
        parts = [bytes(self._view[part.start : min(part.stop, part.start + 120)]) for part in self._each(field, 2)]
        return f" ({parts[0].decode('utf-8', 'replace')!r})" if parts else ""

    def _axes(self, dims: list[Field], what: str) -> int:
        values = 1
        for field in dims:
            for size in self._walk.packed(field) if field.stop - field.start <= 1024 else [-1]:
                number = signed(size, 64)
                if number < 0:
                    raise Unfit("shape_huge", f"{what} has an axis of {number}; needs 0 or more")
                values *= number
                if values > self._bounds.values_max:
                    raise Unfit(
                        "shape_huge",
                        f"{what} is declared with {values} values or more, at most {self._bounds.values_max} are read",
                    )
        return values

    def _check_held(self, name: str, kind: int, values: int, held: list[Field]) -> None:
        """The bytes must hold as many values as the shape declares: a runtime makes room for what is declared."""
        bits = TYPE_BITS[kind]
        raw = [field for field in held if field.number == 9]
        if raw and len(raw) != len(held):
            raise Unfit("tensor_invalid", f"tensor {name[:80]!r} holds its values twice; needs them once")
        if raw:
            size, needed = raw[0].stop - raw[0].start, math.ceil(values * bits / 8)
            if kind == TEXT or size != needed:
                raise Unfit(
                    "shape_wrong",
                    f"tensor {name[:80]!r} declares {values} values of {bits} bits, which are {needed} bytes; "
                    f"the file holds {size}",
                )
        else:
            count = sum(self._count(field) for field in held)
            per_item = {14: 2, 15: 2}.get(kind, 1)  # a complex number is written as two
            packed = 8 // bits if bits in (2, 4) else 1
            if count != math.ceil(values / packed) * per_item:
                raise Unfit("shape_wrong", f"tensor {name[:80]!r} declares {values} values; the file holds {count}")
        for field in held:
            self._numbers(name, kind, values, field)

    def _count(self, field: Field) -> int:
        if field.number == 6 or field.wire != BYTES:
            return 1
        size = field.stop - field.start
        if field.number in (4, 10):
            return size // (4 if field.number == 4 else 8)
        # The last byte of each varint is below 128.
        return sum(int((part < 128).sum()) for _, part in self._chunks(field.start, field.stop, np.dtype("u1")))

    def _numbers(self, name: str, kind: int, values: int, field: Field) -> None:
        """No NaN in a tensor, and no infinity either where there is more than one value: a single infinity is how
        exporters write "no limit"."""
        what, nan_only = f"tensor {name[:80]!r}", values == 1
        if field.number == 9 and kind in EXPONENTS:
            self._finite(kind, field.start, field.stop, what, nan_only=nan_only)
        elif field.number == 4 and field.wire in (BYTES, FIXED32):
            self._finite(1, field.start, field.stop, what, nan_only=nan_only)
        elif field.number == 10:
            self._finite(11, field.start, field.stop, what, nan_only=nan_only)
        elif field.number == 5 and kind in (FLOAT16, BFLOAT16):
            bits = np.array(self._walk.packed(field), np.uint64).astype("<u2")
            _refuse_not_finite(bits, EXPONENTS[kind][1], what, nan_only=nan_only)

    def _finite(self, kind: int, start: int, stop: int, what: str, *, nan_only: bool) -> None:
        letters, exponent = EXPONENTS[kind]
        for at, bits in self._chunks(start, stop, np.dtype(letters)):
            _refuse_not_finite(bits, exponent, what, nan_only=nan_only)
            self._forget(at, at + bits.nbytes)

    def _no_nan(self, field: Field) -> None:
        bits = int.from_bytes(self._view[field.start : field.stop], "little")
        if bits & 0x7F800000 == 0x7F800000 and bits & 0x7FFFFF:
            raise Unfit("weights_not_finite", "an attribute is NaN; needs a number")

    def _chunks(self, start: int, stop: int, dtype: np.dtype[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
        for at in range(start, stop, CHUNK_BYTES):
            part = self._view[at : min(stop, at + CHUNK_BYTES)]
            yield at, np.frombuffer(part, dtype, count=len(part) // dtype.itemsize)

    # -- fields ------------------------------------------------------------------------------------------------------

    def _fields(self, message: Field, what: str, *, once: set[int], runs: bool = False) -> Iterator[Field]:
        """The fields of a message; those of `once` must not come twice. With `runs`, long runs of tagged numbers are
        checked and stepped over at once."""
        seen: set[int] = set()
        position, patience = message.start, 0
        while position < message.stop:
            if runs and not patience:
                after = self._after_run(position, message.stop)
                if after != position:
                    position = after
                    continue
                patience = RUN_MIN  # fields to take one by one before the next look for a run
            field = next(self._walk.fields(position, message.stop))
            if field.number in once and field.number in seen:
                raise Unfit("onnx_ambiguous", f"{what} says field {field.number} twice; needs it once")
            seen.add(field.number)
            yield field
            position, patience = field.stop, max(0, patience - 1)

    def _each(self, message: Field, number: int) -> Iterator[Field]:
        for field in self._walk.fields(message.start, message.stop):
            if field.number == number:
                yield field

    def _after_run(self, start: int, stop: int) -> int:
        if stop - start < 2 * RUN_MIN or self._view[start] not in (FLOATS_TAG, INTEGERS_TAG):
            return start
        data = np.frombuffer(self._view[start : min(stop, start + RUN_BYTES)], np.uint8)
        if self._view[start] == FLOATS_TAG:
            count = tagged_floats_count(data)
            if count >= RUN_MIN:
                bits = data[: 5 * count].reshape(-1, 5)[:, 1:].copy().view("<u4").ravel()
                _refuse_not_finite(bits, EXPONENTS[1][1], "an attribute", nan_only=True)
                return start + 5 * count
            return start
        ends = tagged_integer_ends(data)
        return start + int(ends[-1]) if len(ends) >= RUN_MIN else start

    def _text(self, field: Field, what: str) -> str:
        size = field.stop - field.start
        if size > self._bounds.text_bytes_max:
            raise Unfit("text_long", f"{what} has {size} bytes, at most {self._bounds.text_bytes_max} are read")
        try:
            return bytes(self._view[field.start : field.stop]).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Unfit("text_invalid", f"{what} is not UTF-8 ({error.reason} at byte {error.start})") from error


def _refuse_not_finite(bits: NDArray[Any], exponent: int, what: str, *, nan_only: bool) -> None:
    odd = bits[(bits & exponent) == exponent]
    fraction = int(odd.dtype.type((1 << (8 * odd.dtype.itemsize - 1)) - 1)) & ~exponent
    nans = int(((odd & fraction) != 0).sum())
    infinities = 0 if nan_only else len(odd) - nans
    if nans or infinities:
        raise Unfit("weights_not_finite", f"{what} holds {nans} NaN and {infinities} infinite values; needs numbers")


def signed(value: int, bits: int) -> int:
    """As a parser cuts a varint to a signed field.

    >>> signed(2**64 - 1, 64), signed(2**32 + 8, 32)
    (-1, 8)
    """
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
