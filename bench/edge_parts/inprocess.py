"""The decision loop in this process beside a bare loop: what deciding, keeping, counting and recording add."""

from __future__ import annotations

import io
import mmap
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from edge_parts.models import example
from PIL import Image

from edgewise.edge import Outbox
from edgewise.edge._decider import Decider, LoopLimits
from edgewise.edge._keeper import Keeper
from edgewise.edge._slots import Running
from edgewise.edge._watch import Watch
from edgewise.edge.ring import KEY_BYTES, Ring
from edgewise.frames import SERIES_TYPE, golden_inputs, series_bytes
from edgewise.ports import Frame, OnnxRuntime, Pipeline, Runtime, SystemChance, SystemClock, open_pipeline
from edgewise.wire import Blob, Golden, Graph, ImageSpec, Manifest, Needs, Provenance, SeriesSpec, UseCase, digest

# Between two looks of the thread that records: with more frames the loop would take the disk for stuck, and measuring
# that would be measuring something else. The first ones after a look find the caches full of the recorder's data.
FRAMES_MAX, WARM = 160, 32
RECORD = struct.Struct("<dIf")  # time, label, score: 16 bytes


def bare_session(file: Path) -> Any:
    """ONNX Runtime alone: one thread, no spinning."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def bare(file: Path, name: str) -> Callable[[], object]:
    """`InferenceSession.run` in a loop: what every ratio refers to."""
    session, feed = bare_session(file), {"input": example(name)}
    return lambda: session.run(None, feed)


def copy_run_record(file: Path, name: str) -> Callable[[], object]:
    """Copy the input into a buffer, run, take the best class, write a record of 16 bytes: the least that decides."""
    bound = OnnxRuntime().open(file.read_bytes()).bind(example(name).shape)
    source, record, clock = example(name), mmap.mmap(-1, 1 << 16), SystemClock()
    at = 0

    def step() -> None:
        nonlocal at
        bound.input[...] = source
        scores = bound.run()["scores"][0]
        best = int(scores.argmax())
        RECORD.pack_into(record, at, clock.monotonic_s(), best, scores[best])
        at = (at + RECORD.size) % (1 << 16)

    return step


def manifest_of(file: Path, name: str) -> Manifest:
    """A bundle's manifest around one of the benchmark's networks."""
    data = file.read_bytes()
    pre: ImageSpec | SeriesSpec = ImageSpec(width=224, height=224, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    if name == "small":
        pre = SeriesSpec(columns=("x", "y", "z"), length=256, mean=(0.0,) * 3, std=(1.0,) * 3)
    classes = example_classes(file, name)
    return Manifest(
        name=name, task="series-classification" if name == "small" else "image-classification",
        graphs=(Graph(blob="main.onnx", input="input", scores="scores", pre=pre),),
        labels=tuple(f"c{index}" for index in range(classes)),
        golden=Golden(seed=1, count=1, scores=((0.0,) * classes,)), needs=Needs(opset=17, ram_mb=64, latency_ms=1),
        provenance=Provenance(trained_at=datetime(2026, 1, 1, tzinfo=UTC), trainer="bench", code_version="bench"),
        blobs={"main.onnx": Blob(sha256=digest(data), size_bytes=len(data))},
    )  # fmt: skip


def example_classes(file: Path, name: str) -> int:
    return int(bare_session(file).run(None, {"input": example(name)})[0].shape[1])


def pipeline_of(file: Path, name: str, runtime: Runtime | None = None) -> Pipeline:
    """The bundle's pipeline, as a device opens it."""
    data = file.read_bytes()
    return open_pipeline(manifest_of(file, name), "0" * 64, lambda _: data, runtime or OnnxRuntime())


def frame_of(name: str, number: int) -> Frame:
    """A window for the small network, an uncompressed picture for the other."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    if name == "small":
        return Frame(name=f"f{number:09d}", data=series_bytes(example(name)[0]), media_type=SERIES_TYPE, taken_at=now)
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    return Frame(name=f"f{number:09d}", data=file.getvalue(), media_type="image/bmp", taken_at=now)


@dataclass
class Endless:
    """The same frame again and again, under new names."""

    like: Frame
    number: int = 0
    skipped: int = 0
    last_skip: str = ""
    names: list[str] = field(default_factory=list)

    def next(self) -> Frame:
        self.number += 1
        like = self.like
        return Frame(name=f"f{self.number:09d}", data=like.data, media_type=like.media_type, taken_at=like.taken_at)

    def close(self) -> None:
        return None


def use_case() -> UseCase:
    return UseCase.model_validate(
        {
            "name": "bench", "app": "bench", "outcome": {"goal": "measure", "labels": ["c0", "c1"]},
            "people": {"owner": "a", "approver": "b", "oversight": "c"}, "sites": [{"name": "here"}],
            "data": {"data_class": "measurement"},
        }
    )  # fmt: skip


class Loop:
    """The device's own decider and keeper over one bundle: everything on, only the hub is not there."""

    def __init__(self, file: Path, name: str, folder: Path, runtime: Runtime | None = None) -> None:
        pipeline, chance = pipeline_of(file, name, runtime), SystemChance()
        running = Running(slot="a", release=f"{name}@1", bundle="0" * 64, pipeline=pipeline)
        holder: Any = SimpleNamespace(running=running, shadow=None, second=None, watch=Watch(), rollout=None)
        usecase = use_case()
        self.clock = SystemClock()
        self.ring = Ring(bytes_max=64_000_000, key=chance.bytes(KEY_BYTES))
        self.outbox = Outbox(folder, chance=chance)
        self.keeper = Keeper(self.outbox, ring=self.ring, chance=chance, device="bench", site="here", use_case=usecase)
        self.decider = Decider(
            Endless(frame_of(name, 0)), holder, self.ring, clock=self.clock, upload=usecase.upload, limits=LoopLimits()
        )

    def step(self) -> None:
        if self.decider.step(self.clock.now()) is None:
            raise SystemExit("the loop did not decide")

    def record(self) -> None:
        """What the second thread of a device does; outside the timed part."""
        self.keeper.record([self.decider], self.clock.now())


def run_variant(file: Path, name: str, variant: str) -> None:
    """In a process of its own: count lines come in on stdin, `latencies` go out on stdout (see `edge.py`)."""
    import json
    import time

    from edge_parts.measure import timed

    recorder: Callable[[], None] = lambda: None  # noqa: E731
    with tempfile.TemporaryDirectory() as folder:
        if variant == "bare":
            step = bare(file, name)
        elif variant == "copy-run-record":
            step = copy_run_record(file, name)
        elif variant == "worker":
            step = _worker_step(file, name)
        else:
            loop = Loop(file, name, Path(folder) / "outbox")
            step, recorder = loop.step, loop.record
        golden_inputs(manifest_of(file, name).graphs[0].pre, 1, 1)
        timed(step, 50)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for line in sys.stdin:
            found: list[int] = []
            spent = 0
            while left := int(line) - len(found):
                recorder()
                timed(step, WARM)
                began = time.process_time_ns()
                found += timed(step, min(left, FRAMES_MAX))
                spent += time.process_time_ns() - began
            sys.stdout.write(json.dumps([found, spent]) + "\n")
            sys.stdout.flush()


def _worker_step(file: Path, name: str) -> Callable[[], object]:
    from edgewise.ports import WorkerRuntime

    bound = WorkerRuntime().open(file.read_bytes()).bind(example(name).shape)
    source = example(name)

    def step() -> object:
        bound.input[...] = source
        return bound.run()

    return step


if __name__ == "__main__":
    run_variant(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
