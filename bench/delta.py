"""Update bytes beside every peer: `make bench NAME=delta`.

Trains the pairs (or reads them from --folder), sends each by `edgewise.delta` and by its peers, and prints a table in
per cent of Zstandard level 19 of the whole new file, with the issue's targets. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from delta_parts import peers
from delta_parts.pairs import Pair, accuracy, all_pairs

from edgewise.delta import decode, encode, snap

APPLY_MB_S_MIN, BUILD_MB_S_MIN, MEMORY_MB_MAX = 45, 25, 32
WORST_PERCENT = 100.1
SNAP_LOSS_POINTS_MAX = 0.5
BSDIFF_SHARE_MAX = 0.85

MEASURE = """
import io, sys
from edgewise.delta import decode, encode
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
decode(b"", io.BytesIO(encode(b"", b"warm" * 100)), io.BytesIO())
before = peak()
with open(sys.argv[1], "rb") as base, open(sys.argv[2], "rb") as delta, open(sys.argv[3], "wb") as out:
    decode(base, delta, out)
print(peak() - before)
"""


@dataclass
class Result:
    """One row of the table. Percentages refer to Zstandard level 19 of the whole target."""

    name: str
    target_bytes: int
    packed_bytes: int
    ours: float
    needed: float
    build_mb_s: float
    apply_mb_s: float
    memory_mb: float
    gain_points: float | None = None
    snap_loss_points: float | None = None
    peers: dict[str, float] = field(default_factory=dict)
    misses: list[str] = field(default_factory=list)


def say(text: str) -> None:
    """One line of output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def measure(pair: Pair, others: dict[str, peers.Peer]) -> Result:
    """Build, apply and compare one pair; processor seconds, one thread."""
    base, target = Path(pair.base).read_bytes(), Path(pair.target).read_bytes()
    loss = None
    if pair.snap:
        target, loss = snapped(pair, base, target)
    packed = peers.zstd_full(base, target)
    began = time.process_time()
    delta = encode(base, target)
    built = time.process_time()
    out = io.BytesIO()
    decode(io.BytesIO(base), io.BytesIO(delta), out)
    applied = time.process_time()
    if out.getvalue() != target:
        raise SystemExit(f"{pair.name}: the applied delta is not the target")
    result = Result(
        name=pair.name,
        target_bytes=len(target),
        packed_bytes=packed,
        ours=100 * len(delta) / packed,
        needed=pair.target_percent or WORST_PERCENT,
        build_mb_s=len(target) / 1e6 / (built - began),
        apply_mb_s=len(target) / 1e6 / max(applied - built, 1e-9),
        memory_mb=memory_mb(base, delta),
        gain_points=pair.gain_points,
        snap_loss_points=loss,
    )
    for name, peer in others.items():
        size = peer(base, target)
        if size is not None:
            result.peers[name] = 100 * size / packed
    result.misses = misses(pair, result)
    return result


def snapped(pair: Pair, base: bytes, tuned: bytes) -> tuple[bytes, float]:
    """The snapped model, and how many points of accuracy it loses against the tuned one."""
    data = snap(base, tuned)
    path = Path(pair.target).with_suffix(".snapped.onnx")
    path.write_bytes(data)
    return data, accuracy(Path(pair.target)) - accuracy(path)


def memory_mb(base: bytes, delta: bytes) -> float:
    """Peak memory of an apply over that of its process, in MB, measured in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("base", "delta", "out")]
        paths[0].write_bytes(base)
        paths[1].write_bytes(delta)
        command = [sys.executable, "-c", MEASURE, *map(str, paths)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def misses(pair: Pair, result: Result) -> list[str]:
    """Which targets of the issue this row misses."""
    found = []
    if result.ours > result.needed:
        found.append(f"{result.ours:.2f} % > {result.needed} %")
    if pair.gain_points is not None and pair.gain_points < 5:
        found.append(f"the pair gains only {pair.gain_points:+.1f} points")
    if (result.snap_loss_points or 0) > SNAP_LOSS_POINTS_MAX:
        found.append(f"snapping loses {result.snap_loss_points:.1f} points")
    if "int8" in pair.name and "bsdiff" in result.peers and result.ours > BSDIFF_SHARE_MAX * result.peers["bsdiff"]:
        found.append(f"{result.ours / result.peers['bsdiff']:.2f} of bsdiff")
    if result.target_bytes > 1 << 20:  # below, fixed costs of a few milliseconds are all that is measured
        found += [f"build {result.build_mb_s:.0f} MB/s"] if result.build_mb_s < BUILD_MB_S_MIN else []
        found += [f"apply {result.apply_mb_s:.0f} MB/s"] if result.apply_mb_s < APPLY_MB_S_MIN else []
    if result.memory_mb > MEMORY_MB_MAX:
        found.append(f"{result.memory_mb:.0f} MB of memory")
    return found


def row(result: Result, names: list[str]) -> str:
    """One line of the table."""
    others = "".join(f"{result.peers[name]:11.2f}" if name in result.peers else f"{'–':>11}" for name in names)
    points = "" if result.gain_points is None else f"{result.gain_points:+.1f}"
    if result.snap_loss_points is not None:
        points = f"{-result.snap_loss_points:+.1f} *"
    return (
        f"{result.name:44}{result.packed_bytes / 1e6:8.2f}{points:>8}{result.ours:9.2f}{result.needed:8.1f}{others}"
        f"{result.build_mb_s:8.0f}{result.apply_mb_s:8.0f}{result.memory_mb:7.1f}  {'; '.join(result.misses) or 'ok'}"
    )


def main() -> int:
    """Run the benchmark; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("tmp/bench-delta"), help="trained pairs are kept here")
    parser.add_argument("--quick", action="store_true", help="leave the larger network out")
    parser.add_argument("--only", default="", help="only pairs whose name has this word")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    others, missing = peers.available()
    for line in missing:
        say(line)
    pairs = [pair for pair in all_pairs(options.folder, quick=options.quick) if options.only in pair.name]
    names = list(others)
    say(
        f"{'% of zstd-19 of the whole file':44}{'MB':>8}{'points':>8}{'ours':>9}{'needed':>8}"
        + "".join(f"{name:>11}" for name in names)
        + f"{'build':>8}{'apply':>8}{'MB mem':>7}"
    )
    results = []
    for pair in pairs:
        results.append(measure(pair, others))
        say(row(results[-1], names))
    say("points: accuracy that the update gains on the shifted set; * what snapping changes of it. Speeds in MB/s.")
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    return int(any(result.misses for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
