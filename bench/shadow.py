"""What a second bundle costs the decisions of the acting one: alone, beside it as a device runs it, and in its way.

`make bench NAME=shadow` runs it: a small network acts, a large one shadows in its worker process; one frame every so
many milliseconds, by a clock that does not wait for the loop, so that a decision that comes late shows. The variants
take turns. Writes `shadow.json` and `shadow.md` into the results folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import threading
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from cascade_parts.link import COLUMNS, manifest_of, network

from edgewise.edge._beside import Beside
from edgewise.edge._decider import Decider, LoopLimits
from edgewise.edge._slots import Running
from edgewise.edge._watch import Watch
from edgewise.edge.ring import KEY_BYTES, Ring
from edgewise.ports import Frame, ListSource, OnnxRuntime, SystemChance, SystemClock, WorkerRuntime, open_pipeline
from edgewise.wire import Upload, digest, encode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VARIANTS = ("alone", "beside, share 1", "beside, share 0.2", "in the loop's own thread")


def dense(random: np.random.Generator, *widths: int) -> bytes:
    pairs = pairwise(widths)
    return network([(random.normal(size=(a, b)) / a**0.5, random.normal(size=b)) for a, b in pairs])


def opened(name: str, data: bytes, slot: str, *, worker: bool) -> Running:
    manifest = manifest_of(name, data)
    runtime = WorkerRuntime() if worker else OnnxRuntime()
    pipeline = open_pipeline(manifest, digest(encode(manifest)), lambda _: data, runtime)
    return Running(slot=slot, release=f"{name}@1", bundle=pipeline.bundle, pipeline=pipeline)


def run(variant: str, acting: Running, second: Running, *, count: int, every_s: float) -> dict[str, Any]:
    """How long after its moment each frame was decided on, milliseconds, and how many were paired."""
    holder: Any = SimpleNamespace(
        running=acting, shadow=None if variant == "alone" else second, second=None, watch=Watch(), rollout=None,
        shadow_watch=None, shadow_cpu_share=0.2 if "0.2" in variant else 1.0,
    )  # fmt: skip
    clock, chance, source, stop = SystemClock(), SystemChance(), ListSource(), threading.Event()
    ring = Ring(bytes_max=64_000_000, key=chance.bytes(KEY_BYTES))
    beside = Beside(holder, ring, clock=clock, chance=chance)
    decider = Decider(
        source, holder, ring, clock=clock, upload=Upload(), limits=LoopLimits(), beside=beside.offer
    )  # fmt: skip
    inline = variant.startswith("in the loop")
    thread = threading.Thread(target=lambda: [beside.step(0.1) for _ in iter(stop.is_set, True)])
    if not inline:
        thread.start()
    random, late_ms = np.random.default_rng(1), []
    start = time.monotonic() + 0.1
    for number in range(count):
        due = start + number * every_s
        time.sleep(max(0.0, due - time.monotonic()))
        row = json.dumps(dict(zip(COLUMNS, random.random(64).round(3).tolist(), strict=True))).encode()
        source.add(Frame(name=f"f{number:06d}", data=row, media_type="application/json", taken_at=NOW))
        assert decider.step(clock.now()) is not None, "a frame without a decision"
        late_ms.append((time.monotonic() - due) * 1000)
        decider.closed.clear()
        if inline:
            beside.step()
    stop.set()
    if not inline:
        thread.join()
    return {"late_ms": late_ms, "paired": beside.paired, "run_ms": beside.status()["run_ms"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=500, help="of each variant in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every-ms", type=float, default=10.0)
    parser.add_argument("--width", type=int, default=2000, help="of the shadow's two hidden layers")
    parser.add_argument("--one-core", action="store_true", help="agent and worker share one core")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    random = np.random.default_rng(0)
    acting = opened("small", dense(random, 64, 32, 10), "a", worker=False)
    second = opened("large", dense(random, 64, options.width, options.width, 10), "b", worker=True)
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    for _ in range(options.rounds):
        for variant in VARIANTS:
            found[variant].append(
                run(variant, acting, second, count=options.frames, every_s=options.every_ms / 1000)
            )  # fmt: skip
    cores = len(os.sched_getaffinity(0))
    lines = [
        f"{platform.machine()}, {cores} core(s), load {os.getloadavg()[0]:.1f}; a frame every {options.every_ms:g} ms, "
        f"{options.rounds} rounds of {options.frames} frames a variant. From a frame's moment to its decision, ms:", "",
        "| a second bundle | p50 | p95 | p99 | longest | a run of it | paired |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for variant, rounds in found.items():
        late = np.concatenate([one["late_ms"] for one in rounds])
        p50, p95, p99 = np.percentile(late, [50, 95, 99])
        share = sum(one["paired"] for one in rounds) / len(late)
        run_ms = np.median([one["run_ms"] for one in rounds])
        cells = f"{p50:.2f} | {p95:.2f} | {p99:.2f} | {late.max():.1f} | {run_ms:.1f} | {share:.0%}"
        lines.append(f"| {variant} | {cells} |")
    text = "\n".join(lines) + "\n"
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "shadow.json").write_text(json.dumps(found))
    (options.results / "shadow.md").write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
