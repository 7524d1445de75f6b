"""One kept-alive HTTP/1.1 connection with bounded answers and one deadline a call: what a V2 client is made of."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from edgewise.ports._http import REFUSED, LinkDown, Refused
from edgewise.wire import NotTrusted, NotValid

HEAD_BYTES_MAX = 64 << 10
ALIGN = 16
SMALL_BYTES = 32 << 10  # up to here, one piece is sent quicker than several


class Reply(NamedTuple):
    """An HTTP answer.

    ``raw_at`` is where the binary tensors begin in the body; its length where there are none.
    """

    status: int
    body: memoryview
    raw_at: int


class _Head(NamedTuple):
    """What matters of an answer's head."""

    status: int
    length: int | None
    json_bytes: int | None
    chunked: bool
    stays: bool


class _HungUp(Exception):
    """The other side closed the connection before its answer was whole."""


class KeptSocket:
    """A connection to one address: made at the first call, kept, and made anew once where it has gone stale.

    Args:
        url: ``http://host:port``, ``https://host:port`` or ``unix:///path``; a path behind the port is kept as prefix.
        tls: for https; the system's authorities without it.
        reply_bytes_max: longer answers are refused.
    Raises:
        NotValid: not such an address.
    """

    def __init__(self, url: str, *, tls: ssl.SSLContext | None, reply_bytes_max: int) -> None:
        self.url = url.rstrip("/")
        parts = _parts(url)
        self._unix = unquote(parts.path) if parts.scheme == "unix" else None
        self.prefix = "" if self._unix else parts.path.rstrip("/")
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self.host_header = "localhost" if self._unix else parts.netloc.rpartition("@")[2]
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._reply_bytes_max = reply_bytes_max
        self._bytes = bytearray(HEAD_BYTES_MAX)
        self._buffer = memoryview(self._bytes)
        self._last_head = b""
        self._last = _Head(0, None, None, False, False)
        self._socket: Any = None  # a socket or an SSLSocket
        self._timeout_s = -1.0  # what the socket was last told

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def exchange(self, parts: Sequence[bytes | memoryview], timeout_s: float) -> Reply:
        """Send a request, given as pieces of bytes, and read its whole answer.

        Raises:
            LinkDown: no answer in this time. NotTrusted: one side does not trust the other.
            Refused: what came is no HTTP answer, or a longer one than is taken.
        """
        ends = time.monotonic() + timeout_s
        kept = self._socket is not None
        try:
            return self._try(parts, timeout_s, ends)
        except _HungUp as error:
            if not kept:  # a fresh connection without an answer: trying again would end the same way
                raise self._hung_up() from error
        try:
            return self._try(parts, max(ends - time.monotonic(), 0.001), ends)
        except _HungUp as error:
            raise self._hung_up() from error

    def _hung_up(self) -> LinkDown:
        why = "; if that stays so, its authority may not know this client's certificate" if self._tls else ""
        return LinkDown(f"the server at {self.url} ended the connection without an answer{why}")

    def _try(self, parts: Sequence[bytes | memoryview], timeout_s: float, ends: float) -> Reply:
        whole = False
        try:
            if self._socket is None:
                self._socket = self._connect(timeout_s)
                self._timeout_s = -1.0
            if timeout_s != self._timeout_s:
                self._allow(timeout_s)
            self._send(parts, ends)
            reply, stays = self._receive(ends)
            whole = stays
            return reply
        except (TimeoutError, BlockingIOError) as error:
            raise LinkDown(
                f"the server at {self.url} did not answer within the time it was given", code="timeout"
            ) from error
        except (ConnectionError, ssl.SSLEOFError) as error:
            raise _HungUp from error
        except ssl.SSLError as error:
            raise self._distrust(error) from error
        except OSError as error:
            raise self._down(error) from error
        finally:
            if not whole:  # nothing half-read may be taken for the next answer
                self.close()

    def _connect(self, timeout_s: float) -> Any:
        try:
            if self._unix is not None:
                return _connect_unix(self._unix, timeout_s)
            plain = socket.create_connection((self._host, self._port), timeout_s)
        except ConnectionError as error:
            raise self._down(error) from error
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            plain.setblocking(True)
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._host)
        except BaseException:
            plain.close()
            raise

    def _down(self, error: OSError) -> LinkDown:
        return LinkDown(f"no server answers at {self.url} ({error.strerror or error})")

    def _distrust(self, error: ssl.SSLError) -> NotTrusted | LinkDown:
        if isinstance(error, ssl.SSLCertVerificationError):
            return NotTrusted(
                f"whoever answers at {self.url} has no certificate that this client trusts ({error.verify_message}); "
                "check the address, the authority given, and this machine's clock",
                code="server_certificate",
            )
        if REFUSED.search(str(error)):
            return NotTrusted(
                f"the server at {self.url} refuses this client's certificate ({error.reason})",
                code="certificate_refused",
            )
        return LinkDown(f"the connection to {self.url} broke ({error.reason or error})")

    def _allow(self, timeout_s: float) -> None:
        """Bound each step on the socket. By the kernel where it can: Python's own way asks `poll` before every step."""
        if self._tls is not None:
            self._socket.settimeout(timeout_s)
        else:
            whole, part = divmod(max(round(timeout_s * 1e6), 1), 1_000_000)
            value = struct.pack("@ll", whole, part)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
        self._timeout_s = timeout_s

    def _go_on(self, ends: float) -> None:
        """Called between two steps of one call, so that a server that drips cannot stretch the deadline."""
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._allow(left)

    def _send(self, parts: Sequence[bytes | memoryview], ends: float) -> None:
        size = sum(map(len, parts))
        if self._tls is not None or size <= SMALL_BYTES:
            self._socket.sendall(b"".join(parts))
            return
        sent = self._socket.sendmsg(parts)
        if sent == size:
            return
        views = [memoryview(part) for part in parts if len(part)]
        while True:
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if not views:
                return
            views[0] = views[0][sent:]
            self._go_on(ends)
            sent = self._socket.sendmsg(views)

    def _receive(self, ends: float) -> tuple[Reply, bool]:
        got, head_ends = self._receive_head(ends)
        head = self._head(self._buffer[: head_ends + 2].tobytes())
        came = self._buffer[head_ends + 4 : got]
        if head.chunked:
            body = self._chunked(bytearray(came), ends)
        else:
            body = self._sized(came, head.length, head.json_bytes or 0, ends)
        raw_at = len(body) if head.json_bytes is None else head.json_bytes
        if raw_at > len(body):
            raise self._invalid("names more bytes of JSON than it has")
        return Reply(head.status, body, raw_at), head.stays

    def _head(self, data: bytes) -> _Head:
        """What the head says. For a second, until the date in it changes, an answer's head is the same."""
        if data == self._last_head:
            return self._last
        head = data.lower()
        if not head.startswith(b"http/1.") or not head[9:12].isdigit():
            raise self._invalid("is no HTTP answer")
        self._last = _Head(
            status=int(head[9:12]),
            length=_number(head, b"\r\ncontent-length:"),
            json_bytes=_number(head, b"\r\ninference-header-content-length:"),
            chunked=b"\r\ntransfer-encoding:" in head,
            stays=b"\r\nconnection: close" not in head and head.startswith(b"http/1.1"),
        )
        self._last_head = data
        return self._last

    def _receive_head(self, ends: float) -> tuple[int, int]:
        """How many bytes came, and where the headers end in them."""
        buffer = self._buffer
        got = 0
        while True:
            size = self._socket.recv_into(buffer[got:])
            if not size:
                raise ConnectionResetError("closed")
            at = self._bytes.find(b"\r\n\r\n", max(got - 3, 0), got + size)
            got += size
            if at >= 0:
                return got, at
            if got == len(buffer):
                raise self._invalid(f"has over {HEAD_BYTES_MAX} bytes of headers")
            self._go_on(ends)

    def _sized(self, came: memoryview, length: int | None, json_bytes: int, ends: float) -> memoryview:
        if length is None:
            raise self._invalid("does not say how long it is")
        if length > self._reply_bytes_max or len(came) > length:
            raise self._invalid(f"has {max(length, len(came))} bytes, {self._reply_bytes_max} are taken")
        # The binary tensors follow JSON of any length; shifted so that numpy can use the first in place.
        shift = -json_bytes % ALIGN
        body = memoryview(bytearray(shift + length))[shift:]
        body[: len(came)] = came
        got = len(came)
        while got < length:
            self._go_on(ends)
            size = self._socket.recv_into(body[got:])
            if not size:
                raise ConnectionResetError("closed")
            got += size
        return body

    def _chunked(self, came: bytearray, ends: float) -> memoryview:
        """A body in chunks, as proxies like to make them; without trailers."""
        body = bytearray()
        at = 0
        while True:
            line_ends = came.find(b"\r\n", at)
            if line_ends < 0:
                self._more(came, ends)
                continue
            try:
                size = int(came[at:line_ends].partition(b";")[0], 16)
            except ValueError:
                raise self._invalid("has a chunk without a length") from None
            if not 0 <= size <= self._reply_bytes_max - len(body):
                raise self._invalid(f"has over the {self._reply_bytes_max} bytes that are taken")
            at = line_ends + 2
            while len(came) < at + size + 2:
                self._more(came, ends)
            if size == 0:
                if came[at : at + 2] != b"\r\n" or len(came) != at + 2:
                    raise self._invalid("goes on behind its end")
                return memoryview(body)
            body += came[at : at + size]
            del came[: at + size + 2]
            at = 0

    def _more(self, came: bytearray, ends: float) -> None:
        if len(came) > self._reply_bytes_max + HEAD_BYTES_MAX:
            raise self._invalid("has over the bytes that are taken")
        self._go_on(ends)
        piece = self._socket.recv(HEAD_BYTES_MAX)
        if not piece:
            raise ConnectionResetError("closed")
        came += piece

    def _invalid(self, what: str) -> Refused:
        return Refused(
            f"what answers at {self.url} {what}; is this a server of this protocol?", code="answer_invalid", status=502
        )


def _connect_unix(path: str, timeout_s: float) -> socket.socket:
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        plain.settimeout(timeout_s)
        plain.connect(path)
        plain.setblocking(True)
    except BaseException:
        plain.close()
        raise
    return plain


def _number(head: bytes, name: bytes) -> int | None:
    at = head.find(name)
    if at < 0:
        return None
    text = head[at + len(name) : head.find(b"\r", at + len(name))].strip()
    return int(text) if text.isdigit() and len(text) < 16 else None


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in ("http", "https", "unix"):
        raise NotValid(
            f"{url!r} is not the address of a server; needs one such as http://127.0.0.1:8081, https://host:8443 or "
            "unix:///run/edge.sock",
            code="url_invalid",
        )
    return parts
