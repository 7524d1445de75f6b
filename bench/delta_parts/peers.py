"""What others send for the same update. A peer that is not installed is left out and named."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import zstandard

BSDIFF_BYTES_MAX = 4 << 20  # minutes of processor time and 17 times the file in memory above that
CHUNK_BYTES = 64 << 10


def zstd_full(_: bytes, target: bytes) -> int:
    """Zstandard level 19 of the whole file: what every percentage refers to."""
    return len(zstandard.ZstdCompressor(level=19).compress(target))


def patch_from(base: bytes, target: bytes) -> int:
    """`zstd --patch-from`, level 19, the window over the whole base."""
    return _by_command(
        base, target, lambda old, new, out: [_ZSTD, "-19", "--long=31", "-q", f"--patch-from={old}", new, "-o", out]
    )


def xdelta3(base: bytes, target: bytes) -> int:
    """xdelta3 at its highest level, its source buffer over the whole base."""
    size = max(1 << 20, len(base))
    return _by_command(
        base,
        target,
        lambda old, new, out: [_XDELTA, "-9", "-S", "lzma", "-B", str(size), "-e", "-f", "-s", old, new, out],
    )


def bsdiff(base: bytes, target: bytes) -> int | None:
    """bsdiff 4; left out on large files."""
    import bsdiff4

    return len(bsdiff4.diff(base, target)) if len(target) <= BSDIFF_BYTES_MAX else None


def fast_cdc(base: bytes, target: bytes) -> int:
    """Content-defined chunks of 64 KB on average: Zstandard level 19 of each new one, and its 32-byte name."""
    from fastcdc import fastcdc

    def chunks(data: bytes) -> list[bytes]:
        cuts = fastcdc(data, CHUNK_BYTES // 4, CHUNK_BYTES, CHUNK_BYTES * 4)
        return [data[cut.offset : cut.offset + cut.length] for cut in cuts]

    held = {hashlib.sha256(chunk).digest() for chunk in chunks(base)}
    packer, wanted = zstandard.ZstdCompressor(level=19), chunks(target)
    new = {hashlib.sha256(chunk).digest(): chunk for chunk in wanted}
    return 32 * len(wanted) + sum(len(packer.compress(chunk)) for name, chunk in new.items() if name not in held)


def _by_command(base: bytes, target: bytes, command: Callable[[str, str, str], list[str]]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        old, new, out = (Path(folder) / name for name in ("old", "new", "out"))
        old.write_bytes(base)
        new.write_bytes(target)
        subprocess.run(command(str(old), str(new), str(out)), check=True, capture_output=True)
        return out.stat().st_size


_ZSTD = shutil.which("zstd") or ""
_XDELTA = os.environ.get("XDELTA3") or shutil.which("xdelta3") or ""

Peer = Callable[[bytes, bytes], int | None]
ALL: dict[str, tuple[Peer, bool, str]] = {
    "patch-from": (patch_from, bool(_ZSTD), "install the command zstd"),
    "xdelta3": (xdelta3, bool(_XDELTA), "install the command xdelta3, or name it in XDELTA3"),
    "bsdiff": (bsdiff, importlib.util.find_spec("bsdiff4") is not None, "pip install bsdiff4"),
    "FastCDC": (fast_cdc, importlib.util.find_spec("fastcdc") is not None, "pip install fastcdc"),
}


def available() -> tuple[dict[str, Peer], list[str]]:
    """The peers that can run here, and for each of the others what to do."""
    here = {name: peer for name, (peer, found, _) in ALL.items() if found}
    return here, [f"{name}: not found, left out ({what})" for name, (_, found, what) in ALL.items() if not found]
