"""What devices meet, over real TLS: enrolment in EST's shape, certificates, and who is let in."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgewise.edge.certificate import Renewal
from edgewise.hub import create_device_app, enrol
from edgewise.hub.store import devices, tables
from edgewise.hub.tls import DeviceListener
from edgewise.ports import (
    Credentials,
    HttpLink,
    LinkDown,
    SystemChance,
    fetch_identity,
    first_certificate,
    listen,
    next_certificate,
    pin_root,
)
from edgewise.trust import (
    CertificateKey,
    CertificateLimits,
    make_request,
    pem_of,
    unpack_certificates,
    verify_device_certificate,
)
from edgewise.wire import MEDIA_TYPE, NotTrusted, Receipt, decode, digest
from tls_world import TlsWorld

API, EST = "/api/v1", "/.well-known/est"


class Gate:
    """A hub with its devices' listener."""

    def __init__(self, yard: Any, url: str, listener: DeviceListener, folder: Path) -> None:
        self.yard, self.url, self.listener, self.folder = yard, url, listener, folder
        self.root = yard.hub.authority.root

    def credentials(self, name: str) -> Credentials:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return Credentials(folder)

    def enrol(self, name: str, site: str = "north", **more: Any) -> Credentials:
        held = self.credentials(name)
        pin_root(held, self.url, self.yard.hub.authority.fingerprint)
        first_certificate(held, self.url, self.yard.token(site, **more), wish=name)
        return held

    def http(self, credentials: Credentials | None = None) -> httpx.Client:
        context = ssl.create_default_context(cadata=pem_of(self.root).decode())
        if credentials is not None:
            context = credentials.context()
        return httpx.Client(base_url=self.url, verify=context, timeout=20)


@pytest.fixture
def make_gate(make_yard, tmp_path) -> Iterator[Callable[..., Gate]]:
    open_: list[tuple[DeviceListener, Any]] = []

    def make(**more: Any) -> Gate:
        # TLS checks certificates by the real time, so the hub's clock starts there.
        yard = make_yard(start=datetime.now(UTC), **more)
        bound = listen("127.0.0.1", 0)
        listener = DeviceListener(yard.hub, create_device_app(yard.hub), bound)
        listener.start()
        open_.append((listener, bound))
        return Gate(yard, listener.url, listener, tmp_path)

    yield make
    for listener, bound in open_:
        listener.stop()
        bound.close()


@pytest.fixture
def gate(make_gate) -> Gate:
    return make_gate()


def test_a_device_enrols_uploads_and_reads_over_tls(gate):
    held = gate.enrol("one")
    identity = json.loads(fetch_identity(held, gate.url))
    assert (identity["device"], identity["site"], identity["use_case"]) == ("one", "north", "press")
    assert identity["hub_epoch"] == gate.yard.hub.hub_epoch

    talker = gate.yard.enrol("other")
    device = type(talker)(yard=gate.yard, name="one", site="north", key=held.key)
    content = b"one picture"
    body = device.upload(device.segment(1, device.sample(blob=digest(content))))
    link = HttpLink(gate.url, held)
    assert decode(Receipt, link.exchange(body)).missing_blobs == (digest(content),)
    assert not link.has_blob(digest(content))
    link.put_blob(digest(content), content)
    assert link.has_blob(digest(content))
    assert decode(Receipt, link.exchange(body)).watermark == 1
    link.close()


def test_the_certificate_names_the_device_and_is_short(gate):
    held = gate.enrol("one", site="south")
    chain = tuple(map(ssl.PEM_cert_to_DER_cert, split_pem(held.folder / "certificate.pem")))
    verdict = verify_device_certificate([gate.root], chain[1:], chain[0], datetime.now(UTC))
    assert verdict.spiffe_id == "spiffe://edgewise.internal/site/south/device/one"
    start, end = held.validity()
    assert timedelta(days=7) < end - start < timedelta(days=7, hours=1)
    (row,) = gate.yard.rows(tables.devices)
    assert row["certificate_ends_at"] == end


def split_pem(file: Path) -> list[str]:
    end = "-----END CERTIFICATE-----\n"
    return [part + end for part in file.read_text().split(end) if part.strip()]


def test_est_answers_as_rfc_7030_has_it(gate):
    key = CertificateKey.generate(b"by hand")
    with gate.http() as http:
        authorities = http.get(f"{EST}/cacerts")
        assert authorities.headers["content-type"].startswith("application/pkcs7-mime")
        assert gate.root in unpack_certificates(base64.b64decode(authorities.content))
        body = base64.encodebytes(make_request(key, "one"))
        for given in (("any", gate.yard.token()), None):
            answer = http.post(
                f"{EST}/simpleenroll",
                content=body,
                auth=given,
                headers={"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"},
            )
            assert answer.status_code == (200 if given else 401), answer.text
        assert answer.headers["www-authenticate"].startswith("Basic")
        token = gate.yard.token()
        for _ in range(2):  # the answer may get lost: the same request again
            again = http.post(
                f"{EST}/simpleenroll",
                content=b"-----BEGIN CERTIFICATE REQUEST-----\n"
                + base64.encodebytes(make_request(CertificateKey.generate(b"pem"), "two"))
                + b"-----END CERTIFICATE REQUEST-----\n",
                headers={"Authorization": f"Bearer {token}"},
            )
            assert again.status_code == 200
            assert len(unpack_certificates(base64.b64decode(again.content))) == 2
        for content, status in ((b"nonsense!", 400), (b"", 400), (b"A" * 200_000, 413)):
            answer = http.post(f"{EST}/simpleenroll", content=content, headers={"Authorization": "Bearer ew_x"})
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
        wrong = http.post(f"{EST}/simpleenroll", content=body, headers={"Authorization": "Bearer ew_guess"})
        assert (wrong.status_code, wrong.json()["code"]) == (403, "token_unknown")


ROUTES = [
    ("POST", f"{API}/contact"),
    ("GET", f"{API}/identity"),
    ("GET", f"{API}/blobs/{'0' * 64}"),
    ("HEAD", f"{API}/blobs/{'0' * 64}"),
    ("PUT", f"{API}/blobs/{digest(b'')}"),
    ("GET", f"{API}/tuf/metadata/timestamp.json"),
    ("GET", f"{API}/bundles/{'0' * 64}/manifest"),
]


def test_devices_are_let_in_by_their_certificate_alone(gate):
    held = gate.enrol("one")
    admin = {"Authorization": f"Bearer {gate.yard.hub.tokens.text('admin')}"}
    with gate.http(held) as device, gate.http() as nobody:
        for method, path in ROUTES:
            assert device.request(method, path).status_code not in (401, 403), path
            for headers in ({}, admin, {"Authorization": "Bearer ew_guess"}):
                assert nobody.request(method, path, headers=headers).status_code == 401, path
        for path in ("/", "/openapi.json", "/metrics", f"{API}/devices", f"{API}/audit"):
            assert device.get(path, headers=admin).status_code == 404, "people's routes are not here"


def test_a_certificate_of_another_authority_gets_no_connection(gate, tmp_path):
    thief = TlsWorld(tmp_path, "thief").credentials(tmp_path / "thief", "one")
    gate.enrol("one")
    thief.pin(gate.root)
    link = HttpLink(gate.url, thief)
    with pytest.raises(LinkDown, match="its authority may not know"):
        link.exchange(b"")
    link.close()


def test_shutting_out_bites_on_the_open_connection(gate):
    held = gate.enrol("one")
    with gate.http(held) as device:
        assert device.get(f"{API}/identity").status_code == 200
        now = gate.yard.hub.now()
        enrol.shut_out(gate.yard.hub.store, "one", reason="stolen", who="ann", now=now)
        answer = device.get(f"{API}/identity")
        assert (answer.status_code, answer.json()["code"]) == (403, "device_revoked")
    for with_certificate in (True, False):
        with pytest.raises(NotTrusted, match="shut out"):
            next_certificate(held, gate.url, with_certificate=with_certificate)


def test_a_replaced_key_ends_the_old_certificate(gate):
    old = gate.enrol("one")
    new = gate.credentials("one-new-disk")
    pin_root(new, gate.url, gate.yard.hub.authority.fingerprint)
    first_certificate(new, gate.url, gate.yard.token(device="one"))
    assert json.loads(fetch_identity(new, gate.url))["device"] == "one"
    for ask in (lambda: fetch_identity(old, gate.url), lambda: next_certificate(old, gate.url, with_certificate=True)):
        with pytest.raises(NotTrusted, match="another key"):
            ask()


def test_a_certificate_is_renewed_for_the_same_key_only(gate):
    held = gate.enrol("one")
    gate.yard.clock.advance(60)
    before = held.validity()
    assert Renewal(held, gate.url, chance=SystemChance()).step(before[0] + timedelta(days=1)) is False
    renewal = Renewal(held, gate.url, chance=SystemChance())
    assert renewal.step(before[1] - timedelta(days=1)), renewal.error
    assert held.validity()[1] > before[1]
    other = base64.encodebytes(make_request(CertificateKey.generate(b"other")))
    with gate.http(held) as device:
        answer = device.post(f"{EST}/simplereenroll", content=other)
        assert (answer.status_code, answer.json()["code"]) == (403, "key_replaced")


@pytest.mark.parametrize(("days", "comes_back"), [(8, True), (90, True), (98, False)])
def test_after_weeks_away_the_key_opens_the_door_within_the_grace(gate, days, comes_back):
    held = gate.enrol("one")
    held.take(held_certificate(gate, held, age_days=0))
    gate.yard.clock.advance(days * 86_400)
    # The hub's clock goes ahead of the real one, which TLS checks: only the hub's own judgement is tested here.
    with gate.http() as http:
        answer = http.post(f"{EST}/simplereenroll", content=base64.encodebytes(held.request()))
        strange = http.post(
            f"{EST}/simplereenroll", content=base64.encodebytes(make_request(CertificateKey.generate(b"x")))
        )
    assert (strange.status_code, strange.json()["code"]) == (403, "unknown_device")
    actions = [row["action"] for row in gate.yard.rows(tables.audit)]
    if comes_back:
        assert answer.status_code == 200, answer.text
        assert "device.came_back" in actions
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "grace_over")
        assert "make a new token" in answer.json()["detail"]
        assert "device.came_back" not in actions


def held_certificate(gate, held, *, age_days: float) -> tuple[bytes, ...]:
    hub = gate.yard.hub
    now = hub.now() - timedelta(days=age_days)
    made = hub.authority.device_certificate(held.key.public, site="north", device="one", now=now)
    return made, hub.authority.device_issuer


def test_an_expired_certificate_opens_nothing_but_the_way_back(make_gate):
    gate = make_gate(certificates=CertificateLimits(device_days=1 / 86_400, skew_s=0))
    held = gate.enrol("one")
    gate.yard.clock.advance(5)
    end = held.validity()[1]
    with gate.http(held) as device:
        for method, path in ROUTES:
            answer = device.request(method, path)
            assert answer.status_code == 403, path
            assert method == "HEAD" or answer.json()["code"] == "certificate_validity"
    renewal = Renewal(held, gate.url, chance=SystemChance())
    assert renewal.step(end - timedelta(seconds=0.9)) is False, "its own clock is behind"
    assert renewal.step(end - timedelta(seconds=0.9), ended=True), renewal.error
    assert held.validity()[1] > end


def test_a_site_in_the_certificate_that_is_not_the_devices_is_refused(gate):
    held = gate.enrol("one", site="north")
    hub = gate.yard.hub
    made = hub.authority.device_certificate(held.key.public, site="south", device="one", now=hub.now())
    held.take((made, hub.authority.device_issuer))
    with pytest.raises(NotTrusted, match="enrolled again"):
        fetch_identity(held, gate.url)


def test_the_servers_certificate_is_renewed_without_a_restart(gate):
    held = gate.enrol("one")

    def serial() -> int:
        host, port = gate.url.removeprefix("https://").split(":")
        plain = socket.create_connection((host, int(port)))
        with held.context().wrap_socket(plain, server_hostname=host) as connection:
            return hash(connection.getpeercert(binary_form=True))

    before = serial()
    assert gate.listener.certificate.refresh(gate.yard.hub.now()) is False
    assert serial() == before
    assert gate.listener.certificate.refresh(gate.yard.hub.now() + timedelta(days=19)) is False
    gate.yard.clock.advance(60)
    assert gate.listener.certificate.refresh(gate.yard.hub.now() + timedelta(days=21)) is True
    assert gate.listener.certificate.refresh(gate.yard.hub.now() + timedelta(days=21)) is False


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
def test_old_versions_of_tls_get_no_connection(gate, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with httpx.Client(base_url=gate.url, verify=context) as http, pytest.raises(httpx.HTTPError):
        http.get(f"{EST}/cacerts")


def test_a_gap_is_answered_with_the_watermark_and_a_clone_with_403(gate):
    held = gate.enrol("one")
    talker = gate.yard.enrol("other")
    device = type(talker)(yard=gate.yard, name="one", site="north", key=held.key)
    device.send(device.segment(1, device.telemetry()))
    headers = {"Content-Type": MEDIA_TYPE}
    with gate.http(held) as http:
        for segment, status in (
            (device.segment(3, device.telemetry()), 409),
            (device.segment(1, device.sample()), 403),
        ):
            answer = http.post(f"{API}/contact", content=device.upload(segment), headers=headers)
            assert answer.status_code == status
            if status == 409:
                problem = answer.json()
                assert (problem["code"], problem["watermark"], problem["epoch"]) == ("gap", 1, device.epoch)
        answer = http.post(f"{API}/contact", content=talker.upload(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong_device")


def test_the_hub_finds_its_authority_again_and_no_other_domain(make_yard, tmp_path):
    first = make_yard(data_dir=tmp_path / "hub")
    root = first.hub.authority.root
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "hub" / "keys").iterdir()}
    assert modes == {0o600}
    first.hub.close()
    second = make_yard(data_dir=tmp_path / "hub")
    assert second.hub.authority.root == root
    second.hub.close()
    with pytest.raises(Exception, match="start it with --trust-domain"):
        make_yard(data_dir=tmp_path / "hub", trust_domain="plants.example")
    (tmp_path / "hub" / "keys" / "ca-devices.pem").unlink()
    with pytest.raises(Exception, match="restore the folder keys"):
        make_yard(data_dir=tmp_path / "hub")


def test_a_device_row_knows_no_certificate_of_a_device_that_never_asked(yard):
    yard.enrol("one")
    with yard.hub.store.read() as connection:
        row = devices.get(connection, "one")
    assert row is not None
    with pytest.raises(NotTrusted, match="never had one"):
        enrol.by_key(yard.hub.store, row.public_key, now=yard.hub.now(), grace=timedelta(days=1))
