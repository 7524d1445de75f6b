"""The route for blobs that come in pieces: bytes are kept as they arrive, so that a broken upload can go on.

Shaped after the IETF's draft "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload): `Upload-Offset`,
`Upload-Length`, `Upload-Complete`, `application/partial-upload`. Blobs are known by their digest, so an upload needs no
address of its own: `HEAD` and `PATCH` go to the blob itself.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from edgewise.hub import quotas
from edgewise.hub._hub import Hub
from edgewise.hub.api import problems
from edgewise.hub.api.device import Answer, call_of, client_of, note_at_door, send_answer
from edgewise.hub.quotas import OverQuota
from edgewise.hub.uploads import Session
from edgewise.wire import EdgewiseError, NotValid

PIECE_BYTES = 256 << 10  # collected before a thread is asked to take them; a blob up to this size takes one thread once
NUMBER_DIGITS_MAX = 15


class UploadRoute:
    """An ASGI application for `PATCH /blobs/{digest}` of a device."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await (self._take_whole if 0 < _announced(scope) <= PIECE_BYTES else self._take)(scope, receive)
        except Exception as error:
            if isinstance(error, OverQuota):
                await run_in_threadpool(quotas.note, self._hub.store, error, self._hub.now())
            response = problems.answer_to(error)
            if isinstance(error, EdgewiseError):
                note_at_door(self._hub, error, client_of(scope), for_devices=True)
                response.headers["Connection"] = "close"  # nobody reads the rest of the body
            await response(scope, receive, send)
            return
        if answer is not None:
            await send_answer(send, answer)

    def _begin(self, scope: Scope) -> Session:
        call = call_of(self._hub, scope, b"", name="digest", for_devices=True)
        device, sha256 = call.device(), call.digest()
        offset, size_bytes = (_number(call.headers, name) for name in ("upload-offset", "upload-length"))
        self._hub.quotas.take(device, self._hub.now(), size_bytes=max(0, size_bytes - offset))
        return self._hub.uploads.begin(device, sha256, offset=offset, size_bytes=size_bytes)

    async def _take_whole(self, scope: Scope, receive: Receive) -> Answer | None:
        """As `_take`, for a body that is no longer than a piece."""
        more, is_there, held = True, True, bytearray()
        while more and is_there and len(held) <= PIECE_BYTES:
            message = await receive()
            is_there = message["type"] != "http.disconnect"
            more = message.get("more_body", False)
            held += message.get("body", b"")

        def keep() -> Answer:
            session = self._begin(scope)
            try:
                session.write(bytes(held))
            finally:
                here = self._hub.uploads.end(session)
            return _answer(session, here)

        answer = await run_in_threadpool(keep)
        return answer if is_there else None

    async def _take(self, scope: Scope, receive: Receive) -> Answer | None:
        """Keep what comes; None when the device went away, and there is nobody to answer."""
        session = await run_in_threadpool(self._begin, scope)
        is_there, held = True, bytearray()
        try:
            more = True
            while more and is_there:
                message = await receive()
                is_there = message["type"] != "http.disconnect"
                more = message.get("more_body", False)
                held += message.get("body", b"")
                if len(held) >= PIECE_BYTES or not more:
                    await run_in_threadpool(session.write, bytes(held))
                    held.clear()
        finally:
            here = await run_in_threadpool(self._hub.uploads.end, session)
        return _answer(session, here) if is_there else None


def _announced(scope: Scope) -> int:
    """Bytes that the body will have; 0 where nothing is said."""
    said = Headers(scope=scope).get("content-length", "")
    return int(said) if said.isdecimal() and len(said) <= NUMBER_DIGITS_MAX else 0


def _answer(session: Session, here: int) -> Answer:
    whole = here == session.size_bytes
    return Answer(status=204, headers={"Upload-Offset": str(here), "Upload-Complete": "?1" if whole else "?0"})


def _number(headers: object, name: str) -> int:
    said = headers.get(name, "")  # type: ignore[attr-defined]
    if not said.isdecimal() or len(said) > NUMBER_DIGITS_MAX:
        raise NotValid(f"the header {name} is {said[:40]!r}, needs a number of bytes", code="upload_invalid")
    return int(said)
