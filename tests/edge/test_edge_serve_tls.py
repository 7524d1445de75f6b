"""`edge serve` over TLS: the cloud side of a cascade answers only to clients with a certificate of its authority."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgewise.edge.serve import tls_of
from edgewise.ports import LinkDown, TlsFiles, V2Client
from edgewise.trust import pem_of
from edgewise.wire import EdgewiseError, NotTrusted, NotValid
from tls_world import TlsWorld
from v2_world import echo_network, serving

VALUES = np.array([[1, 2, 3]], np.float32)


class Cloud:
    """The files of a server of one authority, its address, and a client's context of any authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = TlsWorld(folder)
        self.world.server()  # writes server.pem: key, certificate and issuer in one file
        self.pem, self.client_ca = folder / "server.pem", folder / "clients.pem"
        self.client_ca.write_bytes(pem_of(self.world.root, self.world.device_issuer))
        self.network = folder / "big.onnx"
        self.network.write_bytes(echo_network("FP32"))
        self.url = ""

    def files(self) -> TlsFiles:
        return TlsFiles(certificate=self.pem, key=self.pem, client_ca=self.client_ca)

    def context(self, who: str = "tests") -> ssl.SSLContext:
        """Of a device that believes this server; ``who`` is the authority that made the device's certificate."""
        context = TlsWorld(self.folder, who).credentials(self.folder / who).context()
        context.load_verify_locations(cadata=pem_of(self.world.root).decode())
        return context


@pytest.fixture(scope="module")
def cloud(tmp_path_factory) -> Iterator[Cloud]:
    made = Cloud(tmp_path_factory.mktemp("cloud"))
    with serving([made.network], tls=made.files().context()) as url:
        made.url = url
        yield made


def ask(cloud: Cloud, context: ssl.SSLContext) -> np.ndarray:
    with V2Client(cloud.url, tls=context, timeout_s=10) as client:
        return client.infer("big", {"x": VALUES})["y"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_with_a_certificate_of_the_authority_is_answered(cloud, version):
    context = cloud.context()
    context.minimum_version = context.maximum_version = version
    assert np.array_equal(ask(cloud, context), VALUES)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_of_another_authority_is_refused(cloud, version):
    context = cloud.context("stranger")
    context.minimum_version = context.maximum_version = version
    refused(cloud, context)


def test_a_certificate_that_has_ended_is_refused(cloud):
    held = cloud.world.credentials(cloud.folder / "old", "press-5")
    held.take(cloud.world.chain(held, "press-5", age_days=150))
    refused(cloud, held.context())


def test_no_certificate_is_refused(cloud):
    refused(cloud, ssl.create_default_context(cadata=pem_of(cloud.world.root).decode()))


def refused(cloud: Cloud, context: ssl.SSLContext) -> None:
    # Since TLS 1.3 a client learns only with its first request that it was refused, and perhaps only by the end.
    with pytest.raises((NotTrusted, LinkDown)) as caught:
        ask(cloud, context)
    assert "certificate" in str(caught.value)


def test_a_client_that_does_not_believe_the_server_says_so(cloud):
    context = TlsWorld(cloud.folder, "elsewhere").credentials(cloud.folder / "elsewhere").context()
    with pytest.raises(NotTrusted, match="has no certificate that this client trusts") as caught:
        ask(cloud, context)
    assert caught.value.code == "server_certificate"


def test_a_name_that_is_not_in_the_certificate_is_refused(cloud):
    client = V2Client(cloud.url.replace("127.0.0.1", "localhost.localdomain"), tls=cloud.context(), timeout_s=5)
    with client, pytest.raises(EdgewiseError):
        client.ready("big")


def test_neither_old_tls_nor_plain_http_is_answered(cloud):
    host, port = cloud.url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port)), 5) as raw:
        raw.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/1.1 200" not in raw.recv(1000)
    old = cloud.context()
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((host, int(port)), 5) as raw, pytest.raises(ssl.SSLError):
        old.wrap_socket(raw, server_hostname=host)


def test_many_strangers_do_not_keep_a_friend_out(cloud):
    host, port = cloud.url.removeprefix("https://").split(":")
    idle = [socket.create_connection((host, int(port)), 5) for _ in range(20)]
    assert np.array_equal(ask(cloud, cloud.context()), VALUES)
    for connection in idle:
        connection.close()


# The options


def test_the_three_options_belong_together(cloud):
    assert tls_of(None, None, None) is None
    with pytest.raises(NotValid, match="--client-ca is missing"):
        tls_of(cloud.pem, cloud.pem, None)
    with pytest.raises(NotValid, match="--tls-cert and --tls-key is missing"):
        tls_of(None, None, cloud.client_ca)


def test_files_that_cannot_be_used_are_named(cloud, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    other = TlsWorld(tmp_path, "other").credentials(tmp_path / "other")
    for files, words in [
        ((tmp_path / "missing", cloud.pem, cloud.client_ca), "missing .* cannot be used"),
        ((tmp_path / "empty", cloud.pem, cloud.client_ca), "empty .* cannot be used"),
        ((other.folder / "certificate.pem", cloud.pem, cloud.client_ca), "cannot be used"),
        ((cloud.pem, cloud.pem, tmp_path / "missing"), "names no authority"),
        ((cloud.pem, cloud.pem, tmp_path / "empty"), "names no authority"),
    ]:
        with pytest.raises(NotValid, match=words):
            TlsFiles(certificate=files[0], key=files[1], client_ca=files[2]).context()


def test_a_key_with_a_password_is_refused_instead_of_asked_for(cloud, tmp_path):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(cloud.pem.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "locked.pem").write_bytes(locked)
    with pytest.raises(NotValid, match="the key has a password"):
        TlsFiles(certificate=cloud.pem, key=tmp_path / "locked.pem", client_ca=cloud.client_ca).context()


def test_the_command_serves_over_tls_and_ends_cleanly(cloud, tmp_path):
    command = [sys.executable, "-c", "from edgewise.cli import main; main()", "edge", "serve", str(cloud.network)]
    command += ["--http-port", "0", "--tls-cert", str(cloud.pem), "--tls-key", str(cloud.pem)]
    command += ["--client-ca", str(cloud.client_ca), "--data-dir", str(tmp_path / "data")]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[2]
        assert url.startswith("https://127.0.0.1:")
        assert json.loads((tmp_path / "data" / "serve.json").read_bytes())["url"] == url
        with V2Client(url, tls=cloud.context(), timeout_s=10) as client:
            assert np.array_equal(client.infer("big", {"x": VALUES})["y"], VALUES)
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=20)
    finally:
        server.kill()
    assert (server.returncode, errors) == (0, "")
