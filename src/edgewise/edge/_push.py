"""Pushed frames by HTTP: ``POST /push/NAME`` with a token, and a page that sends a phone's camera."""

from __future__ import annotations

import asyncio
import hmac
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

from pydantic import Field

from edgewise.edge._asgi import Receive, Reply, Scope
from edgewise.frames import Decided
from edgewise.ports import PushSource, QueueFull
from edgewise.wire import EdgewiseError, NotNow, NotTrusted, NotValid, Strict, plain

REMEMBERED_MAX = 256  # decisions that a caller may still fetch
WAIT_S_MAX = 10.0
LOOK_EVERY_S = 0.01
REQUESTS_MAX = 64  # at once; more are told to come again
BODY_S_MAX = 30.0  # for one frame to arrive
JSON = {"content-type": "application/json"}
PAGE = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "media-src 'self' blob:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "permissions-policy": "camera=(self)",
    "referrer-policy": "no-referrer",
}
FILES = {
    "/camera": ("camera.html", PAGE),
    "/camera.js": ("camera.js", {"content-type": "text/javascript; charset=utf-8"}),
    "/camera.css": ("camera.css", {"content-type": "text/css; charset=utf-8"}),
}


class PhoneDoor(Strict):
    """A second listener, over TLS, for those who push frames over the network. Nothing else is answered there."""

    host: str = Field("0.0.0.0", description="address to listen on")
    port: int = Field(8444, ge=0, le=65_535)
    certificate_file: str = Field(description="this device's certificate for its name in the network, PEM")
    key_file: str = Field(description="its key, PEM, without a password")


class PushDoor:
    """The push sources of a device by name, and the newest decisions on what came in by them."""

    def __init__(self, *, may_show: bool) -> None:
        self._sources: dict[str, PushSource] = {}
        self._decisions: OrderedDict[str, Decided] = OrderedDict()
        self._turn = threading.Lock()
        self._may_show = may_show  # whether the policy lets decisions out by the local API
        self._requests = 0

    def add(self, source: PushSource) -> None:
        self._sources[source.spec.name] = source

    @property
    def names(self) -> list[str]:
        return list(self._sources)

    def decided(self, frame: str, decision: Decided) -> None:
        """Remember a decision; called by the decision loop, and as quick as a dictionary."""
        name = frame.rpartition("/")[2]
        if not any(name.startswith(f"{source}-") for source in self._sources):
            return
        with self._turn:
            self._decisions[name] = decision
            if len(self._decisions) > REMEMBERED_MAX:
                self._decisions.popitem(last=False)

    async def answer(self, scope: Scope, receive: Receive) -> Reply | None:
        """The answer to a request, None where its path is none of ours."""
        path = scope["path"]
        if path in FILES and self._sources:
            return self._file(path, scope["method"])
        if not path.startswith("/push/"):
            return None
        self._requests += 1
        try:
            if self._requests > REQUESTS_MAX:
                raise NotNow(f"{REQUESTS_MAX} requests are under way; send it again in a second", code="requests_full")
            return await self._pushed(scope, receive)
        except EdgewiseError as error:
            return _refusal(error)
        finally:
            self._requests -= 1

    def _file(self, path: str, method: str) -> Reply:
        if method not in ("GET", "HEAD"):
            return 405, JSON, b'{"error": "only GET is answered here"}'
        name, headers = FILES[path]
        return (
            200,
            headers | {"cache-control": "no-cache"},
            (resources.files("edgewise.edge") / "web" / name).read_bytes(),
        )

    async def _pushed(self, scope: Scope, receive: Receive) -> Reply:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        name = scope["path"].removeprefix("/push/")
        source = self._sources.get(name)
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if source is None or not hmac.compare_digest(given.encode(), source.token.encode()):
            # The same answer to both, so that nobody can try names.
            raise NotTrusted(f"no push source {name[:60]!r} with this token; send it as `Authorization: Bearer …`")
        if scope["method"] != "POST":
            return 405, JSON | {"allow": "POST"}, b'{"error": "frames are sent by POST"}'
        wait_s = _wait_s(scope)
        frame = source.offer(await _body(receive, source.spec.frame_bytes_max))
        decision = await self._wait_for(frame, wait_s) if wait_s else None
        answer: dict[str, Any] = {"frame": frame}
        if decision is not None:
            answer["decision"] = plain(decision.record())
        return 202 if decision is None else 200, JSON, json.dumps(answer).encode()

    async def _wait_for(self, frame: str, wait_s: float) -> Decided | None:
        if not self._may_show:
            return None
        end_s = asyncio.get_running_loop().time() + wait_s
        while asyncio.get_running_loop().time() < end_s:
            with self._turn:
                if (decision := self._decisions.pop(frame, None)) is not None:
                    return decision
            await asyncio.sleep(LOOK_EVERY_S)
        return None


def _wait_s(scope: Scope) -> float:
    text = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("wait_s", ["0"])[0]
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= WAIT_S_MAX:
        raise NotValid(f"wait_s is {text[:20]!r}, needs seconds from 0 to {WAIT_S_MAX:g}", code="wait_invalid")
    return wait_s


async def _body(receive: Receive, bytes_max: int) -> bytes:
    try:
        async with asyncio.timeout(BODY_S_MAX):
            return await _whole(receive, bytes_max)
    except TimeoutError as error:
        raise NotNow(f"the frame has not arrived within {BODY_S_MAX:g} s", code="too_slow") from error


async def _whole(receive: Receive, bytes_max: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise NotNow("the caller hung up", code="hung_up")
        part = message.get("body", b"")
        size += len(part)
        if size > bytes_max:
            raise NotValid(f"over {bytes_max} bytes, at most that many are taken", code="frame_too_large")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _refusal(error: EdgewiseError) -> Reply:
    headers: Mapping[str, str] = JSON
    match error:
        case QueueFull():
            status, headers = 429, JSON | {"retry-after": "1"}
        case NotNow():
            status = 503
        case NotTrusted():
            status, headers = 401, JSON | {"www-authenticate": "Bearer"}
        case _:
            status = 413 if error.code == "frame_too_large" else 400
    return status, dict(headers), json.dumps({"error": str(error), "code": error.code}).encode()
