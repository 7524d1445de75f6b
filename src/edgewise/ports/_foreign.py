"""Files that no bundle may carry, known by their first bytes: pickles, which run code when read, and archives."""

from __future__ import annotations

HEAD_BYTES = 512  # enough for every rule below
ARCHIVES = {
    b"PK\x03\x04": "a zip archive (also torch.save and Keras write these, with pickles inside)",
    b"PK\x05\x06": "an empty zip archive",
    b"\x1f\x8b": "gzip data",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"\x28\xb5\x2f\xfd": "Zstandard data",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"x\x01": "zlib data (joblib writes pickles so)",
    b"x\x9c": "zlib data (joblib writes pickles so)",
    b"x\xda": "zlib data (joblib writes pickles so)",
    b"\x89HDF": "an HDF5 file",
}
NUMPY = b"\x93NUMPY"


def foreign(head: bytes) -> str | None:
    """What these first bytes of a file are, None for nothing that is refused.

    >>> foreign(bytes([0x80, 4, 0x95]))
    'a Python pickle, which runs code when it is read'
    >>> foreign(bytes([8, 8]))
    """
    if len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return "a Python pickle, which runs code when it is read"
    if head.startswith(NUMPY) and b"|O" in head[:HEAD_BYTES]:
        return "a numpy array of Python objects, which holds a pickle"
    if head[257:262] == b"ustar":
        return "a tar archive"
    return next((what for magic, what in ARCHIVES.items() if head.startswith(magic)), None)
