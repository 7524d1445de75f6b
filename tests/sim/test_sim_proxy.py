"""The fault proxy on real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from edgewise.sim import FaultProxy, Weather

GONE = "reset|not connected|Broken pipe"  # what a vanished peer is called depends on the moment


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def talk(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def read_to_the_end(connection: socket.socket) -> int:
    """Bytes received until the connection is reset; an orderly end counts as a reset, too."""
    got = 0
    while part := connection.recv(4096):
        got += len(part)
        connection.sendall(b"x")
    raise ConnectionResetError("reset by an orderly end")


def ask(port: int, data: bytes) -> bytes:
    """The answer; an empty one counts as a reset."""
    found = exchange(port, data)
    if not found:
        raise ConnectionResetError("reset: empty answer")
    return found


def exchange(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while part := connection.recv(65536):
            found += part
        return found


def test_in_fine_weather_every_byte_passes(echo_port: int) -> None:
    with FaultProxy(("127.0.0.1", echo_port)) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
            connection.sendall(b"x" * 100_000)
            found = b""
            while len(found) < 100_000:
                found += connection.recv(65536)
        assert found == b"x" * 100_000
        assert proxy.bytes_carried >= 200_000


def test_a_cut_link_resets_what_is_open_and_refuses_what_is_new(echo_port: int) -> None:
    with FaultProxy(("127.0.0.1", echo_port)) as proxy:
        connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
        connection.sendall(b"hello")
        assert connection.recv(5) == b"hello"
        proxy.weather = Weather(up=False)
        with pytest.raises(OSError, match=GONE):
            read_to_the_end(connection)
        connection.close()
        with pytest.raises(OSError, match=GONE):
            ask(proxy.port, b"hello")
        proxy.weather = Weather()
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as again:
            again.sendall(b"back")
            assert again.recv(4) == b"back"


def test_a_connection_ends_after_its_bytes(echo_port: int) -> None:
    with FaultProxy(("127.0.0.1", echo_port)) as proxy:
        proxy.weather = Weather(reset_after_bytes=1000)
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
            connection.sendall(b"x" * 5000)
            with pytest.raises(OSError, match=GONE):
                read_to_the_end(connection)
        assert proxy.bytes_carried <= 2 * 5000


def test_delay_is_added(echo_port: int) -> None:
    with FaultProxy(("127.0.0.1", echo_port)) as proxy:
        proxy.weather = Weather(delay_s=0.05)
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
            started = time.monotonic()
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
        assert time.monotonic() - started >= 0.1


def test_no_target_is_a_reset_not_a_hang() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with FaultProxy(("127.0.0.1", port)) as proxy, pytest.raises(OSError, match=GONE):
        ask(proxy.port, b"x")
