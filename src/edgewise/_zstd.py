"""Zstandard as Python has it from 3.14 on (`compression.zstd`, PEP 784), before that from its backport.

Every frame made here states its size; whatever is wrong with one that is read is a ValueError, and no more is unpacked
than the caller allows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeAlias

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT_BYTES_MIN = 8  # the library leaves out shorter ones
WINDOW_LOG_MAX = 27  # of frames that refer to a text; the library's own limit


Packed: TypeAlias = zstd.ZstdFile  # a packed file, as Python's own files are used
PackedError: TypeAlias = zstd.ZstdError


class TooLong(ValueError):
    """A frame holds more than the caller allows."""


Text: TypeAlias = zstd.ZstdDict  # what a frame may refer to


def text_of(data: bytes | bytearray) -> Text | None:
    """Bytes as a text that frames refer to; None where they are too few to be one."""
    return zstd.ZstdDict(data, is_raw=True) if len(data) >= TEXT_BYTES_MIN else None


def pack(data: bytes | memoryview, *, level: int = 3, text: Text | None = None) -> bytes:
    """One frame. It may refer to ``text``, as ``zstd --patch-from`` does, and then needs it to be read."""
    if text is None:
        return zstd.compress(data, level)
    window_log = min(WINDOW_LOG_MAX, max(10, (len(data) + len(text.dict_content)).bit_length()))
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: level,
        zstd.CompressionParameter.window_log: window_log,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    return zstd.compress(data, options=options, zstd_dict=text.as_prefix)


def stated_bytes(frame: bytes) -> int | None:
    """The size of a frame's content as its beginning says; None where it says nothing. ValueError: it is no frame."""
    try:
        return zstd.get_frame_info(frame).decompressed_size
    except zstd.ZstdError as error:
        raise ValueError(f"Zstandard cannot read it: {error}") from error


def unpack(
    frame: bytes, *, bytes_max: int, text: Text | None = None, window_log_max: int = WINDOW_LOG_MAX
) -> tuple[bytes, bytes]:
    """The content of a frame and what follows the frame.

    Raises:
        TooLong: it holds more than allowed. ValueError: it is damaged, ends early, or asks for a larger window.
    """
    decompressor = _decompressor(window_log_max, text)
    try:
        content = decompressor.decompress(frame, max_length=bytes_max + 1)
    except zstd.ZstdError as error:
        raise ValueError(f"Zstandard cannot read it: {error}") from error
    if len(content) > bytes_max:
        raise TooLong(f"a frame has more than {bytes_max} bytes")
    if not decompressor.eof:
        raise ValueError(f"a frame ends early, after {len(content)} bytes")
    return content, decompressor.unused_data


def pieces(blocks: Iterable[bytes], *, piece_bytes: int, window_log_max: int) -> Iterator[bytes]:
    """The content of a frame that comes in blocks, to its end or theirs; a window and a piece are in memory at most.

    Raises:
        ValueError: it is damaged, or asks for a larger window.
    """
    decompressor = _decompressor(window_log_max)
    try:
        for block in blocks:
            data = block
            while not decompressor.eof and (data or not decompressor.needs_input):
                piece, data = decompressor.decompress(data, max_length=piece_bytes), b""
                if piece:
                    yield piece
            if decompressor.eof:
                return
    except zstd.ZstdError as error:
        raise ValueError(f"Zstandard cannot read it: {error}") from error


def _decompressor(window_log_max: int, text: Text | None = None) -> zstd.ZstdDecompressor:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: window_log_max}
    return zstd.ZstdDecompressor(zstd_dict=text.as_prefix if text is not None else None, options=options)
