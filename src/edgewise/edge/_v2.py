"""The Open Inference Protocol v2 over REST, as a plain ASGI app that `edge serve` and the agent both mount."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from edgewise.edge._asgi import (
    JSON_TYPE,
    AsgiApp,
    Receive,
    Reply,
    Scope,
    Send,
    failure,
    headers_of,
    read_body,
    reply,
    status_of,
)
from edgewise.edge._http_head import Head
from edgewise.edge._v2_messages import (
    HEADER_LENGTH,
    BadRequest,
    compressed,
    uncompressed,
    write_answer,
)
from edgewise.edge._v2_models import Served, ServedModel
from edgewise.edge._v2_pool import Threads
from edgewise.edge._v2_repeat import Repeat
from edgewise.policy import error_words
from edgewise.wire import EdgewiseError, NotNow, encode

Done: TypeAlias = Callable[[int, Sequence[Any]], None]
"""Told a status, and the parts of a whole answer from its first header field on."""
Observe: TypeAlias = Callable[[str, int, float], None]
"""Told the served name, the status and the seconds of each inference or decision."""

INLINE_JSON_BYTES_MAX = 100_000  # longer JSON takes milliseconds to read, in which nobody else would be answered
ASKED_BYTES_MAX = 1 << 20  # of a question that is no inference
WAITING_MAX = 64  # inferences under way or waiting at once; more are told to come again
REFUSED = {
    "systemsharedmemory": "shared memory",
    "cudasharedmemory": "shared memory",
    "tpusharedmemory": "shared memory",
    "xlasharedmemory": "shared memory",
    "trace": "tracing by request",
    "logging": "changing the log",
    "shared-memory": "shared memory",
}
FAILED = b'{"error": "this request made the server fail; its log says why"}'

log = logging.getLogger("edgewise.edge.v2")


def v2_app(models: Mapping[str, ServedModel], observe: Observe | None = None) -> V2:
    """An ASGI app for every path from ``/v2`` on.

    Args:
        models: by name; looked at anew for each request, so an agent may change it while it runs. A `Repository` can
            also be told to load and unload.
        observe: told about each inference, for metrics.
    """
    return V2(models, observe or (lambda _name, _status, _seconds: None))


class V2:
    """The app of `v2_app`."""

    @staticmethod
    def takes_buffers(_head: Head) -> bool:
        """Bodies may come as a memoryview."""
        return True

    def __init__(self, models: Mapping[str, ServedModel], observe: Observe) -> None:
        self._models = models
        self._served = Served(models)
        self._observe = observe
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="v2")
        self._threads = Threads(os.cpu_count() or 1)
        self._turn = threading.Lock()
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", f"{scope['type']} is not served here"
        try:
            status, headers, body = await self._answer(scope, receive)
        except EdgewiseError as error:
            status, headers, body = failure(error)
        except Exception as error:
            # The last line of defence: a client must get this protocol's answer even to a mistake of ours. Its text may
            # hold what the client sent, which does not belong into a log.
            log.error("%s %s failed: %s", scope["method"], scope["path"][:200], error_words(error, names=False))
            status, headers = 500, JSON_TYPE
            body = FAILED
        await reply(send, status, headers, body)

    def now(self, head: Head, body: memoryview) -> tuple[int, Sequence[bytes]] | None:
        """The answer to an inference that is too short to be worth a task; None for everything else.

        It is the same as by ASGI, in place: on the event loop, on the bytes of the connection's buffer.
        """
        if head.memo is None:
            head.memo = _short_way(head)
        name, version, length = head.memo
        served = self._models.get(name)
        if served is None or not served.is_short or len(body) > INLINE_JSON_BYTES_MAX:
            return None
        if version not in (None, served.version):
            return None
        started = time.perf_counter()
        status, parts = self._whole(served, name, body, length)
        self._observe(name, status, time.perf_counter() - started)
        return status, parts

    def later(self, head: Head, body: bytes | memoryview, done: Done) -> bool:
        """Answer an inference on a thread and tell ``done``; False for everything that needs more than that."""
        name, version, length = head.memo or _short_way(head)
        served = self._models.get(name)
        if served is None or version not in (None, served.version) or self._waiting >= WAITING_MAX:
            return False
        with self._turn:
            self._waiting += 1
        self._threads.put(functools.partial(self._work, served, name, body, length, done))
        return True

    def _work(self, served: ServedModel, name: str, body: bytes | memoryview, length: str | None, done: Done) -> None:
        started = time.perf_counter()
        status, parts = self._whole(served, name, body, length)
        with self._turn:
            self._waiting -= 1
        self._observe(name, status, time.perf_counter() - started)
        with contextlib.suppress(RuntimeError):  # the server has ended
            done(status, parts)

    def _whole(
        self, served: ServedModel, name: str, body: bytes | memoryview, length: str | None
    ) -> tuple[int, list[bytes]]:
        """Status and parts of the answer to an inference, whatever comes of it."""
        try:
            return 200, _parts(*self._run_now(served, name, body, length))
        except EdgewiseError as error:
            status, about, text = failure(error)
            return status, _parts(about, [text])
        except Exception as error:
            log.error("%s failed: %s", name[:80], error_words(error, names=False))
            return 500, _parts(JSON_TYPE, [FAILED])

    @staticmethod
    def _run_now(
        served: ServedModel, name: str, body: bytes | memoryview, length: str | None
    ) -> tuple[Mapping[str, str], list[bytes]]:
        request = served.reader.read(body, length)
        results = served.infer(request.inputs, request.names)
        head, raw = write_answer(request, results, served.declared, name=name, version=served.version)
        return _about(head, raw), [head, *raw]

    def repeat(self, head: Head, body: memoryview, allowed: Callable[[], bool] = lambda: True) -> Repeat | None:
        """The quickest way for requests that begin as this one does; None where there is none.

        Args:
            allowed: asked before each answer.
        """
        name, version, length = head.memo or _short_way(head)
        served = self._models.get(name)
        if served is None or not served.is_short or length is None or version not in (None, served.version):
            return None
        try:
            request = served.reader.read(body, length)
            if not served.reader.is_plain or request.answers is None or not all(request.outputs.values()):
                return None
            results = served.session.run_named(request.inputs, request.names)  # not counted: nobody asked for it
            json_part, raw = write_answer(request, results, served.declared, name=name, version=served.version)
        except EdgewiseError:
            return None
        (values,) = request.inputs.values()
        bound = served.bound(values.shape, tuple(request.names))
        if bound is None or any(served.declared[output] in ("bfloat16", "object") for output in request.outputs):
            return None
        answer = b"".join(_parts(_about(json_part, raw), [json_part, *raw])[:2])
        prefix = head.data + b"\r\n\r\n" + bytes(body[: int(length)])
        return Repeat(
            self._models, name, request, results, answer, bound, allowed, prefix=prefix, observe=self._observe
        )

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        parts = [part for part in scope["path"].split("/") if part][1:]
        match [scope["method"], *parts]:
            case ["POST", "models", name, "versions", version, ("infer" | "decide") as what]:
                return await self._run(scope, receive, name, version, what)
            case ["POST", "models", name, ("infer" | "decide") as what]:
                return await self._run(scope, receive, name, None, what)
            case ["POST", "repository", "index"]:
                asked = await _asked(scope, receive)
                return _json(self._served.index(ready_only=asked.get("ready") is True))
            case ["POST", "repository", "models", name, ("load" | "unload") as what]:
                return await self._change(scope, receive, name, what)
            case [_, word, *_] if word in REFUSED:
                raise not_served(REFUSED[word])
            case [_, "models", _, "trace", *_] | [_, "models", _, "versions", _, "trace", *_]:
                raise not_served(REFUSED["trace"])
            case ["GET" | "HEAD", *_]:
                return self._look(parts)
        raise BadRequest(f"{scope['method'][:20]} {scope['path'][:200]} is not part of this protocol", "not_found")

    def _look(self, parts: list[str]) -> Reply:
        match parts:
            case []:
                return _json(self._served.server())
            case ["health", "live"]:
                return 200, {}, b""
            case ["health", "ready"]:
                if not self._served.is_ready():
                    raise NotNow("no network is ready yet", code="not_ready")
                return 200, {}, b""
            case ["models", "stats"]:
                return _json(self._served.statistics())
            case ["models", name, "versions", version, *rest]:
                return self._about(name, version, rest)
            case ["models", name, *rest]:
                return self._about(name, None, rest)
        raise BadRequest(f"/v2/{'/'.join(parts)[:200]} is not part of this protocol", "not_found")

    def _about(self, name: str, version: str | None, rest: list[str]) -> Reply:
        match rest:
            case []:
                return _json(self._served.metadata(name, version))
            case ["ready"]:
                self._served.find(name, version)
                return 200, {}, b""
            case ["config"]:
                return _json(self._served.configuration(name, version))
            case ["stats"]:
                return _json(self._served.statistics(name, version))
        raise BadRequest(
            f"networks have no {'/'.join(rest)[:80]!r}; there is ready, config, stats, infer, decide", "not_found"
        )

    async def _change(self, scope: Scope, receive: Receive, name: str, what: str) -> Reply:
        asked = await _asked(scope, receive)
        if what == "load":
            parameters = asked.get("parameters") or {}
            await self._in_pool(lambda: self._served.load(name, changes=bool(parameters)))
        else:
            self._served.unload(name)
        return 200, {}, b""

    async def _run(self, scope: Scope, receive: Receive, name: str, version: str | None, what: str) -> Reply:
        served = self._served.find(name, version)
        started = time.perf_counter()
        status = 500
        if self._waiting >= WAITING_MAX:
            raise NotNow(f"{self._waiting} requests are waiting already; come again in a moment", code="busy")
        with self._turn:
            self._waiting += 1
        try:
            answer = await self._infer_or_decide(scope, receive, name, served, what)
            status = answer[0]
            return answer
        except EdgewiseError as error:
            status = status_of(error)
            raise
        finally:
            with self._turn:
                self._waiting -= 1
            self._observe(name, status, time.perf_counter() - started)

    async def _infer_or_decide(
        self, scope: Scope, receive: Receive, name: str, served: ServedModel, what: str
    ) -> Reply:
        headers = headers_of(scope)
        body = uncompressed(await read_body(headers, receive), headers.get("content-encoding", "").strip().lower())
        if what == "decide":
            decision = await self._in_pool(served.decide, bytes(body))
            return 200, JSON_TYPE, encode(decision)
        length = headers.get(HEADER_LENGTH)
        if length is None and len(body) > INLINE_JSON_BYTES_MAX:
            request = await self._in_pool(served.reader.read, body, length)
        else:
            request = served.reader.read(body, length)
        if served.is_short:
            results = served.infer(request.inputs, request.names)
        else:
            results = await self._in_pool(served.infer, request.inputs, request.names)
        head, raw = write_answer(request, results, served.declared, name=name, version=served.version)
        about = _about(head, raw)
        answer = b"".join([head, *raw]) if raw else head
        coding = headers.get("accept-encoding", "").strip().lower()
        # Only for who asks for one coding by name: libraries list all they know on every request, and packing numbers
        # costs more than sending them over a local link.
        if coding in ("gzip", "deflate"):
            return 200, {**about, "content-encoding": coding}, await self._in_pool(compressed, answer, coding)
        return 200, about, answer

    async def _in_pool(self, act: Callable[..., Any], *values: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, act, *values)


class InPlace:
    """An app that has protocol v2 below ``/v2``, answered in place where that can be.

    Args:
        app: the whole app, for every path.
        protocol: the same that the app asks below ``/v2``.
        allowed: whether a request may be answered in place; it must not allow what the app would refuse.
    """

    def __init__(self, app: AsgiApp, protocol: V2, allowed: Callable[[Head], bool] = lambda _head: True) -> None:
        self._app = app
        self._protocol = protocol
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def now(self, head: Head, body: memoryview) -> tuple[int, Sequence[bytes]] | None:
        """As `V2.now`."""
        return self._protocol.now(head, body) if self._allowed(head) else None

    def later(self, head: Head, body: bytes | memoryview, done: Done) -> bool:
        """As `V2.later`."""
        return self._allowed(head) and self._protocol.later(head, body, done)

    def repeat(self, head: Head, body: memoryview) -> Repeat | None:
        """As `V2.repeat`; each answer asks again whether it is allowed."""
        return self._protocol.repeat(head, body, lambda: self._allowed(head))

    @staticmethod
    def takes_buffers(head: Head) -> bool:
        """Whether the body of such a request may come as a memoryview."""
        return head.path.startswith("/v2/")


def _short_way(head: Head) -> tuple[str, str | None, str | None]:
    """Name, version and length of the JSON of an inference without anything special; the name is "" for all others."""
    fields = dict(head.headers)
    packed = fields.get(b"accept-encoding", b"").lower() in (b"gzip", b"deflate") or b"content-encoding" in fields
    length = fields.get(HEADER_LENGTH.encode())
    text = None if length is None else length.decode("latin-1")
    match [head.method, *(part for part in head.path.split("/") if part)]:
        case ["POST", "v2", "models", name, "infer"] if not packed:
            return name, None, text
        case ["POST", "v2", "models", name, "versions", version, "infer"] if not packed:
            return name, version, text
    return "", None, None


def _about(head: bytes, raw: Sequence[bytes]) -> Mapping[str, str]:
    if not raw:
        return JSON_TYPE
    return {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def _parts(about: Mapping[str, str], body: list[bytes]) -> list[bytes]:
    """An answer from its first header field on."""
    fields = "".join([f"{name}: {value}\r\n" for name, value in about.items()])
    return [f"{fields}content-length: {sum(map(len, body))}\r\n\r\n".encode(), *body]


def not_served(what: str) -> BadRequest:
    """What is asked belongs to an extension that is left out on purpose."""
    return BadRequest(f"{what} is not supported here; send tensors in the request, and look at /metrics", "not_served")


async def _asked(scope: Scope, receive: Receive) -> Mapping[str, Any]:
    """The JSON object of a question; empty where the body is."""
    headers = headers_of(scope)
    coding = headers.get("content-encoding", "").strip().lower()
    body = uncompressed(await read_body(headers, receive, bytes_max=ASKED_BYTES_MAX), coding)
    if not bytes(body).strip():
        return {}
    try:
        asked = json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the request is not JSON: {str(error)[:200]}") from error
    if not isinstance(asked, dict):
        raise BadRequest("the request must be a JSON object, or empty")
    return asked


def _json(value: Any) -> Reply:
    return 200, JSON_TYPE, json.dumps(value).encode()
