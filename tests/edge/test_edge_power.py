"""A real agent whose power goes: it decides again offline, a link that comes back changes nothing, nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from agent_world import site as site
from agent_world import until
from edgewise.edge.agent import enrol, status

KILLS = int(os.environ.get("EDGEWISE_KILLS", "20"))
CAMPAIGN_KILLS = int(os.environ.get("EDGEWISE_CAMPAIGN_KILLS", "500"))
RESTART_S_MAX = 2.0  # at the 95th percentile, on a machine that does nothing else
SLOWER = float(os.environ.get("EDGEWISE_SLOWER", "6"))  # a machine shared with other tests is slower by up to this


def spawn(site, *, compiled: bool = False) -> subprocess.Popen[str]:
    """An agent; a compiled one finds its bytecode as an installed one does, whatever this environment writes."""
    words = [sys.executable, "-m", "edgewise", "edge", "run", "--data-dir", str(site.data)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if compiled:
        environment["PYTHONPYCACHEPREFIX"] = str(site.data.parent / "bytecode")
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.Popen(
        [*words, "--source", str(site.camera), "--http-port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def address(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline()
    assert "http://" in line, line + (process.stderr.read() if process.poll() is not None else "")
    return line.rsplit(" ", 1)[1].strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def shoot(site, count: int) -> None:
    for number in range(site.fed, site.fed + count):
        part = site.camera / f"f{number:06d}.row.part"
        part.write_text(f'{{"x": {number % 13 / 13}, "y": 1}}')
        part.rename(site.camera / f"f{number:06d}.row")
    site.fed += count


def told(url: str) -> dict:
    with urllib.request.urlopen(f"{url}/status", timeout=10) as answer:
        return json.loads(answer.read())


@pytest.fixture
def deciding(site):
    """A device that has committed a bundle, its agent stopped."""
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    process = spawn(site)
    try:
        url = address(process)
        until(lambda: told(url)["phase"] == "committed", "no first bundle")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        kill(process)
    return site


def test_after_a_power_cut_offline_inference_comes_back(deciding):
    site = deciding
    site.http_hub.close()
    process = spawn(site)
    try:
        url = address(process)
        shoot(site, 10)
        until(lambda: told(url)["decisions"] == 10, "no decisions offline")
        kill(process)
        process = spawn(site)
        url = address(process)
        shoot(site, 10)
        until(lambda: told(url)["decisions"] >= 20, "no decisions after the power cut")
        assert told(url)["release"] == "parts@1"
        until(lambda: "no hub answers" in (told(url)["contact"]["error"] or ""), "the hub is not missed")
    finally:
        kill(process)


def test_a_link_that_comes_back_changes_nothing_where_all_is_as_it_should_be(deciding):
    site = deciding
    port = site.http_hub.server.server_address[1]
    site.http_hub.close()
    process = spawn(site)
    try:
        url = address(process)
        shoot(site, 5)
        until(lambda: told(url)["decisions"] == 5, "no decisions offline")
        until(lambda: told(url)["contact"]["failures"] > 0, "the link is not missed")
        before = _slots(site.data)
        fetched, asked = len(site.hub.fetched), len(site.hub.asked)
        _serve_again(site.http_hub, port)
        until(lambda: told(url)["contact"]["error"] is None, "the link did not come back", 40)
        until(lambda: told(url)["backlog"] == 0, "not all sent", 30)
        said = told(url)
        assert (said["release"], said["phase"], said["decisions"]) == ("parts@1", "committed", 5)
        assert process.poll() is None
        assert _slots(site.data) == before
        assert (len(site.hub.fetched), len(site.hub.asked)) == (fetched, asked)
        moved = [item for item in site.stored("event") if item["what"] == "phase" and item["data"]["to"] != "committed"]
        assert len(moved) == len({item["id"] for item in moved}) <= 4  # those of the first installation alone
    finally:
        kill(process)


def _slots(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [folder / "update.json", folder / "current", *sorted((folder / "slots").rglob("*"))]
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files if file.is_file()}


def _serve_again(hub, port: int) -> None:
    """The same hub on the same port."""
    import threading
    from http.server import ThreadingHTTPServer

    hub.server = ThreadingHTTPServer(("127.0.0.1", port), hub.server.RequestHandlerClass)
    hub.server.socket = hub.world.server().wrap_socket(
        hub.server.socket, server_side=True, do_handshake_on_connect=False
    )
    threading.Thread(target=hub.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@dataclass
class Starts:
    """What each start cost until its first decision: seconds by the clock, and of its own on a processor."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def p95_s(self) -> float:
        return sorted(self.wall_s)[round(0.95 * (len(self.wall_s) - 1))]

    def __str__(self) -> str:
        told = [f"{len(self.wall_s)} kills"]
        for name, values in (("start to first decision", self.wall_s), ("its own CPU", self.cpu_s)):
            middle, p95, most = (sorted(values)[round(share * (len(values) - 1))] for share in (0.5, 0.95, 1))
            told.append(f"{name} {middle:.2f} s median, {p95:.2f} p95, {most:.2f} most")
        return f"{'; '.join(told)}; load {os.getloadavg()[0]:.1f}"


def own_cpu_s(pid: int) -> float:
    """On a processor so far, with every process below it."""
    own = psutil.Process(pid)
    return sum(sum(process.cpu_times()[:2]) for process in [own, *own.children(recursive=True)])


def killed_again_and_again(site, kills: int, seed: int, say=lambda _: None) -> Starts:
    """Kill the agent at random moments."""
    dice, starts = random.Random(seed), Starts()
    first = spawn(site, compiled=True)  # compiles what an installation has compiled already
    address(first)
    kill(first)
    for number in range(1, kills + 1):
        before = status(site.data)["decisions"]
        shoot(site, dice.randrange(5, 25))
        began = time.monotonic()
        process = spawn(site, compiled=True)
        try:
            url = address(process)
            until(lambda: told(url)["decisions"] > before, "no decision after a start")  # noqa: B023
            starts.wall_s.append(time.monotonic() - began)
            starts.cpu_s.append(own_cpu_s(process.pid))
            time.sleep(dice.random() * 0.4)  # a moment drawn from the seed: in a record, a contact, an update
        finally:
            kill(process)
        if number % 50 == 0:
            say(f"after {starts}")
    return starts


def settled(site) -> str:
    """Let the agent send all that it holds, and compare it with what the hub stored; says what was found."""
    process = spawn(site)
    try:
        url = address(process)
        until(lambda: told(url)["decisions"] >= site.fed, "not all decided", 60)
        until(lambda: told(url)["period_frames"] == 0, "the period did not end", 30)
        until(lambda: told(url)["backlog"] == 0, "not all sent", 60)
        made = set(told(url)["made_ids"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        kill(process)
    ids = [record["id"] for record in site.hub.records]
    lost, doubled = made - set(ids), len(ids) - len(set(ids))
    assert not doubled, "duplicates in the lake"
    assert not lost, "records that were acknowledged or kept are missing"
    frames = [record["frame"] for record in site.stored("sample")]
    assert len(frames) == len(set(frames))
    numbers = [segment.number for segment in site.hub.headers]
    assert numbers == list(range(1, len(numbers) + 1))
    counted = sum(record["decisions"] for record in site.stored("telemetry"))
    assert counted <= site.fed, "a decision was counted twice"
    for epoch, mark in site.hub.watermarks.items():
        assert mark == len(numbers), epoch
    return f"{len(ids)} records in {len(numbers)} segments, {len(lost)} lost, {doubled} doubled"


@pytest.mark.timeout(600)
def test_an_agent_killed_at_random_moments_loses_and_doubles_nothing(deciding):
    starts = killed_again_and_again(deciding, KILLS, seed=1)
    settled(deciding)
    assert starts.p95_s() < RESTART_S_MAX * SLOWER, str(starts)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_an_agent_killed_five_hundred_times_loses_and_doubles_nothing_and_is_back_in_two_seconds(deciding, capsys):
    def say(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}")
            sys.stdout.flush()

    starts = killed_again_and_again(deciding, CAMPAIGN_KILLS, seed=2, say=say)
    say(str(starts))
    say(settled(deciding) + "\n")
    assert starts.p95_s() < RESTART_S_MAX, str(starts)
    assert json.loads((deciding.data / "update.json").read_bytes())["phase"] == "committed"
