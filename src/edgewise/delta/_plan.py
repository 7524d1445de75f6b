"""Decides what a delta does with each region of the target: copy it, change a tensor, or send its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.delta._coding import zstd_encode
from edgewise.delta._container import DICTIONARY_BYTES_MAX
from edgewise.delta._fit import fit
from edgewise.delta._match import Partners
from edgewise.delta._numbers import Bits
from edgewise.delta._operations import Copy, Difference, Literal, Numbers, Operation, Snapped
from edgewise.delta._protobuf import tagged_integer_ends
from edgewise.delta._regions import Region, RegionKind
from edgewise.delta._scan import scan
from edgewise.delta._snap import can_snap, recover
from edgewise.delta._tagged import encode_array, float_numbers, integer_numbers, tagged_bytes
from edgewise.delta._tensors import Channels, TensorOperation

RANGES_MAX = 1 << 13  # of the dictionary; half of what a decoder's default limits allow
SNAP_TRIES = 3  # tensors tried before the file is taken for one that was not snapped


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One changed tensor.

    Attributes:
        target: its new bits (N,).
        multiples: int16 (N,) where it is snapped.
    """

    operation: TensorOperation
    table: Channels
    target: Bits
    multiples: NDArray[np.int16] | None = None


@dataclass(slots=True)
class Plan:
    """A whole delta before its blocks are written.

    Attributes:
        literal: what the literal operations write, one after another.
        arrays: numbers of the `Numbers` operations, in order.
        dictionaries: ranges of the base that literal blocks may refer to.
    """

    operations: list[Operation] = field(default_factory=list)
    literal: bytearray | memoryview = field(default_factory=bytearray)
    tensors: list[TensorPlan] = field(default_factory=list)
    arrays: list[NDArray[Any]] = field(default_factory=list)
    dictionaries: tuple[tuple[tuple[int, int], ...], ...] = ()


def make_plan(base: memoryview, target: memoryview) -> Plan:
    """What to do with each region of the target."""
    return _Planner(base, target).plan()


class _Planner:
    def __init__(self, base: memoryview, target: memoryview) -> None:
        self._base, self._target = base, target
        self._base_regions, self._target_regions = scan(base), scan(target)
        self._partners = Partners(self._base_regions, self._target_regions)
        self._by_content: dict[bytes, Region] | None = None
        self._plan = Plan()
        self._cursor = 0  # where the base goes on behind what was used last
        self._snap_tried = self._snap_found = 0

    def plan(self) -> Plan:
        text = _dictionary(self._base_regions)
        self._plan.dictionaries = (text,) if text else ()
        self._text = b"".join(self._base[start : start + size] for start, size in text)
        for region in self._target_regions:
            if region.kind is RegionKind.LITERAL:
                self._literal(self._target[region.start : region.stop])
            else:
                self._numbers(region)
        return self._plan

    def _literal(self, data: memoryview) -> None:
        if self._base[self._cursor : self._cursor + len(data)] == data:  # graph bytes between tensors rarely change
            self._copy(self._cursor, len(data))
            return
        assert isinstance(self._plan.literal, bytearray)
        self._plan.literal += data
        last = self._plan.operations[-1] if self._plan.operations else None
        if isinstance(last, Literal):
            self._plan.operations[-1] = Literal(last.size_bytes + len(data))
        else:
            self._plan.operations.append(Literal(len(data)))

    def _copy(self, source: int, size_bytes: int) -> None:
        last = self._plan.operations[-1] if self._plan.operations else None
        if isinstance(last, Copy) and last.source + last.size_bytes == source:
            self._plan.operations[-1] = Copy(last.source, last.size_bytes + size_bytes)
        else:
            self._plan.operations.append(Copy(source, size_bytes))
        self._cursor = source + size_bytes

    def _numbers(self, region: Region) -> None:
        data = self._target[region.start : region.stop]
        partner = self._partners.find(region)
        same = partner if partner and self._bytes_of(partner) == data else self._same_content(data)
        if same is not None:
            self._copy(same.start, same.size_bytes)
            return
        if partner is not None and region.kind is RegionKind.TENSOR and partner.size_bytes == region.size_bytes:
            self._tensor(partner, region)
        elif region.kind is RegionKind.TENSOR:
            self._literal(data)
        else:
            self._array(partner, region)
        if partner is not None:
            self._cursor = partner.stop

    def _bytes_of(self, region: Region) -> memoryview:
        return self._base[region.start : region.stop]

    def _same_content(self, data: memoryview) -> Region | None:
        """A region of the base with these very bytes, wherever it is."""
        if self._by_content is None:
            numbers = (each for each in self._base_regions if each.kind is not RegionKind.LITERAL)
            self._by_content = {hashlib.sha256(self._bytes_of(each)).digest(): each for each in numbers}
        return self._by_content.get(hashlib.sha256(data).digest())

    def _tensor(self, partner: Region, region: Region) -> None:
        number_type = region.number_type
        assert number_type is not None, "a tensor has a type"
        base = np.frombuffer(self._bytes_of(partner), number_type.bits)
        target = np.frombuffer(self._target[region.start : region.stop], number_type.bits)
        tensor = self._snapped(partner, region, base, target)
        if tensor is None:
            found = fit(base, target, number_type, region.channels)
            operation = Difference(number_type, partner.start, len(base), found.channels, found.gain_shift)
            tensor = TensorPlan(operation, found.table, target)
        self._plan.operations.append(tensor.operation)
        self._plan.tensors.append(tensor)

    def _snapped(self, partner: Region, region: Region, base: Bits, target: Bits) -> TensorPlan | None:
        if not can_snap(region) or (self._snap_tried >= SNAP_TRIES and not self._snap_found):
            return None
        self._snap_tried += 1
        found = recover(base, target, region.channels)
        if found is None:
            return None
        self._snap_found += 1
        table, multiples = found
        return TensorPlan(Snapped(partner.start, len(base), region.channels), table, target, multiples)

    def _array(self, partner: Region | None, region: Region) -> None:
        """Numbers of trees: what both begin with is copied, the rest coded as numbers or, if shorter, as bytes."""
        data = self._target[region.start : region.stop]
        numbers, ends = _read_array(data, region.kind)
        tag = data[0]
        if tagged_bytes(numbers, tag) != data:  # a varint written longer than needed cannot be made again
            self._literal(data)
            return
        begin = 0
        if partner is not None:
            begin = _common(ends, np.frombuffer(self._bytes_of(partner), np.uint8), np.frombuffer(data, np.uint8))
        if begin:
            assert partner is not None
            self._copy(partner.start, int(ends[begin - 1]))
        rest = data[int(ends[begin - 1]) :] if begin else data
        if not len(rest):
            return
        if len(encode_array(numbers[begin:])) < len(zstd_encode(rest, self._text)):
            integers = region.kind is RegionKind.TAGGED_INTEGERS
            self._plan.operations.append(Numbers(integers, tag, len(numbers) - begin, len(rest)))
            self._plan.arrays.append(numbers[begin:])
        else:
            self._literal(rest)


def _read_array(data: memoryview, kind: RegionKind) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The numbers of a tagged run and where each pair of tag and number ends."""
    raw = np.frombuffer(data, np.uint8)
    if kind is RegionKind.TAGGED_FLOATS:
        return float_numbers(raw), np.arange(5, len(raw) + 1, 5)
    ends = tagged_integer_ends(raw)
    return integer_numbers(raw, ends), ends


def _common(ends: NDArray[np.int64], base: NDArray[np.uint8], target: NDArray[np.uint8]) -> int:
    """How many numbers both arrays begin with."""
    length = min(len(base), len(target))
    different = np.flatnonzero(base[:length] != target[:length])
    same_bytes = int(different[0]) if len(different) else length
    return int(np.searchsorted(ends, same_bytes, side="right"))


def _dictionary(regions: Sequence[Region]) -> tuple[tuple[int, int], ...]:
    """The literal ranges and tree arrays of the base, up to the bounds of a decoder: what new text likely resembles."""
    ranges: list[tuple[int, int]] = []
    left = DICTIONARY_BYTES_MAX
    for region in regions:
        if region.kind is RegionKind.TENSOR:
            continue
        size = min(left, region.size_bytes)
        if not size or len(ranges) == RANGES_MAX:
            break
        if ranges and sum(ranges[-1]) == region.start:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + size)
        else:
            ranges.append((region.start, size))
        left -= size
    return tuple(ranges)
