"""``edgewise edge serve``: any ONNX file or bundle behind the Open Inference Protocol v2, without a hub."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewise.edge import _garbage
from edgewise.edge._asgi import AsgiApp, Receive, Scope, Send, failure, reply
from edgewise.edge._http_server import HttpServer
from edgewise.edge._v2 import InPlace, v2_app
from edgewise.edge._v2_decide import DECIDE_SUFFIX, decide_model
from edgewise.edge._v2_models import Repository, ServedModel, Tally
from edgewise.ports import (
    OnnxRuntime,
    Pipeline,
    TlsFiles,
    address,
    is_packed,
    listen,
    open_pipeline,
    read_bundle,
    replace_file,
)
from edgewise.wire import NotValid, canonical

__all__ = ["ServedModel", "open_models", "run_app", "serve", "serve_app", "v2_app"]

ONNX_BYTES_MAX = 2 << 30  # protobuf itself ends there
STATE_FILE = "serve.json"


def serve(
    models: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    http_port: int = 8081,
    grpc_port: int | None = None,
    tls: TlsFiles | None = None,
    data_dir: Path | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        models: ONNX files, served under their file's name, and bundles (folders or packed files), served under the
            name in their manifest.
        host: address to listen on.
        http_port: 0 picks a free one.
        grpc_port: of the same protocol over gRPC; None has none, 0 picks a free one.
        tls: for clients with a certificate only; plain without it.
        data_dir: where ``serve.json`` names the address, the process and the models while this runs; None writes none.
        on_ready: told the address once requests are answered; without it the address is printed.
    Raises:
        NotValid, NotTrusted: a model cannot be opened. NotNow: the port is taken.
    """
    context = tls.context() if tls is not None else None
    served, tally = open_models(models), Tally()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(host, http_port))
        url = address(listener, secure=tls is not None)
        grpc = None
        if grpc_port is not None:
            from edgewise.edge._v2_grpc import grpc_server  # 20 MB that REST alone should not pay

            port = stack.enter_context(grpc_server(served, tally, host=host, port=grpc_port, tls=tls))
            grpc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

        def ready() -> None:
            on_ready(url) if on_ready is not None else _print_address(url, grpc)

        stack.enter_context(_state_file(data_dir, url, grpc, served))
        _garbage.resume()
        run_app(serve_app(served, tally), listener, tls=context, on_ready=ready)


def tls_of(certificate: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    """The files of three options that only make sense together; None without them. NotValid: some are missing."""
    named = {"--tls-cert": certificate, "--tls-key": key, "--client-ca": client_ca}
    if certificate is not None and key is not None and client_ca is not None:
        return TlsFiles(certificate=certificate, key=key, client_ca=client_ca)
    if any(named.values()):
        absent = " and ".join(option for option, value in named.items() if value is None)
        raise NotValid(f"TLS needs {', '.join(named)} together; {absent} is missing", code="tls_incomplete")
    return None


def _print_address(url: str, grpc: str | None) -> None:
    also = f", gRPC {grpc}" if grpc is not None else ""
    sys.stdout.write(f"serving on {url} (Open Inference Protocol: {url}/v2{also}); stop with Ctrl-C\n")
    sys.stdout.flush()  # whoever started us with port 0 waits for this line


def open_models(paths: Sequence[Path]) -> Repository:
    """The networks by the name under which they are served.

    Raises:
        NotValid: a path is neither, a network cannot be opened, or two share a name. NotTrusted: a damaged bundle.
    """
    loaded: dict[str, ServedModel] = {}
    openers: dict[str, Callable[[], ServedModel]] = {}
    for path in map(Path, paths):
        name, served = _open(path)
        if name in loaded:
            raise NotValid(f"two of the given models are named {name}; rename one of the files", code="name_taken")
        loaded[name], openers[name] = served, functools.partial(_open_again, path, name)
        if served.pipeline is not None:
            decides = name + DECIDE_SUFFIX
            loaded[decides], openers[decides] = decide_model(served), functools.partial(_open_decide, path, name)
    if not loaded:
        raise NotValid("there is nothing to serve; name an ONNX file or a bundle's folder", code="nothing_to_serve")
    return Repository(loaded, openers)


def _open(path: Path) -> tuple[str, ServedModel]:
    return _open_bundle(path) if path.is_dir() or is_packed(path) else _open_onnx(path)


def _open_again(path: Path, name: str) -> ServedModel:
    now, served = _open(path)
    if now != name:
        raise NotValid(f"{path} is named {now} now and was {name}; start the server anew", code="name_changed")
    return served


def _open_decide(path: Path, name: str) -> ServedModel:
    return decide_model(_open_again(path, name))


def _open_bundle(path: Path) -> tuple[str, ServedModel]:
    stored = read_bundle(path)
    pipeline: Pipeline = open_pipeline(stored.manifest, stored.digest, stored.read_blob, OnnxRuntime())
    pipeline.check_golden()
    return stored.manifest.name, ServedModel.of_pipeline(pipeline)


def _open_onnx(path: Path) -> tuple[str, ServedModel]:
    try:
        if path.stat().st_size > ONNX_BYTES_MAX:
            raise NotValid(f"{path} has over {ONNX_BYTES_MAX} bytes, no ONNX file is so long", code="model_invalid")
        data = path.read_bytes()
    except OSError as error:
        raise NotValid(
            f"{path} cannot be read ({error.strerror}); name an ONNX file or a bundle", code="model_missing"
        ) from error
    try:
        return path.stem, ServedModel(OnnxRuntime().open(data))
    except NotValid as error:
        raise NotValid(f"{path}: {error}", code=error.code) from error


def serve_app(models: Mapping[str, ServedModel], tally: Tally | None = None) -> AsgiApp:
    """The whole app of `edge serve`: the protocol, ``/livez``, ``/readyz`` and ``/metrics``.

    Args:
        tally: counts inferences that come by another door as well.
    """
    tally = tally or Tally()
    protocol = v2_app(models, tally)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/v2" or path.startswith("/v2/"):
            await protocol(scope, receive, send)
        elif path in ("/livez", "/readyz"):
            await reply(send, 200, {"content-type": "text/plain"}, b"ok\n")
        elif path == "/metrics":
            from edgewise.edge._v2_metrics import metrics_page  # late: nobody may ever ask

            await reply(send, 200, {"content-type": "text/plain; version=0.0.4"}, metrics_page(tally))
        else:
            error = NotValid(f"{path[:200]} is not here; there is /v2, /livez, /readyz, /metrics", code="not_found")
            await reply(send, *failure(error))

    return InPlace(app, protocol)


def run_app(
    app: AsgiApp,
    listener: socket.socket,
    *,
    tls: ssl.SSLContext | None = None,
    on_ready: Callable[[], None] = lambda: None,
    on_server: Callable[[HttpServer], None] = lambda _: None,
) -> None:
    """Run an ASGI app on a socket until a signal, or until ``should_exit`` of the server is set.

    Args:
        app: answers requests.
        listener: from `listen`.
        tls: for HTTPS.
        on_ready: called once requests are answered.
        on_server: handed the server, for a caller that stops it itself.
    """
    server = HttpServer(app, tls=tls)
    on_server(server)
    server.run(listener, on_ready)


@contextlib.contextmanager
def _state_file(data_dir: Path | None, url: str, grpc: str | None, models: Mapping[str, ServedModel]) -> Iterator[None]:
    if data_dir is None:
        yield
        return
    file = Path(data_dir) / STATE_FILE
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotValid(
            f"{data_dir} cannot be made ({error.strerror}); name another --data-dir", code="not_writable"
        ) from error
    state: dict[str, Any] = {
        "url": url,
        "grpc": grpc,
        "pid": os.getpid(),
        "models": {name: m.version for name, m in models.items()},
    }
    replace_file(file, canonical(state))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
