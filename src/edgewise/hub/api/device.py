"""Device routes as raw ASGI: no framework between the socket and the handler, bodies bounded while they arrive.

Two applications have them: devices meet one that knows them by their certificates, people and their programs read the
same blobs, envelopes and manifests beside the other routes, with a token.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgewise.hub import bundles, quotas, scope
from edgewise.hub._hub import Hub
from edgewise.hub.access import Action, Person, Refused
from edgewise.hub.api import problems
from edgewise.hub.api.auth import COOKIE, SAFE, address_of, by_bearer, by_cookie, check_same_origin, note_refused
from edgewise.hub.api.peer import peer_certificate
from edgewise.hub.attempts import TooMany
from edgewise.hub.door import LocalDoor
from edgewise.hub.intake import ClonedKey
from edgewise.hub.quotas import OverQuota
from edgewise.hub.store import bundles as bundle_rows
from edgewise.hub.store import samples
from edgewise.ports import checked_pieces
from edgewise.wire import EdgewiseError, NotTrusted, NotValid

LOG = logging.getLogger("edgewise.hub")
JSON = "application/json"
BYTES = "application/octet-stream"
DIGEST = re.compile(r"[0-9a-f]{64}")
CODEC = re.compile(r"[1-9]\d{0,3}")
PIECE_BYTES = 1 << 20  # up to here a blob is read, checked and sent at once
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# What a browser may be told that a blob is: the console shows pictures, and nothing that could run.
SHOWN_AS = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp")
GET_NEEDS = (Action.READ,)
PUT_NEEDS = (Action.LABEL, Action.TRAIN, Action.SIGN)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request, whole."""

    hub: Hub
    method: str
    name: str  # the variable part of the path
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    for_devices: bool  # asked of the devices' application
    client: tuple[str, int] | None = None
    certificate: bytes | None = None  # the caller's, DER; the transport or a known proxy proved its key

    def device(self) -> str:
        """The device whose certificate this connection has; each time it is asked whether it was shut out meanwhile.

        Raises:
            NotTrusted: no certificate of this hub, or the device is unknown, shut out or has another key now.
        """
        if self.certificate is None:
            raise NotTrusted(
                "this needs the certificate of an enrolled device; run `edgewise edge enroll`", code="no_certificate"
            )
        now = self.hub.now()
        who, key = self.hub.authority.caller(self.certificate, now)
        if self.hub.known.key_of(who.device, now) != (who.site, key):
            raise NotTrusted(
                f"device {who.device} was enrolled again with another key; this certificate is of the old one",
                code="key_replaced",
            )
        return who.device

    def device_at_once(self) -> str | None:
        """The same where nobody has to be asked for it; None: ask `device`. Raises as that."""
        if self.certificate is None or not self.hub.authority.has_seen(self.certificate):
            return None
        now = self.hub.now()
        who, _ = self.hub.authority.caller(self.certificate, now)
        return self.device() if self.hub.known.holds(who.device, now) else None

    def device_or_person(self, *actions: Action) -> Person | None:
        """The person who calls, None for a device.

        Raises:
            NotTrusted: no certificate, no token, or the person's role permits none of the actions.
        """
        if self.for_devices:
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
            raise NotTrusted("this needs an API token; devices ask at the devices' address", code="no_token")
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
    """What is sent: a body, or `pieces` of `size_bytes` together that are read while they are sent."""

    body: bytes = b""
    pieces: Iterator[bytes] | None = None
    size_bytes: int = 0
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


async def quick_contact(call: Call) -> Answer | None:
    """The answer to a contact that needs no thread of its own: nothing changes, or it shares others' commit."""
    known, now = call.hub.known, call.hub.now()
    if known.is_due(now):
        await run_in_threadpool(known.look, now)
    device = call.device_at_once()
    if device is not None:
        call.hub.quotas.take(device, now, contacts=1, size_bytes=len(call.body))
    answer = None if device is None else LocalDoor(call.hub).quick(device, call.body)
    if isinstance(answer, Future):
        answer = await asyncio.wrap_future(answer)
    return None if answer is None else Answer(body=answer)


def contact(call: Call) -> Answer:
    device = call.device()
    # Whoever was looked at above and takes the long way counts twice; it costs far more than that.
    call.hub.quotas.take(device, call.hub.now(), contacts=1, size_bytes=len(call.body))
    return Answer(body=LocalDoor(call.hub).exchange(device, call.body))


def identity(call: Call) -> Answer:
    return Answer(body=LocalDoor(call.hub).identity(call.device()))


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
    if call.method == "HEAD" and person is None and (here := call.hub.uploads.offset(call.device(), name)) is not None:
        return Answer(status=404, headers={"Upload-Offset": str(here), "Cache-Control": "no-store"})
    size = blobs.size(name)
    media_type = call.query.get("media_type", BYTES)
    media_type = media_type if media_type in SHOWN_AS else BYTES
    if call.method == "HEAD":
        return Answer(media_type=media_type, headers=headers | {"Content-Length": str(size)})
    start, end = byte_range(call.headers.get("range"), size)
    if (start, end) == (0, size):
        if size <= PIECE_BYTES:
            return Answer(body=blobs.get(name), media_type=media_type, headers=headers)
        # The last piece is held back until all are checked: damaged bytes end as a broken answer, never as a whole one.
        pieces = checked_pieces(name, blobs.pieces(name))
        return Answer(pieces=one_behind(pieces), size_bytes=size, media_type=media_type, headers=headers)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    pieces = blobs.pieces(name, start, end)
    return Answer(status=206, pieces=pieces, size_bytes=end - start, media_type=media_type, headers=headers)


def one_behind(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same pieces, each only once the next one, or the end, has come."""
    held: bytes | None = None
    for piece in pieces:
        if held is not None:
            yield held
        held = piece
    if held is not None:
        yield held


def _check_blob(hub: Hub, person: Person, name: str) -> None:
    """Somebody of some sites sees the contents of their samples, and what belongs to no sample, such as bundles."""
    with hub.store.read() as connection:
        sites = samples.sites_of_blob(connection, name)
    if sites:
        person.check_any_site(sites, f"blob {name[:12]}…")


def delta(call: Call) -> Answer:
    """How the blob is made from another one that the device holds; the delta itself is a blob."""
    device, target = call.device(), call.digest()
    base, codec = call.query.get("base", ""), call.query.get("codec", "")
    if not DIGEST.fullmatch(base) or not CODEC.fullmatch(codec):
        raise NotValid(
            f"base is {base[:80]!r} and codec {codec[:20]!r}; needs a digest and a version", code="delta_query"
        )
    return Answer(body=LocalDoor(call.hub).get_delta(device, target, base=base, codec=int(codec)))


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
    """An ASGI application for one path: reads the body up to its bound, calls the handler in a thread, answers.

    Args:
        quick: is asked first, without the way to a thread and back; it must keep nobody else waiting.
        at_once_max: more that want a thread, or have one, are told to come back later.
    """

    def __init__(
        self,
        hub: Hub,
        handler: Callable[[Call], Answer],
        *,
        for_devices: bool,
        name: str = "",
        bytes_max: int = 0,
        quick: Callable[[Call], Awaitable[Answer | None]] | None = None,
        at_once_max: int | None = None,
    ) -> None:
        self._hub = hub
        self._quick = quick
        self._for_devices = for_devices
        self._handler = handler
        self._name = name
        self._bytes_max = bytes_max
        self._at_once_max = at_once_max
        self._at_once = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(scope, receive, self._bytes_max)
            call = call_of(self._hub, scope, body, name=self._name, for_devices=self._for_devices)
            answer = None if self._quick is None else await self._quick(call)
            if answer is None:
                answer = await self._in_thread(call)
        except Exception as error:
            if isinstance(error, EdgewiseError):
                note_at_door(self._hub, error, client_of(scope), for_devices=self._for_devices)
            if isinstance(error, Refused):
                asked = f"{scope['method']} {scope['path']}"
                await run_in_threadpool(note_refused, self._hub, error, asked=asked, client=client_of(scope))
            if isinstance(error, OverQuota):
                await run_in_threadpool(quotas.note, self._hub.store, error, self._hub.now())
            response = problems.answer_to(error)
            await response(scope, receive, send)
            return
        try:
            await send_answer(send, answer, head=scope["method"] == "HEAD")
        except EdgewiseError as error:
            # The head is sent, so no problem document can follow. The server ends the connection short of the length
            # that was named, which no client takes for the whole.
            LOG.error("%s broke off: %s", scope["path"], error)

    async def _in_thread(self, call: Call) -> Answer:
        if self._at_once_max is not None and self._at_once >= self._at_once_max:
            raise too_busy(self._at_once_max, self._hub)
        self._at_once += 1
        try:
            return await run_in_threadpool(self._handler, call)
        finally:
            self._at_once -= 1


def too_busy(at_once_max: int, hub: Hub) -> TooMany:
    """Come back later, not all at the same time."""
    retry_s = max(1, round(hub.limits.busy_s * (0.5 + hub.chance.random())))
    return TooMany(
        f"{at_once_max} contacts are under way, the most that this hub takes at once; try again in {retry_s} s",
        retry_s=retry_s,
        code="too_busy",
    )


def note_at_door(hub: Hub, error: EdgewiseError, client: tuple[str, int] | None, *, for_devices: bool) -> None:
    """Count a refusal, and remember it where it is a sign of an attack; people's are in the audit log already."""
    hub.counters.refused(error.code)
    if for_devices and not isinstance(error, ClonedKey):  # a clone is in the audit log
        hub.sightings.refused(error.code, address_of(client), str(error), hub.now())


def call_of(hub: Hub, scope: Scope, body: bytes, *, name: str, for_devices: bool) -> Call:
    """The request as a call.

    Args:
        name: of the variable part of the path; empty without one.
    """
    return Call(
        hub=hub,
        method=scope["method"],
        name=str(scope["path_params"].get(name, "")),
        headers=Headers(scope=scope),
        query=QueryParams(scope.get("query_string", b"").decode("latin-1")),
        body=body,
        client=client_of(scope),
        for_devices=for_devices,
        certificate=peer_certificate(scope, hub.config.proxies) if for_devices else None,
    )


def client_of(scope: Scope) -> tuple[str, int] | None:
    """Address and port of who asks."""
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


async def send_answer(send: Send, answer: Answer, *, head: bool = False) -> None:
    """Send the whole answer; to a HEAD its headers alone."""
    size = len(answer.body) if answer.pieces is None else answer.size_bytes
    headers = {"Content-Length": str(size), **answer.headers}
    if answer.status != 204:
        headers["Content-Type"] = answer.media_type
    else:
        del headers["Content-Length"]
    await send({"type": "http.response.start", "status": answer.status, "headers": _raw(headers)})
    if answer.pieces is None or head:
        await send({"type": "http.response.body", "body": b"" if head else answer.body})
        return
    # One piece in memory at a time; reading may wait for a disk or a bucket, so it is done in a thread.
    while piece := await run_in_threadpool(next, answer.pieces, b""):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def shared_routes(hub: Hub, *, prefix: str, for_devices: bool) -> list[Route]:
    """Blobs, envelopes and manifests: by content or by name, for devices and for programs."""

    def raw(handler: Callable[[Call], Answer], name: str, bytes_max: int = 0) -> RawRoute:
        return RawRoute(hub, handler, for_devices=for_devices, name=name, bytes_max=bytes_max)

    return [
        route(prefix + "/blobs/{digest}", raw(blob, "digest", hub.limits.blob_bytes_max), "GET", "HEAD", "PUT"),
        route(prefix + "/bundles/{digest}/manifest", raw(manifest, "digest"), "GET"),
    ]


def device_routes(hub: Hub, *, prefix: str) -> list[Route]:
    """What only a device may ask, by its certificate."""
    most = hub.limits.contact_bytes_max
    inbound = RawRoute(
        hub,
        contact,
        for_devices=True,
        bytes_max=most,
        quick=quick_contact,
        at_once_max=hub.limits.contacts_at_once_max,
    )
    return [
        route(prefix + "/contact", inbound, "POST"),
        route(prefix + "/identity", RawRoute(hub, identity, for_devices=True), "GET"),
        route(prefix + "/blobs/{digest}/delta", RawRoute(hub, delta, for_devices=True, name="digest"), "GET"),
    ]


def route(path: str, app: Callable[..., Awaitable[Any]], *methods: str) -> Route:
    return Route(path, endpoint=app, methods=list(methods), include_in_schema=False)
