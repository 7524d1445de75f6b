"""A hub of its own: a folder with keys and devices, made in this process, then served by another one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgewise.hub import Hub, HubConfig, enrol, read_usecase, usecases
from edgewise.ports import Credentials, first_certificate, pin_root
from edgewise.sim._keeper import Keeper

USE_CASE = """
name: press
app: factory
outcome: {goal: find pits, labels: [good, pit], good_labels: [good]}
people: {owner: ann, approver: bob, oversight: the line's stop button}
sites: [{name: north}]
connectivity: {contact_s: 60}
data: {fields: [frame, group, taken_at, line], telemetry: [temperature]}
"""
SERVE = """
import sys
from pathlib import Path
from edgewise.hub import HubConfig, serve
serve(HubConfig(data_dir=Path(sys.argv[1]), database_url=sys.argv[2] or None), port=0, device_port=0)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A hub that runs.

    Attributes:
        url, device_url: where people and devices reach it.
        pid: of its process.
        token: an administrator's.
        tokens: enrolment tokens, by device.
        fingerprint: of the root of its authority.
    """

    url: str
    device_url: str
    pid: int
    token: str
    tokens: dict[str, str]
    fingerprint: str

    def enrol(self, name: str, folder: Path) -> Credentials:
        """A device's key and certificate, by the product's own enrolment."""
        held = Credentials(folder / name)
        held.folder.mkdir(parents=True)
        pin_root(held, self.device_url, self.fingerprint)
        first_certificate(held, self.device_url, self.tokens[name], wish=name)
        return held


@contextmanager
def served(folder: Path, devices: list[str], *, database_url: str = "") -> Iterator[Served]:
    """Make the hub, end it, and serve its folder in a process of its own until the end."""
    hub = Hub(HubConfig(data_dir=folder, database_url=database_url or None))
    now = hub.now()
    Keeper(hub, b"offline", ["press"], now=now)
    usecases.apply(hub.store, read_usecase(USE_CASE), source=USE_CASE, who="bench", now=now)
    about = {"site": "north", "use_case": "press", "who": "bench", "chance": hub.chance, "limits": hub.limits}
    tokens = {name: enrol.make_token(hub.store, now=datetime.now(UTC), **about)[0] for name in devices}
    fingerprint = hub.authority.fingerprint
    hub.close()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder), database_url], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url, device_url = (process.stdout.readline().strip().rpartition(" ")[2] for _ in range(2))
        token = (folder / "tokens" / "admin.token").read_text().strip()
        yield Served(url=url, device_url=device_url, pid=process.pid, token=token, tokens=tokens,
                     fingerprint=fingerprint)  # fmt: skip
    finally:
        process.terminate()
        process.wait(20)
