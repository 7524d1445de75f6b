"""The file format of deltas, version 1: see docs/delta.md for the layout."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from edgewise import _zstd
from edgewise.delta._coding import zstd_decode, zstd_encode
from edgewise.delta._operations import Operation, read_operations, write_operations
from edgewise.delta._varint import Fields, folded, varint
from edgewise.wire import NotTrusted, NotValid

MAGIC = b"EWD\x01"  # the last byte is the version
VERSION = MAGIC[3]
FULL, CHANGES = 0, 1
BLOCK_NUMBERS = 1 << 18  # numbers in a block of differences
BLOCK_LITERAL_BYTES = 4 << 20  # literal bytes in a block
BLOCK_FULL_BYTES = 1 << 20  # compressed bytes in a block of a full file
DICTIONARY_BYTES_MAX = 6 << 20
_START = struct.Struct("<4sBQ32s")  # magic, kind, target size and SHA-256
_BASE = struct.Struct("<Q32sI")  # base size and SHA-256, length of the packed header
_CRC = struct.Struct("<I")
_BLOCK = struct.Struct("<II")  # length and CRC-32 of the payload


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a decoder accepts; the memory it needs follows from the last four.

    Attributes:
        target_bytes_max: size of the file to be written. Give the size that the signed manifest states.
        header_bytes_max: of the list of operations, unpacked.
        operations_max: how many of them.
        channels_max: side table entries, about 5 bytes each in memory.
        block_bytes_max: payload of one block, packed.
    """

    target_bytes_max: int = 4 << 30
    header_bytes_max: int = 1 << 20
    operations_max: int = 1 << 14
    channels_max: int = 1 << 19
    block_bytes_max: int = (4 << 20) + (64 << 10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a delta says about itself, before anything is verified.

    Attributes:
        full: the whole target, packed; no base is needed.
        base_sha256, base_size_bytes: the base it changes; empty and 0 for a full one.
    """

    full: bool
    target_sha256: str
    target_size_bytes: int
    base_sha256: str = ""
    base_size_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Summary and, for changes, everything a decoder needs before the first block.

    Attributes:
        number_coder: header of pcodec's own format, which names its version.
        dictionaries: for each literal block the ranges (start, length) of the base it may refer to; the last one
            counts for all blocks after it.
    """

    summary: Summary
    number_coder: bytes = b""
    dictionaries: tuple[tuple[tuple[int, int], ...], ...] = ()
    operations: tuple[Operation, ...] = ()


def refused(what: str, code: str = "delta_corrupt") -> NotTrusted:
    """The error for a delta that is not what an encoder writes."""
    return NotTrusted(f"this delta cannot be used: {what}; fetch it again, or the whole file", code=code)


def summary(delta: BinaryIO) -> Summary:
    """What the delta says about itself. Reads its first bytes; nothing in it is verified yet.

    Raises:
        NotTrusted: it is cut off or no delta.
        NotValid: it is of a version that this program does not read.
    """
    return _read_summary(delta)[0]


def _exactly(file: BinaryIO, length: int, what: str) -> bytes:
    parts, left = [], length
    while left:
        part = file.read(left)
        if not part:
            raise refused(f"it ends inside {what}, {left} of {length} bytes are missing", "delta_truncated")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _read_summary(delta: BinaryIO) -> tuple[Summary, bytes]:
    start = _exactly(delta, _START.size, "its first bytes")
    magic, kind, target_size, target_sha256 = _START.unpack(start)
    if magic[:3] != MAGIC[:3]:
        raise refused(f"it begins with {magic!r}, not with {MAGIC!r}")
    if magic != MAGIC:
        raise NotValid(f"this delta has version {magic[3]}, this program reads version 1", code="delta_version")
    if kind == FULL:
        return Summary(full=True, target_sha256=target_sha256.hex(), target_size_bytes=target_size), start
    if kind != CHANGES:
        raise refused(f"its kind is {kind}, known are {FULL} and {CHANGES}")
    base = _exactly(delta, _BASE.size, "its first bytes")
    base_size, base_sha256, _ = _BASE.unpack(base)
    told = Summary(
        full=False,
        target_sha256=target_sha256.hex(),
        target_size_bytes=target_size,
        base_sha256=base_sha256.hex(),
        base_size_bytes=base_size,
    )
    return told, start + base


def write_header(header: Header) -> bytes:
    """The bytes before the first block."""
    told = header.summary
    kind = FULL if told.full else CHANGES
    start = _START.pack(MAGIC, kind, told.target_size_bytes, bytes.fromhex(told.target_sha256))
    if told.full:
        return start + _CRC.pack(zlib.crc32(start))
    packed = zstd_encode(_body(header))
    start += _BASE.pack(told.base_size_bytes, bytes.fromhex(told.base_sha256), len(packed)) + packed
    return start + _CRC.pack(zlib.crc32(start))


def _body(header: Header) -> bytes:
    body = bytearray(varint(len(header.number_coder)) + header.number_coder + varint(len(header.dictionaries)))
    for ranges in header.dictionaries:
        body += varint(len(ranges))
        last = 0
        for start, length in ranges:
            body += varint(folded(start - last)) + varint(length)
            last = start + length
    return bytes(body) + write_operations(list(header.operations))


def read_header(delta: BinaryIO, limits: Limits) -> Header:
    """The header, checked against the limits and in itself.

    Raises:
        NotTrusted: it is damaged, impossible or over a limit.
        NotValid: it is of a version that this program does not read.
    """
    told, start = _read_summary(delta)
    if told.target_size_bytes > limits.target_bytes_max:
        raise refused(
            f"it would write {told.target_size_bytes} bytes, at most {limits.target_bytes_max} are allowed",
            "delta_over_limit",
        )
    packed = b""
    if not told.full:
        (length,) = _CRC.unpack(start[-4:])
        if length > limits.header_bytes_max:
            raise refused(f"its header has {length} bytes, at most {limits.header_bytes_max}", "delta_over_limit")
        packed = _exactly(delta, length, "its header")
    (crc,) = _CRC.unpack(_exactly(delta, _CRC.size, "its header"))
    if crc != zlib.crc32(start + packed):
        raise refused(f"the check sum of its header is {zlib.crc32(start + packed):08x}, it says {crc:08x}")
    if told.full:
        return Header(summary=told)
    try:
        return _parse_body(told, packed, limits)
    except (ValueError, OverflowError) as error:
        raise refused(f"its header is damaged ({error})") from error


def _parse_body(told: Summary, packed: bytes, limits: Limits) -> Header:
    size = _zstd.stated_bytes(packed)
    if size is None or size > limits.header_bytes_max:
        raise ValueError(f"{size} bytes unpacked, at most {limits.header_bytes_max}")
    fields = Fields(zstd_decode(packed, size))
    number_coder = fields.bytes(min(fields.number(), 16))
    dictionaries = _read_dictionaries(fields, told.base_size_bytes, limits)
    operations = tuple(read_operations(fields, limits.operations_max))
    if not fields.ended():
        raise ValueError("bytes are left over")
    header = Header(summary=told, number_coder=number_coder, dictionaries=dictionaries, operations=operations)
    _check_operations(header, limits)
    return header


def _read_dictionaries(fields: Fields, base_size_bytes: int, limits: Limits) -> tuple[tuple[tuple[int, int], ...], ...]:
    left = limits.operations_max  # for dictionaries and ranges together
    dictionaries = []
    for _ in range(_at_most(fields.number(), left)):
        count = _at_most(fields.number(), left)
        left -= count
        dictionaries.append(_read_ranges(fields, count, base_size_bytes))
    return tuple(dictionaries)


def _at_most(count: int, most: int) -> int:
    if count > most:
        raise ValueError(f"{count} entries, at most {most}")
    return count


def _read_ranges(fields: Fields, count: int, base_size_bytes: int) -> tuple[tuple[int, int], ...]:
    ranges, last, total = [], 0, 0
    for _ in range(count):
        start, length = last + fields.signed(), fields.number()
        last, total = start + length, total + length
        if start < 0 or last > base_size_bytes or total > DICTIONARY_BYTES_MAX:
            raise ValueError(f"a dictionary range {start}+{length} is outside the base or its bound")
        ranges.append((start, length))
    return tuple(ranges)


def _check_operations(header: Header, limits: Limits) -> None:
    written = channels = 0
    for operation in header.operations:
        written += operation.size_bytes
        channels += getattr(operation, "channels", 0)
        source = getattr(operation, "source", 0)
        reads = operation.size_bytes if hasattr(operation, "source") else 0
        if source < 0 or source + reads > header.summary.base_size_bytes:
            raise ValueError(f"an operation reads {source}+{reads}, outside the base")
    if written != header.summary.target_size_bytes:
        raise ValueError(f"the operations write {written} bytes, the target has {header.summary.target_size_bytes}")
    if channels > limits.channels_max:
        raise ValueError(f"{channels} channels, at most {limits.channels_max}")


def write_block(payload: bytes) -> bytes:
    """A payload with its length and check sum before it."""
    return _BLOCK.pack(len(payload), zlib.crc32(payload)) + payload


class Blocks:
    """The blocks of a delta, one after another."""

    def __init__(self, delta: BinaryIO, limits: Limits) -> None:
        self._delta = delta
        self._limits = limits
        self._number = 0

    def read(self) -> bytes:
        """The payload of the next block.

        Raises:
            NotTrusted: it is cut off, over the limit, or its check sum does not hold.
        """
        return self._payload(*self._head(b""))

    def remaining(self) -> Iterator[bytes]:
        """All payloads up to the end of the file, under the same checks."""
        while first := self._delta.read(1):
            yield self._payload(*self._head(first))

    def skip(self) -> int:
        """Step over the next block; says where it begins, for `read_at`."""
        position = self._delta.tell()
        length, _ = self._head(b"")
        self._delta.seek(length, 1)
        return position

    def read_at(self, position: int) -> bytes:
        """The payload of a block that was stepped over."""
        ahead, number = self._delta.tell(), self._number
        self._delta.seek(position)
        payload = self.read()
        self._delta.seek(ahead)
        self._number = number
        return payload

    def _head(self, first: bytes) -> tuple[int, int]:
        self._number += 1
        rest = _exactly(self._delta, _BLOCK.size - len(first), f"the start of block {self._number}")
        length, crc = _BLOCK.unpack(first + rest)
        if length > self._limits.block_bytes_max:
            raise refused(
                f"block {self._number} has {length} bytes, at most {self._limits.block_bytes_max}", "delta_over_limit"
            )
        return length, crc

    def _payload(self, length: int, crc: int) -> bytes:
        payload = _exactly(self._delta, length, f"block {self._number}")
        if zlib.crc32(payload) != crc:
            raise refused(f"the check sum of block {self._number} is {zlib.crc32(payload):08x}, it says {crc:08x}")
        return payload

    def expect_end(self) -> None:
        """Check that the file ends here.

        Raises:
            NotTrusted: it does not.
        """
        if self._delta.read(1):
            raise refused(f"bytes follow its last block, number {self._number}")
