"""The systemd unit, judged by systemd's own tools where they are; and the agent's talk with whoever started it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_world import site as site
from agent_world import until
from edgewise.cli._app import build
from edgewise.edge._watchdog import EXIT_HANG
from edgewise.edge.agent import enrol, status
from edgewise.edge.unit import unit_text
from edgewise.wire import NotValid
from faulty_networks import faulty_bundle
from needed import needs_program
from notify_socket import NotifySocket

EXPOSURE_MAX = 2.5  # of 10, by `systemd-analyze security`; an ordinary service has 9.6


def text(**more) -> str:
    values = {"python": sys.executable, "data_dir": Path("/var/lib/edgewise"), "source": Path("/srv/camera")}
    return unit_text(**{**values, **more})


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([needs_program("systemd-analyze"), *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("folder", ["/var/lib/edgewise", "/srv/a folder/50%", 'quo"ted$'])
def test_systemd_finds_no_mistake_in_the_unit(tmp_path, folder):
    data_dir = Path(folder) if folder.startswith("/") else tmp_path / folder
    unit = tmp_path / "edgewise-edge.service"
    unit.write_text(text(data_dir=data_dir, owner="daemon"))
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_hardened_by_systemds_own_measure(tmp_path):
    unit = tmp_path / "edgewise-edge.service"
    unit.write_text(text())
    said = analyze("security", "--offline=true", "--no-pager", str(unit)).stdout
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert level is not None, said
    assert float(level[1]) <= EXPOSURE_MAX


def test_a_folder_under_var_lib_gets_a_user_of_its_own_and_others_keep_their_owner():
    made = text()
    assert "DynamicUser=yes\nStateDirectory=edgewise\n" in made
    other = text(data_dir=Path("/srv/dev ice"), owner="kim")
    assert "DynamicUser" not in other
    assert 'User=kim\nReadWritePaths="/srv/dev ice"\n' in other
    assert not re.search(r"@[A-Z_]+@", made + other)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"data_dir": Path("here")}, "absolute"),
        ({"memory_max": "lots"}, "memory bound"),
        ({"data_dir": Path("/srv/d")}, "enrol the device first"),
        ({"data_dir": Path("/srv/d\nUser=root"), "owner": "kim"}, "control characters"),
        ({"data_dir": Path("/srv/d"), "owner": "kim\nNoNewPrivileges=no"}, "needs a user's name"),
    ],
)
def test_what_a_unit_cannot_hold_is_refused(more, said):
    with pytest.raises(NotValid, match=said):
        text(**more)


def test_the_command_prints_it_or_writes_it(tmp_path):
    runner = CliRunner()
    printed = runner.invoke(build(), ["edge", "unit", "--source", "/srv/camera"])
    assert printed.exit_code == 0, printed.output
    assert "Type=notify" in printed.output
    file = tmp_path / "edgewise-edge.service"
    written = runner.invoke(build(), ["edge", "unit", "--source", "/srv/camera", "-o", str(file)])
    assert "systemctl enable --now edgewise-edge" in " ".join(written.output.split())
    assert file.read_text() == printed.output


# -- the agent and its supervisor ------------------------------------------------------------------------------------


@pytest.fixture
def systemd(tmp_path):
    other = NotifySocket(tmp_path)
    yield other
    other.close()


def start(site, systemd, patience_s: float = 1.5) -> subprocess.Popen[str]:
    environment = {**os.environ, "NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": str(round(patience_s * 1e6))}
    words = [sys.executable, "-m", "edgewise", "edge", "run", "--data-dir", str(site.data)]
    return subprocess.Popen(
        [*words, "--source", str(site.camera), "--http-port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def shoot(site, rows: list[str]) -> None:
    for number, row in enumerate(rows, site.fed):
        part = site.camera / f"f{number:06d}.row.part"
        part.write_text(row)
        part.rename(site.camera / f"f{number:06d}.row")
    site.fed += len(rows)


def test_the_agent_says_ready_gives_signs_of_life_and_says_that_it_stops(site, systemd):
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    process = start(site, systemd)
    try:
        systemd.hear_until(lambda told: told.get("READY") == "1", "it is not ready")
        systemd.hear_until(lambda told: told.get("WATCHDOG") == "1", "no sign of life")
        systemd.hear_until(lambda told: "decides with parts@1" in told.get("STATUS", ""), "no status")
        process.send_signal(signal.SIGTERM)
        systemd.hear_until(lambda told: told.get("STOPPING") == "1", "it does not say that it stops")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_hanging_network_ends_the_process_and_the_next_start_runs_the_former_bundle_offline(site, systemd):
    site.bundle = lambda seed, **more: faulty_bundle(site, more.get("fault", "none"), seed)
    enrol(site.data, site.url, site.token)
    (site.data / "edge.yaml").write_text("run_ms_max: 1000\n")
    site.assign(site.release(1))
    process = start(site, systemd)
    try:
        until(lambda: status(site.data)["release"] == "parts@1", "no first bundle")
        site.assign(site.sign(site.bundle(2, fault="hangs")))
        until(lambda: status(site.data)["release"] == "parts@2", "no second bundle", 30)
        until(lambda: status(site.data)["phase"] == "committed", "not committed")
        site.http_hub.close()
        shoot(site, ['{"x": 0.5, "y": 1}'] * 3 + ['{"x": 99, "y": 1}'])
        _, said = process.communicate(timeout=30)
        assert process.returncode == EXIT_HANG
        assert "parts@2 did not come back from one frame for 1 s" in said
        assert "Traceback" not in said
        assert status(site.data)["release"] == "parts@2"
        process = start(site, systemd)
        systemd.hear_until(lambda told: "decides with parts@1" in told.get("STATUS", ""), "not back")
        until(lambda: status(site.data)["decisions"] >= 4, "the frames are not decided")
        after = status(site.data)
        assert "did not come back" in after["last_failure"]
        assert list(after["why"]["known_bad"].values()) == [after["last_failure"]]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
