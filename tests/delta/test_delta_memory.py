from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgewise.delta import _encode, encode

MEMORY_MAX_MB = 32
APPLY = """
import io, sys
from edgewise.delta import decode, encode
from edgewise.wire import EdgewiseError

def peak_kb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

decode(b"", io.BytesIO(encode(b"", b"warm" * 100)), io.BytesIO())  # libraries load before we begin to count
before = peak_kb()
with open(sys.argv[1], "rb") as base, open(sys.argv[2], "rb") as delta, open(sys.argv[3], "wb") as out:
    try:
        decode(base, delta, out)
    except EdgewiseError as error:
        print(error, file=sys.stderr)
print((peak_kb() - before) / 1024)
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")


def peak_mb(tmp_path: Path, base: bytes, delta: bytes) -> float:
    """Memory that an apply takes over that of the process, in MB."""
    for name, data in (("base", base), ("delta", delta)):
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in ("base", "delta", "out")]
    done = subprocess.run(
        [sys.executable, "-c", APPLY, *paths],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return float(done.stdout)


@pytest.fixture(scope="module")
def large(as_onnx):
    """48 MB of weights, all of them changed."""
    rng = np.random.default_rng(0)
    old = {f"w{index}": rng.standard_normal((1024, 1024), np.float32) for index in range(12)}
    new = {name: array + 1e-3 * rng.standard_normal(array.shape, np.float32) for name, array in old.items()}
    return as_onnx(old), as_onnx(new)


@needs_proc
@pytest.mark.parametrize("kind", ["changes", "patch", "full"])
def test_an_apply_needs_at_most_32_mb_however_large_the_model(large, tmp_path, kind):
    base, target = large
    if kind == "patch":  # packing is slow; the bound shows from 12 MB on, where dictionaries have their full size
        base = base[: 12 << 20]
        target = base[: 9 << 20] + target[9 << 20 : 10 << 20] + base[9 << 20 :]
    views = memoryview(base), memoryview(target)
    told = _encode._summary(*views)
    if kind == "full":
        views = views[0], memoryview(bytes(48 << 20))
        told = _encode._summary(*views)
        target = bytes(views[1])
    delta = {
        "changes": lambda: encode(base, target),
        "patch": lambda: _encode._patch(*views, told),
        "full": lambda: _encode._full(views[1], told),
    }[kind]()
    assert peak_mb(tmp_path, base, delta) < MEMORY_MAX_MB
    assert (tmp_path / "out").read_bytes() == target


@needs_proc
def test_a_delta_with_every_table_at_its_bound_needs_at_most_32_mb(as_onnx, tmp_path):
    rng = np.random.default_rng(0)
    old = {f"w{index}": rng.standard_normal((256, 16), np.float32) for index in range(800)}
    new = {name: (array * 1.01 + 1e-3).astype(np.float32) for name, array in old.items()}
    base, target = as_onnx(old), as_onnx(new)
    delta = encode(base, target)
    assert peak_mb(tmp_path, base, delta) < MEMORY_MAX_MB
    assert (tmp_path / "out").read_bytes() == target
