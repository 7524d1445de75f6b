"""The Open Inference Protocol v2 over REST, as a plain ASGI app that `edge serve` and the agent both mount."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from numpy.typing import NDArray

from edgewise import __version__
from edgewise.edge._v2_messages import (
    BODY_BYTES_MAX,
    HEADER_LENGTH,
    BadRequest,
    compressed,
    read_request,
    uncompressed,
    write_answer,
)
from edgewise.frames import input_shape
from edgewise.policy import error_words
from edgewise.ports import Pipeline, Session, Tensor
from edgewise.ports.tensors import DATATYPES
from edgewise.wire import Decision, EdgewiseError, ImageSpec, NotNow, NotTrusted, NotValid, encode

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Observe: TypeAlias = Callable[[str, int, float], None]
"""Told the served name, the HTTP status and the seconds of each inference or decision."""

INLINE_S_MAX = 0.0005  # a run shorter than this is done on the event loop: the hop to a thread and back costs more
INLINE_JSON_BYTES_MAX = 100_000  # longer JSON takes milliseconds to read, in which nobody else would be answered
WAITING_MAX = 64  # inferences under way or waiting at once; more are told to come again
EXTENSIONS = ["binary_tensor_data", "model_configuration", "statistics", "model_repository"]


log = logging.getLogger("edgewise.edge.v2")


class ServedModel:
    """A network under a name: a bundle's, which also decides, or any ONNX file's."""

    def __init__(
        self, session: Session, *, version: str = "1", pipeline: Pipeline | None = None, release: str | None = None
    ):
        self.session = session
        self.inputs = session.inputs if pipeline is None else (_prepared_input(pipeline),)
        self.outputs = session.outputs
        self.version = version
        self.pipeline = pipeline
        self.release = release
        self.runs = 0
        self.failures = 0
        self.run_s_total = 0.0
        self._run_s = INLINE_S_MAX  # smoothed; starts at the bound, so that the first run goes to a thread

    @classmethod
    def of_pipeline(cls, pipeline: Pipeline, release: str | None = None) -> ServedModel:
        """A bundle; its version is the start of its digest."""
        return cls(pipeline.session, version=pipeline.bundle[:12], pipeline=pipeline, release=release)

    @property
    def is_short(self) -> bool:
        """Whether a run is too short to be worth a thread."""
        return self._run_s < INLINE_S_MAX

    def infer(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The outputs by name. NotValid: the network does not take these inputs."""
        started = time.perf_counter()
        try:
            results = self.session.run_named(inputs, outputs)
        except EdgewiseError:
            self.failures += 1
            raise
        self._count(time.perf_counter() - started)
        return results

    def decide(self, data: bytes) -> Decision:
        """The bundle's decision on a frame. NotValid: no bundle, or a frame that cannot be used."""
        if self.pipeline is None:
            raise NotValid("this is a plain network, which cannot decide; serve a bundle for that", code="not_a_bundle")
        # What the bundle takes is certain, what a client writes into Content-Type is not: curl calls everything a form.
        media_type = "image/*" if isinstance(self.pipeline.graph.pre, ImageSpec) else "application/json"
        started = time.perf_counter()
        try:
            decision = self.pipeline.decide(self.pipeline.answer(data, media_type), self.release)
        except EdgewiseError:
            self.failures += 1
            raise
        self.runs += 1
        self.run_s_total += time.perf_counter() - started
        return decision

    def _count(self, seconds: float) -> None:
        self.runs += 1
        self.run_s_total += seconds
        self._run_s += (min(seconds, 1.0) - self._run_s) * 0.1


def _prepared_input(pipeline: Pipeline) -> Tensor:
    """A bundle's input: the prepared frame, whose shape the manifest knows even where the network leaves it open."""
    (declared,) = pipeline.session.inputs
    batch = declared.shape[0] if declared.shape else -1
    return Tensor(name=declared.name, dtype=declared.dtype, shape=(batch, *input_shape(pipeline.graph.pre)))


def v2_app(models: Mapping[str, ServedModel], observe: Observe | None = None) -> AsgiApp:
    """An ASGI app for every path from ``/v2`` on.

    Args:
        models: by name; looked at anew for each request, so an agent may change it while it runs.
        observe: told about each inference, for metrics.
    """
    return _V2(models, observe or (lambda _name, _status, _seconds: None))


class _V2:
    def __init__(self, models: Mapping[str, ServedModel], observe: Observe) -> None:
        self._models = models
        self._observe = observe
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="v2")
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
            status, headers = 500, {"content-type": "application/json"}
            body = b'{"error": "this request made the server fail; its log says why"}'
        await reply(send, status, headers, body)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, dict[str, str], bytes]:
        parts = [part for part in scope["path"].split("/") if part][1:]
        method = scope["method"]
        match [method, *parts]:
            case ["POST", "models", name, "versions", version, ("infer" | "decide") as what]:
                return await self._run(scope, receive, name, version, what)
            case ["POST", "models", name, ("infer" | "decide") as what]:
                return await self._run(scope, receive, name, None, what)
            case ["POST", "repository", "index"]:
                return _json([self._index(name, served) for name, served in self._models.items()])
            case ["POST", "repository", "models", *_]:
                raise BadRequest("networks are loaded when the server starts; start it with the ones you need")
            case ["GET" | "HEAD", *_]:
                return self._look(parts)
        raise BadRequest(f"{method} {scope['path'][:200]} is not part of this protocol", "not_found")

    def _look(self, parts: list[str]) -> tuple[int, dict[str, str], bytes]:
        match parts:
            case []:
                return _json({"name": "edgewise", "version": __version__, "extensions": EXTENSIONS})
            case ["health", "live"]:
                return 200, {}, b""
            case ["health", "ready"]:
                if not self._models:
                    raise NotNow("no network is ready yet", code="not_ready")
                return 200, {}, b""
            case ["models", "stats"]:
                return _json({"model_stats": [_statistics(name, served) for name, served in self._models.items()]})
            case ["models", name, "versions", version, *rest]:
                return _about(name, self._find(name, version), rest)
            case ["models", name, *rest]:
                return _about(name, self._find(name, None), rest)
        raise BadRequest(f"/v2/{'/'.join(parts)[:200]} is not part of this protocol", "not_found")

    def _find(self, name: str, version: str | None) -> ServedModel:
        served = self._models.get(name)
        if served is None or version not in (None, served.version):
            known = ", ".join(f"{other} (version {model.version})" for other, model in self._models.items()) or "none"
            wanted = name[:80] if version is None else f"{name[:80]} version {version[:80]}"
            raise BadRequest(f"no network {wanted!r} is served here; there is {known}", "not_found")
        return served

    @staticmethod
    def _index(name: str, served: ServedModel) -> dict[str, str]:
        return {"name": name, "version": served.version, "state": "READY", "reason": ""}

    async def _run(
        self, scope: Scope, receive: Receive, name: str, version: str | None, what: str
    ) -> tuple[int, dict[str, str], bytes]:
        served = self._find(name, version)
        started = time.perf_counter()
        status = 500
        if self._waiting >= WAITING_MAX:
            raise NotNow(f"{self._waiting} requests are waiting already; come again in a moment", code="busy")
        self._waiting += 1
        try:
            answer = await self._infer_or_decide(scope, receive, name, served, what)
            status = answer[0]
            return answer
        except EdgewiseError as error:
            status = failure(error)[0]
            raise
        finally:
            self._waiting -= 1
            self._observe(name, status, time.perf_counter() - started)

    async def _infer_or_decide(
        self, scope: Scope, receive: Receive, name: str, served: ServedModel, what: str
    ) -> tuple[int, dict[str, str], bytes]:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        body = uncompressed(await read_body(headers, receive), headers.get("content-encoding", "").strip().lower())
        if what == "decide":
            decision = await self._in_pool(served.decide, body)
            return 200, {"content-type": "application/json"}, encode(decision)
        length = headers.get(HEADER_LENGTH)
        if length is None and len(body) > INLINE_JSON_BYTES_MAX:
            request = await self._in_pool(read_request, body, length, served.inputs, served.outputs)
        else:
            request = read_request(body, length, served.inputs, served.outputs)
        if served.is_short:
            results = served.infer(request.inputs, list(request.outputs))
        else:
            results = await self._in_pool(served.infer, request.inputs, list(request.outputs))
        answer, about = write_answer(request, results, name=name, version=served.version)
        coding = headers.get("accept-encoding", "").strip().lower()
        # Only for who asks for one coding by name: libraries list all they know on every request, and packing numbers
        # costs more than sending them over a local link.
        if coding in ("gzip", "deflate"):
            return 200, {**about, "content-encoding": coding}, compressed(answer, coding)
        return 200, about, answer

    async def _in_pool(self, act: Callable[..., Any], *values: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, act, *values)


def _about(name: str, served: ServedModel, rest: list[str]) -> tuple[int, dict[str, str], bytes]:
    match rest:
        case []:
            return _json(
                {
                    "name": name,
                    "versions": [served.version],
                    "platform": "onnxruntime_onnx",
                    "inputs": [_declared(tensor) for tensor in served.inputs],
                    "outputs": [_declared(tensor) for tensor in served.outputs],
                }
            )
        case ["ready"]:
            return 200, {}, b""
        case ["config"]:
            return _json(_configuration(name, served))
        case ["stats"]:
            return _json({"model_stats": [_statistics(name, served)]})
    raise BadRequest(
        f"networks have no {'/'.join(rest)[:80]!r}; there is ready, config, stats, infer, decide", "not_found"
    )


def _declared(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": DATATYPES[tensor.dtype], "shape": list(tensor.shape or (-1,))}


def _configuration(name: str, served: ServedModel) -> dict[str, Any]:
    def ports(tensors: tuple[Tensor, ...]) -> list[dict[str, Any]]:
        return [
            {
                "name": tensor.name,
                "data_type": "TYPE_STRING" if tensor.dtype == "object" else f"TYPE_{DATATYPES[tensor.dtype]}",
                "dims": list(tensor.shape or (-1,)),
            }
            for tensor in tensors
        ]

    return {
        "name": name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": 0,  # the batch is the first axis of the declared shapes
        "input": ports(served.inputs),
        "output": ports(served.outputs),
    }


def _statistics(name: str, served: ServedModel) -> dict[str, Any]:
    return {
        "name": name,
        "version": served.version,
        "inference_count": served.runs,
        "execution_count": served.runs,
        "inference_stats": {
            "success": {"count": served.runs, "ns": round(served.run_s_total * 1e9)},
            "fail": {"count": served.failures, "ns": 0},
        },
    }


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


def failure(error: EdgewiseError) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an error: ``{"error": "text"}``, as this protocol's clients read it."""
    status = {"not_found": 404, "too_large": 413}.get(error.code, 400)
    if isinstance(error, NotNow):
        status = 503
    elif isinstance(error, NotTrusted):
        status = 403
    headers = {"content-type": "application/json"}
    if status == 413:
        headers["connection"] = "close"  # the rest of the body is not read
    return status, headers, json.dumps({"error": str(error)}).encode()


async def reply(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Send one whole answer."""
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    pairs.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _json(value: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"content-type": "application/json"}, json.dumps(value).encode()
