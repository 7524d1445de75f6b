"""The own V2 client before the real server, and before servers that lie, drip, hang up and never end."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.ports import LinkDown, Refused, V2Client
from edgewise.ports.tensors import narrowed, pack_texts, unpack_texts, widened
from edgewise.wire import NotValid
from v2_world import KINDS, echo_network, serving, values_of


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    for kind in KINDS:
        (folder / f"{kind.lower()}.onnx").write_bytes(echo_network(kind))
    with serving(sorted(folder.iterdir())) as server_url:
        yield server_url


@pytest.fixture
def client(url) -> Iterator[V2Client]:
    with V2Client(url, timeout_s=10) as client:
        yield client


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_comes_back_as_it_went(client, kind):
    values = values_of(kind)
    result = client.infer(kind.lower(), {"x": values})["y"]
    if kind == "BYTES":
        assert [text.decode() for text in result.reshape(-1)] == values.reshape(-1).tolist()
    else:
        assert result.dtype == (np.float32 if kind == "BF16" else values.dtype)
        assert np.array_equal(result, values)
    assert result.shape == values.shape


def test_a_second_request_of_the_same_form_carries_its_own_numbers(client):
    for start in (0.0, 5.0):
        values = np.arange(start, start + 6, dtype=np.float32).reshape(2, 3)
        assert np.array_equal(client.infer("fp32", {"x": values}, outputs=["y"])["y"], values)


@pytest.mark.parametrize("rows", [0, 1, 50_000])
def test_no_row_and_very_many_rows(client, rows):
    values = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    assert np.array_equal(client.infer("fp32", {"x": values})["y"], values)


def test_arrays_that_lie_in_memory_another_way(client):
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    for given_values in (values.T, values.T.astype(">f4"), np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::2]):
        assert np.array_equal(client.infer("fp32", {"x": given_values})["y"], given_values)


def test_texts_may_also_be_given_as_fixed_width_arrays(client):
    assert client.infer("bytes", {"x": np.array([["a", "bc", ""]])})["y"].tolist() == [[b"a", b"bc", b""]]


def test_ready_and_metadata(client):
    assert client.ready("fp32") is True
    assert client.ready("nothing/else") is False
    assert client.metadata("fp32")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    with pytest.raises(Refused, match="no network 'nothing' is served") as caught:
        client.metadata("nothing")
    assert caught.value.status == 404


def test_the_servers_words_reach_the_caller_and_the_connection_lives_on(client):
    with pytest.raises(Refused, match=r"shape \[1, 4\], this network takes \[-1, 3\]") as caught:
        client.infer("fp32", {"x": np.zeros((1, 4), np.float32)})
    assert caught.value.status == 400
    assert client.infer("fp32", {"x": np.zeros((1, 3), np.float32)})["y"].shape == (1, 3)


def test_a_type_that_the_protocol_has_no_name_for_is_named(client):
    with pytest.raises(NotValid, match="complex128"):
        client.infer("fp32", {"x": np.zeros((1, 3), complex)})


def test_many_threads_share_one_client(client):
    wrong = []

    def work(number: int) -> None:
        for turn in range(30):
            values = np.full((1, 3), number * 1000 + turn, np.float32)
            if not np.array_equal(client.infer("fp32", {"x": values})["y"], values):
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_server_that_came_back_is_reached_again(tmp_path):
    (tmp_path / "fp32.onnx").write_bytes(echo_network("FP32"))
    values = np.ones((1, 3), np.float32)
    models = [tmp_path / "fp32.onnx"]
    with serving(models) as url:
        client = V2Client(url, timeout_s=10)
        assert client.infer("fp32", {"x": values})["y"].shape == (1, 3)
    with pytest.raises(LinkDown, match="no server answers"):
        client.infer("fp32", {"x": values})
    with serving(models, port=int(url.rpartition(":")[2])), client:
        assert client.infer("fp32", {"x": values})["y"].shape == (1, 3)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "ftp://x", "http://", "http://x:99999", "http://x:0", "unix://", "http://[::1", ""]
)
def test_what_is_no_address_is_named(url):
    with pytest.raises(NotValid, match="is not the address of a server"):
        V2Client(url, timeout_s=1)


# Servers that misbehave

ANSWER = b'{"outputs":[{"name":"y","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}'
FOUR = np.array([7], np.float32).tobytes()


def http(body: bytes, *, status: int = 200, head: bytes = b"", json_bytes: int | None = None) -> bytes:
    more = b"" if json_bytes is None else b"Inference-Header-Content-Length: %d\r\n" % json_bytes
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s%s\r\n" % (status, len(body), more, head) + body


GOOD = http(ANSWER + FOUR, json_bytes=len(ANSWER))


@contextlib.contextmanager
def scripted(*answers: bytes | Callable[[socket.socket], None], path: Path | None = None) -> Iterator[str]:
    """A server that answers one connection after the other with what the script says, then hangs up."""
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        url = f"unix://{path}"

    def work() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                if callable(answer):
                    answer(connection)
                else:
                    read_request(connection)
                    connection.sendall(answer)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield url
    finally:
        thread.join(10)
        listener.close()
        assert not thread.is_alive()


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece
    head = data.partition(b"\r\n\r\n")[0].lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
    while len(data) < len(head) + 4 + length:
        data += connection.recv(65536)
    return data


def ask(url: str, **options: float) -> np.ndarray:
    with V2Client(url, timeout_s=5, **options) as client:
        return client.infer("m", {"x": np.zeros(1, np.float32)})["y"]


def test_a_unix_socket_and_a_path_before_the_protocol(tmp_path):
    with scripted(GOOD, path=tmp_path / "s") as url:
        assert ask(url).tolist() == [7]
    seen: list[bytes] = []

    def note(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(GOOD)

    with scripted(note) as url:
        assert ask(url + "proxied/").tolist() == [7]
    assert seen[0].startswith(b"POST /proxied/v2/models/m/infer HTTP/1.1\r\nHost: 127.0.0.1:")


def test_answers_as_json_in_pieces_and_in_chunks_are_understood():
    as_json = b'{"outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[7]}]}'
    chunks = b"%x\r\n%s\r\n%x;note=1\r\n%s\r\n0\r\n\r\n" % (10, ANSWER[:10], len(ANSWER) - 6, ANSWER[10:] + FOUR)
    head = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(ANSWER)

    def in_pieces(connection: socket.socket) -> None:
        read_request(connection)
        for start in range(0, len(GOOD), 40):
            connection.sendall(GOOD[start : start + 40])
            time.sleep(0.001)

    with scripted(http(as_json), in_pieces, head + chunks) as url:
        assert [ask(url).tolist() for _ in range(3)] == [[7]] * 3


def test_a_stale_connection_is_made_anew_once():
    with scripted(GOOD, GOOD) as url, V2Client(url, timeout_s=5) as client:
        for _ in range(2):  # the server hangs up after each answer without having said so
            assert client.infer("m", {"x": np.zeros(1, np.float32)})["y"].tolist() == [7]


def test_a_server_that_always_hangs_up_is_a_link_that_is_down():
    with scripted(b"", GOOD, b"") as url, V2Client(url, timeout_s=5) as client:
        with pytest.raises(LinkDown, match="ended the connection"):
            client.infer("m", {"x": np.zeros(1, np.float32)})
        client.infer("m", {"x": np.zeros(1, np.float32)})
        with pytest.raises(LinkDown):
            client.infer("m", {"x": np.zeros(1, np.float32)})


@pytest.mark.parametrize("drips", [False, True])
def test_a_server_that_does_not_answer_or_drips_costs_the_given_time_and_no_more(drips):
    done = threading.Event()

    def slow(connection: socket.socket) -> None:
        read_request(connection)
        for byte in GOOD if drips else b"":
            connection.sendall(bytes([byte]))
            if done.wait(0.05):
                return
        done.wait(5)

    with scripted(slow) as url, V2Client(url, timeout_s=30) as client:
        started = time.monotonic()
        with pytest.raises(LinkDown, match="did not answer within") as caught:
            client.infer("m", {"x": np.zeros(1, np.float32)}, timeout_s=0.3)
        assert time.monotonic() - started < 2
        assert caught.value.code == "timeout"
        done.set()


def test_a_server_that_reads_nothing_costs_the_given_time_and_no_more():
    done = threading.Event()
    with scripted(lambda _: bool(done.wait(10)) or None) as url, V2Client(url, timeout_s=0.3) as client:
        started = time.monotonic()
        with pytest.raises(LinkDown, match="did not answer within"):
            client.infer("m", {"x": np.zeros(8_000_000, np.float32)})
        assert time.monotonic() - started < 2
        done.set()


@pytest.mark.parametrize(("status", "kind"), [(503, LinkDown), (429, LinkDown), (500, LinkDown), (403, Refused)])
def test_a_status_tells_whether_to_come_again(status, kind):
    with (
        scripted(http(b'{"error": "its own words"}', status=status)) as url,
        pytest.raises(kind, match="its own words"),
    ):
        ask(url)
    with scripted(http(b"<html>", status=status)) as url, pytest.raises(kind, match=f"status {status}"):
        ask(url)


def output(**changes: object) -> bytes:
    item = {"name": "y", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}} | changes
    return json.dumps({"outputs": [{key: value for key, value in item.items() if value is not ...}]}).encode()


LIES = {
    "no HTTP": b"220 smtp ready\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\r\n\r\n{}",
    "headers without an end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
    "a length beyond what is taken": b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
    "more bytes than it said": GOOD + b"more",
    "more JSON than it has": http(ANSWER, json_bytes=len(ANSWER) + 1),
    "no JSON": http(b"{"),
    "very deep JSON": http(b"[" * 100_000),
    "a list": http(b"[]"),
    "outputs that are a number": http(b'{"outputs": 7}'),
    "fewer bytes than it names": http(ANSWER + FOUR[:3], json_bytes=len(ANSWER)),
    "more bytes than it names": http(ANSWER + FOUR * 2, json_bytes=len(ANSWER)),
    "another size than its type": http(output(shape=[2]) + FOUR, json_bytes=len(output(shape=[2]))),
    "a huge shape": http(output(shape=[2**62, 4]) + FOUR, json_bytes=len(output(shape=[2**62, 4]))),
    "a huge empty shape": http(output(shape=[2**70, 0], parameters={"binary_data_size": 0})),
    "a hundred axes": http(output(shape=[1] * 100) + FOUR, json_bytes=len(output(shape=[1] * 100))),
    "a negative shape": http(output(shape=[-1]) + FOUR, json_bytes=len(output(shape=[-1]))),
    "an unknown type": http(output(datatype="FP31")),
    "a name that is a list": http(output(name=["y"])),
    "fewer values than its shape": http(output(parameters=..., data=[])),
    "text for numbers": http(output(parameters=..., data=["x"])),
    "two outputs of one name": http(ANSWER.replace(b"]}", b"," + ANSWER[12:-2] + b"]}", 1)),
    "chunks without a length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a chunk beyond what is taken": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
}


@pytest.mark.parametrize("what", LIES)
def test_an_answer_that_is_none_of_this_protocol_is_refused(what):
    with scripted(LIES[what]) as url, pytest.raises(Refused) as caught:
        ask(url)
    assert caught.value.code == "answer_invalid"
    assert len(str(caught.value)) < 400


def test_an_answer_that_breaks_off_is_a_link_that_is_down():
    with scripted(GOOD[:-2]) as url, pytest.raises(LinkDown):
        ask(url)


# Types as bytes


@given(st.lists(st.binary(max_size=9), max_size=5), st.binary(max_size=12))
def test_texts_come_out_of_their_bytes_as_they_went_in_and_nothing_else_does(texts, noise):
    assert unpack_texts(memoryview(pack_texts(texts)), len(texts)) == texts
    seen = unpack_texts(memoryview(noise), 2)
    assert seen is None or pack_texts(seen) == noise


@settings(max_examples=30)
@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_bfloat16_is_rounded_as_the_reference_does(values):
    given_values = np.array(values, np.float32)
    with np.errstate(invalid="ignore"):
        wanted = given_values.astype(ml_dtypes.bfloat16)
    seen = widened(narrowed(given_values))
    assert np.array_equal(seen, wanted.astype(np.float32), equal_nan=True)
