"""The demo's devices: an agent process a plant, a camera folder it watches, and a link that can be cut."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpx

from edgewise.apps.demo._work import Work
from edgewise.apps.factory.plants import Picture
from edgewise.apps.processes import Process, wait_until
from edgewise.sim import FaultProxy, Weather

DECIDE_S_MAX = 120.0


class Plant:
    """One plant: its device's agent as a process, the folder that its camera writes to, its link to the hub."""

    def __init__(self, name: str, work: Work) -> None:
        installation = work.installation
        self.name = name
        self.device = f"{name}-line-1"
        self.folder = installation.folder / self.device
        self.camera = installation.folder / f"{self.device}-camera"
        self._installation = installation
        address = urlsplit(installation.device_url)
        self._proxy = FaultProxy((address.hostname or "127.0.0.1", address.port or 443))
        self._proxy.__enter__()
        self._work = work
        self._http = httpx.Client(timeout=5.0)
        self.fed = 0
        self.url = ""
        self.agent: Process | None = None

    def enrol(self) -> None:
        """Make the device known to the hub with a one-time token, by the command that a person would use."""
        self.camera.mkdir(parents=True, exist_ok=True)
        asked = {"use_case": self._work.use_case.name, "site": self.name, "device": self.device}
        token = self._work.api.post("/enrolment-tokens", asked)["token"]
        arguments = ["edge", "enroll", "--token", token, "--hub", self.link_url, "--data-dir", str(self.folder)]
        enrolment = Process(f"{self.device}-enrol", arguments, self._installation.log(f"{self.device}-enrol")).start()
        enrolment.wait_for("is enrolled")

    @property
    def link_url(self) -> str:
        """The hub as the device sees it: through the link that can be cut."""
        return f"https://127.0.0.1:{self._proxy.port}"

    def start(self) -> None:
        arguments = ["edge", "run", "--data-dir", str(self.folder), "--source", str(self.camera), "--http-port", "0"]
        self.agent = self._installation.start(self.device, arguments)
        self.url = self.agent.wait_for(r"http://[\d.]+:\d+")[0]

    def power_cut(self) -> None:
        """SIGKILL: nothing is closed, flushed or said goodbye to."""
        assert self.agent is not None
        self.agent.kill()
        self._installation.processes.remove(self.agent)

    def close(self) -> None:
        self._http.close()
        self._proxy.__exit__()

    def cut_link(self) -> None:
        self._proxy.weather = Weather(up=False)

    def heal_link(self) -> None:
        self._proxy.weather = Weather()

    def feed(self, pictures: Iterable[Picture]) -> None:
        """The camera writes pictures, numbered in the order in which it takes them, each with its facts beside it."""
        for picture in pictures:
            name = f"{self.fed:06d}_{picture.name}"
            facts = {"group": picture.group, "taken_at": picture.taken_at.isoformat()}
            (self.camera / f"{name}.json").write_text(json.dumps(facts))
            part = self.camera / f"{name}.part"
            part.write_bytes(picture.data)
            part.rename(self.camera / name)
            self.fed += 1

    def status(self) -> dict[str, Any]:
        """What the device says of itself; empty while its agent does not answer."""
        try:
            answer = self._http.get(f"{self.url}/status")
        except httpx.HTTPError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}

    def wait_decided(self) -> None:
        """Until every picture that the camera wrote was decided on."""
        wait_until(
            lambda: self.status().get("decisions", 0) >= self.fed,
            f"{self.device} did not decide on its {self.fed} pictures (see {self._installation.log(self.device)})",
            wait_s_max=DECIDE_S_MAX,
            poll_s=0.05,
        )

    def wait_sent(self, wait_s_max: float = 60.0) -> None:
        """Until its period is closed and nothing waits in its outbox."""
        wait_until(
            lambda: self._quiet(self.status()),
            f"{self.device} did not send all it kept",
            wait_s_max=wait_s_max,
            poll_s=0.05,
        )

    def _quiet(self, status: dict[str, Any]) -> bool:
        return bool(status) and status.get("backlog", 1) == 0 and status.get("period_frames", 1) == 0
