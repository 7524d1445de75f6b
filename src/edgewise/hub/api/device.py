"""Device routes as raw ASGI: no framework between the socket and the handler, bodies bounded while they arrive."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgewise.hub import bundles, intake, scope
from edgewise.hub._hub import Hub
from edgewise.hub.access import Action, Person, Refused
from edgewise.hub.api import problems
from edgewise.hub.api.auth import COOKIE, SAFE, address_of, by_bearer, by_cookie, check_same_origin, note_refused
from edgewise.hub.door import LocalDoor
from edgewise.hub.store import bundles as bundle_rows
from edgewise.hub.store import samples
from edgewise.trust import SIGNATURE_HEADER, request_device, verify_request
from edgewise.wire import NotTrusted, NotValid, digest

JSON = "application/json"
BYTES = "application/octet-stream"
DIGEST = re.compile(r"[0-9a-f]{64}")
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# What a browser may be told that a blob is: the console shows pictures, and nothing that could run.
SHOWN_AS = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp")
ENROL_BYTES_MAX = 64 << 10
GET_NEEDS = (Action.READ,)
PUT_NEEDS = (Action.LABEL, Action.TRAIN, Action.SIGN)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request, whole."""

    hub: Hub
    method: str
    target: str  # path and query exactly as sent: what a device signs
    name: str  # the variable part of the path
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    client: tuple[str, int] | None = None

    def device(self) -> str:
        """The device that signed this request.

        Raises:
            NotTrusted: nobody did, or the device is unknown or shut out.
        """
        header = self.headers.get(SIGNATURE_HEADER)
        if header is None:
            raise NotTrusted(
                f"this needs the header {SIGNATURE_HEADER} of an enrolled device", code="signature_missing"
            )
        device = request_device(header)
        with self.hub.store.read() as connection:
            row = intake.known_device(connection, device)
        verify_request(
            header,
            public=row.public_key,
            method=self.method,
            path=self.target,
            body_digest=digest(self.body),
            now=self.hub.now(),
        )
        return device

    def device_or_person(self, *actions: Action) -> Person | None:
        """The person who calls, None for a device.

        Raises:
            NotTrusted: neither a device signed nor a token is shown, or the person's role permits none of the actions.
        """
        if SIGNATURE_HEADER in self.headers:
            self.device()
            return None
        person = self._person()
        person.check(*actions)
        return person

    def _person(self) -> Person:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return by_bearer(self.hub, token, address_of(self.client))
        request = Request({"type": "http", "method": self.method, "headers": _raw(self.headers)})
        cookie = request.cookies.get(COOKIE)
        if cookie is None:
            raise NotTrusted("this needs a device's signature or an API token", code="no_token")
        person = by_cookie(self.hub, cookie, address_of(self.client))
        if self.method not in SAFE:
            check_same_origin(request)
        return person

    def digest(self) -> str:
        """The digest in the path.

        Raises:
            NotValid: it is none.
        """
        if not DIGEST.fullmatch(self.name):
            raise NotValid(f"{self.name[:80]!r} is not a digest; needs 64 lower-case hexadecimal characters")
        return self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    body: bytes = b""
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def enrol(call: Call) -> Answer:
    return Answer(status=201, body=LocalDoor(call.hub).enrol(call.body))


def contact(call: Call) -> Answer:
    return Answer(body=LocalDoor(call.hub).exchange(call.device(), call.body))


def blob(call: Call) -> Answer:
    person = call.device_or_person(*(PUT_NEEDS if call.method == "PUT" else GET_NEEDS))
    name, blobs = call.digest(), call.hub.store.blobs
    if person is not None and person.sites is not None and call.method != "PUT":
        _check_blob(call.hub, person, name)
    if call.method == "PUT":
        blobs.put_as(name, call.body)
        return Answer(status=204)
    headers = {
        "ETag": f'"{name}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",  # a digest never means other bytes
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    size = blobs.size(name)
    media_type = call.query.get("media_type", BYTES)
    media_type = media_type if media_type in SHOWN_AS else BYTES
    if call.method == "HEAD":
        return Answer(media_type=media_type, headers=headers | {"Content-Length": str(size)})
    start, end = byte_range(call.headers.get("range"), size)
    data = blobs.get(name)
    if (start, end) == (0, size):
        return Answer(body=data, media_type=media_type, headers=headers)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Answer(status=206, body=data[start:end], media_type=media_type, headers=headers)


def _check_blob(hub: Hub, person: Person, name: str) -> None:
    """Somebody of some sites sees the contents of their samples, and what belongs to no sample, such as bundles."""
    with hub.store.read() as connection:
        sites = samples.sites_of_blob(connection, name)
    if sites:
        person.check_any_site(sites, f"blob {name[:12]}…")


def manifest(call: Call) -> Answer:
    person = call.device_or_person(*GET_NEEDS)
    with call.hub.store.read() as connection:
        row = bundle_rows.get(connection, call.name)
        if person is not None and row is not None:
            scope.check_some(connection, person, row.use_case, f"bundle {call.name[:12]}…")
    return Answer(body=bundles.need_manifest(call.hub.store, call.digest()))


def byte_range(header: str | None, size: int) -> tuple[int, int]:
    """First byte and the one after the last that a Range header asks for; the whole where it asks for none.

    Source: RFC 9110 section 14. Several ranges, other units and malformed headers are ignored, as it allows.

    Raises:
        NotValid: the range starts behind the end.

    >>> byte_range("bytes=2-", 10), byte_range("bytes=0-3", 10), byte_range("bytes=-4", 10), byte_range(None, 10)
    ((2, 10), (0, 4), (6, 10), (0, 10))
    """
    found = RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return 0, size
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    start, end = int(first), min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return 0, size
    if start >= size:
        raise NotValid(f"the blob has {size} bytes, the range starts at {start}", code="range_invalid")
    return start, end


class RawRoute:
    """An ASGI application for one path: reads the body up to its bound, calls the handler in a thread, answers."""

    def __init__(self, hub: Hub, handler: Callable[[Call], Answer], *, name: str = "", bytes_max: int = 0) -> None:
        self._hub = hub
        self._handler = handler
        self._name = name
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(scope, receive, self._bytes_max)
            answer = await run_in_threadpool(self._handler, self._call(scope, body))
        except Exception as error:
            if isinstance(error, Refused):
                asked = f"{scope['method']} {scope['path']}"
                await run_in_threadpool(note_refused, self._hub, error, asked=asked, client=_client(scope))
            response = problems.answer_to(error)
            await response(scope, receive, send)
            return
        await _send(send, answer, head=scope["method"] == "HEAD")

    def _call(self, scope: Scope, body: bytes) -> Call:
        query = scope.get("query_string", b"")
        path = scope.get("raw_path") or scope["path"].encode()
        return Call(
            hub=self._hub,
            method=scope["method"],
            target=(path.split(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1"),
            name=str(scope["path_params"].get(self._name, "")),
            headers=Headers(scope=scope),
            query=QueryParams(query.decode("latin-1")),
            body=body,
            client=_client(scope),
        )


def _client(scope: Scope) -> tuple[str, int] | None:
    client = scope.get("client")
    return None if client is None else (str(client[0]), int(client[1]))


async def read_body(scope: Scope, receive: Receive, bytes_max: int) -> bytes:
    """The request's body.

    Raises:
        NotValid: it is longer than allowed; the rest is not read.
    """
    named = Headers(scope=scope).get("content-length", "")
    body = bytearray()
    more = True
    while more:
        if len(body) > bytes_max or (named.isdigit() and int(named) > bytes_max):
            raise NotValid(f"the body has {named or 'more'} bytes, at most {bytes_max} are taken", code="too_big")
        message = await receive()
        if message["type"] == "http.disconnect":
            raise NotValid("the caller went away before the whole body was there", code="upload_invalid")
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if len(body) > bytes_max:
        raise NotValid(f"the body has {len(body)} bytes, at most {bytes_max} are taken", code="too_big")
    return bytes(body)


async def _send(send: Send, answer: Answer, *, head: bool) -> None:
    headers = {"Content-Length": str(len(answer.body)), **answer.headers}
    if answer.status != 204:
        headers["Content-Type"] = answer.media_type
    else:
        del headers["Content-Length"]
    await send({"type": "http.response.start", "status": answer.status, "headers": _raw(headers)})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def routes(hub: Hub, *, prefix: str) -> list[Route]:
    """All device routes below this prefix."""
    limits = hub.limits

    def route(path: str, app: Callable[..., Awaitable[Any]], *methods: str) -> Route:
        return Route(prefix + path, endpoint=app, methods=list(methods), include_in_schema=False)

    blobs = RawRoute(hub, blob, name="digest", bytes_max=limits.blob_bytes_max)
    return [
        route("/enrol", RawRoute(hub, enrol, bytes_max=ENROL_BYTES_MAX), "POST"),
        route("/contact", RawRoute(hub, contact, bytes_max=limits.contact_bytes_max), "POST"),
        route("/blobs/{digest}", blobs, "GET", "HEAD", "PUT"),
        route("/bundles/{digest}/manifest", RawRoute(hub, manifest, name="digest"), "GET"),
    ]
