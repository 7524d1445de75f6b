"""How the agent runs networks: settings, hot swaps without a lost frame, workers that fail."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from edgewise.edge.agent import load_config
from edgewise.edge.runtime import TUNED_FILE, RuntimeConfig, Tuned, open_runtime, runtime_status, with_tuned
from edgewise.frames import golden_inputs
from edgewise.ports import (
    MemoryRuntime,
    Session,
    WorkerLimits,
    WorkerRuntime,
    WorkerSession,
    can_isolate,
    open_pipeline,
)
from edgewise.ports._batch import BatchedSession
from edgewise.wire import ImageSpec, NotValid, encode
from networks import onnx_model, picture_network

FOUND = Tuned(threads=4, spinning=False, providers=("auto",), isolate="never", batch_max=8, why="it was measured")


# Settings


def test_the_settings_come_from_the_file_and_the_environment_wins(tmp_path, monkeypatch):
    (tmp_path / "edge.yaml").write_text("runtime:\n  threads: 2\n  isolate: always\n  memory_mb_max: 300\n")
    config = load_config(tmp_path).runtime
    assert (config.threads, config.isolate, config.memory_mb_max, config.spinning) == (2, "always", 300, False)
    monkeypatch.setenv("EDGEWISE_EDGE_RUNTIME", "{threads: 3}")
    assert load_config(tmp_path).runtime.threads == 3


@pytest.mark.parametrize(
    "wrong", ["{treads: 2}", "{threads: 0}", "{providers: [gpu]}", "{providers: []}", "{isolate: sometimes}", "2"]
)
def test_a_setting_that_cannot_be_is_named(tmp_path, wrong):
    (tmp_path / "edge.yaml").write_text(f"runtime: {wrong}\n")
    with pytest.raises(NotValid, match="runtime"):
        load_config(tmp_path)


def test_what_a_person_wrote_wins_over_what_was_measured_and_that_over_defaults():
    assert with_tuned(RuntimeConfig(), None) == RuntimeConfig()
    config = with_tuned(RuntimeConfig(threads=1, isolate="auto"), FOUND)
    assert (config.threads, config.isolate, config.providers, config.batch_max) == (1, "auto", ("auto",), 8)


def test_an_agent_reads_what_tuning_found_and_starts_without_it(tmp_path, capsys):
    assert runtime_status(open_runtime(RuntimeConfig(), tmp_path))["threads"] == 1
    (tmp_path / TUNED_FILE).write_bytes(encode(FOUND))
    assert runtime_status(open_runtime(RuntimeConfig(), tmp_path))["threads"] == 4
    (tmp_path / TUNED_FILE).write_text("{")
    assert runtime_status(open_runtime(RuntimeConfig(), tmp_path))["threads"] == 1
    assert "edge tune" in capsys.readouterr().err


def test_isolation_that_this_system_has_not_is_refused(monkeypatch):
    monkeypatch.delattr(os, "eventfd", raising=False)  # as on a system other than Linux
    assert not can_isolate()
    with pytest.raises(NotValid, match="Linux") as caught:
        open_runtime(RuntimeConfig(isolate="always"))
    assert caught.value.code == "no_isolation"
    assert open_runtime(RuntimeConfig(), trusted=False).open(picture_network()) is not None


# Micro-batching


def test_requests_that_come_together_run_as_one_and_each_gets_its_own_rows():
    session = open_runtime(RuntimeConfig(batch_max=4, wait_ms_max=50)).open(picture_network())
    assert isinstance(session, BatchedSession)
    rows = golden_inputs(ImageSpec(width=12, height=10, per_image=True), 1, 8)
    alone = [open_runtime(RuntimeConfig()).open(picture_network()).run(row[None])["scores"] for row in rows]
    for _ in range(5):
        seen = together(session, list(rows))
        assert all(np.allclose(seen[index], alone[index], atol=1e-5) for index in range(8))
    assert session.batches > 0


def test_what_a_device_decides_is_never_batched():
    session = open_runtime(RuntimeConfig(batch_max=4)).open(picture_network())
    bound = session.bind((1, 1, 10, 12))
    bound.run()
    assert isinstance(session, BatchedSession)
    assert session.batches == 0


def test_an_error_in_a_batch_reaches_everybody_in_it():
    session = open_runtime(RuntimeConfig(batch_max=4, wait_ms_max=200)).open(picture_network())
    errors = together(session, [np.zeros((1, 9, 9), np.float32)] * 4)
    assert [getattr(error, "code", error) for error in errors] == ["run_failed"] * 4


def together(session, rows):
    """The scores that each of as many threads gets for its row, or what it raised."""
    start, seen = threading.Barrier(len(rows)), [None] * len(rows)

    def ask(index):
        start.wait(10)
        try:
            seen[index] = session.run_named({"input": rows[index][None]}, ["scores"])["scores"]
        except NotValid as error:
            seen[index] = error

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return seen


# Hot swap


class SlowRuntime(MemoryRuntime):
    """Takes as long to open a network as 20 frames take, as a worker does."""

    def __init__(self, fleet):
        self._fleet = fleet

    def open(self, model, *, threads=None):
        fed, end = self._fleet.fed, time.monotonic() + 10
        while self._fleet.fed < fed + 20 and time.monotonic() < end:
            time.sleep(0.001)
        return super().open(model, threads=threads)


def test_a_swap_while_frames_stream_gives_every_frame_exactly_one_decision(fleet):
    """The decision loop turns in one thread, updates are staged, tried and committed in another, as in the agent."""
    acted: list[tuple[str, str]] = []
    device = fleet.device(act=lambda frame, decision: acted.append((frame.name, decision.release)))
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    device.updater._slots._runtime = SlowRuntime(fleet)
    stop, releases = threading.Event(), []

    def update() -> None:
        for seed in range(2, 4):
            release = fleet.release(seed)
            fleet.assign(release)
            for _ in range(200):
                fleet.clock.advance(100)
                device.contact_step(fleet.clock.now())
                device.update_step(fleet.clock.now())
                if device.updater.running.release == release.id:
                    break
            releases.append(release.id)
        stop.set()

    talk = threading.Thread(target=update)
    talk.start()
    end = time.monotonic() + 60
    while not stop.is_set() and time.monotonic() < end:
        fleet.feed(1)
        assert device.decide_step(fleet.clock.now()) is not None, "a frame was left undecided"
        if fleet.fed % 50 == 0:
            device.record_step(fleet.clock.now())
        time.sleep(0.0005)  # a camera's pace, so that the other thread has its turn as well
    talk.join(10)
    assert stop.is_set()
    fleet.feed(1)
    assert device.decide_step(fleet.clock.now()) is not None
    counts = Counter(name for name, _ in acted)
    assert len(counts) == fleet.fed
    assert set(counts.values()) == {1}
    assert {release for _, release in acted} >= set(releases[-2:]), "frames streamed through the swaps"
    assert device.updater.running.release == releases[-1]


# Workers in the agent


def rows_network(bias: float = 0.0) -> bytes:
    """Two numbers in, three scores and an embedding out: what the bench's bundles declare."""
    from onnx import helper

    weights = np.random.default_rng(1).standard_normal((2, 8)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["input", "w1"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "w2"], ["raw"]),
        helper.make_node("Add", ["raw", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    value = helper.make_tensor_value_info
    return onnx_model(
        nodes,
        [value("input", 1, ["N", 2])],
        [value("scores", 1, ["N", 3]), value("embedding", 1, ["N", 8])],
        {"w1": weights, "w2": weights.T[:, [0, 1, 0]].copy(), "b": np.array([bias, 0, 0], np.float32)},
    )


class RowsRuntime(WorkerRuntime):
    """Opens one network whatever the bundle holds: the bench's bundles are made of numbers, not of ONNX."""

    def open(self, model: bytes, *, threads: int | None = None) -> Session:
        del model
        return super().open(rows_network(), threads=threads)


def isolated(fleet, restarts_per_minute_max):
    """A device whose bundle runs in a worker, and that worker's session."""
    release, device = fleet.release(1), fleet.device()
    fleet.assign(release)
    fleet.run(device, 3)
    running = device.updater.running
    runtime = RowsRuntime(limits=WorkerLimits(run_ms_max=300, restarts_per_minute_max=restarts_per_minute_max))
    pipeline = open_pipeline(running.pipeline.manifest, running.bundle, fleet.hub.blobs.__getitem__, runtime)
    device.updater.installed.running = replace(running, pipeline=pipeline)
    assert isinstance(pipeline.session, WorkerSession)
    return device, pipeline.session


def test_a_worker_that_hangs_costs_one_decision_and_the_agent_goes_on(fleet):
    device, session = isolated(fleet, restarts_per_minute_max=3)
    fleet.feed(30)
    made = [device.decide_step(fleet.clock.now()) for _ in range(5)]
    os.kill(session.pid, signal.SIGSTOP)
    made += [device.decide_step(fleet.clock.now()) for _ in range(10)]
    assert [index for index, decision in enumerate(made) if decision is None] == [5]
    assert device.updater.watch.complaint() is None


def test_a_worker_that_fails_every_time_is_a_complaint_of_the_guard(fleet):
    device, session = isolated(fleet, restarts_per_minute_max=0)
    fleet.feed(30)
    os.kill(session.pid, signal.SIGSTOP)
    assert [device.decide_step(fleet.clock.now()) for _ in range(8)] == [None] * 8
    assert "in a row failed" in device.updater.watch.complaint().text
