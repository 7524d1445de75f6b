"""The local HTTP server before good clients, bad clients and slow ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.edge._http_connection import BUFFER_BYTES, Connection
from edgewise.edge._http_head import BadHead, Chunks, Head
from edgewise.edge._http_server import HttpLimits, HttpServer
from edgewise.ports import listen

GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"


def post(body: bytes, *, more: bytes = b"") -> bytes:
    return b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), more, body)


class App:
    """Echoes, streams, fails and waits, by path; ``now`` answers /now in place."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self.go = threading.Event()

    def now(self, head: Head, body: memoryview) -> tuple[int, list[bytes]] | None:
        if head.path != "/now":
            return None
        return 200, [b"content-length: %d\r\n\r\n" % len(body), bytes(body)]

    def later(self, head: Head, body: bytes | memoryview, done: Any) -> bool:
        if head.path not in ("/later", "/slowly"):
            return False

        def work() -> None:
            if head.path == "/slowly":
                self.go.wait(10)
            done(200, [b"content-length: %d\r\n\r\n" % len(body), bytes(body)])
            self.gone.set()

        threading.Thread(target=work).start()
        return True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        match scope["path"]:
            case "/stream":
                await self._say(send, b"one", more=True)
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                await send({"type": "http.response.body", "body": b"two"})
            case "/breaks":
                await self._say(send, b"half", more=True)
                raise ValueError("broken")
            case "/fails":
                raise ValueError("broken")
            case "/silent":
                return
            case "/large":
                for _ in range(200):
                    await self._say(send, bytes(100_000), more=True)
                await send({"type": "http.response.body", "body": b""})
                self.gone.set()
            case "/waits":
                while not self.go.is_set():
                    await asyncio.sleep(0.01)
                await self._say(send, b"waited")
            case "/leaves":
                assert (await receive())["type"] == "http.disconnect"
                self.gone.set()
            case _:
                about = {"method": scope["method"], "path": scope["path"], "query": scope["query_string"].decode()}
                await self._say(send, json.dumps(about).encode() if scope["path"] != "/echo" else body)

    async def _say(self, send: Any, body: bytes, *, more: bool = False) -> None:
        with contextlib.suppress(KeyError):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": body, "more_body": more})


@contextlib.contextmanager
def running(app: Any = None, **limits: Any) -> Iterator[tuple[str, int]]:
    server = HttpServer(app or App(), limits=HttpLimits(tick_s=0.05, **limits))
    ready = threading.Event()
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, args=(listener, ready.set))
        thread.start()
        assert ready.wait(20)
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, int]]:
    with running() as where:
        yield where


def talk(where: tuple[str, int], *pieces: bytes, close: bool = True) -> bytes:
    """Everything that comes back for these bytes, until the server has nothing more to say."""
    with socket.create_connection(where, 10) as raw:
        for piece in pieces:
            raw.sendall(piece)
        if close:
            raw.shutdown(socket.SHUT_WR)
        return read_all(raw)


def read_all(raw: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := raw.recv(65536):
            data += piece
    return data


def answers(data: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer that says its length."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        found.append((int(head[9:12]), data[:length]))
        data = data[length:]
    return found


# Good clients


def test_an_ordinary_client_is_answered_and_kept(place):
    with httpx.Client(base_url=f"http://{place[0]}:{place[1]}") as client:
        assert client.get("/a%20b?c=d").json() == {"method": "GET", "path": "/a b", "query": "c=d"}
        for size in (0, 1, 3000, BUFFER_BYTES - 200, BUFFER_BYTES, 3_000_000):
            assert client.post("/echo", content=bytes(size)).content == bytes(size)
            assert client.post("/now", content=bytes(size)).content == bytes(size)
            assert client.post("/later", content=bytes(size)).content == bytes(size)
        reply = client.head("/x")
        assert (reply.status_code, reply.content, int(reply.headers["content-length"]) > 0) == (200, b"", True)
        assert "date" in reply.headers


def test_many_requests_at_once_are_answered_in_order(place):
    bodies = [b"%d" % number * (number % 40 + 1) for number in range(300)]
    seen = answers(talk(place, b"".join(post(body) for body in bodies)))
    assert seen == [(200, body) for body in bodies]


def test_requests_in_place_by_task_and_by_thread_keep_their_order(place):
    ways = (b"/now", b"/echo", b"/later")
    mixed = [post(b"%d" % number).replace(b"/echo", ways[number % 3]) for number in range(60)]
    assert [body for _, body in answers(talk(place, b"".join(mixed)))] == [b"%d" % number for number in range(60)]


def test_a_body_in_chunks_and_an_answer_in_chunks(place):
    def pieces() -> Iterator[bytes]:
        for number in range(50):
            yield b"%d" % number * 1000

    with httpx.Client(base_url=f"http://{place[0]}:{place[1]}") as client:
        assert client.post("/echo", content=pieces()).content == b"".join(pieces())
        assert client.get("/stream").content == b"onetwo"
        assert client.get("/x").status_code == 200


def test_a_client_that_asks_first_is_told_to_go_on(place):
    with socket.create_connection(place, 10) as raw:
        raw.sendall(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert raw.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"hello")
        assert answers(raw.recv(1000)) == [(200, b"hello")]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /x HTTP/1.0\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: TE , Close\r\n\r\n",
        post(b"a", more=b"Connection: close\r\n").replace(b"/echo", b"/now"),
    ],
)
def test_a_client_that_wants_it_so_is_answered_once(place, request_bytes):
    data = talk(place, request_bytes, close=False)
    assert data.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in data


def test_an_old_client_may_keep_its_connection(place):
    request = b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert len(answers(talk(place, request, request))) == 2


# Bad clients

BAD = {
    "no HTTP": (400, b"hello\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "another version": (400, b"GET /x HTTP/2.0\r\nHost: h\r\n\r\n"),
    "no address": (400, b"GET HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a whole URL": (400, b"GET http://h/x HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a space in the address": (400, b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a byte beyond ASCII in the address": (400, b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a very long address": (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a field without a colon": (400, b"GET /x HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n"),
    "a space before the colon": (400, b"GET /x HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n"),
    "a folded field": (400, b"GET /x HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n"),
    "a bare line feed": (400, b"GET /x HTTP/1.1\r\nHost: h\r\nA: b\nC: d\r\n\r\n"),
    "a zero byte": (400, b"GET /x HTTP/1.1\r\nHost: h\r\nA: \0\r\n\r\n"),
    "no host": (400, b"GET /x HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "very many fields": (431, b"GET /x HTTP/1.1\r\nHost: h\r\n" + b"a: b\r\n" * 101 + b"\r\n"),
    "a very long head": (431, b"GET /x HTTP/1.1\r\nHost: h\r\nA: " + b"b" * 70_000),
    "two lengths": (400, b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "the same length twice": (
        400,
        b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    ),
    "a list of lengths": (400, b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\na"),
    "a signed length": (400, b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na"),
    "a length in other digits": (400, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: ١\r\n\r\na".encode()),
    "a huge length": (413, b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999\r\n\r\n"),
    "a length without an end": (400, b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n"),
    "length and chunks": (
        400,
        b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunks of an old client": (400, b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "another coding": (501, b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "two codings": (
        501,
        b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "a chunk's length in words": (400, b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\n"),
    "a negative chunk": (400, b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"),
    "a huge chunk": (413, b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n"),
    "a chunk that is longer than it says": (
        400,
        b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ),
    "a chunk's line without an end": (
        400,
        b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 300,
    ),
    "trailers without an end": (
        431,
        b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 200,
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_request_is_answered_in_words_and_ends_the_connection(place, what):
    status, request = BAD[what]
    (seen,) = answers(talk(place, request + GET, close=False))
    assert seen[0] == status
    assert 10 < len(json.loads(seen[1])["error"]) < 300


def test_an_application_that_fails_is_a_500_and_one_that_breaks_off_is_seen_to(place):
    assert answers(talk(place, GET.replace(b"/x", b"/fails") + GET))[0][0] == 500
    assert answers(talk(place, GET + GET.replace(b"/x", b"/silent")))[0][0] == 200
    broken = talk(place, GET.replace(b"/x", b"/breaks"))
    assert b"half" in broken
    assert not broken.endswith(b"0\r\n\r\n")


def test_an_application_learns_that_its_client_is_gone():
    app = App()
    with running(app) as where:
        with socket.create_connection(where, 10) as raw:
            raw.sendall(GET.replace(b"/x", b"/leaves"))
            time.sleep(0.05)
        assert app.gone.wait(10)


def test_a_client_that_leaves_before_a_threads_answer_harms_nobody():
    app = App()
    with running(app) as where:
        with socket.create_connection(where, 10) as raw:
            raw.sendall(post(bytes(100_000)).replace(b"/echo", b"/slowly"))
            assert answers(talk(where, GET))[0][0] == 200
        app.go.set()
        assert app.gone.wait(10)
        assert answers(talk(where, post(b"a").replace(b"/echo", b"/later"))) == [(200, b"a")]


def test_a_client_that_stops_sending_may_still_read_its_answer():
    app = App()
    with running(app) as where, socket.create_connection(where, 10) as raw:
        raw.sendall(GET.replace(b"/x", b"/waits"))
        raw.shutdown(socket.SHUT_WR)
        app.go.set()
        assert answers(read_all(raw)) == [(200, b"waited")]


# Bounds


def ends_within(act: Callable[[], bytes], seconds: float) -> bytes:
    started = time.monotonic()
    data = act()
    assert time.monotonic() - started < seconds
    return data


@pytest.mark.parametrize(
    "begun",
    [b"GET /x HT", b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\nabc", post(b"x" * 100_000)[:-1]],
)
def test_a_request_that_does_not_come_whole_in_time_is_a_408(begun):
    with running(receive_s_max=0.3, linger_s_max=0.2) as where:
        ((status, body),) = answers(ends_within(lambda: talk(where, begun, close=False), 8))
    assert (status, "did not come within 0.3 s" in json.loads(body)["error"]) == (408, True)


def test_a_client_that_says_nothing_is_hung_up_on_in_time():
    with running(idle_s_max=0.3) as where:
        assert ends_within(lambda: talk(where, close=False), 8) == b""
        assert len(answers(ends_within(lambda: talk(where, GET, close=False), 8))) == 1


def test_a_client_that_reads_nothing_is_hung_up_on_in_time():
    app = App()
    with running(app, send_s_max=0.3) as where, socket.create_connection(where, 10) as raw:
        raw.sendall(GET.replace(b"/x", b"/large"))
        assert app.gone.wait(10)  # the application goes on only because nobody is there any more


def test_more_connections_than_are_taken_are_told_to_come_again():
    with running(connections_max=2) as where:
        first = [socket.create_connection(where, 10) for _ in range(2)]
        for raw in first:
            raw.sendall(GET)
            assert raw.recv(1000).startswith(b"HTTP/1.1 200")
        ((status, body),) = answers(talk(where, close=False))
        assert (status, "come again" in json.loads(body)["error"]) == (503, True)
        first[0].close()
        until(lambda: talk(where, GET).startswith(b"HTTP/1.1 200"))
        first[1].close()


def until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_bodies_under_way_take_no_more_memory_than_they_may():
    with running(bodies_bytes_max=300_000) as where:
        with socket.create_connection(where, 10) as raw:
            raw.sendall(post(bytes(200_000))[:-1])
            until(lambda: talk(where, post(bytes(200_000))).startswith(b"HTTP/1.1 503"))
            assert talk(where, post(bytes(90_000))).startswith(b"HTTP/1.1 200")
            assert talk(where, post(b"small")).startswith(b"HTTP/1.1 200")
            raw.sendall(b"\0")
            assert raw.recv(100).startswith(b"HTTP/1.1 200")
        until(lambda: talk(where, post(bytes(250_000))).startswith(b"HTTP/1.1 200"))


def test_stopping_lets_answers_under_way_end_but_not_for_ever():
    app = App()
    got: Queue[bytes] = Queue()
    with running(app, stop_s_max=0.5) as where:
        threads = [
            threading.Thread(target=lambda: got.put(talk(where, GET.replace(b"/x", b"/waits")))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        app.go.set()
    for thread in threads:
        thread.join(10)
    assert {answers(got.get(timeout=5))[0] for _ in threads} == {(200, b"waited")}
    stuck = App()
    with running(stuck, stop_s_max=0.2) as where, socket.create_connection(where, 10) as raw:
        raw.sendall(GET.replace(b"/x", b"/waits"))
        time.sleep(0.1)


# The same bytes in any pieces


class Wire:
    """Stands for a transport: keeps what is written."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_closed = self.is_paused = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def writelines(self, parts: list[bytes]) -> None:
        self.sent += b"".join(bytes(part) for part in parts)

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Everything(App):
    """Answers every path in place."""

    def now(self, head: Head, body: memoryview) -> tuple[int, list[bytes]] | None:
        assert head.path == "/echo"
        return 200, [b"content-length: %d\r\n\r\n" % len(body), bytes(body)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 80_000), min_size=1, max_size=6), st.lists(st.integers(1, 70_000), min_size=1, max_size=8)
)
def test_requests_in_pieces_of_any_size_get_the_same_answers(sizes, cuts):
    bodies = [bytes([at + 65]) * size for at, size in enumerate(sizes)]
    data = b"".join(post(body) for body in bodies)
    connection, wire = Connection(HttpServer(Everything())), Wire()
    connection.connection_made(wire)
    at = turn = 0
    while at < len(data):
        buffer = connection.get_buffer(-1)
        assert len(buffer) > 0
        size = min(cuts[turn % len(cuts)], len(buffer), len(data) - at)
        buffer[:size] = data[at : at + size]
        connection.buffer_updated(size)
        at, turn = at + size, turn + 1
    assert answers(wire.sent) == [(200, body) for body in bodies]


@given(st.binary(max_size=60))
def test_noise_is_a_head_or_a_bad_head_and_nothing_else(noise):
    try:
        head = Head(b"GET /x HTTP/1.1\r\nHost: h\r\n" + noise)
    except BadHead:
        return
    assert all(b"\n" not in value for _, value in head.headers)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.integers(1, 7), st.binary(max_size=9))
def test_chunks_in_pieces_of_any_size_give_their_body_and_what_follows(parts, step, rest):
    data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    chunks, at, used = Chunks(1000), 0, None
    while used is None:
        piece = (data + rest)[at : at + step]
        used = chunks.feed(memoryview(piece))
        at += step if used is None else used
    assert bytes(chunks.body) == b"".join(parts)
    assert at == len(data)
