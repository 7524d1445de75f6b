"""The device's servers, each in a thread of its own: the local API on loopback, and the door for phones."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgewise.edge._asgi import AsgiApp, Receive, Scope, Send, reply
from edgewise.edge._push import PhoneDoor, PushDoor
from edgewise.edge.serve import run_app
from edgewise.ports import listen, tls_server_context

READY_S_MAX = 10.0
STOP_S_MAX = 5.0
NOT_HERE = b'{"error": "there is POST /push/NAME and /camera"}'


@contextlib.contextmanager
def served(app: AsgiApp, listener: socket.socket, *, name: str, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Answer requests on a socket, in a thread of this name, as long as the context is open."""
    servers: list[Any] = []
    ready = threading.Event()
    work = threading.Thread(
        target=lambda: run_app(app, listener, tls=tls, on_ready=ready.set, on_server=servers.append),
        name=f"edgewise-{name}",
        daemon=True,
    )
    work.start()
    ready.wait(READY_S_MAX)
    try:
        yield
    finally:
        for server in servers:
            server.should_exit = True
        work.join(timeout=STOP_S_MAX)


@contextlib.contextmanager
def phones_served(config: PhoneDoor, door: PushDoor) -> Iterator[None]:
    """The door for phones; its address is printed.

    Raises:
        NotValid: the certificate and key cannot be used, or the address is none of this machine's.
        NotNow: the port is taken.
    """
    tls = tls_server_context(Path(config.certificate_file), Path(config.key_file))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = await door.answer(scope, receive)
        await reply(send, *(answer or (404, {"content-type": "application/json"}, NOT_HERE)))

    with listen(config.host, config.port, option="phones.port in edge.yaml") as listener:
        sys.stdout.write(f"frames are taken on https://{config.host}:{listener.getsockname()[1]}/camera\n")
        sys.stdout.flush()
        with served(app, listener, name="phones", tls=tls):
            yield
