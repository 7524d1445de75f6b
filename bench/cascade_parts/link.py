"""Decision latencies of the device's own loop while the way to the large bundle is up, cut, stalled or slow."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from cascade_parts.digits import Split
from onnx import TensorProto, helper

from edgewise.edge import Outbox
from edgewise.edge._cascade import Cascade
from edgewise.edge._decider import Decider, LoopLimits
from edgewise.edge._keeper import Keeper
from edgewise.edge._slots import Running
from edgewise.edge._watch import Watch
from edgewise.edge.ring import KEY_BYTES, Ring
from edgewise.frames import golden_inputs
from edgewise.ports import (
    Frame,
    ListSource,
    OnnxRuntime,
    SystemChance,
    SystemClock,
    V2Large,
    open_pipeline,
    write_bundle,
)
from edgewise.sim import FaultProxy, Weather
from edgewise.wire import Blob, Golden, Graph, Manifest, Needs, Provenance, TableSpec, UseCase, digest, encode

COLUMNS = tuple(f"p{index}" for index in range(64))
SPEC = TableSpec(columns=COLUMNS, fill=(0.0,) * 64, mean=(0.0,) * 64, std=(1.0,) * 64)
LABELS = tuple(str(digit) for digit in range(10))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WEATHERS = {
    "up": Weather(),
    "cut": Weather(up=False),
    "stalled (5 s)": Weather(delay_s=5.0),
    "slow (2 kB/s)": Weather(bytes_per_s=2000.0),
}


def network(layers: list[tuple[Any, Any]]) -> bytes:
    """Dense layers with a rectifier between them and a softmax at the end."""
    nodes, held, name = [], [], "input"
    for at, (weights, bias) in enumerate(layers):
        weights = np.asarray(weights, np.float32)
        held += [helper.make_tensor(f"w{at}", TensorProto.FLOAT, weights.shape, weights.ravel().tolist())]
        held += [helper.make_tensor(f"b{at}", TensorProto.FLOAT, (len(bias),), np.asarray(bias, np.float32).tolist())]
        nodes += [helper.make_node("Gemm", [name, f"w{at}", f"b{at}"], [f"z{at}"])]
        last = at == len(layers) - 1
        name = "scores" if last else f"a{at}"
        nodes.append(
            helper.make_node("Softmax" if last else "Relu", [f"z{at}"], [name], **({"axis": 1} if last else {}))
        )
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "digits",
        [info("input", TensorProto.FLOAT, ["n", 64])],
        [info("scores", TensorProto.FLOAT, ["n", 10])],
        held,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def networks(made: Split) -> tuple[bytes, bytes]:
    """The little one, whose pooling is its first factor, and the big one."""
    pool = np.zeros((64, 16))
    for pixel in range(64):
        row, column = divmod(pixel, 8)
        pool[pixel, row // 2 * 4 + column // 2] = 0.25
    small = [(pool @ made.little.coef_.T, made.little.intercept_)]
    return network(small), network(list(zip(made.big.coefs_, made.big.intercepts_, strict=True)))


def manifest_of(name: str, data: bytes) -> Manifest:
    scores = OnnxRuntime().open(data).run(golden_inputs(SPEC, 1, 4))["scores"]
    return Manifest(
        name=name, task="tabular-classification", labels=LABELS,
        graphs=(Graph(blob="net", input="input", scores="scores", pre=SPEC),),
        golden=Golden(seed=1, count=4, scores=tuple(tuple(float(value) for value in row) for row in scores)),
        needs=Needs(opset=17, ram_mb=20, latency_ms=1),
        provenance=Provenance(trained_at=NOW, trainer="bench", code_version="bench"),
        blobs={"net": Blob(sha256=digest(data), size_bytes=len(data))},
    )  # fmt: skip


@contextlib.contextmanager
def served(folder: Path) -> Iterator[int]:
    """The port of an `edge serve` process with the bundle in this folder."""
    command = [sys.executable, "-u", "-m", "edgewise", "edge", "serve", str(folder), "--http-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        match = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match, "edge serve did not start"
        try:
            yield int(match[1])
        finally:
            process.terminate()


def use_case(port: int, share_max: float) -> UseCase:
    cascade = {
        "url": f"http://127.0.0.1:{port}", "bundle": "big", "margin_max": 1.0, "share_max": share_max,
        "latency_ms_max": 500, "bytes_per_day": 10**9,
    }  # fmt: skip
    return UseCase.model_validate(
        {
            "name": "digits", "app": "bench", "outcome": {"goal": "measure", "labels": LABELS},
            "people": {"owner": "a", "approver": "b", "oversight": "c"}, "sites": [{"name": "here"}],
            "data": {"data_class": "measurement", "transforms": [], "leave": ["sample", "telemetry", "deferral"]},
            "placement": {"mode": "cascade", "cascade": cascade},
        }
    )  # fmt: skip


class Loop:
    """The device's decider, keeper and cascade over the little bundle, each in its own thread; no hub."""

    def __init__(self, small: bytes, usecase: UseCase, folder: Path, *, cascade: bool) -> None:
        manifest, chance = manifest_of("little", small), SystemChance()
        pipeline = open_pipeline(manifest, digest(encode(manifest)), lambda _: small, OnnxRuntime())
        running = Running(slot="a", release="little@1", bundle=pipeline.bundle, pipeline=pipeline)
        holder: Any = SimpleNamespace(running=running, shadow=None, second=None, watch=Watch(), rollout=None)
        self.clock, self.source, self.stop = SystemClock(), ListSource(), threading.Event()
        ring = Ring(bytes_max=64_000_000, key=chance.bytes(KEY_BYTES))
        outbox = Outbox(folder, chance=chance)
        self.keeper = Keeper(outbox, ring=ring, chance=chance, device="bench", site="here", use_case=usecase)
        terms = usecase.placement.cascade
        self.cascade = None
        if cascade and terms is not None:
            large = V2Large(terms.url, terms.bundle)
            self.cascade = Cascade(terms, policy=usecase.data, large=large, ring=ring, clock=self.clock)
        self.keeper.cascade = self.cascade
        self.decider = Decider(
            self.source, holder, ring, clock=self.clock, upload=usecase.upload, limits=LoopLimits(),
            defer=self.cascade.offer if self.cascade else None,
        )  # fmt: skip

    def run(self, rows: list[bytes], count: int, every_s: float) -> dict[str, Any]:
        """Latencies of this many decisions, one every so many seconds."""
        threads = [threading.Thread(target=self._record)]
        threads += [threading.Thread(target=self._defer)] if self.cascade else []
        for thread in threads:
            thread.start()
        laps_ms = [self._one(rows[number % len(rows)], number, every_s) for number in range(count)]
        self.stop.set()
        for thread in threads:
            thread.join()
        found = np.sort(laps_ms)
        return {
            "decisions": self.decider.decided,
            "p50_ms": round(float(found[count // 2]), 3),
            "p99_ms": round(float(found[int(count * 0.99)]), 3),
            "longest_ms": round(float(found[-1]), 2),
            **(self.cascade.totals() if self.cascade else {}),
        }

    def _one(self, row: bytes, number: int, every_s: float) -> float:
        time.sleep(every_s)
        self.source.add(Frame(name=f"f{number:06d}", data=row, media_type="application/json", taken_at=NOW))
        began = time.perf_counter()
        made = self.decider.step(self.clock.now())
        took_ms = (time.perf_counter() - began) * 1000
        assert made is not None, "a frame without a decision"
        return took_ms

    def _record(self) -> None:
        while not self.stop.wait(0.05):
            self.keeper.record([self.decider], self.clock.now())

    def _defer(self) -> None:
        while not self.stop.is_set():
            assert self.cascade is not None
            self.cascade.step(0.2)


def measure(made: Split, folder: Path, *, share_max: float, count: int, every_s: float) -> dict[str, dict[str, Any]]:
    """Latencies without a cascade, and with one under each weather."""
    small, large = networks(made)
    manifest = manifest_of("big", large)
    write_bundle(folder / "big", encode(manifest), {digest(large): large})
    rows = [
        json.dumps(dict(zip(COLUMNS, map(float, digit), strict=True))).encode() for digit in np.round(made.pixels, 4)
    ]
    found = {}
    with served(folder / "big") as port, FaultProxy(("127.0.0.1", port)) as proxy:
        usecase = use_case(proxy.port, share_max)
        alone = Loop(small, usecase, folder / "alone", cascade=False)
        found["no cascade"] = alone.run(rows, count, every_s)
        for at, (name, weather) in enumerate(WEATHERS.items()):
            proxy.weather = weather
            loop = Loop(small, usecase, folder / f"loop{at}", cascade=True)
            found[name] = loop.run(rows, count, every_s)
    return found
