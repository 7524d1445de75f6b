"""Bytes from an untrusted server: bounded in length, in silence and in rate, and resumed where they broke off."""

from __future__ import annotations

import os
import ssl
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import httpcore

from edgewise.ports._clock import Clock, SystemClock
from edgewise.ports._files import disk_error
from edgewise.ports._http import CHUNK_BYTES, LinkDown
from edgewise.ports._patience import RATE_MIN_BYTES_S, Patience
from edgewise.wire import NotNow, NotTrusted, NotValid

PAGE_BYTES_MAX = 4096  # of an error page; a longer one costs a new connection instead
# Everything that RFC 3986 lets stand in a path or query, and % because a TUF target path is a URL path already.
SAFE = "/%:@!$&'()*+,;=?-._~"


class NotServed(NotNow):
    """The server has no such file: it may not be published yet.

    Attributes:
        status: the HTTP status, 404 for a server in this process.
    """

    def __init__(self, message: str, *, status: int = 404) -> None:
        super().__init__(message, code="not_served")
        self.status = status


class Fetcher(Protocol):
    """Reads files from a static server. Nothing that comes back is trusted; whoever asks checks and counts it."""

    def open(self, url: str, *, offset: int = 0) -> Generator[bytes, None, None]:
        """A file from a byte on, piece by piece; close the generator to hang up early.

        Raises:
            NotServed: there is no such file. TooSlow: it came below the least rate. LinkDown: anything else.
        """


def _never(_: str) -> bool:
    return False


class MemoryFetcher:
    """A static server in the same process.

    Args:
        files: address to bytes; it may change between calls.
        lose: asked with ``"request"`` before a file is read and with ``"reply"`` in the middle of it; True loses it.
    """

    def __init__(self, files: Mapping[str, bytes], lose: Callable[[str], bool] = _never) -> None:
        self._files = files
        self._lose = lose

    def open(self, url: str, *, offset: int = 0) -> Generator[bytes, None, None]:
        if self._lose("request"):
            raise LinkDown("the request was lost on the simulated link")
        if url not in self._files:
            raise NotServed(f"{url} is not there")
        data = self._files[url][offset:]
        if self._lose("reply"):
            yield data[: len(data) // 2]  # a download that breaks off has given something already
            raise LinkDown("the reply was lost on the simulated link")
        yield data


class HttpFetcher:
    """A static server over HTTP, through the proxy that the environment names. Redirects are not followed.

    One connection is kept open between files: a refresh with nothing new costs one handshake at most.

    Args:
        stall_s_max: longest silence, before the first byte or later.
        rate_min_bytes_s: slowest rate that is borne for longer than ``stall_s_max``.
        tls: certificates for ``https``; those of the system if None.
        clock: measures the waiting.
    """

    def __init__(
        self,
        *,
        stall_s_max: float = 30.0,
        rate_min_bytes_s: float = RATE_MIN_BYTES_S,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._patience = Patience(clock or SystemClock(), stall_s_max, rate_min_bytes_s)
        self._tls = tls
        self._pools: dict[tuple[bytes, str | None], httpcore.ConnectionPool] = {}

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def open(self, url: str, *, offset: int = 0) -> Generator[bytes, None, None]:
        address, host = _address(url)
        wait_s = self._patience.stall_s_max
        timeout = {"connect": wait_s, "read": wait_s, "write": wait_s, "pool": wait_s}
        # Without "identity" a server could send a few bytes that unpack to gigabytes.
        headers = [(b"Host", host), (b"Accept-Encoding", b"identity"), (b"User-Agent", b"edgewise-tuf-client")]
        if offset:
            headers.append((b"Range", f"bytes={offset}-".encode()))
        self._patience.begin(url)
        try:
            with self._pool(address).stream(
                "GET", address, headers=headers, extensions={"timeout": timeout}
            ) as response:
                if offset and response.status == 416:
                    return  # the file ends at or before the offset
                if response.status >= 300:
                    _read_page(response)
                    raise _refusal(url, response.status)
                skip = offset if response.status == 200 else 0  # a server without ranges starts at the beginning
                for piece in response.iter_stream():
                    self._patience.reward(len(piece))
                    if len(piece) > skip:
                        yield piece[skip:]
                    skip = max(0, skip - len(piece))
        except (httpcore.ReadTimeout, httpcore.WriteTimeout) as error:
            raise self._patience.lost() from error
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
            raise LinkDown(f"{url} does not come ({type(error).__name__}: {error}); it is tried again later") from error

    def _pool(self, address: httpcore.URL) -> httpcore.ConnectionPool:
        proxy = _proxy(address)
        key = (address.scheme, proxy)
        if key not in self._pools:
            tls = self._tls if self._tls or address.scheme != b"https" else ssl.create_default_context()
            backend = _Backend(self._patience)
            self._pools[key] = (
                httpcore.HTTPProxy(proxy, ssl_context=tls, max_connections=2, network_backend=backend)
                if proxy
                else httpcore.ConnectionPool(ssl_context=tls, max_connections=2, network_backend=backend)
            )
        return self._pools[key]


def read_bounded(fetcher: Fetcher, url: str, bytes_max: int, what: str) -> bytes:
    """A whole small file.

    Raises:
        NotTrusted: it is longer than it may be (an endless answer would fill the memory).

    >>> read_bounded(MemoryFetcher({"u": b"abc"}), "u", 3, "the file")
    b'abc'
    """
    data = bytearray()
    with closing(fetcher.open(url)) as pieces:
        for piece in pieces:
            data += piece
            if len(data) > bytes_max:
                raise _endless(what, len(data), bytes_max)
    return bytes(data)


def continue_file(fetcher: Fetcher, url: str, part: Path, size_bytes: int, what: str) -> int:
    """Bring a part file up to its size, from the byte where an earlier try broke off.

    Returns:
        How many bytes were there before.
    Raises:
        NotTrusted: the server sends more than the size; the part file is then removed.
        LinkDown, TooSlow, NotServed: what came so far stays in the part file.
    """
    try:
        had = part.stat().st_size if part.exists() else 0
        if had > size_bytes:
            part.unlink()
            had = 0
        if had < size_bytes or not had:
            _append(fetcher, url, part, had, size_bytes, what)
    except NotTrusted:
        part.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise disk_error(error, part) from error
    return had


def _append(fetcher: Fetcher, url: str, part: Path, had: int, size_bytes: int, what: str) -> None:
    with part.open("ab") as file, closing(fetcher.open(url, offset=had)) as pieces:
        for piece in pieces:
            had += len(piece)
            if had > size_bytes:
                raise _endless(what, had, size_bytes)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _endless(what: str, seen: int, needed: int) -> NotTrusted:
    return NotTrusted(
        f"{what} goes on after {seen} bytes, it may have {needed} at most; the rest was not read", code="endless_data"
    )


class _Stream(httpcore.NetworkStream):
    """A connection whose reads use up patience, so that neither headers nor a body can trickle for ever.

    Only waiting counts: that a caller saves bytes slowly, or keeps to a bandwidth cap, is not the server's fault.
    """

    def __init__(self, inner: httpcore.NetworkStream, patience: Patience) -> None:
        self._inner = inner
        self._patience = patience

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left_s = self._patience.left_s()
        before_s = self._patience.clock.monotonic_s()
        try:
            return self._inner.read(min(max_bytes, CHUNK_BYTES), left_s if timeout is None else min(timeout, left_s))
        finally:
            self._patience.spend(self._patience.clock.monotonic_s() - before_s)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._patience)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, patience: Patience) -> None:
        self._sockets = httpcore.SyncBackend()
        self._patience = patience

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._sockets.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._patience)


def _address(url: str) -> tuple[httpcore.URL, bytes]:
    """The address and its Host header. Path and query go out as they are: quoting twice would name another file."""
    parts = urllib.parse.urlsplit(url.replace("#", "%23"))
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise NotValid(f"{url!r} is not an address; needs one such as https://hub.example/tuf/", code="url_invalid")
    path = urllib.parse.quote(parts.path or "/", safe=SAFE) + (
        "?" + urllib.parse.quote(parts.query, safe=SAFE) if parts.query else ""
    )
    address = httpcore.URL(
        scheme=parts.scheme.encode(), host=parts.hostname.encode("idna"), port=port, target=path.encode()
    )
    return address, parts.netloc.rpartition("@")[2].encode("idna")


def _proxy(address: httpcore.URL) -> str | None:
    if urllib.request.proxy_bypass(address.host.decode()):
        return None
    return urllib.request.getproxies().get(address.scheme.decode())


def _read_page(response: httpcore.Response) -> None:
    """Read a short error page to its end: only then can the connection serve the next file without a new handshake."""
    sizes = [value for name, value in response.headers if name.lower() == b"content-length"]
    if sizes and sizes[0].isdigit() and int(sizes[0]) <= PAGE_BYTES_MAX:
        response.read()


def _refusal(url: str, status: int) -> NotNow:
    if status in (403, 404, 410):
        return NotServed(f"{url} is not there (HTTP {status}); it may not be published yet", status=status)
    return LinkDown(f"{url} answers with HTTP {status}, needs 200; it is tried again later")
