"""One request before an ASGI application, as a task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from edgewise.edge._http_head import Head
from edgewise.policy import error_words

if TYPE_CHECKING:
    from edgewise.edge._http_connection import Connection
    from edgewise.edge._http_server import HttpServer

log = logging.getLogger("edgewise.edge.http")


class Exchange:
    """What an application receives and sends for one request."""

    def __init__(self, connection: Connection, head: Head, body: bytes | memoryview, server: HttpServer) -> None:
        self._connection = connection
        self._head = head
        self._body: bytes | memoryview | None = body
        self._server = server
        self._gone = asyncio.Event()
        self._ended = asyncio.Event()
        self._room = asyncio.Event()
        self._status = 0  # 0: nothing was said yet
        self._fields: list[tuple[bytes, bytes]] = []
        self._is_begun = self._is_ended = self._is_chunked = self._is_last = False

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def hung_up(self) -> None:
        """The client is gone: who waits for it or for room learns so."""
        self._gone.set()
        self._ended.set()
        self._room.set()

    def client_ended(self) -> None:
        """The client says no more. It may still read, so the answer goes out; who waits for it to leave learns so."""
        self._ended.set()

    def room(self) -> None:
        """The client has read: there is room for more."""
        self._room.set()

    async def _run(self) -> None:
        try:
            await self._server.app(self._scope(), self._receive, self._send)
        except Exception as error:
            # Its text may hold what the client sent, which does not belong into a log.
            log.error("%s failed: %s", self._head.method, error_words(error, names=False))
            if not self._status:
                await self._send({"type": "http.response.start", "status": 500, "headers": []})
                await self._send({"type": "http.response.body", "body": b'{"error": "the server failed"}'})
        if not self._gone.is_set():
            self._connection.exchange_ended(self._head, whole=self._is_ended, last=self._is_last)

    def _scope(self) -> dict[str, Any]:
        head, transport = self._head, self._connection.transport
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": head.method,
            "scheme": self._server.scheme,
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers,
            "client": _address(transport.get_extra_info("peername")),
            "server": _address(transport.get_extra_info("sockname")),
        }

    async def _receive(self) -> dict[str, Any]:
        if self._body is None:
            await self._ended.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        if not isinstance(body, bytes) and not self._server.takes_buffers(self._head):
            body = bytes(body)
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status, self._fields = message["status"], list(message.get("headers", ()))
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._gone.is_set() or self._is_ended:
            return
        parts: list[bytes] = []
        if not self._is_begun:
            self._is_begun = True
            parts.append(self._begin(None if more else len(body)))
        if self._head.method != "HEAD":
            if self._is_chunked:
                parts += [b"%x\r\n" % len(body), body, b"\r\n"] if body else []
                parts += [] if more else [b"0\r\n\r\n"]
            else:
                parts.append(body)
        self._is_ended = not more
        self._room.clear()
        self._connection.write(parts)
        if more and self._connection.is_full:
            await self._room.wait()

    def _begin(self, length: int | None) -> bytes:
        """The answer's head; ``length`` is None where more than one part of the body is to come."""
        names = {name.lower() for name, _ in self._fields}
        if b"content-length" not in names:
            if length is not None:
                self._fields.append((b"content-length", b"%d" % length))
            else:
                self._is_chunked = True
                self._fields.append((b"transfer-encoding", b"chunked"))
        if not self._head.keeps and b"connection" not in names:
            self._fields.append((b"connection", b"close"))
        self._is_last = (b"connection", b"close") in self._fields
        return self._server.line(self._status) + _lines(self._fields) + b"\r\n"


def _lines(fields: list[tuple[bytes, bytes]]) -> bytes:
    lines = b"".join([b"%s: %s\r\n" % field for field in fields])
    assert lines.count(b"\n") == lines.count(b"\r") == len(fields), "a header field holds a line of its own"
    return lines


def _address(value: Any) -> tuple[str, int] | None:
    return (str(value[0]), int(value[1])) if isinstance(value, tuple) else None
