"""A client that asks the same with ever new numbers gets its own short way; the answers must not differ by it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgewise.edge._http_head import Head
from edgewise.edge._v2 import WAITING_MAX, v2_app
from edgewise.edge._v2_models import ServedModel
from edgewise.edge._v2_pool import Threads
from edgewise.edge.serve import open_models
from edgewise.ports import OnnxRuntime, Refused, V2Client
from v2_world import echo_network, network, serving, tensor, values_of


@pytest.fixture
def served(tmp_path) -> Iterator[tuple[V2Client, Path]]:
    for kind in ("FP32", "BOOL", "BYTES", "INT64"):
        (tmp_path / f"{kind.lower()}.onnx").write_bytes(echo_network(kind))
    found = network(
        [helper.make_node("NonZero", ["x"], ["y"])],
        [tensor("x", ["N", 3])],
        [tensor("y", [2, "M"], TensorProto.INT64)],
    )
    (tmp_path / "found.onnx").write_bytes(found)
    with serving(sorted(tmp_path.iterdir())) as url, V2Client(url, timeout_s=20) as client:
        yield client, tmp_path


@pytest.mark.parametrize("kind", ["FP32", "BOOL", "BYTES", "INT64"])
def test_the_hundredth_answer_is_as_right_as_the_first(served, kind):
    client, _ = served
    draw = np.random.default_rng(4)
    for _ in range(100):
        values = values_of(kind)[:1].copy()
        values[0] = draw.permutation(values[0])
        result = client.infer(kind.lower(), {"x": values})["y"]
        seen = [text.decode() for text in result.reshape(-1)] if kind == "BYTES" else result.reshape(-1).tolist()
        assert seen == values.reshape(-1).tolist()


def test_nan_goes_through_as_bytes_every_time(served):
    client, _ = served
    for _ in range(30):
        assert np.isnan(client.infer("fp32", {"x": np.full((1, 3), np.nan, np.float32)})["y"]).all()


def test_another_shape_in_between_is_answered_in_its_own_shape(served):
    client, _ = served
    for turn in range(60):
        values = np.full((turn % 3 + 1 if turn > 30 else 1, 3), turn, np.float32)
        assert np.array_equal(client.infer("fp32", {"x": values})["y"], values)


def test_outputs_whose_shape_follows_from_the_numbers(served):
    client, _ = served
    for turn in range(60):
        values = np.zeros((1, 3), np.float32)
        values[0, : turn % 4] = 1
        assert client.infer("found", {"x": values})["y"].shape == (2, turn % 4)


def test_a_network_that_is_unloaded_or_loaded_anew_in_between(served):
    client, folder = served
    values = np.ones((1, 3), np.float32)
    for _ in range(40):
        client.infer("fp32", {"x": values})
    double = network([helper.make_node("Add", ["x", "x"], ["y"])], [tensor("x", ["N", 3])], [tensor("y", ["N", 3])])
    (folder / "fp32.onnx").write_bytes(double)
    _post(client, "/v2/repository/models/fp32/load")
    for _ in range(40):
        assert np.array_equal(client.infer("fp32", {"x": values})["y"], values * 2)
    _post(client, "/v2/repository/models/fp32/unload")
    with pytest.raises(Refused, match="is not loaded"):
        client.infer("fp32", {"x": values})


def _post(client: V2Client, path: str) -> None:
    reply = client._ask([client._head("POST", path, "Content-Length: 0\r\n")], None)
    assert reply.status == 200


def test_statistics_count_every_one_of_them(served):
    client, _ = served
    for _ in range(50):
        client.infer("int64", {"x": np.ones((1, 3), np.int64)})
    stats = client._get("/v2/models/int64/stats").body.tobytes()
    assert b'"inference_count": 50' in stats


@pytest.mark.parametrize("slow", [0.004, 0.00051])
def test_only_runs_that_are_short_in_the_middle_are_done_in_place(slow):
    model = ServedModel(OnnxRuntime().open(echo_network("FP32")))
    assert not model.is_short  # nothing is known yet
    for _ in range(3):
        model.count(0.00001)
    assert model.is_short
    model.count(0.5)  # one that was interrupted
    assert model.is_short
    for _ in range(200):
        model.count(slow)
    assert not model.is_short


def test_threads_run_jobs_in_order_and_end_with_their_owner():
    threads, done = Threads(2), []
    assert threads._threads == []
    ended = threading.Event()
    for number in range(20):
        threads.put(lambda number=number: done.append(number))
    threads.put(ended.set)
    assert ended.wait(10)
    workers = list(threads._threads)
    del threads
    gc.collect()
    assert not any(worker.is_alive() for worker in workers)
    assert sorted(done) == list(range(20))


def test_more_inferences_than_may_wait_are_told_to_come_again(served):
    client, folder = served
    protocol = v2_app(open_models([folder / "fp32.onnx"]))
    protocol._waiting = WAITING_MAX
    head = Head(b"POST /v2/models/fp32/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 2")
    assert protocol.later(head, b"{}", lambda *_: None) is False
    sent: list[dict] = []

    async def ask() -> None:
        async def receive() -> dict:
            return {"type": "http.request", "body": b"{}"}

        async def send(message: dict) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v2/models/fp32/infer", "headers": []}
        await protocol(scope, receive, send)

    asyncio.run(ask())
    assert (sent[0]["status"], b"come again" in sent[1]["body"]) == (503, True)
    assert client.ready("fp32")
