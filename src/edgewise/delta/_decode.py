"""Applies a delta: streams the target out, from byte ranges of the base and blocks of the delta."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from mmap import mmap
from typing import Any, BinaryIO

import numpy as np

from edgewise import _zstd
from edgewise.delta._coding import NumberDecoder, decode_groups, zstd_decode, zstd_stream
from edgewise.delta._container import (
    BLOCK_LITERAL_BYTES,
    BLOCK_NUMBERS,
    Blocks,
    Header,
    Limits,
    Summary,
    read_header,
    refused,
)
from edgewise.delta._numbers import advanced
from edgewise.delta._operations import Copy, Difference, Literal, Numbers, Operation, Snapped
from edgewise.delta._regions import ByteData
from edgewise.delta._tagged import decode_array, tagged_bytes
from edgewise.delta._tensors import (
    FileSource,
    MemorySource,
    Source,
    TensorOperation,
    TensorStream,
    read_tables,
    snapped_bits,
    step_sizes,
    tensor_operations,
)
from edgewise.wire import NotTrusted, NotValid

PIECE_BYTES = 1 << 20


def decode(
    base: BinaryIO | ByteData | None,
    delta: BinaryIO,
    out: BinaryIO,
    *,
    limits: Limits | None = None,
    written: int = 0,
) -> Summary:
    """Write the target of a delta to ``out``; return only if every byte of it has been verified.

    Whatever is raised, ``out`` then holds something unverified that must not be used: write to a temporary file and
    give it its name after this returns.

    Args:
        base: the version that this device has: a file that can seek (memory stays bounded), or bytes or a mapping.
            A full delta needs none.
        delta: the delta, read once from its start. To resume it must be able to seek.
        out: where the target goes. To resume it must be readable and able to seek.
        limits: what is accepted; give at least ``target_bytes_max`` from the signed manifest.
        written: bytes of the target that ``out`` holds already, from an apply that was cut off. They are read and
            hashed again; blocks that only concern them are stepped over.
    Raises:
        NotTrusted: base or delta is not what it should be: wrong base, damaged, cut off, over a limit, other result.
        NotValid: the delta is of another version, no base was given, or ``written`` is impossible.
    """
    limits = limits or Limits()
    header = read_header(delta, limits)
    told = header.summary
    if not 0 <= written <= told.target_size_bytes:
        raise NotValid(f"{written} bytes are written, the target has only {told.target_size_bytes}", code="resume")
    target = _Target(out, written)
    blocks = Blocks(delta, limits)
    for piece in _full(told, blocks, written) if told.full else _changed(base, header, blocks, written):
        target.write(piece)
    blocks.expect_end()
    target.expect(told)
    return told


class _Target:
    """Writes and hashes what has been made so far."""

    def __init__(self, out: BinaryIO, written: int) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self._size = written
        if written:
            out.seek(0)
        while written:
            part = out.read(min(written, PIECE_BYTES))
            if not part:
                raise NotValid(f"the output ends {written} bytes before the place to resume", code="resume")
            self._hash.update(part)
            written -= len(part)
        if self._size:
            out.seek(self._size)

    def write(self, piece: bytes | memoryview) -> None:
        self._hash.update(piece)
        self._size += len(piece)
        left = memoryview(piece)
        while left:  # an unbuffered file may take less than it is given
            left = left[self._out.write(left) :]

    def expect(self, told: Summary) -> None:
        if self._size != told.target_size_bytes or self._hash.hexdigest() != told.target_sha256:
            raise refused(
                f"it made {self._size} bytes with SHA-256 {self._hash.hexdigest()}, needed are "
                f"{told.target_size_bytes} with {told.target_sha256}",
                "delta_wrong_target",
            )


def _full(told: Summary, blocks: Blocks, written: int) -> Iterator[bytes]:
    skip, payloads = written, blocks.remaining()
    try:
        for piece in zstd_stream(payloads, told.target_size_bytes, PIECE_BYTES):
            if skip < len(piece):
                yield piece[skip:]
            skip = max(0, skip - len(piece))
    except ValueError as error:
        raise refused(f"its packed file is damaged ({error})") from error
    if next(payloads, None) is not None:
        raise refused("a block follows the end of its packed file")


def _changed(
    base: BinaryIO | ByteData | None, header: Header, blocks: Blocks, written: int
) -> Iterator[bytes | memoryview]:
    if base is None:
        raise NotValid(f"this delta changes the file {header.summary.base_sha256}; give that file", code="no_base")
    memory = isinstance(base, bytes | bytearray | memoryview | mmap)
    source: Source = MemorySource(base) if memory else FileSource(base)  # type: ignore[arg-type]
    _check_base(source, header.summary)
    try:
        yield from _Changes(source, header, blocks).pieces(written)
    except (ValueError, OverflowError) as error:
        raise refused(f"a block of it is damaged ({error})") from error


def _check_base(source: Source, told: Summary) -> None:
    found, position = hashlib.sha256(), 0
    while part := source.read_at(position, min(PIECE_BYTES, told.base_size_bytes + 1 - position)):
        found.update(part)
        position += len(part)
    if position != told.base_size_bytes or found.hexdigest() != told.base_sha256:
        size = f"{position} bytes" if position <= told.base_size_bytes else f"over {told.base_size_bytes} bytes"
        raise NotTrusted(
            f"this delta changes a file of {told.base_size_bytes} bytes with SHA-256 {told.base_sha256}, the file here "
            f"has {size} and {found.hexdigest()}; fetch the delta for this file, or the whole file",
            code="delta_wrong_base",
        )


class _Stream:
    """Bytes that come in blocks, each decoded when its first wanted byte is taken."""

    def __init__(
        self, blocks: Blocks, total: int, block_bytes: int, decode_block: Callable[[bytes, int, int], bytes]
    ) -> None:
        self._blocks = blocks
        self._total = total
        self._block_bytes = block_bytes
        self._decode = decode_block
        self._position = self._start = self._stop = 0
        self._content: bytes | None = None
        self._stored_at = 0

    def take(self, size_bytes: int, *, wanted: bool) -> Iterator[memoryview]:
        """The next bytes of the stream, or nothing if they are only stepped over."""
        end = self._position + size_bytes
        while self._position < end:
            if self._position == self._stop:
                self._open(wanted)
            first, self._position = self._position, min(end, self._stop)
            if wanted:
                yield memoryview(self._decoded())[first - self._start : self._position - self._start]

    def _open(self, wanted: bool) -> None:
        self._content = None  # before the next one is made: two at once would double the memory
        self._start, self._stop = self._stop, min(self._total, self._stop + self._block_bytes)
        if wanted:
            self._content = self._decode(self._blocks.read(), self._start, self._stop)
        else:
            self._stored_at = self._blocks.skip()

    def _decoded(self) -> bytes:
        if self._content is None:
            self._content = self._decode(self._blocks.read_at(self._stored_at), self._start, self._stop)
        return self._content


class _BlockDecoder:
    """Turns payloads of blocks into bytes of the target. Knows no streams, so that nothing here refers in a circle."""

    def __init__(self, source: Source, header: Header) -> None:
        self._source = source
        self._header = header
        self.numbers = NumberDecoder(header.number_coder)
        self._dictionary: tuple[int, _zstd.Text | None] = (-1, None)

    def literal(self, payload: bytes, start: int, stop: int) -> bytes:
        """Bytes of the literal stream from ``start`` to ``stop``."""
        number = min(start // BLOCK_LITERAL_BYTES, len(self._header.dictionaries) - 1)
        if number != self._dictionary[0]:
            self._dictionary = (-1, None)  # lets go of the old one before the new one is made
            self._dictionary = (number, self._load_dictionary(number))
        return zstd_decode(payload, stop - start, self._dictionary[1])

    def _load_dictionary(self, number: int) -> _zstd.Text | None:
        text = dictionary_text(self._source, self._header.dictionaries[number])
        return _zstd.text_of(text)

    def differences(self, stream: TensorStream, payload: bytes, start: int, stop: int) -> bytes:
        """Numbers of a stream, base plus differences, from byte ``start`` to ``stop`` of it."""
        kind = stream.number_type
        first, last = start // kind.size_bytes, stop // kind.size_bytes
        predicted, codes, hints = stream.predicted(self._source, first, last)
        context = stream.contexts(predicted, codes, hints)
        dtype = np.dtype(np.int16) if kind.size_bytes == 1 else kind.signed
        steps = decode_groups(payload, context, dtype, self.numbers)
        return advanced(predicted, steps, hints, kind).tobytes()

    def snapped(self, stream: TensorStream, payload: bytes, start: int, stop: int) -> bytes:
        """Snapped numbers of a stream, from byte ``start`` to ``stop`` of it."""
        predicted, codes, hints = stream.predicted(self._source, start // 4, stop // 4)
        context = stream.contexts(predicted, codes, hints)
        multiples = decode_groups(payload, context, np.dtype(np.int16), self.numbers)
        return snapped_bits(predicted, step_sizes(codes), multiples).tobytes()


class _Changes:
    """Carries out the operations of one delta."""

    def __init__(self, source: Source, header: Header, blocks: Blocks) -> None:
        self._source = source
        self._header = header
        self._blocks = blocks
        self._decoder = _BlockDecoder(source, header)
        literal_bytes = sum(each.size_bytes for each in header.operations if isinstance(each, Literal))
        self._literals = _Stream(blocks, literal_bytes, BLOCK_LITERAL_BYTES, self._decoder.literal)
        tensors = tensor_operations(header.operations)
        self._tensors = self._open_tensors(tensors) if tensors else {}

    def _open_tensors(self, tensors: Sequence[TensorOperation]) -> dict[object, _Stream]:
        tables = read_tables(self._blocks.read(), tensors, self._decoder.numbers)
        streams = {}
        for key in dict.fromkeys(map(stream_key, tensors)):
            mine = [(each, table) for each, table in zip(tensors, tables, strict=True) if stream_key(each) == key]
            stream = TensorStream([each for each, _ in mine], [table for _, table in mine])
            size = stream.number_type.size_bytes
            read = partial(self._decoder.snapped if key is Snapped else self._decoder.differences, stream)
            streams[key] = _Stream(self._blocks, stream.count * size, BLOCK_NUMBERS * size, read)
        return streams

    def pieces(self, written: int) -> Iterator[bytes | memoryview]:
        """The target from byte ``written`` on."""
        skip = written
        for operation in self._header.operations:
            skipped = min(skip, operation.size_bytes)
            skip -= skipped
            yield from self._carry_out(operation, skipped)

    def _carry_out(self, operation: Operation, skipped: int) -> Iterator[bytes | memoryview]:
        match operation:
            case Copy():
                yield from self._copy(operation.source + skipped, operation.size_bytes - skipped)
            case Numbers():
                yield from self._numbers(operation, skipped)
            case _:
                stream = self._literals if isinstance(operation, Literal) else self._tensors[stream_key(operation)]
                yield from stream.take(skipped, wanted=False)
                yield from stream.take(operation.size_bytes - skipped, wanted=True)

    def _copy(self, start: int, size_bytes: int) -> Iterator[bytes | memoryview]:
        while size_bytes:
            piece = self._source.read_at(start, min(size_bytes, PIECE_BYTES))
            if not piece:
                raise ValueError("the base ends early")
            yield piece
            start, size_bytes = start + len(piece), size_bytes - len(piece)

    def _numbers(self, operation: Numbers, skipped: int) -> Iterator[bytes]:
        dtype: np.dtype[Any] = np.dtype(np.int64 if operation.integers else np.float32)
        made = 0
        for first in range(0, operation.count, BLOCK_NUMBERS):
            count = min(BLOCK_NUMBERS, operation.count - first)
            run = tagged_bytes(decode_array(self._blocks.read(), count, dtype, self._decoder.numbers), operation.tag)
            made += len(run)
            if made > operation.size_bytes:
                break
            yield run[min(skipped, len(run)) :]
            skipped = max(0, skipped - len(run))
        if made != operation.size_bytes:
            raise ValueError(f"{operation.count} numbers take {made} bytes instead of {operation.size_bytes}")


def stream_key(operation: TensorOperation) -> object:
    """Which stream a tensor's numbers belong to: one for each number type, one for snapped tensors."""
    return operation.number_type if isinstance(operation, Difference) else Snapped


def dictionary_text(source: Source, ranges: Sequence[tuple[int, int]]) -> bytearray:
    """The bytes of the base that a literal block may refer to."""
    text = bytearray()
    for start, size_bytes in ranges:
        text += source.read_at(start, size_bytes)
    return text
