"""`edge serve --grpc-port` before the public client of its protocol, and before everything that is not of it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from edgewise.edge._v2_grpc import GrpcLimits, grpc_server
from edgewise.edge._v2_grpc_messages import MESSAGES, messages, split_raw, with_length
from edgewise.edge._v2_models import Tally
from edgewise.edge.serve import open_models
from edgewise.ports import TlsFiles
from edgewise.trust import pem_of
from edgewise.wire import NotNow
from tls_world import TlsWorld
from v2_world import KINDS, echo_network, network, tensor, values_of

COMMAND = [sys.executable, "-c", "from edgewise.cli import main; main()", "edge", "serve"]
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        (folder / f"{kind.lower()}.onnx").write_bytes(echo_network(kind))
    add = network(
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        [tensor("a", [2]), tensor("b", [2])],
        [tensor("sum", [2])],
    )
    (folder / "add.onnx").write_bytes(add)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def tally() -> Tally:
    return Tally()


@pytest.fixture(scope="module")
def target(models, tally) -> Iterator[str]:
    limits = GrpcLimits(streams_max=2, message_bytes_max=4_000_000)
    with grpc_server(open_models(models), tally, host="127.0.0.1", port=0, limits=limits) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def client(target) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(target) as client:
        yield client


@pytest.fixture
def raw(target) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(target) as channel:
        yield channel


def ask(client: triton.InferenceServerClient, kind: str, values: np.ndarray, **options: object):
    given_input = triton.InferInput("x", list(values.shape), kind)
    given_input.set_data_from_numpy(values)
    return client.infer(kind.lower(), [given_input], **options)


# The numbers of the protocol


def test_every_field_has_the_number_and_type_that_the_public_client_has():
    ours = messages()
    for name in MESSAGES:
        outer, _, inner = name.partition(".")
        theirs = getattr(service_pb2, outer, None) or getattr(model_config_pb2, outer)
        mine = getattr(ours, outer).DESCRIPTOR
        reference = theirs.DESCRIPTOR
        if inner:
            mine, reference = mine.nested_types_by_name[inner], reference.nested_types_by_name[inner]
        for field in mine.fields:
            other = reference.fields_by_name[field.name]
            assert about(field) == about(other), f"{name}.{field.name}"
    values = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"].values_by_name
    mine = ours.ModelInput.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name
    assert {name: value.number for name, value in mine.items()} == {
        name: value.number for name, value in values.items()
    }


def about(field: FieldDescriptor) -> tuple[object, ...]:
    kind = field.message_type.full_name if field.message_type else field.type
    oneof = field.containing_oneof.name if field.containing_oneof else None
    return (
        field.number,
        kind,
        field.is_repeated,
        oneof,
        bool(field.message_type and field.message_type.GetOptions().map_entry),
    )


def test_every_method_of_the_service_is_answered(raw):
    for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        call = raw.unary_unary(f"/inference.GRPCInferenceService/{method.name}")
        if method.name == "ModelStreamInfer":
            continue
        try:
            call(b"", timeout=10)
        except grpc.RpcError as error:
            named = error.details()
            assert named, method.name
            assert "Method not found" not in named, method.name


# The protocol, seen by its public client


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_goes_in_and_comes_out(client, kind):
    values = values_of(kind)
    result = ask(client, kind, values).as_numpy("y")
    if kind == "BYTES":
        assert [text.decode() for text in result.reshape(-1)] == values.reshape(-1).tolist()
    else:
        assert result.dtype == values.dtype
        assert np.array_equal(result, values)


FIELDS = {"BOOL": "bool", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("FP16", "BF16")])
def test_every_type_but_the_short_floats_may_come_as_typed_contents(raw, kind):
    values = values_of(kind)
    field = FIELDS.get(kind, "int" if kind.startswith("INT") else "uint")
    flat = [value.encode() if kind == "BYTES" else value for value in values.reshape(-1).tolist()]
    reply = infer(raw, kind.lower(), kind, values.shape, contents={f"{field}_contents": flat})
    wanted = b"".join(len(text).to_bytes(4, "little") + text for text in flat) if kind == "BYTES" else values.tobytes()
    assert reply.raw_output_contents[0] == wanted


def infer(raw: grpc.Channel, name: str, kind: str, shape: object, **more: object) -> service_pb2.ModelInferResponse:
    contents, data = more.pop("contents", None), more.pop("data", None)
    item: dict[str, object] = {"name": "x", "datatype": kind, "shape": shape}
    if contents is not None:
        item["contents"] = contents
    request = service_pb2.ModelInferRequest(model_name=name, inputs=[item], **more)
    if data is not None:
        request.raw_input_contents.extend(data if isinstance(data, list) else [data])
    answer = raw.unary_unary(INFER)(request.SerializeToString(), timeout=10)
    return service_pb2.ModelInferResponse.FromString(answer)


def test_the_request_id_comes_back_and_versions_are_told_apart(client):
    result = ask(client, "FP32", values_of("FP32"), request_id="request 7", model_version="1")
    assert result.get_response().id == "request 7"
    assert result.get_response().model_version == "1"
    assert ask(client, "FP32", values_of("FP32")).get_response().id == ""
    with pytest.raises(InferenceServerException, match="no network 'fp32' version 2") as caught:
        ask(client, "FP32", values_of("FP32"), model_version="2")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_messages_may_be_packed(client, coding):
    result = ask(client, "INT64", values_of("INT64"), compression_algorithm=coding)
    assert np.array_equal(result.as_numpy("y"), values_of("INT64"))


def test_health_metadata_configuration_statistics_and_index(client, models):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata(as_json=True)["extensions"]
    assert client.is_model_ready("fp32", "1")
    assert not client.is_model_ready("fp32", "2")
    assert not client.is_model_ready("unknown")
    assert client.get_model_metadata("fp32", as_json=True) == {
        "name": "fp32",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "3"]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["-1", "3"]}],
    }
    config = client.get_model_config("bytes", as_json=True)["config"]
    assert (config["input"][0]["data_type"], config["input"][0]["dims"]) == ("TYPE_STRING", ["-1", "3"])
    index = client.get_model_repository_index().models
    assert [(entry.state, entry.version) for entry in index] == [("READY", "1")] * len(models)
    before = client.get_inference_statistics("int8").model_stats[0].inference_count
    ask(client, "INT8", values_of("INT8"))
    after = client.get_inference_statistics("int8").model_stats[0]
    assert after.inference_count == before + 1
    assert after.inference_stats.success.ns > 0
    assert len(client.get_inference_statistics().model_stats) == len(models)


def test_an_unknown_network_is_not_found(client):
    for question in (client.get_model_metadata, client.get_model_config, client.get_inference_statistics):
        with pytest.raises(InferenceServerException, match="no network 'unknown'") as caught:
            question("unknown")
        assert caught.value.status() == "StatusCode.NOT_FOUND"


@contextlib.contextmanager
def own_client(file: Path) -> Iterator[triton.InferenceServerClient]:
    with (
        grpc_server(open_models([file]), Tally(), host="127.0.0.1", port=0) as port,
        triton.InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        yield client


def test_unloaded_is_not_ready_without_an_error_and_loading_brings_it_back(tmp_path):
    (tmp_path / "net.onnx").write_bytes(echo_network("FP32"))
    with own_client(tmp_path / "net.onnx") as client:
        client.unload_model("net")
        assert client.is_model_ready("net") is False
        assert client.is_server_ready() is False
        assert [entry.state for entry in client.get_model_repository_index().models] == ["UNAVAILABLE"]
        with pytest.raises(InferenceServerException, match="is not loaded") as caught:
            client.get_model_metadata("net")
        assert caught.value.status() == "StatusCode.NOT_FOUND"
        client.load_model("net")
        assert client.is_model_ready("net")
        with pytest.raises(InferenceServerException, match="leave config and files out") as caught:
            client.load_model("net", config="{}")
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_network_that_was_loaded_anew_is_asked_by_its_new_types(tmp_path):
    file = tmp_path / "fp32.onnx"
    file.write_bytes(echo_network("FP32"))
    with own_client(file) as client:
        ask(client, "FP32", values_of("FP32"))
        file.write_bytes(echo_network("INT64"))
        client.load_model("fp32")
        with pytest.raises(InferenceServerException, match="this network takes INT64"):
            ask(client, "FP32", values_of("FP32"))


def test_extensions_that_are_left_out_are_unimplemented_in_words(client):
    for ask_for in (
        lambda: client.register_system_shared_memory("region", "/key", 64),
        lambda: client.get_system_shared_memory_status(),
        lambda: client.unregister_cuda_shared_memory(),
        lambda: client.get_trace_settings(),
        lambda: client.update_log_settings({"log_verbose_level": 1}),
    ):
        with pytest.raises(InferenceServerException, match="not supported here; send tensors") as caught:
            ask_for()
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_a_network_with_two_inputs_in_any_order(client):
    inputs = []
    for name in ("b", "a"):
        inputs.append(triton.InferInput(name, [2], "FP32"))
        inputs[-1].set_data_from_numpy(np.array([1, 2], np.float32) * (10 if name == "b" else 1))
    assert client.infer("add", inputs).as_numpy("sum").tolist() == [11, 22]


def test_many_calls_at_once_get_their_own_answers(target):
    wrong = []

    def work(number: int) -> None:
        with triton.InferenceServerClient(target) as own:
            for step in range(20):
                values = np.array([[number, step, 1]], np.int64)
                if not np.array_equal(ask(own, "INT64", values).as_numpy("y"), values):
                    wrong.append((number, step))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Streams


def test_a_stream_answers_each_request_in_order_and_goes_on_after_a_wrong_one(client):
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(3):
        values = np.full((1, 3), number, np.float32)
        given_input = triton.InferInput("x", [1, 3] if number != 1 else [3, 1], "FP32")
        given_input.set_data_from_numpy(values if number != 1 else values.T)
        client.async_stream_infer("fp32", [given_input], request_id=str(number))
    got = [answers.get(timeout=10) for _ in range(3)]
    client.stop_stream()
    assert [result.as_numpy("y")[0, 0] for result, error in got if error is None] == [0, 2]
    assert "this network takes [-1, 3]" in str(got[1][1])


def test_more_streams_than_are_taken_are_told_so(target):
    clients = [triton.InferenceServerClient(target) for _ in range(3)]
    answers: queue.Queue = queue.Queue()
    given_input = triton.InferInput("x", [1, 3], "FP32")
    given_input.set_data_from_numpy(np.zeros((1, 3), np.float32))
    for client in clients[:2]:
        client.start_stream(lambda result, error: answers.put((result, error)[1]))
        client.async_stream_infer("fp32", [given_input])
        assert answers.get(timeout=10) is None
    clients[2].start_stream(lambda result, error: answers.put((result, error)[1]))
    with contextlib.suppress(InferenceServerException):  # where the refusal was quicker than the request
        clients[2].async_stream_infer("fp32", [given_input])
    assert "2 streams are open" in str(answers.get(timeout=10))
    for client in clients:
        client.close()


# Everything that is not of the protocol

FOUR = np.zeros(3, np.float32).tobytes()
INTS = {"int_contents": [1, 2, 128]}
REGION = {"shared_memory_region": {"string_param": "r"}}
WRONG = {
    "no input": lambda raw: raw.unary_unary(INFER)(
        service_pb2.ModelInferRequest(model_name="fp32").SerializeToString()
    ),
    "another type": lambda raw: infer(raw, "fp32", "INT32", [1, 3], data=FOUR),
    "no type": lambda raw: infer(raw, "fp32", "", [1, 3], data=FOUR),
    "another width": lambda raw: infer(raw, "fp32", "FP32", [1, 4], data=FOUR + FOUR[:4]),
    "another number of axes": lambda raw: infer(raw, "fp32", "FP32", [3], data=FOUR),
    "a negative size": lambda raw: infer(raw, "fp32", "FP32", [-1, 3], data=FOUR),
    "a size of nearly 2 to the 63": lambda raw: infer(raw, "fp32", "FP32", [2**63 - 1, 3], data=FOUR),
    "sizes whose product wraps around": lambda raw: infer(raw, "fp32", "FP32", [2**62, 4], data=FOUR),
    "a hundred thousand axes": lambda raw: infer(raw, "fp32", "FP32", [1] * 100_000, data=FOUR),
    "too few bytes": lambda raw: infer(raw, "fp32", "FP32", [1, 3], data=FOUR[:-1]),
    "too many bytes": lambda raw: infer(raw, "fp32", "FP32", [1, 3], data=FOUR + b"x"),
    "two raw tensors for one input": lambda raw: infer(raw, "fp32", "FP32", [1, 3], data=[FOUR, FOUR]),
    "raw and typed contents": lambda raw: infer(
        raw, "fp32", "FP32", [1, 3], data=FOUR, contents={"fp32_contents": [1, 2, 3]}
    ),
    "neither": lambda raw: infer(raw, "fp32", "FP32", [1, 3]),
    "too few typed values": lambda raw: infer(raw, "fp32", "FP32", [1, 3], contents={"fp32_contents": [1]}),
    "typed values in another field": lambda raw: infer(raw, "fp32", "FP32", [1, 3], contents=INTS),
    "a typed value beyond its type": lambda raw: infer(
        raw, "int8", "INT8", [1, 3], contents={"int_contents": [128] * 3}
    ),
    "half precision as typed contents": lambda raw: infer(
        raw, "fp16", "FP16", [1, 3], contents={"fp32_contents": [1] * 3}
    ),
    "texts that are not UTF-8": lambda raw: infer(
        raw, "bytes", "BYTES", [1, 3], contents={"bytes_contents": [b"\xff"] * 3}
    ),
    "damaged texts": lambda raw: infer(raw, "bytes", "BYTES", [1, 3], data=b"\xff\xff\xff\xff"),
    "an unknown output": lambda raw: infer(raw, "fp32", "FP32", [1, 3], data=FOUR, outputs=[{"name": "z"}]),
    "shared memory": lambda raw: infer(
        raw,
        "fp32",
        "FP32",
        [1, 3],
        outputs=[{"name": "y", "parameters": REGION}],
    ),
    "no message": lambda raw: raw.unary_unary(INFER)(b"\xff\xff\xff"),
    "a group": lambda raw: raw.unary_unary(INFER)(b"\x0b\x0c"),
    "a name that is no text": lambda raw: raw.unary_unary(INFER)(b"\x0a\x01\xff"),
    "very many fields": lambda raw: raw.unary_unary(INFER)(b"\x1a\x00" * 100_000),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_is_an_invalid_argument_in_words(raw, what):
    with pytest.raises(grpc.RpcError) as caught:
        WRONG[what](raw)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()
    assert 10 < len(caught.value.details()) < 1000


def test_a_message_that_is_too_long_is_refused(raw):
    with pytest.raises(grpc.RpcError) as caught:
        infer(raw, "fp32", "FP32", [400_000, 3], data=bytes(4_800_000))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_mutated_messages_never_make_the_server_fail(raw):
    draw, good = random.Random(3), []
    for kind in ("FP32", "BYTES", "BOOL"):
        request = service_pb2.ModelInferRequest(model_name=kind.lower(), id="7")
        request.inputs.add(name="x", datatype=kind, shape=[1, 3])
        request.raw_input_contents.append(FOUR)
        good.append(request.SerializeToString())
    call, codes = raw.unary_unary(INFER), set()
    for _ in range(400):
        changed = bytearray(draw.choice(good))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(changed))
            if draw.random() < 0.5:
                changed[at] = draw.randrange(256)
            else:
                changed[at:at] = draw.randbytes(draw.randint(1, 9))
        try:
            call(bytes(changed), timeout=10)
        except grpc.RpcError as error:
            codes.add(error.code())
    assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


def test_what_was_answered_is_counted_as_by_rest(client, tally):
    before = tally.answered.get(("uint8", 200), 0)
    ask(client, "UINT8", values_of("UINT8"))
    assert tally.answered["uint8", 200] == before + 1


@given(st.lists(st.tuples(st.sampled_from([1, 3, 7, 15]), st.binary(max_size=300)), max_size=6))
def test_a_field_is_taken_out_of_a_message_without_a_change_to_the_others(fields):
    data = b"".join(with_length(number, len(value)) + value for number, value in fields)
    rest, values = split_raw(data, 7)
    assert [bytes(value) for value in values] == [value for number, value in fields if number == 7]
    assert rest == b"".join(with_length(number, len(value)) + value for number, value in fields if number != 7)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_message_raise_one_error_only(noise):
    try:
        rest, values = split_raw(noise, 7)
    except ValueError:
        return
    assert len(rest) + sum(map(len, values)) <= len(noise)


# Starting


def test_a_busy_port_is_named(models):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = grpc_server(open_models(models[:1]), Tally(), host="127.0.0.1", port=port)
        with pytest.raises(NotNow, match="give --grpc-port N"):
            server.__enter__()


def test_only_clients_with_a_certificate_of_the_authority_are_answered(tmp_path, models):
    world = TlsWorld(tmp_path)
    world.server()
    pem, client_ca = tmp_path / "server.pem", tmp_path / "clients.pem"
    client_ca.write_bytes(pem_of(world.root, world.device_issuer))
    tls = TlsFiles(certificate=pem, key=pem, client_ca=client_ca)
    with grpc_server(open_models(models[:1]), Tally(), host="127.0.0.1", port=0, tls=tls) as port:
        for who, answered in (("tests", True), ("stranger", False), (None, False)):
            mine: dict[str, bytes] = {}
            if who is not None:
                held = TlsWorld(tmp_path, who).credentials(tmp_path / who)
                (key,) = (held.folder / "keys").glob("*.pem")
                mine = {"private_key": key.read_bytes(), "certificate_chain": held.certificates()}
            credentials = grpc.ssl_channel_credentials(root_certificates=pem_of(world.root), **mine)
            with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
                call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
                if answered:
                    assert service_pb2.ServerLiveResponse.FromString(call(b"", timeout=10)).live
                else:
                    with pytest.raises(grpc.RpcError) as caught:
                        call(b"", timeout=10)
                    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_the_command_prints_both_addresses_and_ends_cleanly(tmp_path, models):
    command = [*COMMAND, str(models[0])]
    command += ["--http-port", "0", "--grpc-port", "0", "--data-dir", str(tmp_path)]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        target = line.partition(", gRPC ")[2].partition(")")[0]
        assert json.loads((tmp_path / "serve.json").read_bytes())["grpc"] == target
        with triton.InferenceServerClient(target) as client:
            assert client.is_model_ready("add")
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=20)
    finally:
        server.kill()
    assert (server.returncode, errors) == (0, "")


def test_without_the_extra_the_message_says_what_to_install(tmp_path):
    (tmp_path / "grpc.py").write_text("raise ImportError('not installed')")
    (tmp_path / "net.onnx").write_bytes(echo_network("FP32"))
    command = [
        sys.executable,
        "-c",
        "from edgewise.cli import main; main()",
        "edge",
        "serve",
        str(tmp_path / "net.onnx"),
    ]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "--http-port", "0", "--grpc-port", "0"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'edgewise[grpc]'" in done.stderr
    assert "Traceback" not in done.stderr
