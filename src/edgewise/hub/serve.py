"""The hub as a process: a server for people, one for devices, a thread that ticks the controllers, a clean end."""

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
from edgewise.hub.api import create_app, create_device_app
from edgewise.hub.api.peer import check_proxies
from edgewise.hub.tls import DeviceListener
from edgewise.ports import address, listen
from edgewise.wire import EdgewiseError

LOG = logging.getLogger("edgewise.hub")
TICK_S = 1.0
WATCH_S = 15.0  # between two looks at what people must hear of
SHUTDOWN_S = 5  # how long open connections are waited for; without it the server waits for kept-alive ones for ever


def serve(
    config: HubConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    device_host: str = "127.0.0.1",
    device_port: int = 8443,
    tick_s: float = TICK_S,
    out: TextIO = sys.stdout,
    started: Callable[[Hub, str], None] | None = None,
) -> None:
    """Run a hub until SIGTERM or SIGINT.

    Args:
        port: for people; 0 lets the system choose, and the first line printed names the address either way.
        device_host, device_port: for devices, over TLS; the second line printed names that address.
        tick_s: time between two runs of the controllers.
        started: called with the hub and its address once it listens.
    Raises:
        NotNow: the port or the data folder is in use.
        NotValid: the address cannot be used, or the folder is of another version.
    """
    check_proxies(config.proxies)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        device_listener = stack.enter_context(listen(device_host, device_port, option="--device-port"))
        hub = Hub(config)
        stack.callback(hub.close)
        app = create_app(hub)
        devices = DeviceListener(hub, create_device_app(hub, app.state.metrics), device_listener)
        stack.callback(devices.stop)
        stop = threading.Event()

        def renew() -> None:
            devices.certificate.refresh(hub.now())

        ticker = threading.Thread(target=tick_until, args=(hub, stop, tick_s, renew), name="controllers", daemon=True)
        watcher = threading.Thread(target=watch_until, args=(hub, stop), name="alerts", daemon=True)
        url = address(listener)
        server = Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=SHUTDOWN_S,
                server_header=False,
                lifespan="off",
            )
        )
        devices.start()
        ticker.start()
        watcher.start()
        stack.callback(_end, stop, ticker, watcher)
        print(f"edgewise hub listens on {url}", file=out, flush=True)
        print(f"devices reach it on {devices.url}", file=out, flush=True)
        if started is not None:
            started(hub, url)
        server.run(sockets=[listener])


def _end(stop: threading.Event, *threads: threading.Thread) -> None:
    stop.set()
    for thread in threads:
        thread.join(SHUTDOWN_S)


def watch_until(hub: Hub, stop: threading.Event, every_s: float = WATCH_S) -> None:
    """Raise and tell alerts until told to stop; what fails is logged and tried again."""
    while not stop.wait(every_s):
        try:
            hub.watch()
        except EdgewiseError as error:
            LOG.warning("alerts could not be looked at: %s", error)
        except Exception:
            LOG.exception("alerts failed by a mistake of the hub's own")


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


def tick_until(hub: Hub, stop: threading.Event, tick_s: float, *also: Callable[[], object]) -> None:
    """Tick until told to stop. A failed tick is logged and tried again: controllers act on the state they find.

    Args:
        also: done beside it at every tick; none of them keeps the others from their turn.
    """
    while not stop.is_set():
        for work in (hub.tick, *also):
            try:
                work()
            except EdgewiseError as error:
                LOG.warning("the controllers could not finish a round: %s", error)
            except Exception:
                LOG.exception("a controller failed by a mistake of the hub's own")
        stop.wait(tick_s)
