"""The hub as a process, and its folder: a port of its own, one hub a folder, a clean end, clear refusals."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from edgewise.hub import Hub, HubConfig
from edgewise.hub.folder import Folder
from edgewise.hub.serve import serve, tick_until
from edgewise.hub.store import tables
from edgewise.ports import MemoryRuntime, listen
from edgewise.wire import NotNow, NotValid

RUN = """
import sys
from pathlib import Path
from edgewise.hub import HubConfig, serve
serve(HubConfig(data_dir=Path(sys.argv[1])), port=0, device_port=0, tick_s=0.05)
"""


def test_a_hub_process_names_its_port_keeps_what_it_took_and_ends_on_sigterm(tmp_path):
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / "hub")], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip().rpartition(" ")[2]
            token = (tmp_path / "hub" / "tokens" / "admin.token").read_text().strip()
            with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client:
                assert client.get("/readyz").json()["status"] == "ok"
                text = b"name: press\napp: a\noutcome: {goal: g, labels: [x]}\nsites: [{name: n}]\n"
                text += b"people: {owner: a, approver: b, oversight: c}\n"
                assert client.post("/api/v1/usecases", content=text).json()["version"] == 1
                # The connection stays open on purpose: it must not keep the process from ending.
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    assert ((tmp_path / "hub" / "tokens" / "admin.token").stat().st_mode & 0o777) == 0o600


def test_a_busy_port_is_one_clear_sentence_and_makes_no_folder(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(NotNow, match=f"port {port} of 127.0.0.1 is already in use") as caught:
            serve(HubConfig(data_dir=tmp_path / "hub"), port=port, out=io.StringIO())
    assert caught.value.code == "port_busy"
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 99999), ("203.0.113.7", 0)])
def test_an_address_that_cannot_be_used_is_named(host, port):
    with pytest.raises(NotValid, match=host.replace(".", r"\.")):
        listen(host, port)


def test_two_hubs_never_share_a_folder_and_the_lock_goes_with_the_process(tmp_path):
    first = Folder(tmp_path / "hub")
    with pytest.raises(NotNow, match=f"another hub .process {os.getpid()}. uses"):
        Folder(tmp_path / "hub")
    first.close()
    Folder(tmp_path / "hub").close()


def test_a_folder_of_another_version_is_refused_with_what_to_do(tmp_path):
    Folder(tmp_path / "hub").close()
    place = tmp_path / "hub" / "edgewise-hub.json"
    assert json.loads(place.read_text())["format"] == tables.FORMAT_VERSION
    place.write_text('{"format": 99, "made_by": "edgewise 9"}')
    with pytest.raises(NotValid, match=r"format 99, .* needs format 1") as caught:
        Hub(HubConfig(data_dir=tmp_path / "hub"))
    assert caught.value.code == "data_dir_version"
    assert not (tmp_path / "hub" / "hub.db").exists(), "refused before anything is written"
    place.write_text("{}")
    with pytest.raises(NotValid, match="cannot be read"):
        Folder(tmp_path / "hub")
    with pytest.raises(NotValid, match="is not a folder"):
        Folder(place)


def test_a_folder_full_of_other_things_is_not_made_into_a_hubs(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(NotValid, match="holds other things"):
        Hub(HubConfig(data_dir=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.jpg"]


def test_a_hub_finds_its_keys_tokens_and_epoch_again(tmp_path):
    def facts() -> tuple[str, ...]:
        hub = Hub(HubConfig(data_dir=tmp_path / "hub"), runtime=MemoryRuntime())
        found = (hub.hub_epoch, hub.key.public.keyid, hub.tokens.text("admin"), hub.tokens.text("worker"))
        hub.store.blobs.put(b"kept")
        hub.close()
        return found

    assert facts() == facts()


def test_of_two_hubs_on_one_database_one_runs_the_controllers(make_yard, postgres_url):
    first, second = make_yard(url=postgres_url), make_yard(url=postgres_url, seed=2)
    assert first.hub.hub_epoch == second.hub.hub_epoch
    assert [first.hub.tick(), second.hub.tick(), first.hub.tick()] == [True, False, True]
    second.clock.advance(first.hub.limits.controller_lease_s + 1)
    assert second.hub.tick()


def test_a_failed_tick_is_tried_again(yard, caplog):
    stop = threading.Event()
    ticks = []

    class Failing:
        def tick(self) -> None:
            ticks.append(len(ticks))
            if len(ticks) == 1:
                raise NotNow("no space")
            if len(ticks) == 2:
                raise RuntimeError("a mistake")
            stop.set()

    also = []
    tick_until(Failing(), stop, 0, lambda: also.append(1))
    assert (len(ticks), len(also)) == (3, 3)
    assert "no space" in caplog.text
    assert yard.hub.tick()


def test_a_token_made_by_command_is_used_listed_and_revoked(tmp_path):
    """The whole way of a token through real processes, with the hub told by `hub.yaml`."""
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "hub.yaml").write_text("http_port: 0\n")
    near = ["--data-dir", str(tmp_path / "hub")]

    def edgewise(*arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGEWISE_")}
        command = [sys.executable, "-m", "edgewise", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=kept, check=False)

    process = subprocess.Popen(
        [sys.executable, "-m", "edgewise", "hub", "serve", *near], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        near += ["--hub", process.stdout.readline().strip().rpartition(" ")[2]]
        made = edgewise("hub", "token", "create", "ann", "--role", "viewer", "--days", "1", *near)
        token = made.stdout.strip()
        assert (made.returncode, token[:3]) == (0, "ew_"), made.stderr
        assert edgewise("rollout", "status", "--token", token, *near).returncode == 0
        refused = edgewise("audit", "list", "--token", token, *near)
        assert (refused.returncode, "ann has role viewer" in refused.stderr) == (3, True)
        (row,) = json.loads(edgewise("hub", "token", "list", "-o", "json", *near).stdout)
        assert (row["name"], row["role"], row["sites"]) == ("ann", "viewer", None)
        assert token not in edgewise("hub", "token", "list", *near).stdout
        assert edgewise("hub", "token", "revoke", row["id"], *near).returncode == 0
        ended = edgewise("rollout", "status", "--token", token, *near)
        assert (ended.returncode, "was revoked" in ended.stderr) == (3, True)
        wrong = edgewise("hub", "token", "create", "ann", "--role", "king", *near)
        assert (wrong.returncode, "role" in wrong.stderr) == (2, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
