"""`edge doctor`: each thing that can be wrong is named with what to do, in bounded time, with or without a hub."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_world import site as site
from edgewise.cli._app import build
from edgewise.edge._contact_memory import ContactNote
from edgewise.edge._last_words import LastWords, write_last_words
from edgewise.edge.agent import enrol, locked, run
from edgewise.edge.doctor import Check, examine, is_well
from edgewise.ports import Credentials, SystemClock, probe_disk, probe_hub
from edgewise.wire import NotValid, encode
from needed import needs_program
from tls_world import TlsWorld

SECONDS_MAX = 15


@pytest.fixture
def device(site):
    """An enrolled device that ran once."""
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    (site.camera / "f1.row").write_text('{"x": 1, "y": 1}')
    run(site.data, site.camera, once=True)
    (site.data / "contact.json").unlink()  # the small hub of the tests lives in another year
    return site


def look(device, **more) -> dict[str, Check]:
    """The worst check of each name."""
    order = ("ok", "warn", "fail")
    began, found = time.monotonic(), {}
    checks = examine(device.data, **{"source": device.camera, "http_port": 0, **more})
    assert time.monotonic() - began < SECONDS_MAX
    for check in checks:
        if check.name not in found or order.index(check.verdict) > order.index(found[check.name].verdict):
            found[check.name] = check
    assert all(check.text and (check.do or check.verdict == "ok") for check in checks)
    return found


def test_a_device_in_order_has_nothing_but_good_lines(device):
    found = look(device)
    assert [check for check in found.values() if check.verdict == "fail"] == []
    assert {name for name, check in found.items() if check.verdict == "warn"} <= {"battery", "systemd", "memory"}
    assert found["hub http"].text.startswith("it answers with status")
    assert found["clock"].text.endswith(("as the hub's", "s from the hub's"))
    assert found["slots"].text.startswith("slot a: parts@1, which runs")
    assert "CPU" in found["runtime"].text


def test_without_a_hub_the_device_is_well_and_the_step_that_failed_is_named(device):
    device.http_hub.close()
    found = look(device)
    assert (found["hub tcp"].verdict, "hub tls" in found, "hub http" in found) == ("warn", False, False)
    assert is_well(found.values())


def test_a_stranger_in_the_hubs_place_is_named_at_the_step_of_trust(device, tmp_path):
    folder = tmp_path / "stranger"
    folder.mkdir()
    stranger = TlsWorld(folder, "stranger")
    context = stranger.server()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        door, _ = listener.accept()
        try:
            context.wrap_socket(door, server_side=True)
        except OSError:
            door.close()

    threading.Thread(target=serve, daemon=True).start()
    found = look(device, hub_url=f"https://127.0.0.1:{listener.getsockname()[1]}")
    listener.close()
    assert found["hub tcp"].verdict == "ok"
    assert "certificate does not hold" in found["hub tls"].text


def test_a_hub_that_never_answers_is_given_up_in_time(device):
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes the connection, and says nothing
        found = look(device, hub_url=f"https://127.0.0.1:{listener.getsockname()[1]}")
    assert "tls" in found["hub tls"].name
    assert found["hub tls"].verdict == "warn"


def test_a_clock_that_is_years_off_is_told_by_the_hubs_own_answer(device):
    """With the clock of a whole process moved, so that no certificate holds by it any more."""
    faketime = needs_program("faketime")
    words = [sys.executable, "-m", "edgewise", "edge", "doctor", "--data-dir", str(device.data), "--http-port", "0"]
    environment = {**os.environ, "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    shown = subprocess.run(
        [faketime, "-f", "+10y", *words, "--source", str(device.camera), "-o", "json"],
        capture_output=True, text=True, env=environment, timeout=120, check=False,
    )  # fmt: skip
    checks = {item["name"]: item for item in json.loads(shown.stdout)}
    assert "certificate has expired" in checks["hub tls"]["text"]
    assert checks["clock"]["verdict"] == "fail"
    assert "ahead of the hub's" in checks["clock"]["text"]
    assert shown.returncode == 1


def break_keys(folder: Path) -> None:
    (folder / "keys" / "device.pem").chmod(0o644)


def break_slot(folder: Path) -> None:
    next((folder / "slots" / "a" / "blobs").iterdir()).write_bytes(b"rot")


def break_outbox(folder: Path) -> None:
    for name in ("outbox.db", "outbox.db-wal"):
        (folder / "outbox" / name).write_bytes(b"no database" * 1000)


def break_settings(folder: Path) -> None:
    (folder / "edge.yaml").write_text("colour: red\n")


def break_identity(folder: Path) -> None:
    (folder / "device.json").unlink()


def break_certificate(folder: Path) -> None:
    (folder / "certificate.pem").unlink()


def break_clock(folder: Path) -> None:
    now = SystemClock().now()
    (folder / "contact.json").write_bytes(encode(ContactNote(last_at=now, hub_at=now + timedelta(days=3653))))


@pytest.mark.parametrize(
    ("spoil", "name", "said"),
    [
        (break_keys, "permissions", "device.pem"),
        (break_slot, "slots", "slot a: parts@1, which runs"),
        (break_outbox, "outbox", "cannot be read"),
        (break_settings, "settings", "colour"),
        (break_identity, "identity", "not an enrolled device"),
        (break_certificate, "certificate", "not enrolled"),
        (break_clock, "clock", "was here already; set the clock"),
    ],
)
def test_what_is_broken_fails_with_its_name(device, spoil, name, said):
    device.http_hub.close()
    spoil(device.data)
    found = look(device)
    assert found[name].verdict == "fail"
    assert said in found[name].text


def test_warnings_name_a_taken_port_last_words_and_a_missing_source(device):
    device.http_hub.close()
    now = SystemClock().now()
    write_last_words(device.data, LastWords(bundle="b" * 64, text="parts@2 did not come back", at=now))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = look(device, source=None, http_port=taken.getsockname()[1])
    assert "already in use" in found["port"].text
    assert found["agent"].text == "parts@2 did not come back"
    assert "no source is known" in found["source"].text
    assert look(device, source=device.data / "nowhere")["source"].verdict == "fail"


def test_pipelines_of_edge_yaml_are_looked_at_and_a_running_agent_is_left_alone(device):
    device.http_hub.close()
    text = f"pipelines: [{{name: door, source: {device.camera}}}, {{name: gone, source: {device.data}/gone}}]\n"
    (device.data / "edge.yaml").write_text(text)
    with locked(device.data):
        found = look(device, source=None)
    assert found["source"].text.endswith("gone is not a folder")
    assert found["port"].text == "the agent runs and has its own port"


def test_a_folder_that_is_no_device_gets_an_answer_too(tmp_path):
    checks = examine(tmp_path / "nowhere", http_port=0)
    assert not is_well(checks)
    assert {check.name for check in checks if check.verdict == "fail"} == {"folder", "identity"}


def test_the_command_prints_lines_of_80_columns_or_json_and_its_exit_code_tells(device):
    words = ["edge", "doctor", "--data-dir", str(device.data), "--source", str(device.camera), "--http-port", "0"]
    shown = CliRunner().invoke(build(), words)
    assert shown.exit_code == 0, shown.output
    assert "ok   identity" in shown.output
    long = [line for line in shown.output.splitlines() if len(line) > 80 and " " in line[18:].strip()]
    assert long == []
    break_keys(device.data)
    bad = CliRunner().invoke(build(), [*words, "-o", "json"])
    assert bad.exit_code == 1
    values = json.loads(bad.output)
    assert {"name", "verdict", "text", "do"} == set(values[0])
    assert [item["name"] for item in values if item["verdict"] == "fail"] == ["permissions"]


def test_the_doctor_changes_nothing(device):
    device.http_hub.close()
    before = {file: file.read_bytes() for file in sorted(device.data.rglob("*")) if file.is_file()}
    look(device)
    after = {file: file.read_bytes() for file in sorted(device.data.rglob("*")) if file.is_file()}
    wal = {file for file in after if file.name.endswith(("-wal", "-shm"))}
    assert {file for file in after if after[file] != before.get(file)} <= wal


# -- the port's promises ---------------------------------------------------------------------------------------------


def test_a_disk_is_probed_without_a_trace_and_one_that_refuses_is_named(tmp_path):
    assert probe_disk(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotValid, match="No such file"):
        probe_disk(tmp_path / "gone")


def test_a_name_that_nobody_knows_is_a_failed_connection(device):
    probe = probe_hub("https://no-such-host.invalid:8443", Credentials(device.data).context(), wait_s=5)
    assert probe.tcp
    assert (probe.tls, probe.http) == (None, None)


def test_an_answer_that_is_no_http_is_named(device):
    world = device.http_hub.world
    context = world.server()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        door, _ = listener.accept()
        with context.wrap_socket(door, server_side=True) as safe:
            safe.recv(1000)
            safe.sendall(b"SSH-2.0-hello\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    probe = probe_hub(url, Credentials(device.data).context(), wait_s=5)
    listener.close()
    assert (probe.tcp, probe.tls) == ("", "")
    assert "not an answer in HTTP" in probe.http
