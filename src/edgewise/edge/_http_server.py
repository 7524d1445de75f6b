"""The device's own HTTP/1.1 server, for ASGI applications that may also answer in place.

Of a request for a small network, a general server spends several times what the network itself takes. This one reads
into a fixed buffer, remembers heads by their bytes, and asks the application on the spot (docs/edge-serve.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Protocol

import uvloop

from edgewise.edge._http_connection import REASONS, Connection
from edgewise.edge._http_head import Head
from edgewise.policy import error_words

log = logging.getLogger("edgewise.edge.http")
HEADS_MAX = 256  # remembered request heads
PAGE_BYTES = 4096
HEAD_BYTES_MAX = 2048  # longer ones are read anew each time
App = Callable[[MutableMapping[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[None]]


class Repeat(Protocol):
    """Answers requests that begin with the same bytes."""

    prefix: bytes
    size: int

    def answer(self, raw: memoryview) -> bytes | None:
        """A whole 200 answer from its first header field on; None: this request must be looked at in full."""


Done = Callable[[int, Sequence[Any]], None]
"""Told a status, and the parts of a whole answer from its first header field on; from any thread."""
Now = Callable[[Head, memoryview], tuple[int, Sequence[Any]] | None]
"""A status, and the parts of a whole answer from its first header field on; None: ask by ASGI."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpLimits:
    """The bounds of the local HTTP server."""

    head_bytes_max: int = 32_768
    body_bytes_max: int = 64_000_000
    bodies_bytes_max: int = 256_000_000  # of all bodies that are being received or answered
    spare_bytes_max: int = 4_000_000  # buffers for bodies that are kept for the next ones
    connections_max: int = 512
    receive_s_max: float = 60  # from a request's first byte to its last
    send_s_max: float = 60  # for which a client may read nothing
    idle_s_max: float = 75
    linger_s_max: float = 5  # after a last answer
    stop_s_max: float = 5  # for answers under way when the server stops
    tick_s: float = 2.5  # how exactly these times are kept


class HttpServer:
    """A server of one application on one socket.

    Args:
        app: an ASGI application. Where it has a method ``now``, that is asked first; where it has
            ``takes_buffers``, that says for which requests a body may come as a memoryview.
        tls: for HTTPS.
    """

    def __init__(self, app: Any, *, tls: ssl.SSLContext | None = None, limits: HttpLimits | None = None) -> None:
        self.app: App = app
        self.limits = limits or HttpLimits()
        self.scheme = "http" if tls is None else "https"
        self.takes_buffers: Callable[[Head], bool] = getattr(app, "takes_buffers", lambda _head: False)
        self.tick = 0
        self.is_stopping = False
        self._tls = tls
        self._now: Now | None = getattr(app, "now", None)
        self._later: Callable[[Head, bytes | memoryview, Done], bool] | None = getattr(app, "later", None)
        self._repeat: Callable[[Head, memoryview], Repeat | None] | None = getattr(app, "repeat", None)
        self._heads: dict[bytes, Head] = {}
        self._connections: set[Connection] = set()
        self._held = 0
        self._spare: list[bytearray] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._stop_asked = False
        self._date_at, self._date, self._good = 0, b"", b""

    # For its owner

    @property
    def should_exit(self) -> bool:
        """Whether it was told to stop; set it, from any thread, to stop it."""
        return self._stop_asked

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._stop_asked = value
        if value and self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stop.set)

    def run(self, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        """Serve until a signal (in the main thread) or `should_exit`."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, _signals(self, runner.get_loop()):
            runner.run(self._serve(listener, on_ready))

    async def _serve(self, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(_not_ours)
        times: dict[str, Any] = {} if self._tls is None else {"ssl_handshake_timeout": 10, "ssl_shutdown_timeout": 2}
        server = await self._loop.create_server(lambda: Connection(self), sock=listener.dup(), ssl=self._tls, **times)
        on_ready()
        if self._stop_asked:
            self._stop.set()
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self.limits.tick_s)
            self._look()
        server.close()
        await self._finish()

    async def _finish(self) -> None:
        """Answers under way are ended, bounded in time; the rest is closed."""
        self.is_stopping = True
        ends = time.monotonic() + self.limits.stop_s_max
        for connection in list(self._connections):
            if not connection.is_busy:
                connection.transport.close()
        while any(connection.is_busy for connection in self._connections) and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        for connection in list(self._connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    def _look(self) -> None:
        self.tick += 1
        for connection in list(self._connections):
            connection.look(self.tick)

    # For its connections

    def welcome(self, connection: Connection) -> bool:
        """Whether there is room for one more."""
        self._connections.add(connection)
        return len(self._connections) <= self.limits.connections_max

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def allow(self, size: int) -> bool:
        """Take so many bytes out of the allowance for bodies, if they are left."""
        if self._held + size > self.limits.bodies_bytes_max:
            return False
        self._held += size
        return True

    def give_back(self, size: int) -> None:
        self._held -= size

    def buffer(self, size: int) -> bytearray:
        """At least so many bytes, of whatever content. A buffer that was used before is already in memory."""
        size = -(-size // PAGE_BYTES) * PAGE_BYTES
        for at, spare in enumerate(self._spare):
            if len(spare) == size:
                return self._spare.pop(at)
        return bytearray(size)

    def take_back(self, buffer: bytearray) -> None:
        """Keep a buffer for the next body of its size, if there is room and nobody looks at it any more."""
        held = sum(map(len, self._spare))
        # 3: the caller's name, ours, and the argument of the question itself.
        if held + len(buffer) <= self.limits.spare_bytes_max and sys.getrefcount(buffer) <= 3:
            self._spare.append(buffer)

    def head(self, data: bytes) -> Head:
        """The head in these bytes. Raises BadHead."""
        head = self._heads.get(data)
        if head is None:
            head = Head(data)
            if len(data) <= HEAD_BYTES_MAX:
                if len(self._heads) >= HEADS_MAX:
                    self._heads.clear()
                self._heads[data] = head
        return head

    def answer_now(self, head: Head, body: memoryview) -> Sequence[Any] | None:
        """The application's answer in place, with its status line; None: it must be asked by ASGI."""
        if self._now is None or not head.keeps or self.is_stopping:
            return None
        answer = self._now(head, body)
        return None if answer is None else [self.line(answer[0]), *answer[1]]

    def answer_later(self, head: Head, body: bytes | memoryview, done: Done) -> bool:
        """Whether the application answers on a thread, and tells ``done``."""
        return self._later is not None and head.keeps and not self.is_stopping and self._later(head, body, done)

    def repeat(self, head: Head, body: memoryview) -> Repeat | None:
        """The application's quickest way for requests that begin as this one does."""
        return None if self._repeat is None or not head.keeps else self._repeat(head, body)

    def line(self, status: int) -> bytes:
        """An answer's first line, with the date."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at, self._date = now, formatdate(now, usegmt=True).encode()
            self._good = b"HTTP/1.1 200 OK\r\ndate: %s\r\n" % self._date
        if status == 200:
            return self._good
        return b"HTTP/1.1 %d %s\r\ndate: %s\r\n" % (status, REASONS.get(status, b"-"), self._date)


def _not_ours(_loop: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
    """What went wrong outside a request: a failed handshake is the client's affair, the rest is logged in words."""
    error = about.get("exception")
    if isinstance(error, OSError):  # TLS and sockets
        log.debug("a connection broke: %s", type(error).__name__)
    else:
        log.error(
            "the server had a failure: %s", about["message"] if error is None else error_words(error, names=False)
        )


@contextlib.contextmanager
def _signals(server: HttpServer, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """SIGTERM and SIGINT stop the server, where it runs in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
