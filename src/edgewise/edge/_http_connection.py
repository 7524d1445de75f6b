"""One connection of the local HTTP server: requests out of a fixed buffer, answers in order, a bound for each state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgewise.edge._http_exchange import Exchange
from edgewise.edge._http_head import BadHead, Chunks, Head
from edgewise.edge._http_job import Job

if TYPE_CHECKING:
    from edgewise.edge._http_server import HttpServer, Repeat

BUFFER_BYTES = 64 << 10
ALIGN = 64
REPEATS_MIN = 8
SMALL_BYTES = 64 << 10  # up to here, joining an answer's parts is cheaper than handing them on one by one
END = b"\r\n\r\n"
REASONS = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
}


class Connection(asyncio.BufferedProtocol):
    """Reads requests and hands them to the server's application.

    An application that can answer at once is asked in place, on the bytes as they came; any other runs as a task, and
    until it has answered nothing more is taken out of the buffer.
    """

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._bytes = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._bytes)
        self._start = self._end = 0  # what is read and not yet used
        self._head: Head | None = None  # of a request whose body is still coming
        self._body: memoryview | None = None  # where a body is read to that was not in the buffer at once
        self._own: bytearray | None = None  # what ``_body`` is part of
        self._got = 0
        self._chunks: Chunks | None = None
        self._held = 0  # bytes of the server's allowance for bodies
        self._exchange: Exchange | Job | None = None  # a task or thread that answers
        self._again: Repeat | None = None
        self._last: Head | None = None  # and how often in a row it came
        self._same = 0
        self._has_ended = False  # the client says no more
        self._is_full = False  # the client reads slower than we answer
        self._is_deaf = False  # an answer was the last one; what still comes is thrown away
        self._is_waiting = False  # reading is paused until there is room
        self.transport: Any = None
        self.since = 0  # the server's tick at which the present state began

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.since = self._server.tick
        if not self._server.welcome(self):
            self.refuse(503, "too many connections are open; come again in a moment")

    def connection_lost(self, error: Exception | None) -> None:
        del error  # whoever hung up has a reason of their own
        self._release()
        if self._exchange is not None:
            self._exchange.hung_up()
        self._server.forget(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        if self._body is not None:
            return self._body[self._got :]
        if self._is_deaf:
            return self._view
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_deaf or (self._again is not None and self._answer_again(nbytes)):
            return
        try:
            if self._body is not None:
                self._got += nbytes
                if self._got == len(self._body):
                    self._body_is_whole(self._body)
                    self._advance()
            else:
                self._end += nbytes
                self._advance()
        except BadHead as error:
            self.refuse(error.status, str(error))

    def _answer_again(self, nbytes: int) -> bool:
        """Answer a request that begins as those before it did, where it came whole and alone."""
        again = self._again
        assert again is not None
        if (
            nbytes != again.size
            or self._end
            or self._body is not None
            or self._exchange is not None
            or self._is_full
            or not self._bytes.startswith(again.prefix)
            or self._server.is_stopping
        ):
            return False
        answer = again.answer(self._view[len(again.prefix) : nbytes])
        if answer is None:
            return False
        self.since = self._server.tick
        self.transport.write(self._server.line(200) + answer)
        return True

    def eof_received(self) -> bool:
        """The client has said all it will; whether the connection stays, for answers that it may still read."""
        self._has_ended = True
        if self._exchange is not None:
            self._exchange.client_ended()
        return not self._is_idle and self._server.scheme == "http"  # TLS cannot be half closed

    def pause_writing(self) -> None:
        self._is_full = True
        self.since = self._server.tick

    def resume_writing(self) -> None:
        self._is_full = False
        self.since = self._server.tick
        if self._exchange is not None:
            self._exchange.room()
        else:
            self._go_on()

    # Reading

    def _advance(self) -> None:
        """Take whole requests out of the buffer for as long as they can be answered."""
        while self._start < self._end and self._exchange is None and not self._is_full and not self._is_deaf:
            if self._chunks is not None:
                self._read_chunks()
                continue
            at = self._bytes.find(END, self._start, self._end)
            if at < 0:
                self._wait_for_head()
                return
            head = self._server.head(bytes(self._view[self._start : at]))
            self._start = at + 4
            self._begin(head)
            if self._body is not None:
                return
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._bytes):
            self._make_room()

    def _wait_for_head(self) -> None:
        if self._end - self._start > self._limits.head_bytes_max:
            raise BadHead(431, f"the request's head has over {self._limits.head_bytes_max} bytes")
        if self._end == len(self._bytes):
            self._make_room()

    def _make_room(self) -> None:
        """Move what is unused to the front; where there is nothing to gain, wait until it is used."""
        if self._start == 0:
            self._is_waiting = True
            self.transport.pause_reading()
            return
        rest = self._end - self._start
        self._bytes[:rest] = bytes(self._view[self._start : self._end])
        self._start, self._end = 0, rest

    def _begin(self, head: Head) -> None:
        have = self._end - self._start
        if head.length <= have and not head.chunked:
            body = self._view[self._start : self._start + head.length]
            self._start += head.length
            self._handle(head, body)
            return
        if head.length > self._limits.body_bytes_max:
            raise BadHead(413, f"the body has {head.length} bytes, at most {self._limits.body_bytes_max} are taken")
        self._hold(head.length)
        self._head = head
        self.since = self._server.tick
        if head.expects and have == 0:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if head.chunked:
            self._chunks = Chunks(self._limits.body_bytes_max)
            return
        # Tensors follow JSON of any length; shifted so that the first lies where numpy can use it in place.
        shift = -head.raw_at % ALIGN
        self._own = self._server.buffer(shift + head.length)
        self._body = memoryview(self._own)[shift : shift + head.length]
        self._body[:have] = self._view[self._start : self._end]
        self._got, self._start, self._end = have, 0, 0

    def _read_chunks(self) -> None:
        assert self._chunks is not None
        used = self._chunks.feed(self._view[self._start : self._end])
        self._hold(len(self._chunks.body))
        if used is None:
            self._start = self._end
            return
        self._start += used
        body, self._chunks = self._chunks.body, None
        self._body_is_whole(memoryview(body))

    def _body_is_whole(self, body: memoryview) -> None:
        head, self._head, self._body = self._head, None, None
        assert head is not None
        self._handle(head, body)

    def _hold(self, size: int) -> None:
        """Take what a body needs out of the server's allowance; small ones are bounded by the number of connections."""
        if size <= SMALL_BYTES or size <= self._held:
            return
        if not self._server.allow(size - self._held):
            raise BadHead(503, "the bodies under way take all the memory they may; come again in a moment")
        self._held = size

    def _release(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            self._server.take_back(own)
        if self._held:
            self._server.give_back(self._held)
            self._held = 0

    # Answering

    def _handle(self, head: Head, body: memoryview) -> None:
        self.since = self._server.tick
        answer = self._server.answer_now(head, body)
        if answer is not None:
            self.write(answer)
            self._note(head, body)
            self.answered(head)
            return
        # Only an answer in place may use the buffer itself: what comes next is written there.
        own = bytes(body) if body.obj is self._bytes else body
        job = Job(self, head)
        if self._server.answer_later(head, own, job.done):
            self._exchange = job
            return
        self._exchange = exchange = Exchange(self, head, own, self._server)
        exchange.start()

    def _note(self, head: Head, body: memoryview) -> None:
        """A head that comes again and again is worth its own way."""
        self._same = self._same + 1 if head is self._last else 0
        self._last = head
        if self._same == REPEATS_MIN or (self._same and self._same % 256 == 0):
            self._again = self._server.repeat(head, body)

    def write(self, parts: Sequence[Any]) -> None:
        """Send an answer's parts."""
        if sum(map(len, parts)) <= SMALL_BYTES:
            self.transport.write(b"".join(parts))
        else:
            self.transport.writelines(parts)

    def answered(self, head: Head, *, last: bool = False) -> None:
        """An answer is out."""
        self._exchange = None
        self._release()
        self.since = self._server.tick
        if last or not head.keeps or self._server.is_stopping:
            self._is_deaf = True
            self.transport.close()

    def answer(self, head: Head, status: int, parts: Sequence[Any]) -> None:
        """Send the answer of a thread, and go on."""
        self.write([self._server.line(status), *parts])
        self.exchange_ended(head, whole=True, last=False)

    def exchange_ended(self, head: Head, *, whole: bool, last: bool) -> None:
        """As `answered`, from a task: the next request may be waiting already.

        Args:
            whole: without it the client must see that the answer broke off.
            last: the answer said that the connection ends with it.
        """
        if not whole:
            self.transport.abort()
        self.answered(head, last=last)
        self._go_on()

    def _go_on(self) -> None:
        try:
            self._advance()
        except BadHead as error:
            self.refuse(error.status, str(error))
        if self._has_ended and self._is_idle:
            self.transport.close()
        elif self._is_waiting and self._end < len(self._bytes) and not self._is_deaf:
            self._is_waiting = False
            self.transport.resume_reading()

    def refuse(self, status: int, words: str) -> None:
        """Say why this connection ends, and end it."""
        body = json.dumps({"error": words}).encode()
        self._release()
        self._body, self._chunks, self._is_deaf = None, None, True
        head = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        fields = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.since = self._server.tick
        self.transport.write(self._server.line(status) + fields.encode() + b"\r\n" + body)
        if self.transport.can_write_eof():
            # Closed with unread bytes, the system would throw the answer away; the rest is read until the client ends.
            self.transport.write_eof()
        else:
            self.transport.close()

    # Bounds

    @property
    def _is_idle(self) -> bool:
        """Whether nothing can follow from what came so far: at most the beginning of a request is here."""
        return self._exchange is None and not self._is_full

    @property
    def is_full(self) -> bool:
        """Whether the client has not read what was sent."""
        return self._is_full

    @property
    def is_busy(self) -> bool:
        """Whether an answer is being made."""
        return self._exchange is not None

    def look(self, tick: int) -> None:
        """End the connection if its present state has lasted too long."""
        ticks = tick - self.since
        limits = self._limits
        if self._is_deaf:
            if ticks * limits.tick_s > limits.linger_s_max:
                self.transport.abort()
        elif self._is_full:
            if ticks * limits.tick_s > limits.send_s_max:
                self.transport.abort()
        elif self._exchange is not None:
            return  # the application has bounds of its own
        elif self._head is not None or self._start < self._end:
            if ticks * limits.tick_s > limits.receive_s_max:
                self.refuse(408, f"the request did not come within {limits.receive_s_max} s")
        elif ticks * limits.tick_s > limits.idle_s_max:
            self.transport.close()
