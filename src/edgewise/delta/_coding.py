"""The two entropy coders behind the container: pcodec for numbers, Zstandard for bytes. Bounded on the way back.

Whatever a coder throws at damaged input leaves this module as a ValueError; the caller knows where it was and says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, DeltaSpec, ModeSpec  # type: ignore[import-untyped]
from pcodec.wrapped import FileCompressor, FileDecompressor  # type: ignore[import-untyped]

from edgewise import _zstd
from edgewise.delta._numbers import CONTEXTS
from edgewise.delta._varint import read_varint, varint

GROUP_MIN = 2048  # contexts with fewer numbers are joined with their neighbours: a group costs about 40 bytes
ZSTD_LEVEL = 19
FULL_WINDOW_LOG = 23  # what level 19 uses on large files; a decoder then needs 8 MiB
_NO_MODEL = ChunkConfig(compression_level=8, delta_spec=DeltaSpec.no_op(), mode_spec=ModeSpec.classic())
_ANY_MODEL = ChunkConfig(compression_level=8)
_TYPE_NAMES = {"int16": "i16", "int32": "i32", "int64": "i64", "float32": "f32", "float64": "f64", "uint32": "u32"}

number_coder_header: bytes = FileCompressor().write_header()  # names the version of pcodec's format


def encode_numbers(numbers: NDArray[Any], *, modelled: bool = False) -> bytes:
    """One array as a pcodec chunk, without its length; empty where all numbers are zero.

    Args:
        numbers: int16, int32, int64, float32 or float64 (N,), 1 ≤ N ≤ 2^18, so that they fit one page.
        modelled: let the coder look for a relation between neighbours; slower.
    """
    if not numbers.view(f"u{numbers.itemsize}").any():
        return b""
    chunk = FileCompressor().chunk_compressor(np.ascontiguousarray(numbers), _ANY_MODEL if modelled else _NO_MODEL)
    assert len(chunk.n_per_page()) == 1, "an array of one block fits one page"
    return bytes(chunk.write_meta() + chunk.write_page(0))


class NumberDecoder:
    """Reads arrays that `encode_numbers` wrote, under the pcodec format version that the container names."""

    def __init__(self, header: bytes) -> None:
        with _CoderErrors():
            self._file = FileDecompressor.new(header)[0]

    def read(self, data: bytes, out: NDArray[Any]) -> None:
        """Fill ``out`` from these bytes, which must hold exactly as many numbers.

        Raises:
            ValueError: they are damaged, or do not end where the numbers end.
        """
        if not data:
            out[:] = 0
            return
        with _CoderErrors():
            chunk, meta_bytes = self._file.chunk_decompressor(data, _TYPE_NAMES[out.dtype.name])
            progress, page_bytes = chunk.read_page_into(data[meta_bytes:], len(out), out)
        if progress.n_processed != len(out) or meta_bytes + page_bytes != len(data):
            raise ValueError(f"{progress.n_processed} of {len(out)} numbers, {len(data)} bytes")


class _CoderErrors:
    """Turns what pcodec raises into a ValueError, also a Rust panic, which is no Exception."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if kind is not None and (issubclass(kind, Exception) or kind.__name__ == "PanicException"):
            raise ValueError(f"pcodec cannot read it: {str(error)[:200]}") from error


def grouped(context: NDArray[np.uint16]) -> tuple[NDArray[np.intp], list[tuple[int, int]]]:
    """The order that puts numbers of one context together, and the ranges of the groups in that order.

    Both sides compute this from the base, so it costs no bytes. The sort is stable and the joining of small groups
    depends on counts alone.

    >>> order, groups = grouped(np.array([7, 3, 7], np.uint16))
    >>> order.tolist(), groups
    ([1, 0, 2], [(0, 3)])
    """
    order = np.argsort(context, kind="stable")
    counts = np.bincount(context, minlength=CONTEXTS)
    edges, groups, first = np.cumsum(counts), [], 0
    for edge in edges[counts > 0].tolist():
        if edge - first >= GROUP_MIN:
            groups.append((first, edge))
            first = edge
    if first < len(context):
        groups.append((first, len(context)))
    return order, groups


def encode_groups(numbers: NDArray[Any], context: NDArray[np.uint16]) -> bytes:
    """One block of numbers, each context group coded on its own. Both arrays (N,)."""
    order, groups = grouped(context)
    numbers = numbers[order]
    parts = [encode_numbers(numbers[first:stop]) for first, stop in groups]
    return b"".join(varint(len(part)) + part for part in parts)


def decode_groups(
    data: bytes, context: NDArray[np.uint16], dtype: np.dtype[Any], decoder: NumberDecoder
) -> NDArray[Any]:
    """The numbers (N,) of one block, N and the groups known from the context.

    Raises:
        ValueError: the data does not hold exactly these groups.
    """
    order, groups = grouped(context)
    numbers, position = np.empty(len(context), dtype), 0
    for first, stop in groups:
        length, position = read_varint(data, position, len(data))
        if length > len(data) - position:
            raise ValueError(f"a group of {length} bytes runs past its block")
        decoder.read(data[position : position + length], numbers[first:stop])
        position += length
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes are left over in a block")
    placed = np.empty_like(numbers)
    placed[order] = numbers
    return placed


def zstd_encode(data: bytes | memoryview, dictionary: bytes | bytearray = b"", *, level: int = ZSTD_LEVEL) -> bytes:
    """One Zstandard frame that states its content size; ``dictionary`` is text to refer to (as --patch-from does)."""
    return _zstd.pack(data, level=level, text=_zstd.text_of(dictionary))


def zstd_decode(data: bytes, size_bytes: int, dictionary: _zstd.Text | None = None) -> bytes:
    """The content of one frame, which must state and have exactly this size.

    Raises:
        ValueError: it is damaged, or states another size.
    """
    _check_stated(data, size_bytes)
    content, after = _zstd.unpack(data, bytes_max=size_bytes, text=dictionary)
    if after:
        raise ValueError(f"{len(after)} bytes follow a frame")
    if len(content) != size_bytes:
        raise ValueError(f"a frame has {len(content)} bytes, {size_bytes} are needed")
    return content


def zstd_stream(compressed: Iterator[bytes], size_bytes: int, piece_bytes: int) -> Iterator[bytes]:
    """The content of one frame in pieces, never more than a window and a piece in memory.

    Raises:
        ValueError: it is damaged, or is not exactly ``size_bytes`` long.
    """
    left = size_bytes
    first = next(compressed, b"")
    _check_stated(first, size_bytes)  # the library holds a frame to what it states
    blocks = itertools.chain([first], compressed)
    for piece in _zstd.pieces(blocks, piece_bytes=piece_bytes, window_log_max=FULL_WINDOW_LOG):
        left -= len(piece)
        yield piece
    if left:
        raise ValueError(f"the frame ends {left} bytes early")


def _check_stated(frame: bytes, size_bytes: int) -> None:
    stated = _zstd.stated_bytes(frame)
    if stated != size_bytes:  # checked before decoding
        raise ValueError(f"a frame states {stated} bytes, {size_bytes} are needed")
