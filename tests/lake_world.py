"""A hub with a lake in a folder, devices that send, and what engines read of it."""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from deltalake import DeltaTable

from edgewise.delta import Column, encode_series
from edgewise.hub import Hub, create_app
from edgewise.hub.lake import Lake, LakeConfig, place_of
from edgewise.hub.lake import status as lake_status
from edgewise.ports import address, listen
from edgewise.wire import DataPolicy, Event, Feedback, Readings

START = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = DataPolicy(version=2, fields=("frame", "group", "taken_at", "line"), telemetry=("ac_power", "temp_c"))


@dataclass
class Pond:
    """A lake and the yard around it.

    Args:
        yard: the hub with its devices.
        config: what the hub is told about the lake.
    """

    yard: Any
    path: Path
    config: LakeConfig = field(default_factory=lambda: LakeConfig(commit_s=30))

    def lake(self, between: Callable[[str], None] = lambda _step: None, **changes: Any) -> Lake:
        """A committer as a process that was just started has it."""
        hub = self.yard.hub
        place = place_of(replace(self.config, url=str(self.path)), data_dir=None, objects_url=None, options={})
        assert place is not None
        epoch = changes.pop("hub_epoch", hub.hub_epoch)
        holder = changes.pop("holder", hub.holder)
        limits = replace(hub.limits.lake, **changes)
        about = {"hub_epoch": epoch, "holder": holder, "chance": hub.chance, "clock": self.yard.clock.now}
        return Lake(hub.store, place, self.config, limits, between=between, **about)

    def rows(self, table: str, version: int | None = None) -> list[dict[str, Any]]:
        return DeltaTable(self.path / table, version=version).to_pyarrow_table().to_pylist()

    def ids(self, table: str) -> list[str]:
        if not DeltaTable.is_deltatable(str(self.path / table)):
            return []  # nothing ever came, so no table was made
        return sorted(row["sample" if table == "labels" else "id"] for row in self.rows(table))

    def status(self) -> dict[str, Any]:
        with self.yard.hub.store.read() as connection:
            return lake_status(connection, self.yard.clock.now())


@contextlib.contextmanager
def served(hub: Hub) -> Iterator[httpx.Client]:
    """The hub's application on a port of its own, and a client of it."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(hub), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=address(listener), timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def readings(device: Any, values: Any, *, first_s: float = 0, channels: tuple[str, ...] = ("ac_power",)) -> Readings:
    """A block of one reading a second."""
    began = round(START.timestamp() * 1000)
    times = began + np.round((first_s + np.arange(len(values))) * 1000).astype(np.int64)
    columns = [Column(channel=index, times_ms=times, values=np.array(values)) for index in range(len(channels))]
    return Readings(
        id=device.id(),
        site=device.site,
        end=START + timedelta(seconds=first_s + len(values) - 1),
        channels=channels,
        count=len(values) * len(channels),
        block=base64.b64encode(encode_series(columns)).decode(),
    )


def event(device: Any, what: str = "started", **data: Any) -> Event:
    return Event(id=device.id(), at=device.yard.clock.now(), what=what, text="it started", data=data)


def feedback(device: Any, frame: str) -> Feedback:
    return Feedback(
        id=device.id(), frame=frame, site=device.site, given_at=device.yard.clock.now(), verdict="wrong", label="pit"
    )
