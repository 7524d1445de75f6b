"""The promise of a link, kept over HTTP and in memory, before the same small hub."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from edgewise.ports import (
    Credentials,
    FolderLink,
    HttpLink,
    Link,
    LinkDown,
    LinkFetcher,
    MemoryLink,
    NotServed,
    Refused,
    StickPart,
)
from edgewise.wire import EdgewiseError, NotNow, NotTrusted, NotValid, digest
from tls_world import TlsWorld, device_of

BIG = bytes(range(256)) * 5000
FILE = "metadata/3.releases-press@line:1.json"


class SmallHub:
    """A hub that holds blobs and answers uploads by naming them; what a device sends decides how it answers."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {digest(BIG): BIG}
        self.parts: dict[str, bytes] = {}
        self.uploads: list[tuple[str, bytes]] = []

    def exchange(self, device: str, body: bytes) -> bytes:
        if body == b"busy":
            raise NotNow("the disk of the hub is full", code="disk_full")
        if body == b"gap":
            raise NotValid("number 9 comes after 7", code="gap")
        if body == b"cloned":
            raise NotTrusted("two devices use this key", code="cloned_key")
        self.uploads.append((device, body))
        return b"receipt for " + body

    def put_blob(
        self, device: str, sha256: str, data: bytes, *, offset: int = 0, size_bytes: int | None = None
    ) -> None:
        assert device
        here = self.parts.get(sha256, b"")
        if offset != len(here):
            raise NotValid(f"{len(here)} bytes are here", code="offset_wrong")
        self.parts[sha256] = here + data
        if size_bytes not in (None, offset + len(data)):
            return
        whole = self.parts.pop(sha256)
        if digest(whole) != sha256:
            raise NotTrusted("other bytes", code="blob_corrupt")
        self.blobs[sha256] = whole

    def blob_offset(self, device: str, sha256: str) -> int | None:
        assert device
        return None if sha256 in self.blobs else len(self.parts.get(sha256, b""))

    def has_blob(self, device: str, sha256: str) -> bool:
        assert device
        return sha256 in self.blobs

    def get_blob(self, device: str, sha256: str, *, offset: int = 0) -> bytes:
        assert device
        if sha256 not in self.blobs:
            raise NotValid("no such blob", code="blob_missing")
        return self.blobs[sha256][offset:]

    def get_delta(self, device: str, sha256: str, *, base: str, codec: int) -> bytes:
        if codec != 1:
            raise NotValid("another version", code="delta_version")
        if base == digest(b"building"):
            raise NotNow("it is being built", code="delta_building")
        return f"from {base} to {sha256} for {device}".encode()

    def get_file(self, device: str, path: str, *, offset: int = 0) -> bytes:
        if unquote(path) != FILE:
            raise NotValid("no such file", code="file_unknown")
        return f"{FILE} for {device}".encode()[offset:]


STATUS = {"gap": 409, "offset_wrong": 409, "blob_missing": 404, "file_unknown": 404, "delta_version": 406}


class Handler(BaseHTTPRequestHandler):
    """Puts SmallHub behind HTTP, with certificates and problem documents as the hub's."""

    hub: SmallHub
    protocol_version = "HTTP/1.1"
    ranges = True
    resumes = True  # an older hub takes whole blobs alone

    def log_message(self, *_: object) -> None:
        return

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, data = self.route(body)
        except EdgewiseError as error:
            family = 503 if isinstance(error, NotNow) else 403 if isinstance(error, NotTrusted) else 400
            status = STATUS.get(error.code, family)
            data = json.dumps({"detail": str(error), "code": error.code, "watermark": 7}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if self.command == "HEAD" and status == 404 and self.resumes:
            self.send_header("Upload-Offset", str(self.hub.blob_offset("press-4", self.path.rpartition("/")[2]) or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_PATCH = answer  # noqa: N815 - the names that the standard library asks for

    def route(self, body: bytes) -> tuple[int, bytes]:
        path = self.path.removeprefix("/api/v1/").split("/")
        device = device_of(self.connection)  # type: ignore[arg-type]
        if device is None:
            raise NotTrusted("this needs a certificate", code="no_certificate")
        match [self.command, *path]:
            case ["POST", "contact"]:
                return 200, self.hub.exchange(device, body)
            case ["PATCH", "blobs", sha256] if self.resumes:
                assert self.headers["Content-Type"] == "application/partial-upload"
                offset, size = (int(self.headers[name]) for name in ("Upload-Offset", "Upload-Length"))
                self.hub.put_blob(device, sha256, body, offset=offset, size_bytes=size)
                return 204, b""
            case ["PATCH", *_]:
                return 405, b"{}"
            case ["PUT", "blobs", sha256]:
                self.hub.put_blob(device, sha256, body)
                return 204, b""
            case ["HEAD", "blobs", sha256]:
                return (200 if self.hub.has_blob(device, sha256) else 404), b""
            case ["GET", "blobs", sha256]:
                asked = self.headers.get("Range") if self.ranges else None
                if asked is None:
                    return 200, self.hub.get_blob(device, sha256)
                first, last = asked.removeprefix("bytes=").split("-")
                data = self.hub.get_blob(device, sha256, offset=int(first))
                return 206, data[: int(last) - int(first) + 1] if last else data
            case ["GET", "blobs", sha256, asked] if asked.startswith("delta?"):
                query = dict(pair.split("=") for pair in asked.removeprefix("delta?").split("&"))
                return 200, self.hub.get_delta(device, sha256, base=query["base"], codec=int(query["codec"]))
            case ["GET", "tuf", *names]:
                start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if self.ranges else 0
                return (206 if start else 200), self.hub.get_file(device, "/".join(names), offset=start)


@pytest.fixture
def world(tmp_path) -> TlsWorld:
    return TlsWorld(tmp_path)


@pytest.fixture
def credentials(world, tmp_path) -> Credentials:
    return world.credentials(tmp_path / "device")


@pytest.fixture
def hub() -> SmallHub:
    return SmallHub()


@pytest.fixture
def serve(hub, world) -> Iterator[Callable[..., str]]:
    """Starts the hub over HTTP and gives its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(ranges: bool = True, resumes: bool = True) -> str:
        about = {"hub": hub, "ranges": ranges, "resumes": resumes}
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), about))
        server.socket = world.server().wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        return f"https://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Answers:
    """The hub's answer to an upload, with a link's errors."""

    def __init__(self, hub: SmallHub) -> None:
        self.link = MemoryLink(hub, "press-4")

    def __call__(self, body: bytes) -> bytes:
        return self.link.exchange(body)


@pytest.fixture(params=["http", "memory", "folder"])
def link(request, hub, serve, credentials, tmp_path) -> Iterator[Link]:
    if request.param == "folder":
        stick = StickPart(tmp_path / "stick" / "hub")
        stick.put(f"blobs/{digest(BIG)}", BIG)
        stick.put(f"tuf/{FILE}", f"{FILE} for press-4".encode())
        yield FolderLink(came=stick, goes=stick, answer=Answers(hub))
        return
    if request.param == "memory":
        yield MemoryLink(hub, "press-4")
        return
    over_http = HttpLink(serve(), credentials)
    yield over_http
    over_http.close()


def test_an_exchange_brings_the_hubs_answer_and_the_hub_knows_who_asked(link, hub):
    assert link.exchange(b"upload") == b"receipt for upload"
    assert hub.uploads == [("press-4", b"upload")]


def test_a_blob_goes_up_and_comes_down(link):
    data = b"pixels" * 1000
    assert not link.has_blob(digest(data))
    link.put_blob(digest(data), data)
    link.put_blob(digest(data), data)
    assert link.has_blob(digest(data))
    assert b"".join(link.get_blob(digest(data))) == data


def test_an_upload_goes_on_where_it_broke_off(link, hub):
    data = b"picture" * 5000
    assert link.blob_offset(digest(data)) == 0
    if not isinstance(link, FolderLink):  # on a stick a blob is whole or not there
        hub.put_blob("press-4", digest(data), data[:12_345], size_bytes=len(data))
        assert link.blob_offset(digest(data)) == 12_345
        with pytest.raises(Refused) as caught:
            link.put_blob(digest(data), data)
        assert caught.value.code == "offset_wrong"
        link.put_blob(digest(data), data, offset=12_345)
    else:
        link.put_blob(digest(data), data)
    assert link.blob_offset(digest(data)) is None
    assert b"".join(link.get_blob(digest(data))) == data


def test_a_hub_that_is_older_than_the_device_gets_whole_blobs(hub, serve, credentials):
    link, data = HttpLink(serve(resumes=False), credentials), b"picture" * 500
    assert link.blob_offset(digest(data)) == 0
    link.put_blob(digest(data), data)
    assert hub.blobs[digest(data)] == data
    link.close()


def test_an_upload_that_breaks_off_in_memory_has_given_its_first_half(hub):
    data, lost = b"0123456789", iter([True, False, False])
    link = MemoryLink(hub, "press-4", lose=lambda kind: kind == "request" and next(lost))
    with pytest.raises(LinkDown):
        link.put_blob(digest(data), data)
    assert link.blob_offset(digest(data)) == 5
    link.put_blob(digest(data), data, offset=5)
    assert hub.blobs[digest(data)] == data


@pytest.mark.parametrize("offset", [0, 1, 300_000, len(BIG) - 1])
def test_a_download_goes_on_where_it_broke_off(link, offset):
    assert b"".join(link.get_blob(digest(BIG), offset=offset)) == BIG[offset:]


@pytest.mark.parametrize("offset", [0, 1, len(BIG) - 10])
@pytest.mark.parametrize("bytes_max", [1, 100, 300_000, 10 * len(BIG)])
def test_no_more_of_a_download_comes_than_was_asked_for(link, offset, bytes_max):
    pieces = list(link.get_blob(digest(BIG), offset=offset, bytes_max=bytes_max))
    assert b"".join(pieces) == BIG[offset:][:bytes_max]


def test_a_file_of_the_release_repository_comes_as_its_exact_bytes_and_from_any_byte_on(link):
    assert b"".join(link.get_file(FILE)) == f"{FILE} for press-4".encode()
    assert b"".join(link.get_file(FILE, offset=9)) == f"{FILE} for press-4".encode()[9:]


def test_a_file_that_is_not_there_ends_the_search_and_any_other_no_does_not(link):
    with pytest.raises(NotServed):
        list(LinkFetcher(link).open("metadata/9.root.json"))
    with pytest.raises(NotServed, match="next contact"):
        list(LinkFetcher(None).open("metadata/9.root.json"))


def test_a_delta_is_asked_for_by_both_blobs_and_the_version_that_can_be_read(link):
    wanted, base = digest(b"new"), digest(b"old")
    if isinstance(link, FolderLink):
        with pytest.raises(Refused, match="whole blobs"):
            link.get_delta(wanted, base=base, codec=1)
        return
    assert link.get_delta(wanted, base=base, codec=1) == f"from {base} to {wanted} for press-4".encode()
    with pytest.raises(LinkDown) as caught:
        link.get_delta(wanted, base=digest(b"building"), codec=1)
    assert caught.value.code == "delta_building"


@pytest.mark.parametrize(
    "ask",
    [
        lambda link: link.get_delta(digest(b"new"), base=digest(b"old"), codec=9),
        lambda link: list(link.get_blob(digest(b"absent"))),
        lambda link: list(link.get_file("metadata/9.root.json")),
        lambda link: link.exchange(b"gap"),
    ],
)
def test_a_no_of_the_hub_is_a_refusal_with_its_code(link, ask):
    with pytest.raises(Refused) as caught:
        ask(link)
    assert caught.value.code in {*STATUS, "delta_unknown"}


def test_a_busy_hub_is_a_link_that_is_down(link):
    with pytest.raises(LinkDown, match="disk of the hub is full"):
        link.exchange(b"busy")


def test_a_hub_that_does_not_trust_says_so(link):
    with pytest.raises(NotTrusted, match="two devices"):
        link.exchange(b"cloned")


def test_a_name_that_is_no_digest_is_never_sent(link):
    for ask in (
        link.has_blob,
        lambda name: list(link.get_blob(name)),
        lambda name: link.get_delta(name, base=digest(b""), codec=1),
        lambda name: link.get_delta(digest(b""), base=name, codec=1),
    ):
        with pytest.raises(NotValid, match="not a digest"):
            ask("../secrets")


def test_a_lost_request_is_not_seen_by_the_hub_but_a_lost_reply_is(hub):
    for what, seen in [("request", 0), ("reply", 1)]:
        link = MemoryLink(hub, "press-4", lose=lambda kind, what=what: kind == what)
        with pytest.raises(LinkDown, match=f"the {what} was lost"):
            link.exchange(b"upload")
        assert len(hub.uploads) == seen


def test_a_download_that_breaks_off_in_memory_has_given_its_first_half(hub):
    link, pieces = MemoryLink(hub, "press-4", lose=lambda kind: kind == "reply"), []
    with pytest.raises(LinkDown):
        pieces.extend(link.get_blob(digest(BIG)))
    for piece in link.get_blob(digest(BIG)):
        pieces = [piece]
        break
    assert b"".join(pieces) == BIG[: len(BIG) // 2]


def test_a_409_carries_the_hubs_document(serve, credentials):
    link = HttpLink(serve(), credentials)
    with pytest.raises(Refused) as caught:
        link.exchange(b"gap")
    assert (caught.value.status, caught.value.problem["watermark"]) == (409, 7)
    link.close()


def test_a_server_without_ranges_still_gives_the_rest_only(serve, credentials):
    link = HttpLink(serve(ranges=False), credentials)
    assert b"".join(link.get_blob(digest(BIG), offset=400_000)) == BIG[400_000:]
    assert b"".join(link.get_blob(digest(BIG), offset=400_000, bytes_max=70_000)) == BIG[400_000:470_000]
    link.close()


def test_a_certificate_of_another_authority_is_not_trusted(serve, world, tmp_path):
    thief = TlsWorld(tmp_path, "thief").credentials(tmp_path / "thief")
    thief.pin(world.root)
    link = HttpLink(serve(), thief)
    with pytest.raises(NotTrusted):
        link.exchange(b"upload")
    link.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_no_hub_at_all_is_a_link_that_is_down(credentials):
    link = HttpLink(f"https://127.0.0.1:{free_port()}", credentials)
    for ask in (
        lambda: link.exchange(b""),
        lambda: list(link.get_blob(digest(BIG))),
        lambda: link.has_blob(digest(BIG)),
    ):
        with pytest.raises(LinkDown, match="no hub answers"):
            ask()
    link.close()


@pytest.fixture
def breaking_server(world) -> Callable[[bytes], tuple[str, threading.Thread]]:
    return lambda reply: break_off(world.server(), reply)


def break_off(context: ssl.SSLContext, reply: bytes) -> tuple[str, threading.Thread]:
    """Answers one request with these bytes, then waits for the caller to hang up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        plain, _ = listener.accept()
        # The caller may hang up first.
        with listener, contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
            connection.recv(65536)
            connection.sendall(reply)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):  # closing with unread bytes would reset what was just sent
                continue

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    return f"https://127.0.0.1:{listener.getsockname()[1]}", thread


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nhalf"])
def test_an_answer_that_breaks_off_is_a_link_that_is_down(reply, breaking_server, credentials):
    url, thread = breaking_server(reply)
    link = HttpLink(url, credentials)
    with pytest.raises(LinkDown):
        link.exchange(b"upload")
    link.close()
    thread.join(30)


def test_a_download_that_breaks_off_over_http_has_given_what_came(breaking_server, credentials):
    url, thread = breaking_server(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nhalf")
    link, pieces = HttpLink(url, credentials), []
    with pytest.raises(LinkDown):
        pieces.extend(link.get_blob(digest(BIG)))
    link.close()
    thread.join(30)
    assert b"".join(pieces) in (b"half", b"")


def test_a_page_of_a_proxy_is_read_by_its_status(breaking_server, credentials):
    url, thread = breaking_server(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>")
    link = HttpLink(url, credentials)
    with pytest.raises(LinkDown, match="502"):
        link.exchange(b"upload")
    link.close()
    thread.join(30)


def test_an_endless_answer_is_refused(breaking_server, credentials):
    url, thread = breaking_server(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(9_000_000))
    link = HttpLink(url, credentials)
    with pytest.raises(NotTrusted, match="none is so long"):
        link.exchange(b"upload")
    link.close()
    thread.join(30)


@pytest.mark.parametrize("url", ["hub.example", "ftp://hub.example", "http://hub.example"])
def test_an_address_without_https_is_explained(url, credentials):
    link = HttpLink(url, credentials)
    with pytest.raises(NotValid, match="needs https://"):
        link.exchange(b"")
    link.close()


def test_a_renewed_certificate_is_used_from_the_next_call_on(serve, hub, world, credentials):
    link = HttpLink(serve(), credentials)
    link.exchange(b"one")
    credentials.take(world.chain(credentials, "press-5"))
    link.exchange(b"two")
    assert hub.uploads == [("press-4", b"one"), ("press-5", b"two")]
    link.close()


def test_a_server_of_another_authority_gets_nothing(hub, serve, tmp_path):
    stranger = TlsWorld(tmp_path, "stranger").credentials(tmp_path / "stranger")
    link = HttpLink(serve(), stranger)
    with pytest.raises(NotTrusted, match="no certificate of this device's hub") as caught:
        link.exchange(b"secret")
    assert caught.value.code == "hub_certificate"
    assert hub.uploads == []
    link.close()


def test_an_expired_certificate_is_refused_by_name(serve, world, credentials):
    credentials.take(world.chain(credentials, "press-4", age_days=10))
    link = HttpLink(serve(), credentials)
    with pytest.raises(NotTrusted, match="refuses this device's certificate") as caught:
        link.exchange(b"late")
    assert caught.value.code == "certificate_refused"
    link.close()
