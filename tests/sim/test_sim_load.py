"""A load from outside: real processes and sockets, a ledger that the hub cannot touch, and kills in the middle."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise.hub import Hub, HubConfig
from edgewise.ports import HubApi
from edgewise.sim._keeper import Keeper
from edgewise.sim._load_ledger import Ledger, Written
from edgewise.sim.load import LoadPlan, LoadResult, refuse_broken, run_load
from edgewise.wire import EdgewiseError, NotValid

SERVE = """
import sys
from pathlib import Path
from edgewise.hub import HubConfig, serve
serve(HubConfig(data_dir=Path(sys.argv[1])), port=int(sys.argv[2]), device_port=int(sys.argv[3]))
"""


class Place:
    """A hub's folder and its two ports, so that the hub can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hub = Hub(HubConfig(data_dir=folder))
        Keeper(hub, b"offline", ["load"], now=hub.now())
        hub.close()
        self.port, self.device_port = _free(), _free()
        self.url, self.device_url = f"http://127.0.0.1:{self.port}", f"https://127.0.0.1:{self.device_port}"
        self.process = self.start()
        self.token = (folder / "tokens" / "admin.token").read_text().strip()

    def start(self) -> subprocess.Popen[str]:
        arguments = [str(self.folder), str(self.port), str(self.device_port)]
        process = subprocess.Popen([sys.executable, "-c", SERVE, *arguments], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(2):  # the addresses, printed once it listens
            assert process.stdout.readline()
        return process

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def _free() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "hub")
    yield made
    if made.process.poll() is None:
        made.kill()


def load(place: Place, folder: Path, **changes: float) -> LoadResult:
    plan = LoadPlan(**{"devices": 4, "rate": 40, "seconds": 3, "lose": 0.1, "reconnect": 0.2, **changes})
    with HubApi(place.url, place.token) as api:
        return run_load(api, place.device_url, folder, plan)


def test_everything_that_was_acknowledged_is_held_once_and_the_same_folder_goes_on(place, tmp_path):
    first = load(place, tmp_path / "load")
    assert first.holds
    assert (first.waiting, first.told) == (0, {})
    assert first.contacts > 40
    assert first.readings > 0 < first.sample_bytes
    assert first.reconnects > 0 < first.replies_lost
    assert first.summary()["late_ms_p50"] > 0
    again = load(place, tmp_path / "load", seconds=1)
    assert again.holds
    with HubApi(place.url, place.token) as api:
        assert len(api.get("/devices", use_case="load")) == 4  # the same devices, enrolled once


def test_a_hub_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing(place, tmp_path):
    over = threading.Event()

    def kill() -> None:
        while not over.wait(1.2):
            place.kill()
            place.process = place.start()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        plan = {"devices": 6, "rate": 60, "seconds": 6, "drain_s": 60}
        with HubApi(place.url, place.token) as api:
            result = None
            folder = tmp_path / "load"
            # Enrolling is no part of it: begin again until all are enrolled.
            deadline = time.monotonic() + 60
            while result is None:
                try:
                    result = run_load(api, place.device_url, folder, LoadPlan(**plan))
                except EdgewiseError:
                    assert time.monotonic() < deadline
    finally:
        over.set()
        killer.join(60)
    again = load(place, tmp_path / "load", seconds=1)  # it ends what the last kill left open, and compares all of it
    assert result.told["link_down"] > 0
    assert (result.lost, result.doubled, result.strange, result.gaps) == (0, 0, 0, 0)
    assert again.holds
    assert again.waiting == 0


def test_a_load_that_is_killed_goes_on_with_the_same_bytes(place, tmp_path):
    folder = tmp_path / "load"
    command = [sys.executable, "-m", "edgewise", "sim", "load", "--hub", place.url, "--device-url", place.device_url]
    command += ["--folder", str(folder), "--devices", "3", "--rate", "60", "--seconds", "60", "--lose", "0.5"]
    process = subprocess.Popen(command, env={**os.environ, "EDGEWISE_TOKEN": place.token}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (folder / "ledger.db").exists() and _written(folder / "ledger.db") > 20:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert _written(folder / "ledger.db") > 20
    result = load(place, folder, devices=3, seconds=1)
    assert result.holds
    assert result.waiting == 0


def _written(file: Path) -> int:
    with sqlite3.connect(file) as rows:
        try:
            return int(rows.execute("SELECT count(*) FROM segments").fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # it is being made


def test_a_record_that_the_hub_lost_or_made_up_is_found(place, tmp_path):
    load(place, tmp_path / "load", seconds=1)
    place.kill()
    with sqlite3.connect(place.folder / "hub.db") as rows:
        gone = rows.execute("DELETE FROM readings WHERE id = (SELECT min(id) FROM readings)").rowcount
        rows.execute(f"UPDATE telemetry SET id = '{'0' * 32}' WHERE id = (SELECT max(id) FROM telemetry)")
    place.process = place.start()
    result = load(place, tmp_path / "load", seconds=0.5)
    assert gone == 1
    assert (result.lost, result.strange) == (2, 1)
    with pytest.raises(EdgewiseError, match="2 records lost, 0 doubled, 1 strange"):
        refuse_broken(result)


def test_the_ledger_is_of_one_hub_and_holds_what_is_not_acknowledged(tmp_path):
    file = tmp_path / "ledger.db"
    ledger = Ledger(file, "https://a")
    ledger.add_device("one", "e")
    for number in (1, 2, 3):
        ledger.write("one", Written(number=number, header="{}", payload=b"x", ids=(f"id-{number}",)))
    ledger.acknowledge("one", 2)
    assert ledger.newest("one") == (3, 2)
    assert [one.number for one in ledger.waiting("one")] == [3]
    assert ledger.ids("one", acked=True) == {"id-1", "id-2"}
    ledger.close()
    with pytest.raises(NotValid, match="of a load on https://a, not on https://b"):
        Ledger(file, "https://b")
    (tmp_path / "other.db").write_bytes(b"no database" * 100)
    with pytest.raises(NotValid, match="is no ledger"):
        Ledger(tmp_path / "other.db", "https://a")


@pytest.mark.parametrize(
    ("name", "value"), [("devices", 0), ("rate", 0), ("seconds", -1), ("lose", 1), ("readings", 0)]
)
def test_a_plan_out_of_bounds_is_refused_with_them(name, value):
    with pytest.raises(NotValid, match=f"{name} is {value:g}, needs"):
        LoadPlan(**{name: value})


def test_the_command_prints_its_result_as_json(place, tmp_path):
    command = [sys.executable, "-m", "edgewise", "sim", "load", "--hub", place.url, "--device-url", place.device_url]
    command += ["--folder", str(tmp_path / "load"), "--devices", "2", "--seconds", "1", "-o", "json"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "EDGEWISE_TOKEN": place.token}
        return subprocess.run(
            [*command, *more], env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    done, wrong = run("--rate", "20"), run("--rate", "0")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lost"] == 0
    assert wrong.returncode == 2
    assert "rate is 0, needs" in wrong.stderr
    assert "Traceback" not in wrong.stderr
