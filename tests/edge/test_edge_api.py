"""The device's local API: feedback of every kind, and that no quick way goes around what the app asks first."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest

from edgewise.edge._http_head import Head
from edgewise.edge.api import FEEDBACK_BYTES_MAX, local_api

NOW = datetime(2026, 11, 3, tzinfo=UTC)


class Desk:
    """A device that has decided on ten frames, and its API."""

    def __init__(self, fleet: Any) -> None:
        self.fleet = fleet
        self.device = fleet.device()
        fleet.assign(fleet.release(1))
        fleet.run(self.device, 3)
        fleet.feed(10)
        fleet.run(self.device, 10)
        self.app = local_api(self.device, fleet.clock, lambda: True)

    def post(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                kind = {"content-type": "application/json"} | headers
                return await http.post("/feedback", content=content, headers=kind)

        return asyncio.run(call())


@pytest.fixture
def desk(fleet) -> Desk:
    return Desk(fleet)


@pytest.mark.parametrize("verdict", ["wrong", "missed", "unknown"])
def test_each_verdict_is_taken_and_kept_with_its_frame(desk, verdict):
    reply = desk.post({"verdict": verdict, "frame": "f000003", "label": "crack", "note": "seen by hand: Größe 3 mm"})
    assert (reply.status_code, reply.json()) == (202, {"frame": "f000003", "kept": True})
    desk.fleet.run(desk.device, 20)
    (record,) = desk.fleet.stored("feedback")
    assert (record["verdict"], record["label"]) == (verdict, "crack")


def test_without_a_frame_the_newest_one_is_meant_and_null_is_nothing(desk):
    reply = desk.post({"verdict": "wrong", "frame": None, "label": None, "note": None})
    assert reply.json() == {"frame": "f000009", "kept": True}


BAD = {
    "nothing": b"",
    "no JSON": b"{",
    "another type": b"[1]",
    "a number": b"7",
    "very deep": b"[" * 16_000,
    "bytes that are no text": b'{"verdict": "\xff"}',
    "half a character": b'{"verdict": "wrong", "note": "\\ud800"}',
    "NaN": b'{"verdict": NaN}',
    "no verdict": {"frame": "f000003"},
    "a verdict that is none": {"verdict": "maybe"},
    "an empty verdict": {"verdict": ""},
    "a verdict that is a number": {"verdict": 1},
    "a verdict that is a list": {"verdict": ["wrong"]},
    "a frame that is an object": {"verdict": "wrong", "frame": {"a": 1}},
    "a field too many": {"verdict": "wrong", "priority": "high"},
    "a very long label": {"verdict": "wrong", "label": "x" * 2001},
    "a very long frame": {"verdict": "wrong", "frame": "x" * 2001},
    "too many bytes": {"verdict": "wrong", "note": "x" * FEEDBACK_BYTES_MAX},
}


@pytest.mark.parametrize("what", BAD)
def test_bad_feedback_is_a_400_in_words_and_leaves_nothing_behind(desk, what):
    reply = desk.post(BAD[what])
    assert reply.status_code == 400
    assert 10 < len(reply.json()["error"]) < 500
    desk.fleet.run(desk.device, 20)
    assert desk.fleet.stored("feedback") == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_of_a_foreign_page_is_refused(desk, kind):
    reply = desk.post({"verdict": "wrong"}, **{"content-type": kind})
    assert (reply.status_code, reply.json()["code"]) == (400, "media_type")


def test_a_foreign_host_name_is_refused(desk):
    assert desk.post({"verdict": "wrong"}, host="attacker.example:8081").status_code == 403


def request(host: str) -> tuple[Head, memoryview]:
    values = np.zeros((1, 2), np.float32).tobytes()
    item = {"name": "input", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": len(values)}}
    text = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    head = f"POST /v2/models/net1/infer HTTP/1.1\r\nHost: {host}\r\nInference-Header-Content-Length: {len(text)}"
    return Head(head.encode()), memoryview(text + values)


def test_what_is_answered_in_place_asks_the_same_as_what_is_not(desk):
    name = desk.device.updater.running.pipeline.manifest.name
    head, body = request("localhost:8081")
    foreign, _ = request("attacker.example")
    for one in (head, foreign):
        one.path = f"/v2/models/{name}/infer"
    served = desk.app._protocol._models[name]
    for _ in range(3):
        served.count(0.00001)
    assert desk.app.now(foreign, body) is None
    answer = desk.app.now(head, body)
    assert answer is not None
    assert answer[0] == 200, answer
    again = desk.app.repeat(head, body)
    raw = body[len(again.prefix) - len(head.data) - 4 :]
    assert again.answer(raw) is not None
    forbid_inference(desk.device)
    assert desk.app.now(head, body) is None
    assert again.answer(raw) is None  # also where it was allowed when the client began


def forbid_inference(device: Any) -> None:
    usecase = device.identity.usecase
    data = usecase.data.model_copy(update={"leave": ("feedback",)})
    device.identity = device.identity.model_copy(update={"usecase": usecase.model_copy(update={"data": data})})
