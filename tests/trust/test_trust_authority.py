"""The hub's own certificates: what it issues passes its own check, and nobody's request is taken at its word."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edgewise.trust import (
    CertificateKey,
    CertificateLimits,
    DeviceId,
    check_trust_domain,
    fingerprint,
    issue_device,
    issue_server,
    key_of,
    make_request,
    new_issuer,
    new_root,
    open_request,
    pack_certificates,
    pem_of,
    unpack_certificates,
    validity_of,
    verify_device_certificate,
)
from edgewise.wire import NotTrusted, NotValid, digest

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
LIMITS = CertificateLimits()
DOMAIN = "plants.example"
WHO = DeviceId(trust_domain=DOMAIN, site="halle/ü 1", device="press-4")
ROOT_KEY, ISSUER_KEY, KEY = (CertificateKey.generate(name) for name in (b"root", b"issuer", b"device"))


def root() -> bytes:
    return new_root(ROOT_KEY, trust_domain=DOMAIN, now=NOW, limits=LIMITS)


def issuer(kind: str = "devices", now: datetime = NOW) -> bytes:
    made = {"trust_domain": DOMAIN, "now": now, "limits": LIMITS}
    return new_issuer(ISSUER_KEY, root=root(), root_key=ROOT_KEY, kind=kind, **made)


def device(who: DeviceId = WHO, *, above: bytes | None = None, limits: CertificateLimits = LIMITS) -> bytes:
    return issue_device(KEY.public, who, issuer=above or issuer(), issuer_key=ISSUER_KEY, now=NOW, limits=limits)


def test_an_issued_device_certificate_passes_and_names_the_device():
    verdict = verify_device_certificate([root()], [issuer()], device(), NOW, trust_domain=DOMAIN)
    assert verdict.ok, verdict.reason
    assert (verdict.site, verdict.device) == (WHO.site, WHO.device)
    assert key_of(device()) == KEY.public
    start, end = validity_of(device())
    assert (end - NOW.replace(microsecond=0), NOW - start > timedelta(minutes=10)) == (timedelta(days=7), True)


def test_an_issuer_of_servers_cannot_make_a_device_nor_one_domain_that_of_another():
    made = device(above=issuer("servers"))
    assert verify_device_certificate([root()], [issuer("servers")], made, NOW).code == "extended_key_usage"
    made = device(DeviceId(trust_domain="other.example", site="a", device="b"))
    assert verify_device_certificate([root()], [issuer()], made, NOW).code == "name_constraints"
    server = issue_server(KEY.public, ["hub.example"], issuer=issuer(), issuer_key=ISSUER_KEY, now=NOW, limits=LIMITS)
    assert verify_device_certificate([root()], [issuer()], server, NOW).code == "extended_key_usage"


def test_a_certificate_never_outlives_its_issuer_and_never_lives_too_long():
    late = NOW + timedelta(days=LIMITS.issuer_days - 3)
    limits = replace(LIMITS, device_days=30)
    made = issue_device(KEY.public, WHO, issuer=issuer(), issuer_key=ISSUER_KEY, now=late, limits=limits)
    assert validity_of(made)[1] == validity_of(issuer())[1]
    for days in (0, 91, -1):
        with pytest.raises(NotValid, match="at most 90"):
            device(limits=replace(LIMITS, device_days=days))
    after = NOW + timedelta(days=LIMITS.issuer_days + 1)
    with pytest.raises(NotValid, match="issuing certificate ended"):
        issue_device(KEY.public, WHO, issuer=issuer(), issuer_key=ISSUER_KEY, now=after, limits=LIMITS)


def test_a_request_proves_its_key_and_its_wishes_beyond_a_name_are_ignored():
    asked = open_request(make_request(KEY, "press-4"))
    assert (asked.public, asked.common_name) == (KEY.public, "press-4")
    assert open_request(make_request(KEY)).common_name == ""
    data = bytearray(make_request(KEY, "press-4"))
    data[data.index(b"press-4")] ^= 1
    with pytest.raises(NotTrusted, match="not signed with the key"):
        open_request(bytes(data))
    for bad in (b"", b"x" * 50, make_request(KEY)[:-3]):
        with pytest.raises(NotValid, match="PKCS #10"):
            open_request(bad)
    other = ed25519.Ed25519PrivateKey.generate()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    with pytest.raises(NotValid, match="needs to be ECDSA P-256"):
        open_request(builder.sign(other, None).public_bytes(serialization.Encoding.DER))


@pytest.mark.parametrize("names", [[], ["a b"], ["https://hub"], ["hub:8443"], [""], ["a"] * 51], ids=repr)
def test_names_of_a_server_are_hosts_or_addresses(names):
    with pytest.raises(NotValid):
        issue_server(KEY.public, names, issuer=issuer("servers"), issuer_key=ISSUER_KEY, now=NOW, limits=LIMITS)


def test_a_servers_certificate_names_its_hosts_and_addresses():
    names = ["localhost", "127.0.0.1", "::1", "hub.example"]
    made = issue_server(KEY.public, names, issuer=issuer("servers"), issuer_key=ISSUER_KEY, now=NOW, limits=LIMITS)
    found = x509.load_der_x509_certificate(made).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name) for name in found.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert found.get_values_for_type(x509.DNSName) == ["localhost", "hub.example"]


def test_pkcs7_carries_certificates_both_ways():
    chain = (root(), issuer())
    assert set(unpack_certificates(pack_certificates(chain))) == set(chain)
    with pytest.raises(NotTrusted, match="PKCS #7"):
        unpack_certificates(b"no")
    assert pem_of(*chain).count(b"BEGIN CERTIFICATE") == 2
    assert fingerprint(chain[0]) == digest(chain[0])


@pytest.mark.parametrize("domain", ["", "localhost", "A.b", "a..b", "a.b/c", "-a.b", "a.b:1", "x" * 250 + ".b"])
def test_a_trust_domain_is_a_lower_case_name_with_a_dot(domain):
    with pytest.raises(NotValid, match="trust domain"):
        check_trust_domain(domain)
    assert check_trust_domain(DOMAIN) == DOMAIN


def test_a_key_comes_back_from_its_file_and_a_seed_gives_the_same_key_again():
    assert CertificateKey.from_pem(KEY.to_pem()) == KEY == CertificateKey.generate(b"device")
    assert CertificateKey.generate() != CertificateKey.generate()
    assert KEY.public.keyid[:16] in repr(KEY)
    assert len({KEY, CertificateKey.generate(b"device")}) == 1
    public = KEY.private.public_key()
    public.verify(KEY.sign(b"hello"), b"hello", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(NotValid, match="seed of a key is empty"):
        CertificateKey.generate(b"")
    with pytest.raises(NotValid, match="PKCS #8"):
        CertificateKey.from_pem(b"no")
