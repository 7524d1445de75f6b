"""`edge serve` before everything that is not of its protocol: a 4xx in words, quickly, and without growth."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import os
import random
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from edgewise.edge._v2_messages import BODY_BYTES_MAX, uncompressed
from edgewise.wire import NotValid
from v2_world import KINDS, echo_network, serving


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        (folder / f"{kind.lower()}.onnx").write_bytes(echo_network(kind))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def url(models) -> Iterator[str]:
    with serving(models) as address:
        yield address


@pytest.fixture
def http(url) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=10) as client:
        yield client


ITEM = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}


def infer_body(**changes: object) -> bytes:
    return json.dumps(
        {"inputs": [{key: value for key, value in (ITEM | changes).items() if value is not ...}]}
    ).encode()


WRONG = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "no inputs": b"{}",
    "inputs that are text": b'{"inputs": "x"}',
    "an input without a name": infer_body(name=...),
    "a name that is a list": infer_body(name=["x"]),
    "an unknown input": infer_body(name="z"),
    "the input twice": json.dumps({"inputs": [ITEM, ITEM]}).encode(),
    "an unknown output": json.dumps({"inputs": [ITEM], "outputs": [{"name": "z"}]}).encode(),
    "another type": infer_body(datatype="INT32"),
    "an unknown type": infer_body(datatype="BF17"),
    "no type": infer_body(datatype=...),
    "no shape": infer_body(shape=...),
    "another number of axes": infer_body(shape=[3]),
    "another width": infer_body(shape=[1, 4], data=[1, 2, 3, 4]),
    "fewer values than the shape says": infer_body(shape=[2, 3]),
    "a negative size": infer_body(shape=[-1, 3]),
    "a size of 2 to the 63": infer_body(shape=[2**63, 3]),
    "sizes whose product wraps around": infer_body(shape=[2**62, 4]),
    "a size that is a fraction": infer_body(shape=[1.0, 3]),
    "a size that is true": infer_body(shape=[True, 3]),
    "a million axes": infer_body(shape=[1] * 1_000_000),
    "ragged lists": infer_body(shape=[2, 3], data=[[1, 2, 3], [4, 5]]),
    "lists nested too deep": infer_body(data=[[[1, 2, 3]]]),
    "a list among numbers": infer_body(data=[1, 2, [3]]),
    "very deep lists": b'{"inputs": ' + b"[" * 100_000,
    "deep lists as data": infer_body(data="DEEP").replace(b'"DEEP"', b"[" * 900 + b"1" + b"]" * 900),
    "NaN": b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, NaN]}]}',
    "NaN where nobody looks": json.dumps({"inputs": [ITEM], "parameters": {"x": float("nan")}}).encode(),
    "infinity": b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, -Infinity]}]}',
    "a number beyond every float": infer_body(data=[1, 2, "BIG"]).replace(b'"BIG"', b"1e999"),
    "a number beyond FP32": infer_body(data=[1, 2, 1e300]),
    "an integer beyond every float": infer_body(data=[1, 2, 10**400]),
    "an integer of 10,000 digits": infer_body(data=[1, 2, "BIG"]).replace(b'"BIG"', b"9" * 10_000),
    "text": infer_body(data=["1", "2", "3"]),
    "null": infer_body(data=[1, 2, None]),
    "true": infer_body(data=[1, 2, True]),
    "data that is an object": infer_body(data={"a": 1}),
    "parameters that are a list": infer_body(parameters=[1]),
    "shared memory": infer_body(parameters={"shared_memory_region": "r"}),
    "a binary size without bytes": infer_body(data=..., parameters={"binary_data_size": 12}),
    "an id that is a number": json.dumps({"id": 7, "inputs": [ITEM]}).encode(),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_is_a_400_within_a_second(http, what):
    started = time.perf_counter()
    reply = http.post("/v2/models/fp32/infer", content=WRONG[what])
    assert time.perf_counter() - started < 1
    assert reply.status_code == 400, reply.text
    assert isinstance(reply.json()["error"], str)
    assert len(reply.content) < 1000


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("INT8", [1, 2, 128]),
        ("UINT8", [1, 2, -1]),
        ("INT32", [1, 2, 2.5]),
        ("INT64", [1, 2, 2**63]),
        ("UINT64", [1, 2, 2**64]),
        ("BOOL", [True, False, 1]),
        ("BYTES", ["a", "b", 3]),
        ("FP16", [1, 2, 70000]),
    ],
)
def test_a_value_outside_its_type_is_a_400(http, kind, data):
    reply = http.post(f"/v2/models/{kind.lower()}/infer", content=infer_body(datatype=kind, data=data))
    assert reply.status_code == 400
    assert "input 'x'" in reply.json()["error"]


def binary_request(size: object, raw: bytes, **changes: object) -> tuple[bytes, int]:
    head = infer_body(data=..., parameters={"binary_data_size": size}, **changes)
    return head + raw, len(head)


@pytest.mark.parametrize(
    ("size", "raw"),
    [
        (11, bytes(11)),
        (16, bytes(16)),
        (12, bytes(11)),
        (12, bytes(13)),
        (-1, bytes(12)),
        (2**63, bytes(12)),
        ("12", bytes(12)),
        (True, bytes(1)),
    ],
)
def test_a_wrong_number_of_bytes_is_a_400(http, size, raw):
    body, length = binary_request(size, raw)
    reply = http.post("/v2/models/fp32/infer", content=body, headers={"Inference-Header-Content-Length": str(length)})
    assert reply.status_code == 400
    assert "bytes" in reply.json()["error"] or "binary_data_size" in reply.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999", "9" * 30, ""])
def test_a_wrong_header_length_is_a_400(http, length):
    body, _ = binary_request(12, bytes(12))
    reply = http.post("/v2/models/fp32/infer", content=body, headers={"Inference-Header-Content-Length": length})
    assert reply.status_code == 400


@pytest.mark.parametrize(
    "raw", [b"", b"\1\0\0\0", b"\xff\xff\xff\xffabc", b"\1\0\0\0a" * 2, b"\1\0\0\0a" * 4, b"\1\0\0\0\xff" * 3]
)
def test_damaged_texts_are_a_400(http, raw):
    body, length = binary_request(len(raw), raw, datatype="BYTES")
    reply = http.post("/v2/models/bytes/infer", content=body, headers={"Inference-Header-Content-Length": str(length)})
    assert reply.status_code == 400


@pytest.mark.parametrize(
    ("coding", "body"),
    [("gzip", b"no gzip"), ("gzip", gzip.compress(infer_body(), mtime=0)[:-9]), ("br", b"x"), ("deflate", b"")],
)
def test_a_damaged_packed_body_is_a_400(http, coding, body):
    reply = http.post("/v2/models/fp32/infer", content=body, headers={"Content-Encoding": coding})
    assert reply.status_code == 400


def test_a_packed_bomb_is_refused_before_it_is_unpacked(http):
    body = gzip.compress(bytes(300_000_000), 9)
    reply = http.post("/v2/models/fp32/infer", content=body, headers={"Content-Encoding": "gzip"})
    assert reply.status_code == 413
    tracemalloc.start()
    with pytest.raises(NotValid, match="once unpacked"):
        uncompressed(body, "gzip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * BODY_BYTES_MAX  # bounded by what is taken, not by what was sent


def test_a_body_that_is_too_long_is_refused_by_its_length(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(b"POST /v2/models/fp32/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{")
        assert raw.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ["/v2/nothing", "/v2/models", "/v2/models/fp32/nothing", "/nothing", "/", "/v2x"])
def test_an_unknown_path_is_a_404_in_the_protocols_words(http, path):
    reply = http.get(path)
    assert reply.status_code == 404
    assert isinstance(reply.json()["error"], str)


# Mutations

STARTER = "import sys; from pathlib import Path; from edgewise.edge.serve import serve; "
STARTER += "serve([Path(path) for path in sys.argv[1:]], http_port=0)"
HOSTILE = (
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63,
    10**40,
    "",
    "x",
    [],
    {},
    [[1], 2],
    {"a": 1},
    "FP16",
    [1] * 40,
    "\u0000",
)
NAMES = ("name", "shape", "datatype", "data", "parameters", "binary_data_size", "id", "outputs", "inputs")


class Mutator:
    """Infer requests with something wrong in them, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def request(self) -> tuple[str, bytes, dict[str, str]]:
        """The name of a network, a body and headers."""
        draw = self._draw
        kind = draw.choice(list(KINDS))
        binary = draw.random() < 0.5
        item = {"name": "x", "shape": [1, 3], "datatype": kind, "data": [1, 2, 3]}
        raw = b""
        if binary:
            del item["data"]
            raw = draw.randbytes(3 * draw.choice([1, 2, 4, 4, 8]))
            item["parameters"] = {"binary_data_size": len(raw)}
        about = {"id": "7", "inputs": [item], "outputs": [{"name": "y", "parameters": {"binary_data": binary}}]}
        for _ in range(draw.randint(0, 3)):
            self._change(about)
        head = json.dumps(about).encode()
        length = str(len(head)) if binary else None
        if draw.random() < 0.3 and length is not None:
            length = draw.choice(["-1", "0", "7", str(len(head) + 1), "9" * 20, "x", ""])
        body = self._noise(head + raw)
        headers = {} if length is None else {"Inference-Header-Content-Length": length}
        if draw.random() < 0.1:
            headers["Content-Encoding"] = draw.choice(["gzip", "deflate", "br", "identity"])
            body = gzip.compress(body, 1, mtime=0)[: draw.randint(0, 400)] if draw.random() < 0.7 else body
        return kind.lower() if draw.random() < 0.95 else "nobody", body, headers

    def _change(self, about: dict[str, object]) -> None:
        """Put something hostile somewhere into the JSON."""
        draw = self._draw
        place: object = about
        while draw.random() < 0.7 and isinstance(place, dict | list) and place:
            inner = place[draw.choice(list(place))] if isinstance(place, dict) else draw.choice(place)
            if not isinstance(inner, dict | list) or not inner:
                break
            place = inner
        if isinstance(place, dict):
            place[draw.choice(NAMES)] = copy.deepcopy(draw.choice(HOSTILE))
        elif isinstance(place, list):
            place[draw.randrange(len(place))] = copy.deepcopy(draw.choice(HOSTILE))

    def _noise(self, body: bytes) -> bytes:
        draw = self._draw
        if draw.random() < 0.5 or not body:
            return body
        changed = bytearray(body)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(changed))
            match draw.randrange(4):
                case 0:
                    changed[at] = draw.randrange(256)
                case 1:
                    del changed[at : at + draw.randint(1, 20)]
                case 2:
                    changed[at:at] = draw.randbytes(draw.randint(1, 20))
                case 3:
                    changed[at:at] = changed[: draw.randint(1, 60)]
            changed = changed or bytearray(b"x")
        return bytes(changed)


def resident_mb(process: subprocess.Popen) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the server has ended")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("count", [1500, pytest.param(100_000, marks=pytest.mark.campaign)])
def test_mutated_requests_never_make_the_server_fail_or_grow(models, count):
    stack = contextlib.ExitStack()
    server = subprocess.Popen(
        [sys.executable, "-c", STARTER, *map(str, models)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    )
    try:
        assert server.stdout is not None
        host = server.stdout.readline().split()[2].removeprefix("http://")
        mutator, seen, grown = Mutator(seed=count), dict.fromkeys((200, 400, 404, 413), 0), 0.0
        connection = stack.enter_context(contextlib.closing(HTTPConnection(host, timeout=10)))
        for number in range(count):
            name, body, headers = mutator.request()
            started = time.perf_counter()
            connection.request("POST", f"/v2/models/{name}/infer", body, headers)
            reply = connection.getresponse()
            text = reply.read()
            assert time.perf_counter() - started < 5  # one second is the promise; the machine of a test may be busy
            assert reply.status in seen, (reply.status, text[:300], body[:300], headers)
            if reply.status >= 400:
                assert isinstance(json.loads(text)["error"], str)
            seen[reply.status] += 1
            if number == count // 3:
                grown = -resident_mb(server)
        grown += resident_mb(server)
        assert grown < 8, f"{grown} MB more after {count} requests"
        assert min(seen[200], seen[400], seen[404]) > count / 100, seen
    finally:
        stack.close()
        server.terminate()
        server.wait(20)
        assert server.stdout is not None
        server.stdout.close()
