"""`edge serve` before the public client of its protocol, and before everything that is not of its protocol."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from onnx import helper
from PIL import Image
from tritonclient.utils import InferenceServerException

from edgewise.edge.serve import open_models
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
from v2_world import KINDS, echo_network, network, serving, tensor, values_of

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
    with serving(models) as address:
        yield address


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


# The client itself refuses the short floats as JSON; the next test asks by hand.
WAYS = [
    (kind, binary_in, binary_out)
    for kind in KINDS
    for binary_in in (True, False)
    for binary_out in (True, False)
    if kind not in ("FP16", "BF16") or (binary_in and binary_out)
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


@pytest.mark.parametrize(("kind", "values"), [("FP16", [0.5, 1, 65504]), ("BF16", [0.5, 1, 2.0**100])])
def test_short_floats_are_also_read_and_written_as_json(http, kind, values):
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": kind, "data": values}]}
    reply = http.post(f"/v2/models/{kind.lower()}/infer", json=body).json()
    assert reply["outputs"] == [{"name": "y", "datatype": kind, "shape": [1, 3], "data": values}]


def test_json_is_rounded_to_the_nearest_bfloat16(http):
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "BF16", "data": [1.001, 1.005, -3.14159]}]}
    reply = http.post("/v2/models/bf16/infer", json=body).json()
    assert reply["outputs"][0]["data"] == [1.0, 1.0078125, -3.140625]


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
    served = len(models) + sum(path.is_dir() for path in models)  # a bundle also decides
    assert len(index) == served
    assert {entry["state"] for entry in index} == {"READY"}
    before = client.get_inference_statistics("int8")["model_stats"][0]["inference_count"]
    ask(client, "INT8", binary_in=True, binary_out=True)
    assert client.get_inference_statistics("int8")["model_stats"][0]["inference_count"] == before + 1
    assert len(client.get_inference_statistics()["model_stats"]) == served


def test_an_unknown_network_is_a_404_that_the_client_can_read(client):
    with pytest.raises(InferenceServerException, match="no network 'unknown'") as caught:
        client.get_model_metadata("unknown")
    assert caught.value.status() == "404"


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


# Loading and unloading


@pytest.fixture
def own(tmp_path) -> Iterator[tuple[triton.InferenceServerClient, Path]]:
    """A server of its own, whose network may be unloaded, with the network's file."""
    file = tmp_path / "net.onnx"
    file.write_bytes(echo_network("FP32"))
    (tmp_path / "other.onnx").write_bytes(echo_network("INT8"))
    with serving(sorted(tmp_path.iterdir())) as address:
        client = triton.InferenceServerClient(address.removeprefix("http://"))
        yield client, file
        client.close()


def test_an_unloaded_network_is_not_ready_and_comes_back_by_loading(own):
    client, _ = own
    client.unload_model("net")
    client.unload_model("net")  # the same again changes nothing
    assert not client.is_model_ready("net")
    assert client.is_server_ready()
    states = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert states == {"net": "UNAVAILABLE", "other": "READY"}
    with pytest.raises(InferenceServerException, match="net' is not loaded; POST /v2/repository") as caught:
        client.get_model_metadata("net")
    assert caught.value.status() == "404"
    client.load_model("net")
    assert client.is_model_ready("net")


def test_loading_takes_the_file_as_it_is_now_and_keeps_the_old_network_where_that_fails(own):
    client, file = own
    file.write_bytes(b"half of a netw")
    with pytest.raises(InferenceServerException, match="cannot be opened"):
        client.load_model("net")
    assert client.is_model_ready("net")
    file.write_bytes(echo_network("INT64"))
    client.load_model("net")
    assert client.get_model_metadata("net")["inputs"][0]["datatype"] == "INT64"


def test_what_was_not_given_at_the_start_or_is_sent_along_is_not_loaded(own):
    client, _ = own
    with pytest.raises(InferenceServerException, match="no network 'elsewhere' was given") as caught:
        client.load_model("elsewhere")
    assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException, match="leave config and files out"):
        client.load_model("net", config="{}", files={"file:1/model.onnx": b"x"})


@pytest.mark.parametrize(
    ("body", "names"), [(b"", 2), (b"{}", 2), (b'{"ready": true}', 1), (b'{"ready": false}', 2), (b" \n", 2)]
)
def test_the_index_is_answered_also_to_an_empty_body(own, body, names):
    client, _ = own
    client.unload_model("net")
    reply = httpx.post(f"http://{client._parsed_url.netloc}/v2/repository/index", content=body)
    assert (reply.status_code, len(reply.json())) == (200, names)


@pytest.mark.parametrize("body", [b"[]", b"{", b"7", b"\xff", b"[" * 100_000])
def test_a_question_that_is_no_object_is_a_400(http, body):
    reply = http.post("/v2/repository/index", content=body)
    assert (reply.status_code, list(reply.json())) == (400, ["error"])


def test_extensions_that_are_left_out_are_refused_in_words(client):
    for what, ask_for in [
        ("shared memory", lambda: client.register_system_shared_memory("region", "/key", 64)),
        ("shared memory", lambda: client.get_system_shared_memory_status()),
        ("shared memory", lambda: client.unregister_system_shared_memory()),
        ("shared memory", lambda: client.register_cuda_shared_memory("region", b"handle", 0, 64)),
        ("shared memory", lambda: client.get_cuda_shared_memory_status()),
        ("tracing by request", lambda: client.get_trace_settings()),
        ("tracing by request", lambda: client.get_trace_settings("fp32")),
        ("tracing by request", lambda: client.update_trace_settings("fp32", {"trace_level": ["TENSORS"]})),
        ("changing the log", lambda: client.get_log_settings()),
        ("changing the log", lambda: client.update_log_settings({"log_verbose_level": 1})),
    ]:
        with pytest.raises(InferenceServerException, match=f"{what} is not supported here") as caught:
            ask_for()
        assert caught.value.status() == "400"


def test_the_client_may_ask_in_threads_and_for_chosen_outputs(client):
    values = values_of("FP32")
    given = triton.InferInput("x", list(values.shape), "FP32")
    given.set_data_from_numpy(values)
    asked = [client.async_infer("fp32", [given], outputs=[triton.InferRequestedOutput("y")]) for _ in range(3)]
    assert all(np.array_equal(each.get_result().as_numpy("y"), values) for each in asked)


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


# What JSON cannot say, and what the machine room asks


def test_an_answer_that_json_cannot_say_is_explained_and_comes_as_bytes(http, client):
    body = json.dumps({"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [0, 1, 2]}]})
    reply = http.post("/v2/models/log/infer", content=body)
    assert (reply.status_code, "ask for binary data" in reply.json()["error"]) == (400, True)
    given = triton.InferInput("x", [3], "FP32")
    given.set_data_from_numpy(np.array([0, 1, 2], np.float32))
    assert client.infer("log", [given]).as_numpy("y")[0] == -np.inf


def test_the_server_says_how_it_is_and_what_it_did(http):
    http.post(
        "/v2/models/fp32/infer", json={"inputs": [{"name": "x", "shape": [0, 3], "datatype": "FP32", "data": []}]}
    )
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
