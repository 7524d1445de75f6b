"""``edgewise trust verify-device-cert``: exit 0 or 3 and a reason in JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from certificate_yard import NOW, crl, issuer, leaf, pem, root


@pytest.fixture
def files(tmp_path):
    made = {"roots": root(), "intermediates": issuer(path_length=0), "leaf": leaf(serial=77)}
    for name, one in made.items():
        (tmp_path / name).write_bytes(pem(one.make()))
    (tmp_path / "low").write_bytes(pem(leaf("low").make()))
    (tmp_path / "two").write_bytes(pem(issuer("low", "issuer").make(), issuer(path_length=0).make()))
    (tmp_path / "crl").write_bytes(crl("issuer", 77))
    return tmp_path


def verify(files, *more: str, leaf: str = "leaf", intermediates: str = "intermediates"):
    names = {"roots": "roots", "intermediates": intermediates, "leaf": leaf}
    arguments = [part for option, name in names.items() for part in (f"--{option}", str(files / name))]
    command = [sys.executable, "-m", "edgewise", "trust", "verify-device-cert", *arguments, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_answer_is_json_and_the_exit_code_says_it_too(files):
    time = ("--time", NOW.isoformat())
    good = verify(files, *time, "--trust-domain", "edgewise.internal")
    assert (good.returncode, json.loads(good.stdout)["device"]) == (0, "press-4")
    for code, ran in (
        ("revoked", verify(files, *time, "--revoked", str(files / "crl"))),
        ("validity", verify(files, "--time", "2031-01-01T00:00:00Z")),
        ("path_length", verify(files, *time, leaf="low", intermediates="two")),
        ("identity", verify(files, *time, "--trust-domain", "plants.example")),
    ):
        assert (ran.returncode, json.loads(ran.stdout)["code"]) == (3, code)
    assert verify(files, "--time", "soon").returncode == 2
    assert verify(files, leaf="nowhere").returncode == 2
