"""Every role's keys are replaced by command while a device is away; it comes back, follows all of it, and goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewise.apps.processes import Process
from edgewise.ports import read_public_keys

ONCE = "import sys, pathlib; from edgewise.edge.agent import run; run(*map(pathlib.Path, sys.argv[1:]), once=True)"
USE_CASE = """
name: press
app: a
outcome: {goal: find bad parts, labels: [good, bad]}
sites: [{name: north}]
people: {owner: a, approver: b, oversight: c}
"""


class Shop:
    """A hub process and its keepers' folders; everything else is done by commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = folder / "keys"
        arguments = ["hub", "serve", "--data-dir", str(folder / "hub"), "--http-port", "0", "--device-port", "0"]
        self.hub = Process("hub", [*arguments, "--tick-s", "0.2"], folder / "hub.log").start()
        self.url = self.hub.wait_for(r"http://[\d.]+:\d+")[0]
        self.device_url = self.hub.wait_for(r"https://[\d.]+:\d+")[0]

    def run(self, *words: object, code: int = 0, hub: bool = True) -> str:
        """What the command prints, once it ended with the code."""
        near = ["--hub", self.url, "--data-dir", str(self.folder / "hub")] if hub else []
        command = [sys.executable, "-m", "edgewise", *map(str, words), *near]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == code, (words, ran.stdout, ran.stderr)
        assert "Traceback" not in ran.stderr
        return ran.stdout + ran.stderr

    def trust(self, *words: object, code: int = 0) -> str:
        return self.run("trust", *words, code=code)

    def new_keys(self, name: str, count: int = 1) -> Path:
        self.run("trust", "make-keys", self.keys / name, "--count", count, hub=False)
        return self.keys / name

    def roles(self) -> dict[str, Any]:
        state = json.loads(self.trust("show", "-o", "json"))
        return {item["role"]: item for item in [*state["delegated"], *state["roles"]]}

    def visit(self, device: Path) -> dict[str, int]:
        """The device makes contact once; the versions of the metadata that it verified."""
        camera = self.folder / "camera"
        camera.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-c", ONCE, str(device), str(camera)], timeout=60, check=True)
        found = {}
        for file in (device / "tuf").rglob("*.json"):
            signed = json.loads(file.read_bytes()).get("signed", {})
            if "version" in signed:
                found[signed["_type"]] = max(signed["version"], found.get(signed["_type"], 0))
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    try:
        yield made
    finally:
        made.hub.stop()


def test_a_device_that_was_away_follows_new_keys_of_every_role(shop: Shop, tmp_path: Path) -> None:
    keys = shop.keys
    shop.trust("init", "--keys", keys, "--root-keys", 2, "--root-threshold", 2, "--use-case", "press")
    (tmp_path / "press.yaml").write_text(USE_CASE)
    shop.run("usecase", "apply", tmp_path / "press.yaml")
    token = shop.run("hub", "enrol-token", "--use-case", "press", "--site", "north").split()[-1]
    device = tmp_path / "device"
    shop.run("edge", "enroll", "--hub", shop.device_url, "--token", token, "--data-dir", device, hub=False)
    assert shop.visit(device)["root"] == 1

    # One holder is not enough: the document waits, is shown, and the second holder's command publishes it.
    root_2 = shop.new_keys("root-2", 2)
    one = shop.trust("rotate", "timestamp", "--keys", keys / "root" / "1.pem")
    assert "waits for 1 more" in one
    assert "1 signatures" in shop.trust("show")
    assert "root version 2 is published" in shop.trust("sign", "root", "--keys", keys / "root" / "2.pem")
    shop.trust("rotate", "snapshot", "--keys", keys / "root")
    shop.trust("rotate", "root", "--keys", keys / "root", "--new-keys", root_2, "--threshold", 2)
    shop.trust("rotate", "targets", "--keys", root_2, "--new-keys", shop.new_keys("targets-2"))
    shop.trust("rotate", "director", "--keys", keys / "targets-2")
    pair = shop.new_keys("release-2", 2)
    shop.trust("rotate", "press", "--keys", keys / "targets-2", "--new-keys", pair)
    lost, kept = (key["keyid"] for key in shop.roles()["releases-press"]["keys"])
    left = next(file for file in sorted(pair.glob("*.pem")) if read_public_keys([file])[0].keyid == kept)
    shop.trust("revoke", "press", lost[:16], "--keys", keys / "targets-2", "--own-keys", left)
    shop.trust("delegate", "weld", "--keys", keys / "targets-2", "--new-keys", shop.new_keys("weld"))

    roles = shop.roles()
    assert [key["keyid"] for key in roles["releases-press"]["keys"]] == [kept]
    seen = shop.visit(device)
    assert {name: seen[name] for name in ("root", "targets", "timestamp", "snapshot")} == {
        name: roles[name]["version"] for name in ("root", "targets", "timestamp", "snapshot")
    }
    # Keys that hold nothing any more change nothing, and the answer says whose signature is missing.
    assert "root" in shop.trust("rotate", "timestamp", "--keys", keys / "root", code=3)
    assert "not empty" in shop.run("trust", "make-keys", pair, code=2, hub=False)
