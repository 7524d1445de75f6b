"""The Open Inference Protocol v2 over gRPC: another door to the same core as REST. Needs the extra ``grpc``."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from edgewise.edge._v2_grpc_infer import InferReader, answer_bytes
from edgewise.edge._v2_grpc_messages import SERVICE, messages, needs_extra, with_length
from edgewise.edge._v2_messages import BODY_BYTES_MAX
from edgewise.edge._v2_models import Served, ServedModel
from edgewise.policy import error_words
from edgewise.ports import TlsFiles, listen
from edgewise.wire import EdgewiseError, NotNow, NotTrusted

log = logging.getLogger("edgewise.edge.v2")
STOP_S_MAX = 5
REFUSED = (
    *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"),
    *("CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"),
    *("TraceSetting", "LogSettings"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GrpcLimits:
    """The bounds of the gRPC server."""

    message_bytes_max: int = BODY_BYTES_MAX
    calls_max: int = 32  # at once, waiting ones too; more are told to come again
    streams_max: int = 8  # a stream holds a thread as long as it is open
    threads: int = 16


@contextlib.contextmanager
def grpc_server(
    models: Mapping[str, ServedModel],
    observe: Callable[[str, int, float], None],
    *,
    host: str,
    port: int,
    tls: TlsFiles | None = None,
    limits: GrpcLimits | None = None,
) -> Iterator[int]:
    """A server for as long as the context lasts; gives its port.

    Args:
        models: by name; looked at anew for each call.
        observe: told the served name, the HTTP status of the same outcome and the seconds of each inference.
        host: address to listen on.
        port: 0 picks a free one.
        tls: for clients with a certificate only; plain without it.
    Raises:
        NotValid: the extra is not installed, or no such address. NotNow: the port is taken.
    """
    try:
        import grpc  # type: ignore[import-untyped]
    except ImportError as error:
        raise needs_extra() from error
    limits = limits or GrpcLimits()
    pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="v2-grpc")
    server = grpc.server(
        pool,
        maximum_concurrent_rpcs=limits.calls_max,
        options=[
            ("grpc.max_receive_message_length", limits.message_bytes_max),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # otherwise two servers would share a port without a word
        ],
    )
    server.add_generic_rpc_handlers((_handlers(grpc, Calls(grpc, Served(models), observe, limits)),))
    with listen(host, port, option="--grpc-port") as probe:  # says in our words that a port is taken
        port = probe.getsockname()[1]
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(target) if tls is None else server.add_secure_port(target, _secure(grpc, tls))
    except RuntimeError as error:
        raise NotNow(f"port {port} of {host} was taken in this moment; try again", code="port_busy") from error
    server.start()
    try:
        yield bound
    finally:
        server.stop(STOP_S_MAX).wait()
        pool.shutdown(cancel_futures=True)


def _secure(grpc: Any, tls: TlsFiles) -> Any:
    return grpc.ssl_server_credentials(
        [(tls.key.read_bytes(), tls.certificate.read_bytes())],
        root_certificates=tls.client_ca.read_bytes(),
        require_client_auth=True,
    )


def _handlers(grpc: Any, calls: Calls) -> Any:
    def plain(name: str, act: Callable[[Any], Any]) -> Any:
        request = getattr(messages(), f"{name}Request")
        return grpc.unary_unary_rpc_method_handler(
            calls.guarded(act),
            request_deserializer=request.FromString,
            response_serializer=getattr(messages(), f"{name}Response").SerializeToString,
        )

    methods = {name: plain(name, act) for name, act in calls.questions().items()}
    # Bytes in, bytes out: the tensors of an inference are not copied into messages and out of them again.
    methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(calls.guarded(calls.infer))
    methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(calls.stream)
    for name in REFUSED:
        methods[name] = grpc.unary_unary_rpc_method_handler(calls.refused)
    return grpc.method_handlers_generic_handler(SERVICE, methods)


class Calls:
    """What each method does."""

    def __init__(
        self, grpc: Any, served: Served, observe: Callable[[str, int, float], None], limits: GrpcLimits
    ) -> None:
        self._codes = grpc.StatusCode
        self._served = served
        self._observe = observe
        self._reader = InferReader(served)
        self._runs = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._streams = threading.BoundedSemaphore(limits.streams_max)
        self._streams_max = limits.streams_max

    def questions(self) -> dict[str, Callable[[Any], Any]]:
        """The methods whose messages are small, by name."""
        made, served = messages(), self._served
        return {
            "ServerLive": lambda _: made.ServerLiveResponse(live=True),
            "ServerReady": lambda _: made.ServerReadyResponse(ready=served.is_ready()),
            "ModelReady": lambda asked: made.ModelReadyResponse(ready=self._is_ready(asked)),
            "ServerMetadata": lambda _: made.ServerMetadataResponse(**served.server()),
            "ModelMetadata": lambda asked: made.ModelMetadataResponse(**served.metadata(asked.name, asked.version)),
            "ModelConfig": lambda asked: made.ModelConfigResponse(
                config=served.configuration(asked.name, asked.version)
            ),
            "ModelStatistics": lambda asked: made.ModelStatisticsResponse(
                **served.statistics(asked.name, asked.version)
            ),
            "RepositoryIndex": lambda asked: made.RepositoryIndexResponse(models=served.index(ready_only=asked.ready)),
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    def _is_ready(self, asked: Any) -> bool:
        try:
            self._served.find(asked.name, asked.version)
        except EdgewiseError:
            return False  # the protocol wants this answer, not an error
        return True

    def _load(self, asked: Any) -> Any:
        self._served.load(asked.model_name, changes=bool(asked.parameters))
        return messages().RepositoryModelLoadResponse()

    def _unload(self, asked: Any) -> Any:
        self._served.unload(asked.model_name)
        return messages().RepositoryModelUnloadResponse()

    def infer(self, data: bytes) -> bytes:
        """The answer to an inference. Raises what `guarded` turns into a status."""
        started = time.perf_counter()
        asked, arrays = self._reader.read(data)
        status = 500
        try:
            with self._runs:  # as many at once as there are cores; more would only take turns
                results = asked.served.infer(arrays, asked.outputs)
            answer = answer_bytes(asked, results)
            status = 200
            return answer
        except EdgewiseError:
            status = 400
            raise
        finally:
            self._observe(asked.name, status, time.perf_counter() - started)

    def stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """An answer, or what was wrong, for each request of a stream, in order."""
        if not self._streams.acquire(blocking=False):
            context.abort(self._codes.RESOURCE_EXHAUSTED, f"{self._streams_max} streams are open; come again later")
        try:
            for data in requests:
                field, value = self._stream_answer(data)
                yield with_length(field, len(value)) + value
        finally:
            self._streams.release()

    def _stream_answer(self, data: bytes) -> tuple[int, bytes]:
        try:
            return 2, self.infer(data)
        except Exception as error:
            return 1, self._status(error)[1].encode()

    def guarded(self, act: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        """A handler that answers errors by a status and words."""

        def handle(request: Any, context: Any) -> Any:
            try:
                return act(request)
            except Exception as error:
                code, words = self._status(error)
            context.abort(code, words)

        return handle

    def _status(self, error: Exception) -> tuple[Any, str]:
        if not isinstance(error, EdgewiseError):
            log.error("a call by gRPC failed: %s", error_words(error, names=False))
            return self._codes.INTERNAL, "this call made the server fail; its log says why"
        if isinstance(error, NotNow):
            return self._codes.UNAVAILABLE, str(error)
        if isinstance(error, NotTrusted):
            return self._codes.PERMISSION_DENIED, str(error)
        codes = {"not_found": self._codes.NOT_FOUND, "too_large": self._codes.RESOURCE_EXHAUSTED}
        return codes.get(error.code, self._codes.INVALID_ARGUMENT), str(error)

    def refused(self, _request: bytes, context: Any) -> bytes:
        context.abort(
            self._codes.UNIMPLEMENTED,
            "shared memory, trace and log settings are not supported here; send tensors in the request",
        )
        raise AssertionError("abort does not come back")
