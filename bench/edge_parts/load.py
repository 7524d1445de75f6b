"""Clients as thin as they get: one blocking socket, or a few over epoll; the request's bytes are made once."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Iterator

LENGTH = b"\r\ncontent-length:"  # with the line's start: the protocol has a header that ends the same


def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield made


def answer(sock: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of one answer. Raises ConnectionError where it ends early."""
    data = b""
    while (end := whole(data)) is None:
        more = sock.recv(1 << 20)
        if not more:
            raise ConnectionError("the server closed the connection")
        data += more
    cut = data.index(b"\r\n\r\n") + 4
    return data[:cut], data[cut:end]


def whole(data: bytes) -> int | None:
    """Where the answer ends, None while some of it is missing."""
    cut = data.find(b"\r\n\r\n")
    if cut < 0:
        return None
    head = data[:cut].lower()
    if LENGTH in head:
        size = int(head.split(LENGTH, 1)[1].split(b"\r\n", 1)[0])
        return cut + 4 + size if len(data) >= cut + 4 + size else None
    return len(data) if data.endswith(b"0\r\n\r\n") else None  # chunked


def one_by_one(port: int, request: bytes, count: int) -> list[int]:
    """Latencies of `count` requests on one connection, ns. Answers have the length of the first, which was looked at.

    Reading an answer as HTTP is a client's cost, not the server's. Raises ConnectionError: one has another length.
    """
    clock, found = time.perf_counter_ns, []
    with connected(port) as sock:
        send, receive = sock.sendall, sock.recv
        send(request)
        size = sum(map(len, answer(sock)))
        for _ in range(count):
            began = clock()
            send(request)
            got = len(receive(1 << 16))
            while got < size:
                got += len(receive(1 << 16))
            found.append(clock() - began)
            if got != size:
                raise ConnectionError(f"an answer of {got} bytes, the first had {size}")
    return found


def at_once(port: int, request: bytes, connections: int, seconds: float) -> float:
    """Answers a second with so many requests under way all the time."""
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        held: dict[socket.socket, bytes] = {}
        for _ in range(connections):
            sock = stack.enter_context(connected(port))
            sock.sendall(request)
            held[sock] = b""
            selector.register(sock, selectors.EVENT_READ)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for key, _ in selector.select(1):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                data = held[sock] + sock.recv(1 << 20)
                if whole(data) is None:
                    held[sock] = data
                    continue
                held[sock] = b""
                done += 1
                sock.sendall(request)
        return done / (time.perf_counter() - began)
