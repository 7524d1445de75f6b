"""ASGI in few words: its types, bodies of bounded size, and answers of one piece with this package's errors."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from edgewise.edge._v2_messages import BODY_BYTES_MAX, BadRequest
from edgewise.wire import EdgewiseError, NotNow, NotTrusted

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Reply: TypeAlias = tuple[int, Mapping[str, str], bytes]
"""Status, headers, body."""

JSON_TYPE = {"content-type": "application/json"}


def headers_of(scope: Scope) -> dict[str, str]:
    return {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}


async def read_body(headers: Mapping[str, str], receive: Receive, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """The whole body of a request, of bounded size.

    Raises:
        BadRequest: too large. NotNow: the client hung up.
    """
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > bytes_max:
        raise BadRequest(f"the body has {announced[:20]} bytes, at most {bytes_max} are taken", "too_large")
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise NotNow("the client hung up", code="hung_up")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > bytes_max:
            raise BadRequest(f"the body has more than the {bytes_max} bytes that are taken", "too_large")
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def status_of(error: EdgewiseError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, NotNow):
        return 503
    if isinstance(error, NotTrusted):
        return 403
    return {"not_found": 404, "too_large": 413}.get(error.code, 400)


def failure(error: EdgewiseError) -> Reply:
    """Status, headers and body of an error: ``{"error": "text"}``, as this protocol's clients read it."""
    status = status_of(error)
    headers = dict(JSON_TYPE)
    if status == 413:
        headers["connection"] = "close"  # the rest of the body is not read
    return status, headers, json.dumps({"error": str(error)}).encode()


async def reply(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Send one whole answer."""
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    pairs.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
