"""A real hub that listens on a port of its own, for workers that call it over HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from edgewise.hub import Hub, HubConfig, read_usecase, usecases
from edgewise.hub.api import create_app
from edgewise.learn._worker import WorkerLimits
from edgewise.ports import MemoryBlobs, MemoryKeys, OnnxRuntime
from edgewise.ports.api import HubApi

USECASE = """
name: press
app: factory
outcome: {goal: find scratches, labels: [none, scratch], good_labels: [none]}
people: {owner: ann, approver: bob, oversight: the line's stop button}
sites: [{name: north}]
retrain: {labels_min: 500}
"""
FAST = WorkerLimits(poll_s=0.05, wait_s_max=0.1, heartbeat_s=0.05)


@dataclass
class Plant:
    """A hub that listens on a port of its own."""

    hub: Hub
    port: int
    server: uvicorn.Server | None = None
    thread: threading.Thread | None = None
    admin: HubApi = field(init=False)

    def __post_init__(self) -> None:
        self.admin = self.client("admin")

    def client(self, role: str) -> HubApi:
        return HubApi(f"http://127.0.0.1:{self.port}", self.hub.tokens.text(role))

    def up(self) -> None:
        config = uvicorn.Config(create_app(self.hub), port=self.port, log_level="critical", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.server is not None and self.server.started)

    def down(self) -> None:
        if self.server is not None and self.thread is not None:
            self.server.should_exit = True
            self.thread.join(timeout=10)

    def label(self, samples: list[Any]) -> None:
        """Bring labelled pictures in; the hub sets some groups aside for its gate."""
        entries = [
            {
                "use_case": "press",
                "site": "north",
                "frame": one.name,
                "group": one.group,
                "label": one.label,
                "blob": self.admin.put_blob(one.read()),
                "media_type": one.media_type,
                "taken_at": "2026-03-01T00:00:00Z",
            }
            for one in samples
        ]
        self.admin.post("/samples/import", {"samples": entries})

    def order(self, **more: Any) -> dict[str, Any]:
        wish = {"use_case": "press", "why": "test", "base": "none", "config": {"seconds": 0.5}}
        made: dict[str, Any] = self.admin.post("/orders", wish | more)
        return made

    def state(self, order: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.admin.get(f"/orders/{order['id']}")
        return found


def wait_for(what: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def plant() -> Iterator[Plant]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hub = Hub(HubConfig(), blobs=MemoryBlobs(), keys=MemoryKeys(b"hub"), runtime=OnnxRuntime())
    usecases.apply(hub.store, read_usecase(USECASE), source=USECASE, who="test", now=hub.now())
    made = Plant(hub=hub, port=port)
    made.up()
    with contextlib.closing(hub):
        yield made
        made.admin.close()
        made.down()
