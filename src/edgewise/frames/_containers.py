"""JPEG and PNG files without anything but the picture: we copy what a decoder needs and leave out all the rest.

Sources: ITU-T T.81 annex B (JPEG markers), JFIF 1.02 and Adobe TN 5116 (application segments), PNG third edition
section 5 (chunks).
"""

from __future__ import annotations

import re
import struct
import zlib

from edgewise.wire import NotValid

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}  # tRNS changes how a palette is decoded
JFIF_PLAIN = b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"  # version 1.01, square pixels, no thumbnail
ADOBE_BYTES = 12  # "Adobe", version, two flags, colour transform
SOI, EOI, SOS, APP0, APP14, APP15, COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE, 0xEF, 0xFE
# Tables, frame headers, restart interval, arithmetic conditioning: what T.81 needs to decode.
JPEG_NEEDED = {
    SOS,
    0xC4,
    0xCC,
    0xDB,
    0xDD,
    *range(0xC0, 0xC4),
    *range(0xC5, 0xC8),
    *range(0xC9, 0xCC),
    *range(0xCD, 0xD0),
}
# In compressed data 0xFF is followed by 0 (stuffing), D0 to D7 (restart) or FF (fill); anything else ends the scan.
SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
INFLATE_BYTES = 1 << 20


class BadContainer(NotValid):
    """The file does not follow its format, so we cannot tell the picture from the rest."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_picture")


def bare_jpeg(data: bytes) -> bytes:
    """The JPEG file with its tables and compressed pixels only, so the decoded pixels are bit-equal.

    JFIF and Adobe segments decide how colours are decoded: they stay, in their shortest form.

    Raises:
        BadContainer: a marker is not where it should be, or the file is cut short.
    """
    parts, at = [data[:2]], 2
    while True:
        marker, at = _marker(data, at)
        if marker == EOI:
            if len(parts) < 2 or not any(part[1] == SOS for part in parts[1:]):
                raise BadContainer("this JPEG file ends before its picture")
            return b"".join(parts) + b"\xff\xd9"  # what follows the end is left out: cameras hide films there
        payload, at = _segment(data, at)
        if marker in JPEG_NEEDED:
            parts.append(struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload)
        elif marker == APP0 and payload.startswith(b"JFIF\x00"):
            parts.append(struct.pack(">BBH", 0xFF, APP0, len(JFIF_PLAIN) + 2) + JFIF_PLAIN)
        elif marker == APP14 and payload.startswith(b"Adobe") and len(payload) >= ADOBE_BYTES:
            # Version and flags carry nothing that a decoder uses; only the colour transform does.
            adobe = b"Adobe\x00\x64\x00\x00\x00\x00" + payload[ADOBE_BYTES - 1 : ADOBE_BYTES]
            parts.append(struct.pack(">BBH", 0xFF, APP14, ADOBE_BYTES + 2) + adobe)
        elif not (APP0 <= marker <= APP15 or marker == COM):
            raise BadContainer(f"this JPEG file has a marker {marker:#04x} that we do not know")
        if marker == SOS:
            end = SCAN_END.search(data, at)
            if end is None:
                raise BadContainer("this JPEG file is cut short")
            parts[-1] += data[at : end.start()]
            at = end.start()


def _marker(data: bytes, at: int) -> tuple[int, int]:
    if data[at : at + 1] != b"\xff":
        raise BadContainer(f"this JPEG file has no marker at byte {at} of {len(data)}")
    while data[at : at + 1] == b"\xff":  # T.81 B.1.1.2: a marker may be preceded by any number of fill bytes
        at += 1
    if at >= len(data):
        raise BadContainer("this JPEG file is cut short")
    return data[at], at + 1


def _segment(data: bytes, at: int) -> tuple[bytes, int]:
    size = int.from_bytes(data[at : at + 2], "big")
    if size < 2 or at + size > len(data):
        raise BadContainer(f"this JPEG file names {size} bytes at byte {at}, it has {len(data)} in all")
    return data[at + 2 : at + size], at + size


def bare_png(data: bytes) -> bytes:
    """The PNG file with its header, palette, transparency and compressed pixels only.

    Raises:
        BadContainer: a chunk is cut short or does not match its checksum, or bytes hide behind the compressed pixels.
    """
    parts, at = [PNG_START], len(PNG_START)
    inflate = zlib.decompressobj()
    kind = b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise BadContainer(f"this PNG file is cut short at byte {len(data)}")
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at : at + 12 + size]
        if len(chunk) != 12 + size or zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise BadContainer(f"chunk {kind!r} of this PNG file is cut short or damaged")
        if kind in PNG_NEEDED:
            if kind == b"IEND":
                chunk = b"\x00\x00\x00\x00IEND\xaeB`\x82"  # empty by definition, whatever the file says
            parts.append(chunk)
        elif not kind[0] & 0x20:
            raise BadContainer(f"this PNG file has a critical chunk {kind!r} that we do not know")
        if kind == b"IDAT":
            _pass_through(inflate, chunk[8:-4])
        at += 12 + size
    if not inflate.eof:
        raise BadContainer("the compressed pixels of this PNG file are cut short")
    return b"".join(parts)


def _pass_through(inflate: zlib._Decompress, data: bytes) -> None:
    """Follow the compressed stream to its end, a bounded piece at a time, to see whether bytes are left over."""
    if inflate.eof and data:
        raise BadContainer("this PNG file has bytes behind its compressed pixels")
    try:
        while data:
            inflate.decompress(data, INFLATE_BYTES)
            data = inflate.unconsumed_tail
    except zlib.error as error:
        raise BadContainer(f"the compressed pixels of this PNG file are damaged: {error}") from error
    if inflate.unused_data:
        raise BadContainer("this PNG file has bytes behind its compressed pixels")
