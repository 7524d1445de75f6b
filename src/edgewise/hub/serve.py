"""The hub as a process: one server, one thread that ticks the controllers, a clean end on SIGTERM."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

import uvicorn

from edgewise.hub._hub import Hub, HubConfig
from edgewise.hub.api import create_app
from edgewise.ports import address, listen
from edgewise.wire import EdgewiseError

LOG = logging.getLogger("edgewise.hub")
TICK_S = 1.0
SHUTDOWN_S = 5  # how long open connections are waited for; without it the server waits for kept-alive ones for ever


def serve(
    config: HubConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    tick_s: float = TICK_S,
    out: TextIO = sys.stdout,
    started: Callable[[Hub, str], None] | None = None,
) -> None:
    """Run a hub until SIGTERM or SIGINT.

    Args:
        port: 0 lets the system choose; the first line printed names the address either way.
        tick_s: time between two runs of the controllers.
        started: called with the hub and its address once it listens.
    Raises:
        NotNow: the port or the data folder is in use.
        NotValid: the address cannot be used, or the folder is of another version.
    """
    listener = listen(host, port)
    try:
        hub = Hub(config)
    except BaseException:
        listener.close()
        raise
    stop = threading.Event()
    ticker = threading.Thread(target=tick_until, args=(hub, stop, tick_s), name="controllers", daemon=True)
    try:
        url = address(listener)
        server = Server(
            uvicorn.Config(
                create_app(hub),
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=SHUTDOWN_S,
                server_header=False,
                lifespan="off",
            )
        )
        ticker.start()
        print(f"edgewise hub listens on {url}", file=out, flush=True)
        if started is not None:
            started(hub, url)
        server.run(sockets=[listener])
    finally:
        stop.set()
        if ticker.is_alive():
            ticker.join(SHUTDOWN_S)
        listener.close()
        hub.close()


class Server(uvicorn.Server):
    """A server that ends when told to and lets its caller go on: the library's own would kill the process then."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def tick_until(hub: Hub, stop: threading.Event, tick_s: float) -> None:
    """Tick until told to stop. A failed tick is logged and tried again: controllers act on the state they find."""
    while not stop.is_set():
        try:
            hub.tick()
        except EdgewiseError as error:
            LOG.warning("the controllers could not finish a round: %s", error)
        except Exception:
            LOG.exception("a controller failed by a mistake of the hub's own")
        stop.wait(tick_s)
