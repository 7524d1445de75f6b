"""Certificates by the word of a proxy: believed from configured addresses only, and through a real nginx."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from edgewise.hub import create_device_app, enrol
from edgewise.hub.api.peer import check_proxies, forwarded_certificate
from edgewise.hub.tls import DeviceListener
from edgewise.ports import (
    Credentials,
    HttpLink,
    LinkDown,
    Refused,
    fetch_identity,
    first_certificate,
    listen,
    next_certificate,
    pin_root,
)
from edgewise.trust import pem_of
from edgewise.wire import NotTrusted, NotValid, digest
from tls_world import TlsWorld

IDENTITY = "/api/v1/identity"
HEADER = "X-Forwarded-Client-Cert"


@contextlib.contextmanager
def serving(yard: Any) -> Iterator[str]:
    bound = listen("127.0.0.1", 0)
    listener = DeviceListener(yard.hub, create_device_app(yard.hub), bound)
    listener.start()
    try:
        yield listener.url
    finally:
        listener.stop()
        bound.close()


def enrolled(yard: Any, url: str, folder: Path) -> Credentials:
    folder.mkdir()
    held = Credentials(folder)
    pin_root(held, url, yard.hub.authority.fingerprint)
    first_certificate(held, url, yard.token(), wish=folder.name)
    return held


def stranger(yard: Any, url: str) -> httpx.Client:
    context = ssl.create_default_context(cadata=pem_of(yard.hub.authority.root).decode())
    return httpx.Client(base_url=url, verify=context, timeout=20)


def escaped(held: Credentials) -> str:
    leaf = (held.folder / "certificate.pem").read_text().partition("-----END CERTIFICATE-----\n")
    return quote(leaf[0] + leaf[1], safe="")


@pytest.mark.parametrize(("proxies", "believed"), [((), False), (("10.0.0.0/8",), False), (("127.0.0.1",), True)])
def test_the_header_is_believed_from_configured_addresses_only(make_yard, tmp_path, proxies, believed):
    yard = make_yard(start=datetime.now(UTC), proxies=proxies)
    with serving(yard) as url:
        held = enrolled(yard, url, tmp_path / "one")
        with stranger(yard, url) as http:
            answer = http.get(IDENTITY, headers={HEADER: f'Hash=abc;Cert="{escaped(held)}";URI=x'})
            if believed:
                assert answer.json()["device"] == "one"
                nobody = http.get(IDENTITY, headers={HEADER: 'Cert=""'})
                assert (nobody.status_code, nobody.json()["code"]) == (401, "no_certificate")
                other = TlsWorld(tmp_path, "thief").credentials(tmp_path / "thief", "one")
                forged = http.get(IDENTITY, headers={HEADER: f'Cert="{escaped(other)}"'})
                assert forged.status_code == 403, "the hub checks the chain itself"
                twice = [(HEADER, 'Cert=""'), (HEADER, f'Cert="{escaped(held)}"')]
                assert http.get(IDENTITY, headers=twice).json()["code"] == "forwarded_malformed"
            else:
                assert (answer.status_code, answer.json()["code"]) == (400, "proxy_unknown")
        with httpx.Client(base_url=url, verify=held.context()) as http:
            mixed = http.get(IDENTITY, headers={HEADER: 'Cert=""'})
            assert mixed.status_code == (401 if believed else 400)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Cert",
        "Hash=1",
        'Cert="a";Cert="b"',
        'Cert="a",Cert="b"',
        'Cert="nonsense"',
        'Cert="%00"',
        'Cert="-----BEGIN CERTIFICATE-----%0A!%0A-----END CERTIFICATE-----"',
        "Cert=" + "a" * 40_000,
        'By="a;Cert=b"',
    ],
    ids=["empty", "bare", "none", "two", "appended", "nonsense", "nul", "not-base64", "long", "quoted"],
)
def test_what_is_not_one_certificate_in_envoys_format_is_refused(header):
    with pytest.raises(NotTrusted, match="X-Forwarded-Client-Cert"):
        forwarded_certificate(header)


def test_a_proxy_that_is_no_address_is_refused_at_start():
    with pytest.raises(NotValid, match="address or network"):
        check_proxies(["proxy.example"])


# -- nginx -------------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def nginx(folder: Path, hub_url: str, tls: Path) -> Iterator[str]:
    """The shipped configuration with its four marked lines changed, before this hub."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        why = "nginx is not installed (apt-get install nginx-light)"
        if "nginx" in os.environ.get("EDGEWISE_REQUIRE", "").split(","):
            pytest.fail(why)
        pytest.skip(why)
    port = free_port()
    text = (importlib.resources.files("edgewise.hub") / "deploy" / "nginx.conf").read_text()
    for old, new in (
        ("listen 8444 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/var/lib/edgewise/hub/tls", str(tls)),
        ("https://127.0.0.1:8443", hub_url),
        ("http {", f"http {{ access_log {folder}/access.log; client_body_temp_path {folder}/body;"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    settings = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;"
    settings += " user root;" if os.geteuid() == 0 else ""
    process = subprocess.Popen(
        [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", settings],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, process.stderr.read().decode()  # type: ignore[union-attr]
            assert time.monotonic() < end, "nginx does not listen"
            time.sleep(0.05)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_a_device_enrols_talks_and_renews_through_the_shipped_nginx(make_yard, tmp_path):
    yard = make_yard(start=datetime.now(UTC), data_dir=tmp_path / "hub", proxies=("127.0.0.1",))
    (tmp_path / "nginx").mkdir()
    with serving(yard) as hub_url, nginx(tmp_path / "nginx", hub_url, tmp_path / "hub" / "tls") as url:
        held = enrolled(yard, url, tmp_path / "one")
        assert json.loads(fetch_identity(held, url))["device"] == "one"
        link = HttpLink(url, held)
        data = bytes(range(256)) * 20_000
        link.put_blob(digest(data), data)
        assert b"".join(link.get_blob(digest(data), offset=100)) == data[100:]
        link.close()
        next_certificate(held, url, with_certificate=True)
        assert json.loads(fetch_identity(held, url))["device"] == "one"

        with stranger(yard, url) as http:
            assert http.get(IDENTITY).status_code == 401
            injected = http.get(IDENTITY, headers={HEADER: f'Cert="{escaped(held)}"'})
            assert injected.status_code == 401, "nginx replaces what a stranger sends"
        thief = TlsWorld(tmp_path, "thief").credentials(tmp_path / "thief", "one")
        thief.pin(yard.hub.authority.root)
        with pytest.raises((Refused, LinkDown, NotTrusted)):
            fetch_identity(thief, url)

        enrol.shut_out(yard.hub.store, "one", reason="stolen", who="ann", now=yard.hub.now())
        with pytest.raises(NotTrusted, match="shut out"):
            fetch_identity(held, url)


# -- the scan ----------------------------------------------------------------------------------------------------------


def test_the_devices_listener_is_clean_in_the_eyes_of_sslyze(make_yard, tmp_path):
    program = os.environ.get("EDGEWISE_SSLYZE") or shutil.which("sslyze")
    if program is None:
        why = "sslyze is not here; install it into an environment of its own and name it with EDGEWISE_SSLYZE"
        if "sslyze" in os.environ.get("EDGEWISE_REQUIRE", "").split(","):
            pytest.fail(why)
        pytest.skip(why)
    yard = make_yard(start=datetime.now(UTC), data_dir=tmp_path / "hub")
    (tmp_path / "root.pem").write_bytes(pem_of(yard.hub.authority.root))
    with serving(yard) as url:
        target = url.removeprefix("https://")
        arguments = ["--mozilla_config=intermediate", f"--certinfo_ca_file={tmp_path}/root.pem"]
        result = tmp_path / "result.json"
        ran = subprocess.run(
            [program, *arguments, f"--json_out={result}", target],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout[-3000:]
    scan = json.loads(result.read_text())["server_scan_results"][0]["scan_result"]
    for old in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert scan[f"{old}_cipher_suites"]["result"]["accepted_cipher_suites"] == [], old
    for new in ("tls_1_2", "tls_1_3"):
        accepted = scan[f"{new}_cipher_suites"]["result"]["accepted_cipher_suites"]
        assert len(accepted) == 3, new
        assert all(
            "GCM" in one["cipher_suite"]["name"] or "POLY1305" in one["cipher_suite"]["name"] for one in accepted
        )
    assert scan["heartbleed"]["result"]["is_vulnerable_to_heartbleed"] is False
    assert scan["session_renegotiation"]["result"]["is_vulnerable_to_client_renegotiation_dos"] is False
    assert scan["tls_compression"]["result"]["supports_compression"] is False
