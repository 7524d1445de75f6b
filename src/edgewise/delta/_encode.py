"""Makes a delta: the smallest of changes to tensors, a Zstandard patch and the whole file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.delta._coding import encode_groups, number_coder_header, zstd_encode
from edgewise.delta._container import (
    BLOCK_FULL_BYTES,
    BLOCK_LITERAL_BYTES,
    BLOCK_NUMBERS,
    DICTIONARY_BYTES_MAX,
    Header,
    Limits,
    Summary,
    write_block,
    write_header,
)
from edgewise.delta._decode import decode, dictionary_text, stream_key
from edgewise.delta._numbers import differences
from edgewise.delta._operations import Difference, Literal, Numbers, Operation, Snapped
from edgewise.delta._plan import Plan, TensorPlan, make_plan
from edgewise.delta._regions import ByteData
from edgewise.delta._tagged import encode_array
from edgewise.delta._tensors import MemorySource, TensorStream, write_tables
from edgewise.wire import EdgewiseError

Ranges = tuple[tuple[int, int], ...]
SMALL_BYTES = 256 << 10  # files up to this size are always tried in every way; it takes a fraction of a second
NEGLIGIBLE_SHARE = 0.01  # a delta below this share of the target is taken as it is
QUICK_MARGIN = 0.8  # level 19 is rarely this much smaller than the quick level
QUICK_LEVEL = 3
SAMPLES, SAMPLE_BYTES = 24, 16 << 10  # many and small, so that a header with the graph does not weigh too much


def encode(base: ByteData, target: ByteData, *, thorough: bool = False) -> bytes:
    """The smallest delta that `decode` turns back into the target, given the base.

    Three kinds compete: changes to matched tensors, a patch of the bytes as `zstd --patch-from` makes it, and the whole
    target under Zstandard level 19. The latter two are slow, about 4 MB/s, so they are made only where a quick
    estimate says that they could win; the result is never longer than the whole target packed, plus 60 bytes. Every
    delta of the first two kinds is applied once before it is returned.

    Args:
        base: the version that a device has; ONNX and safetensors are understood, other files are plain bytes.
        target: the version that it should get.
        thorough: make all three whatever the estimate says.
    """
    old, new = memoryview(base).cast("B"), memoryview(target).cast("B")
    told = _summary(old, new)
    best = _changes(old, new, told)
    if thorough or _others_could_win(old, new, len(best or b"")):
        others = [_patch(old, new, told), _full(new, told)]
        best = min([*([best] if best else []), *others], key=len)
    if best is None or not _makes(old, best):
        return _full(new, told)
    return best


def _summary(base: memoryview, target: memoryview) -> Summary:
    return Summary(
        full=False,
        target_sha256=hashlib.sha256(target).hexdigest(),
        target_size_bytes=len(target),
        base_sha256=hashlib.sha256(base).hexdigest(),
        base_size_bytes=len(base),
    )


def _makes(base: memoryview, delta: bytes) -> bool:
    """Whether the delta really makes the target here: a fault of ours must cost bytes, not a device's trust."""
    try:
        decode(base, io.BytesIO(delta), io.BytesIO(), limits=Limits())
    except EdgewiseError:
        return False
    return True


def _others_could_win(base: memoryview, target: memoryview, changes_bytes: int) -> bool:
    if not changes_bytes or len(target) <= SMALL_BYTES:
        return True
    if changes_bytes <= NEGLIGIBLE_SHARE * len(target):
        return False
    return changes_bytes > QUICK_MARGIN * _estimate(base, target)


def _estimate(base: memoryview, target: memoryview) -> float:
    """About how many bytes the better of patch and whole file would take, from samples at the quick level."""
    size = min(SAMPLE_BYTES, len(target))
    starts = sorted({(2 * index + 1) * (len(target) - size) // (2 * SAMPLES) for index in range(SAMPLES)})
    patched = whole = 0
    for start in starts:
        sample = target[start : start + size]
        ranges = _nearby(len(base), len(target), start, size, 4 * SAMPLE_BYTES)
        patched += len(zstd_encode(sample, dictionary_text(MemorySource(base), ranges), level=QUICK_LEVEL))
        whole += len(zstd_encode(sample, level=QUICK_LEVEL))
    return min(patched, whole) * len(target) / (size * len(starts))


def _nearby(base_bytes: int, target_bytes: int, start: int, size: int, most: int) -> Ranges:
    """The range of the base around where this range of the target would lie, at most so many bytes."""
    if base_bytes <= most:
        return ((0, base_bytes),) if base_bytes else ()
    middle = (start + size / 2) / target_bytes * base_bytes
    first = int(min(max(0, middle - most / 2), base_bytes - most))
    return ((first, most),)


def _full(target: memoryview, told: Summary) -> bytes:
    whole = Summary(full=True, target_sha256=told.target_sha256, target_size_bytes=told.target_size_bytes)
    packed = zstd_encode(target)
    pieces = [packed[first : first + BLOCK_FULL_BYTES] for first in range(0, len(packed), BLOCK_FULL_BYTES)]
    return write_header(Header(summary=whole)) + b"".join(map(write_block, pieces))


def _patch(base: memoryview, target: memoryview, told: Summary) -> bytes:
    """The target as literal blocks, each referring to the part of the base around its own place."""
    starts = range(0, len(target), BLOCK_LITERAL_BYTES)
    dictionaries = [
        _nearby(len(base), len(target), start, BLOCK_LITERAL_BYTES, DICTIONARY_BYTES_MAX) for start in starts
    ]
    if len(base) <= DICTIONARY_BYTES_MAX:
        dictionaries = dictionaries[:1]
    operations: list[Operation] = [Literal(len(target))] if len(target) else []
    plan = Plan(operations=operations, literal=target, tensors=[], arrays=[], dictionaries=tuple(dictionaries))
    return _Writer(base, plan, told).delta()


def _changes(base: memoryview, target: memoryview, told: Summary) -> bytes | None:
    """Changes to tensors; None where the file has too many parts for a decoder's default limits."""
    plan, limits = make_plan(base, target), Limits()
    channels = sum(each.operation.channels for each in plan.tensors)
    if len(plan.operations) > limits.operations_max or channels > limits.channels_max:
        return None
    return _Writer(base, plan, told).delta()


class _Writer:
    """Writes the blocks of a plan in the order in which a decoder comes to need them."""

    def __init__(self, base: memoryview, plan: Plan, told: Summary) -> None:
        self._source = MemorySource(base)
        self._plan = plan
        self._told = told
        self._out: list[bytes] = []
        self._streams: dict[object, _TensorBlocks] = {}
        self._literal_taken = self._literal_written = 0

    def delta(self) -> bytes:
        """The whole delta."""
        plan = self._plan
        header = Header(
            summary=self._told,
            number_coder=number_coder_header,
            dictionaries=plan.dictionaries,
            operations=tuple(plan.operations),
        )
        self._out.append(write_header(header))
        if plan.tensors:
            tables = write_tables([each.operation for each in plan.tensors], [each.table for each in plan.tensors])
            self._out.append(write_block(tables))
        self._open_streams()
        arrays = iter(plan.arrays)
        for operation in plan.operations:
            self._write(operation, arrays)
        return b"".join(self._out)

    def _open_streams(self) -> None:
        by_stream: dict[object, list[TensorPlan]] = {}
        for each in self._plan.tensors:
            by_stream.setdefault(stream_key(each.operation), []).append(each)
        self._streams = {key: _TensorBlocks(self._source, tensors) for key, tensors in by_stream.items()}

    def _write(self, operation: Operation, arrays: Iterator[NDArray[Any]]) -> None:
        match operation:
            case Literal(size_bytes):
                self._write_literal(size_bytes)
            case Numbers(count=count):
                numbers = next(arrays)
                for first in range(0, count, BLOCK_NUMBERS):
                    self._out.append(write_block(encode_array(numbers[first : first + BLOCK_NUMBERS])))
            case Difference(count=count) | Snapped(count=count):
                self._out.extend(self._streams[stream_key(operation)].needed_for(count))

    def _write_literal(self, size_bytes: int) -> None:
        self._literal_taken += size_bytes
        while self._literal_written < self._literal_taken:
            first, dictionaries = self._literal_written, self._plan.dictionaries
            number = min(first // BLOCK_LITERAL_BYTES, len(dictionaries) - 1)
            text = dictionary_text(self._source, dictionaries[number]) if dictionaries else b""
            block = bytes(self._plan.literal[first : first + BLOCK_LITERAL_BYTES])
            self._out.append(write_block(zstd_encode(block, text)))
            self._literal_written += len(block)


class _TensorBlocks:
    """The blocks of one stream of tensors, each written when the first number in it is needed."""

    def __init__(self, source: MemorySource, tensors: Sequence[TensorPlan]) -> None:
        self._source = source
        self._snapped = isinstance(tensors[0].operation, Snapped)
        self._numbers = np.concatenate([each.multiples if self._snapped else each.target for each in tensors])
        self._stream = TensorStream([each.operation for each in tensors], [each.table for each in tensors])
        self._taken = self._written = 0

    def needed_for(self, count: int) -> Iterator[bytes]:
        """The blocks that a decoder opens to take so many numbers."""
        self._taken += count
        while self._written < self._taken:
            stop = min(self._written + BLOCK_NUMBERS, self._stream.count)
            yield write_block(self._block(self._written, stop))
            self._written = stop

    def _block(self, first: int, stop: int) -> bytes:
        predicted, codes, hints = self._stream.predicted(self._source, first, stop)
        context = self._stream.contexts(predicted, codes, hints)
        numbers = self._numbers[first:stop]
        if not self._snapped:
            numbers = differences(numbers, predicted, hints, self._stream.number_type)
        return encode_groups(numbers, context)
