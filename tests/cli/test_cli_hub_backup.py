"""`edgewise hub backup|restore|gap|migrate` as people meet them: with a hub that serves, and with what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import s3_server as s3

USECASE = b"""name: press
app: a
outcome: {goal: g, labels: [x]}
sites: [{name: n}]
people: {owner: a, approver: b, oversight: c}
"""


def edgewise(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGEWISE_", "AWS_"))}
    return subprocess.run(
        [sys.executable, "-m", "edgewise", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**kept, "COLUMNS": "80", **environment},
        check=False,
    )


def told(*arguments: str, **environment: str) -> Any:
    done = edgewise(*arguments, "-o", "json", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def serving(data_dir: Path, **environment: str) -> Iterator[httpx.Client]:
    """A hub as a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGEWISE_", "AWS_"))}
    command = [sys.executable, "-m", "edgewise", "hub", "serve", "--data-dir", str(data_dir)]
    command += ["--http-port", "0", "--device-port", "0", "--tick-s", "0.1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**kept, **environment})
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip().rpartition(" ")[2]
        token = (data_dir / "tokens" / "admin.token").read_text().strip()
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
            yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def test_a_hub_is_kept_while_it_serves_comes_back_and_moves(tmp_path: Path, s3_server: s3.S3Server, bucket_url: str):
    hub, path = tmp_path / "hub", tmp_path / "backup"
    with serving(hub) as client:
        assert client.post("/api/v1/usecases", content=USECASE).status_code == 200
        made = told("hub", "backup", str(path), "--data-dir", str(hub), "--with-keys")
        assert {"ca-root.pem", "assignment-1.pem"} <= set(made["keys"])
        busy = edgewise("hub", "migrate", "--to-objects", bucket_url, "--data-dir", str(hub))
        assert (busy.returncode, "another hub" in busy.stderr) == (4, True)
        order = {"use_case": "press", "site": "n", "reason": "asked for"}
        assert client.post("/api/v1/erasures", json=order).status_code in (200, 201)
        (tmp_path / "erasures.json").write_text(client.get("/api/v1/erasures").text)
    assert told("hub", "backup", str(path), "--check")["whole"]
    assert told("hub", "gap", "--data-dir", str(hub)) == {"restored": False}

    new = tmp_path / "new"
    where = ("--data-dir", str(new), "--erasures", str(tmp_path / "erasures.json"))
    done = told("hub", "restore", str(path), *where)
    assert (done["rows"], done["erasures"]) == (made["rows"], 1)
    again = edgewise("hub", "restore", str(path), "--data-dir", str(new))
    assert (again.returncode, "holds a hub already" in again.stderr) == (2, True)
    with serving(new) as client:
        assert [one["name"] for one in client.get("/api/v1/usecases").json()] == ["press"]
        assert client.get("/api/v1/audit/verify").json()["broken"] is None
    assert told("hub", "gap", "--data-dir", str(new))["segments_lost"] == 0

    options = [text for name, value in s3_server.options.items() for text in ("--to-option", f"{name}={value}")]
    moved = edgewise("hub", "migrate", "--to-objects", f"{bucket_url}/p", "--data-dir", str(new), *options)
    assert moved.returncode == 0, moved.stderr
    assert f"objects: {bucket_url}/p" in moved.stdout
    environment = {f"EDGEWISE_OBJECT_OPTIONS__{name.upper()}": text for name, text in s3_server.options.items()}
    with serving(new, EDGEWISE_OBJECTS=f"{bucket_url}/p", **environment) as client:
        assert client.get("/readyz").json()["checks"] == {"store": "ok", "blobs": "ok"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["hub", "backup", "{b}", "--data-dir", "{none}"], "holds no hub"),
        (["hub", "backup", "{none}", "--check"], "no whole backup"),
        (["hub", "restore", "{none}", "--data-dir", "{new}"], "no whole backup"),
        (["hub", "gap", "--data-dir", "{none}"], "holds no hub"),
        (["hub", "migrate", "--data-dir", "{new}"], "holds no hub"),
        (["hub", "backup", "{b}", "--database", "mysql://x/y"], "database 'mysql' is not known"),
        (["hub", "serve", "--data-dir", "{new}", "--http-port", "0", "--device-port", "0", "--objects", "ftp://x"],
         "begins with none of"),
        (["hub", "serve", "--data-dir", "{new}", "--http-port", "0", "--device-port", "0", "--objects", "s3://none"],
         "does not exist; make the bucket"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_and_exit_code_2(tmp_path: Path, s3_server: s3.S3Server, arguments, says):
    places = {name: str(tmp_path / name) for name in ("b", "none", "new")}
    environment = {f"EDGEWISE_OBJECT_OPTIONS__{name.upper()}": text for name, text in s3_server.options.items()}
    done = edgewise(*(text.format(**places) for text in arguments), **environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert says in done.stderr
