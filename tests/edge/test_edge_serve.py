"""`edge serve` before the public client of its protocol, and before everything that is not of its protocol."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import uvicorn
from onnx import helper
from PIL import Image
from tritonclient.utils import InferenceServerException

from edgewise.edge._v2_messages import BODY_BYTES_MAX, uncompressed
from edgewise.edge.serve import open_models, run_app, serve_app
from edgewise.frames import golden_inputs, prepare
from edgewise.ports import OnnxRuntime, listen, open_pipeline, read_bundle, write_bundle
from edgewise.wire import (
    Blob,
    Decision,
    Golden,
    Graph,
    ImageSpec,
    Manifest,
    Needs,
    NotNow,
    NotTrusted,
    NotValid,
    Provenance,
    TableSpec,
    decode,
    digest,
)
from v2_world import KINDS, echo_network, network, tensor, values_of

SPEC = ImageSpec(width=12, height=10, per_image=True)
ROWS = TableSpec(columns=("load", "heat"), fill=(0.0, 0.0), mean=(0.0, 0.0), std=(1.0, 1.0))


def softmax(shape: list) -> bytes:
    return network(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("Slice", ["flat", "from", "to", "axis"], ["two"]),
            helper.make_node("Softmax", ["two"], ["scores"], axis=1),
        ],
        [tensor("input", shape)],
        [tensor("scores", ["N", 2])],
        {"from": 0, "to": 2, "axis": 1},
    )


def write_demo_bundle(folder: Path, name: str, spec: ImageSpec | TableSpec, shape: list) -> str:
    model = softmax(shape)
    scores = OnnxRuntime().open(model).run(golden_inputs(spec, 1, 2))["scores"]
    manifest = Manifest(
        name=name,
        task="image-classification" if isinstance(spec, ImageSpec) else "tabular-classification",
        graphs=(Graph(blob="main", input="input", scores="scores", pre=spec),),
        labels=("none", "crack"),
        good_label="none",
        golden=Golden(seed=1, count=2, scores=tuple(tuple(float(value) for value in row) for row in scores)),
        needs=Needs(opset=17, ram_mb=10, latency_ms=1),
        provenance=Provenance(trained_at=datetime(2026, 1, 1, tzinfo=UTC), trainer="test", code_version="1"),
        blobs={"main": Blob(sha256=digest(model), size_bytes=len(model))},
    )
    return write_bundle(folder, manifest, {digest(model): model})


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        (folder / f"{kind.lower()}.onnx").write_bytes(echo_network(kind))
    log = network([helper.make_node("Log", ["x"], ["y"])], [tensor("x", [3])], [tensor("y", [3])])
    (folder / "log.onnx").write_bytes(log)
    add = network(
        [helper.make_node("Add", ["a", "b"], ["sum"])], [tensor("a", [2]), tensor("b", [2])], [tensor("sum", [2])]
    )
    (folder / "add.onnx").write_bytes(add)
    write_demo_bundle(folder / "pictures", "surface", SPEC, ["N", 1, 10, 12])
    write_demo_bundle(folder / "rows", "bearing", ROWS, ["N", 2])
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def url(models) -> Iterator[str]:
    servers: Queue[uvicorn.Server] = Queue()
    ready = threading.Event()
    with listen("127.0.0.1", 0) as listener:
        app = serve_app(open_models(models))
        thread = threading.Thread(
            target=run_app, args=(app, listener), kwargs={"on_ready": ready.set, "on_server": servers.put}
        )
        thread.start()
        assert ready.wait(20)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        servers.get().should_exit = True
        thread.join()


@pytest.fixture
def client(url) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    yield client
    client.close()


@pytest.fixture
def http(url) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=10) as client:
        yield client


def ask(client: triton.InferenceServerClient, kind: str, *, binary_in: bool, binary_out: bool, **options: object):
    values = values_of(kind)
    given = triton.InferInput("x", list(values.shape), kind)
    given.set_data_from_numpy(values, binary_data=binary_in)
    wanted = triton.InferRequestedOutput("y", binary_data=binary_out)
    return client.infer(kind.lower(), [given], outputs=[wanted], **options)


# The protocol, seen by its public client


# The client itself refuses FP16 as JSON; the next test asks by hand.
WAYS = [
    (kind, binary_in, binary_out)
    for kind in KINDS
    for binary_in in (True, False)
    for binary_out in (True, False)
    if kind != "FP16" or (binary_in and binary_out)
]


@pytest.mark.parametrize(("kind", "binary_in", "binary_out"), WAYS)
def test_every_type_goes_in_and_comes_out_as_json_and_as_bytes(client, kind, binary_in, binary_out):
    result = ask(client, kind, binary_in=binary_in, binary_out=binary_out).as_numpy("y")
    wanted = values_of(kind)
    if kind == "BYTES":
        seen = [value.decode() if isinstance(value, bytes) else value for value in result.reshape(-1)]
        assert seen == wanted.reshape(-1).tolist()
    else:
        assert result.dtype == wanted.dtype
        assert np.array_equal(result, wanted)


def test_half_precision_is_also_read_and_written_as_json(http):
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP16", "data": [0.5, 1, 65504]}]}
    reply = http.post("/v2/models/fp16/infer", json=body).json()
    assert reply["outputs"] == [{"name": "y", "datatype": "FP16", "shape": [1, 3], "data": [0.5, 1, 65504]}]


def test_the_clients_defaults_work_and_the_request_id_comes_back(client):
    values = values_of("FP32")
    given = triton.InferInput("x", list(values.shape), "FP32")
    given.set_data_from_numpy(values)
    result = client.infer("fp32", [given], request_id="request 7")
    assert np.array_equal(result.as_numpy("y"), values)
    assert result.get_response()["id"] == "request 7"
    assert result.get_response()["model_version"] == "1"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bodies_may_be_packed_both_ways(client, coding):
    result = ask(
        client,
        "INT64",
        binary_in=True,
        binary_out=True,
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    assert np.array_equal(result.as_numpy("y"), values_of("INT64"))


def test_health_metadata_configuration_statistics_and_index(client, models):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.is_model_ready("fp32")
    assert client.is_model_ready("fp32", "1")
    assert not client.is_model_ready("fp32", "2")
    assert not client.is_model_ready("unknown")
    assert client.get_model_metadata("fp32") == {
        "name": "fp32",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
    assert client.get_model_config("bytes")["input"][0]["data_type"] == "TYPE_STRING"
    index = client.get_model_repository_index()
    assert len(index) == len(models)
    assert {entry["state"] for entry in index} == {"READY"}
    before = client.get_inference_statistics("int8")["model_stats"][0]["inference_count"]
    ask(client, "INT8", binary_in=True, binary_out=True)
    assert client.get_inference_statistics("int8")["model_stats"][0]["inference_count"] == before + 1
    assert len(client.get_inference_statistics()["model_stats"]) == len(models)


def test_an_unknown_network_is_a_404_that_the_client_can_read(client):
    with pytest.raises(InferenceServerException, match="no network 'unknown'") as caught:
        client.get_model_metadata("unknown")
    assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException, match="is not part of this protocol"):
        client.register_system_shared_memory("region", "/key", 64)
    with pytest.raises(InferenceServerException, match="when the server starts"):
        client.load_model("fp32")


def test_many_requests_at_once_get_their_own_answers(url):
    wrong = []

    def work(number: int) -> None:
        with httpx.Client(base_url=url) as own:
            for step in range(20):
                data = [number, step, 1]
                body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "INT64", "data": data}]}
                if own.post("/v2/models/int64/infer", json=body).json()["outputs"][0]["data"] != data:
                    wrong.append(data)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_network_with_two_inputs(client):
    inputs = []
    for name in ("b", "a"):
        inputs.append(triton.InferInput(name, [2], "FP32"))
        inputs[-1].set_data_from_numpy(np.array([1, 2], np.float32))
    assert client.infer("add", inputs).as_numpy("sum").tolist() == [2, 4]


# Bundles


def photograph() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 40), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize("content_type", ["image/jpeg", "application/x-www-form-urlencoded"])
def test_a_bundle_decides_on_a_picture_as_its_pipeline_does(http, models, content_type):
    stored = read_bundle(next(path for path in models if path.name == "pictures"))
    pipeline = open_pipeline(stored.manifest, stored.digest, stored.read_blob, OnnxRuntime())
    reply = http.post("/v2/models/surface/decide", content=photograph(), headers={"Content-Type": content_type})
    assert reply.status_code == 200
    assert decode(Decision, reply.content) == pipeline.decide(pipeline.answer(photograph(), "image/jpeg"), None)


def test_a_bundle_takes_the_prepared_tensor_by_the_protocol(client, models):
    metadata = client.get_model_metadata("surface")
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 10, 12]}]
    assert metadata["versions"] == [read_bundle(next(path for path in models if path.name == "pictures")).digest[:12]]
    given = triton.InferInput("input", [1, 1, 10, 12], "FP32")
    given.set_data_from_numpy(prepare(photograph(), "image/jpeg", SPEC)[None])
    assert client.infer("surface", [given]).as_numpy("scores").sum() == pytest.approx(1)


def test_a_bundle_of_rows_decides_on_a_row(http):
    reply = http.post("/v2/models/bearing/decide", content=b'{"load": 0, "heat": 9}')
    assert reply.json()["label"] == "crack"


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("surface", b"no picture", "not a picture"),
        ("surface", photograph()[:-100], "cannot be decoded"),
        ("surface", b"", "not a picture"),
        ("bearing", b'{"load": "heavy"}', "column load"),
        ("fp32", photograph(), "serve a bundle"),
    ],
)
def test_what_cannot_be_decided_on_is_a_400(http, name, body, words):
    reply = http.post(f"/v2/models/{name}/decide", content=body)
    assert reply.status_code == 400
    assert words in reply.json()["error"]


# Everything that is not of the protocol

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


def test_an_answer_that_json_cannot_say_is_explained_and_comes_as_bytes(http, client):
    body = json.dumps({"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [0, 1, 2]}]})
    reply = http.post("/v2/models/log/infer", content=body)
    assert (reply.status_code, "ask for binary data" in reply.json()["error"]) == (400, True)
    given = triton.InferInput("x", [3], "FP32")
    given.set_data_from_numpy(np.array([0, 1, 2], np.float32))
    assert client.infer("log", [given]).as_numpy("y")[0] == -np.inf


@pytest.mark.parametrize("path", ["/v2/nothing", "/v2/models", "/v2/models/fp32/nothing", "/nothing", "/", "/v2x"])
def test_an_unknown_path_is_a_404_in_the_protocols_words(http, path):
    reply = http.get(path)
    assert reply.status_code == 404
    assert isinstance(reply.json()["error"], str)


def test_mutated_requests_never_make_the_server_fail(http):
    draw = np.random.default_rng(5)
    body, length = binary_request(12, np.array([1, 2, 3], np.float32).tobytes())
    for whole, headers in ((infer_body(), {}), (body, {"Inference-Header-Content-Length": str(length)})):
        for _ in range(300):
            mutated = bytearray(whole)
            for place in draw.integers(0, len(whole), draw.integers(1, 5)):
                mutated[place] = draw.integers(0, 256)
            reply = http.post("/v2/models/fp32/infer", content=bytes(mutated), headers=headers)
            assert reply.status_code in (200, 400), reply.text
    assert http.get("/v2/health/ready").status_code == 200


def test_the_server_says_how_it_is_and_what_it_did(http):
    http.post("/v2/models/fp32/infer", content=infer_body())
    http.post("/v2/models/fp32/infer", content=b"")
    assert http.get("/livez").status_code == http.get("/readyz").status_code == 200
    text = http.get("/metrics").text
    assert 'edgewise_edge_infer_total{name="fp32",status="200"}' in text
    assert 'edgewise_edge_infer_total{name="fp32",status="400"}' in text
    assert "edgewise_edge_infer_seconds_bucket" in text


# Starting and stopping


def test_a_busy_port_is_named_with_what_to_do():
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(NotNow) as caught:
            listen("127.0.0.1", port)
    wanted = f"port {port} of 127.0.0.1 is already in use by another program; give --http-port N (0 picks a free one)"
    assert str(caught.value) == wanted


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_named(host):
    with pytest.raises(NotValid, match="cannot listen"):
        listen(host, 0)


def test_what_cannot_be_served_is_named(tmp_path, models):
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    (tmp_path / "empty").mkdir()
    for paths, words in [
        ([], "nothing to serve"),
        ([tmp_path / "missing.onnx"], "missing.onnx cannot be read"),
        ([tmp_path / "broken.onnx"], "broken.onnx: this network cannot be opened"),
        ([tmp_path / "empty"], "is not a bundle"),
        ([models[0], models[0]], "two of the given models"),
    ]:
        with pytest.raises(NotValid, match=words):
            open_models(paths)


def test_a_damaged_bundle_is_not_served(tmp_path):
    write_demo_bundle(tmp_path / "b", "surface", SPEC, ["N", 1, 10, 12])
    (blob,) = (tmp_path / "b" / "blobs").iterdir()
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(NotTrusted):
        open_models([tmp_path / "b"])


STARTER = "import sys; from pathlib import Path; from edgewise.edge.serve import serve; "
STARTER += "serve([Path(sys.argv[1])], http_port=0, data_dir=Path(sys.argv[2]))"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_port_0_prints_the_address_and_a_signal_ends_it_cleanly(tmp_path, models, number):
    server = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(models[0]), str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        url = line.split()[2]
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
        state = json.loads((tmp_path / "data" / "serve.json").read_bytes())
        assert (state["url"], state["pid"]) == (url, server.pid)
        server.send_signal(number)
        _, errors = server.communicate(timeout=20)
    finally:
        server.kill()
    assert server.returncode == 0
    assert errors == ""
    assert list((tmp_path / "data").iterdir()) == []
