"""Device certificates: the good chains hold, and every bad one is refused for the fact that is wrong with it."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from certificate_yard import (
    ANY,
    CLIENT,
    DAY,
    DEVICE,
    NOW,
    SERVER,
    SIGNS,
    STRANGE,
    URI,
    Cert,
    crl,
    der,
    issuer,
    key,
    leaf,
    named,
    pem,
    root,
    usage,
)
from edgewise.trust import ChainVerdict, ders_of, read_revoked, verify_device_certificate
from edgewise.wire import NotValid

DNS, IP, MAIL = x509.DNSName, x509.IPAddress, x509.RFC822Name


def judge(*chain: Cert, revoked: bytes | None = None, time: Any = NOW, **more: Any) -> ChainVerdict:
    """The verdict on (leaf, ..., root)."""
    made = [der(one.make()) for one in chain]
    lists = None if revoked is None else read_revoked(revoked)
    return verify_device_certificate([made[-1]], made[1:-1], made[0], time, lists, **more)


def within(*trees: x509.GeneralName, out: list[x509.GeneralName] | None = None) -> x509.NameConstraints:
    return x509.NameConstraints(list(trees) or None, out)


def directory(*parts: str) -> x509.Name:
    oids = (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in zip(oids, parts, strict=False)])


MANY = [issuer(f"i{n}", f"i{n + 1}" if n < 5 else "root") for n in range(6)]
GOOD: dict[str, tuple[Cert, ...]] = {
    "one-issuer": (leaf(), issuer(), root()),
    "no-issuer": (leaf("root"), root()),
    "two-issuers": (leaf("low"), issuer("low", "issuer"), issuer(), root()),
    "six-issuers": (leaf("i0"), *MANY, root()),
    "path-length-just-enough": (leaf(), issuer(path_length=0), root(path_length=1)),
    "self-issued-is-not-counted": (
        leaf(signed_by="new issuer", above_key="new issuer"),
        issuer("issuer", "issuer", key="new issuer", signed_by="issuer"),
        issuer(path_length=0),
        root(),
    ),
    "leaf-without-key-usage": (leaf(usage=None), issuer(), root()),
    "leaf-without-basic-constraints": (leaf(ca=None), issuer(), root()),
    "more-purposes": (leaf(purposes=[SERVER, CLIENT]), issuer(), root()),
    "issuer-for-clients": (leaf(), issuer(purposes=[CLIENT]), root()),
    "issuer-for-anything": (leaf(), issuer(purposes=[ANY]), root()),
    "uri-within": (leaf(), issuer(constraints=within(URI("edgewise.internal"))), root()),
    "uri-within-subdomains": (
        leaf(names=[URI("spiffe://a.plants.example/site/x/device/y")]),
        issuer(constraints=within(URI(".plants.example"))),
        root(),
    ),
    "uri-not-excluded": (leaf(), issuer(constraints=within(out=[URI("other.internal")])), root()),
    "dns-within": (
        leaf(names=[URI(DEVICE), DNS("a.plants.example")]),
        issuer(constraints=within(DNS("plants.example"))),
        root(),
    ),
    "address-within": (
        leaf(names=[IP(ipaddress.ip_address("10.1.2.3"))]),
        issuer(constraints=within(IP(ipaddress.ip_network("10.0.0.0/8")))),
        root(),
    ),
    "other-kind-constrained": (leaf(), issuer(constraints=within(DNS("plants.example"))), root()),
    "unknown-extension-not-critical": (leaf(more=[(STRANGE, False)]), issuer(), root()),
    "rsa-root": (leaf("rsa2048-root"), root(name="rsa2048-root")),
    "p384-issuer": (leaf("p384-issuer"), issuer("p384-issuer"), root()),
    "empty-subject": (leaf(subject=x509.Name([])), issuer(), root()),
}
BAD: dict[str, tuple[str, tuple[Cert, ...]]] = {
    # time
    "leaf-expired": ("validity", (leaf(end=NOW - timedelta(seconds=1)), issuer(), root())),
    "leaf-not-yet": ("validity", (leaf(start=NOW + timedelta(seconds=1)), issuer(), root())),
    "issuer-expired": ("validity", (leaf(), issuer(end=NOW - DAY / 2), root())),
    "root-expired": ("validity", (leaf(), issuer(), root(end=NOW - DAY / 2))),
    "root-not-yet": ("validity", (leaf(), issuer(), root(start=NOW + DAY))),
    # signatures and names
    "leaf-signed-by-other": ("signature", (leaf(signed_by="thief"), issuer(), root())),
    "issuer-signed-by-other": ("signature", (leaf(), issuer(signed_by="thief"), root())),
    "leaf-signed-by-itself": ("signature", (leaf(signed_by="press-4"), issuer(), root())),
    "unknown-issuer": ("unknown_issuer", (leaf("stranger"), issuer(), root())),
    "other-root": ("unknown_issuer", (leaf(), issuer(), root(name="other"))),
    "same-name-other-key": ("unknown_issuer", (leaf(), issuer(key="thief"), root())),
    "self-signed-leaf-as-root": ("basic_constraints", (leaf("press-4"), leaf("press-4"))),
    # authorities
    "issuer-is-a-device": ("basic_constraints", (leaf(), issuer(ca=False, usage=SIGNS), root())),
    "issuer-without-basic-constraints": ("basic_constraints", (leaf(), issuer(ca=None), root())),
    "root-is-no-authority": ("basic_constraints", (leaf("root"), root(ca=False))),
    "leaf-is-an-authority": ("basic_constraints", (leaf(ca=True), issuer(), root())),
    "device-issues-device": (
        "basic_constraints",
        (leaf("press-5"), leaf(name="press-5"), issuer(), root()),
    ),
    "path-length-root": ("path_length", (leaf(), issuer(), root(path_length=0))),
    "path-length-issuer": (
        "path_length",
        (leaf("low"), issuer("low", "issuer"), issuer(path_length=0), root()),
    ),
    "path-length-grows-below": (
        "path_length",
        (leaf("low"), issuer("low", "issuer", path_length=5), issuer(path_length=0), root(path_length=5)),
    ),
    "too-long": (
        "unknown_issuer",
        (leaf("j0"), *[issuer(f"j{n}", f"j{n + 1}" if n < 8 else "root") for n in range(9)], root()),
    ),
    # usage
    "issuer-may-not-sign": ("key_usage", (leaf(), issuer(usage=usage(crl_sign=True)), root())),
    "issuer-without-key-usage": ("key_usage", (leaf(), issuer(usage=None), root())),
    "root-may-not-sign": ("key_usage", (leaf("root"), root(usage=usage(digital_signature=True)))),
    "leaf-may-sign-certificates": (
        "key_usage",
        (leaf(usage=usage(digital_signature=True, key_cert_sign=True)), issuer(), root()),
    ),
    "leaf-may-not-speak": ("key_usage", (leaf(usage=usage(key_agreement=True)), issuer(), root())),
    "leaf-for-servers": ("extended_key_usage", (leaf(purposes=[SERVER]), issuer(), root())),
    "leaf-without-purpose": ("extended_key_usage", (leaf(purposes=None), issuer(), root())),
    "leaf-for-anything": ("extended_key_usage", (leaf(purposes=[ANY]), issuer(), root())),
    "issuer-for-servers": ("extended_key_usage", (leaf(), issuer(purposes=[SERVER]), root())),
    "second-issuer-for-servers": (
        "extended_key_usage",
        (leaf("low"), issuer("low", "issuer"), issuer(purposes=[SERVER]), root()),
    ),
    # constraints
    "uri-of-another-domain": ("name_constraints", (leaf(), issuer(constraints=within(URI("other.internal"))), root())),
    "uri-of-a-subdomain": ("name_constraints", (leaf(), issuer(constraints=within(URI("internal"))), root())),
    "uri-ends-alike": (
        "name_constraints",
        (
            leaf(names=[URI("spiffe://evil-edgewise.internal/site/a/device/b")]),
            issuer(constraints=within(URI("edgewise.internal"))),
            root(),
        ),
    ),
    "uri-excluded": ("name_constraints", (leaf(), issuer(constraints=within(out=[URI("edgewise.internal")])), root())),
    "uri-host-behind-user": (
        "name_constraints",
        (
            leaf(names=[URI("spiffe://edgewise.internal@evil.example/site/a/device/b")]),
            issuer(constraints=within(URI("edgewise.internal"))),
            root(),
        ),
    ),
    "uri-without-host": (
        "name_constraints",
        (leaf(names=[URI("urn:x:y")]), issuer(constraints=within(URI("edgewise.internal"))), root()),
    ),
    "uri-with-address": (
        "name_constraints",
        (leaf(names=[URI("spiffe://10.0.0.1/x")]), issuer(constraints=within(URI("10.0.0.1"))), root()),
    ),
    "second-name-outside": (
        "name_constraints",
        (
            leaf(names=[URI(DEVICE), URI("spiffe://other.internal/site/a/device/b")]),
            issuer(constraints=within(URI("edgewise.internal"))),
            root(),
        ),
    ),
    "constraint-of-the-root": ("name_constraints", (leaf(), issuer(), root(constraints=within(URI("other.internal"))))),
    "dns-outside": (
        "name_constraints",
        (leaf(names=[DNS("plants.example.org")]), issuer(constraints=within(DNS("plants.example"))), root()),
    ),
    "dns-ends-alike": (
        "name_constraints",
        (leaf(names=[DNS("xplants.example")]), issuer(constraints=within(DNS("plants.example"))), root()),
    ),
    "dns-excluded": (
        "name_constraints",
        (leaf(names=[DNS("A.Plants.example")]), issuer(constraints=within(out=[DNS("plants.example")])), root()),
    ),
    "dns-everything-excluded": (
        "name_constraints",
        (leaf(names=[DNS("a.b")]), issuer(constraints=within(out=[DNS("")])), root()),
    ),
    "address-outside": (
        "name_constraints",
        (
            leaf(names=[IP(ipaddress.ip_address("11.1.2.3"))]),
            issuer(constraints=within(IP(ipaddress.ip_network("10.0.0.0/8")))),
            root(),
        ),
    ),
    "address-of-the-other-family": (
        "name_constraints",
        (
            leaf(names=[IP(ipaddress.ip_address("::1"))]),
            issuer(constraints=within(IP(ipaddress.ip_network("10.0.0.0/8")))),
            root(),
        ),
    ),
    "mail-outside": (
        "name_constraints",
        (leaf(names=[MAIL("a@other.example")]), issuer(constraints=within(MAIL("plants.example"))), root()),
    ),
    "directory-outside": (
        "name_constraints",
        (
            leaf(subject=directory("Other", "press-4")),
            issuer(constraints=within(x509.DirectoryName(directory("Plants")))),
            root(),
        ),
    ),
    "directory-excluded": (
        "name_constraints",
        (
            leaf(subject=directory("PLANTS", "press-4")),
            issuer(constraints=within(out=[x509.DirectoryName(directory("Plants"))])),
            root(),
        ),
    ),
    "kind-that-nobody-compares": (
        "name_constraints",
        (
            leaf(names=[URI(DEVICE), x509.RegisteredID(STRANGE.oid)]),
            issuer(constraints=within(URI("edgewise.internal"), x509.RegisteredID(STRANGE.oid))),
            root(),
        ),
    ),
    "constraints-in-the-leaf": ("name_constraints", (leaf(constraints=within(URI("a.b"))), issuer(), root())),
    # extensions
    "leaf-critical-unknown": ("critical_extension", (leaf(more=[(STRANGE, True)]), issuer(), root())),
    "issuer-critical-unknown": ("critical_extension", (leaf(), issuer(more=[(STRANGE, True)]), root())),
    "root-critical-unknown": ("critical_extension", (leaf(), issuer(), root(more=[(STRANGE, True)]))),
    # strength
    "leaf-rsa-1024": ("weak_key", (leaf(key="rsa1024"), issuer(), root())),
    "leaf-p224": ("weak_key", (leaf(key="p224"), issuer(), root())),
    "leaf-unknown-curve": ("weak_key", (leaf(key="k256"), issuer(), root())),
    "issuer-rsa-1024": ("weak_key", (leaf("rsa1024-i"), issuer("rsa1024-i"), root())),
    "root-rsa-1024": ("weak_key", (leaf("rsa1024-r"), root(name="rsa1024-r"))),
    "leaf-sha1": ("weak_hash", (leaf("rsa2048-i", hash=hashes.SHA224()), issuer("rsa2048-i"), root())),
}


WHOLE = [der(one.make()) for one in GOOD["one-issuer"]]


@pytest.mark.parametrize("case", sorted(GOOD))
def test_a_good_chain_holds_and_names_its_path(case):
    chain = GOOD[case]
    verdict = judge(*chain)
    assert (verdict.code, verdict.reason) == ("ok", "the certificate holds")
    assert verdict.ok
    assert len(verdict.path) == len(chain)


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_bad_chain_is_refused_for_what_is_wrong_with_it(case):
    code, chain = BAD[case]
    verdict = judge(*chain)
    assert not verdict.ok
    assert verdict.code == code, verdict.reason
    assert verdict.reason
    assert (verdict.device, verdict.path) == ("", ())


def test_the_device_is_read_from_its_spiffe_id_and_the_trust_domain_can_be_demanded():
    verdict = judge(*GOOD["one-issuer"], trust_domain="edgewise.internal")
    assert (verdict.site, verdict.device, verdict.spiffe_id) == ("north", "press-4", DEVICE)
    assert judge(*GOOD["one-issuer"], trust_domain="plants.example").code == "identity"
    bare = (leaf(names=[DNS("press-4.example")]), issuer(), root())
    assert judge(*bare).ok, "whose certificate it is does not matter for the chain alone"
    assert judge(*bare, trust_domain="edgewise.internal").code == "identity"


@pytest.mark.parametrize(
    "names",
    [
        [URI(DEVICE), URI(DEVICE)],
        [URI(DEVICE), DNS("press-4.example")],
        [URI(DEVICE + "/more")],
        [URI("https://edgewise.internal/site/north/device/press-4")],
        [URI("spiffe://Edgewise.internal/site/north/device/press-4")],
        [URI("spiffe://edgewise.internal/site/north/device/")],
        [URI("spiffe://edgewise.internal/site/north/device/press%2d4")],
        [URI(DEVICE + "?a=b")],
        None,
    ],
    ids=["twice", "dns-too", "longer-path", "https", "capitals", "no-name", "two-spellings", "query", "nothing"],
)
def test_a_leaf_that_does_not_name_exactly_one_device_is_nobody(names):
    verdict = judge(leaf(names=names), issuer(), root(), trust_domain="edgewise.internal")
    assert not verdict.ok
    assert verdict.code in ("identity", "library")


def test_what_was_taken_back_is_refused_by_list_and_by_number_whoever_it_is():
    low, mid = leaf(serial=77), issuer(serial=0xABC)
    for revoked in (crl("issuer", 77), b"4d\n", b"0x4D", b"77", b'["77"]', b"serial=00:4d # stolen\n"):
        assert judge(low, mid, root(), revoked=revoked).code == "revoked"
    assert judge(low, mid, root(), revoked=crl("root", 0xABC)).code == "revoked"
    assert judge(low, mid, root(), revoked=crl("issuer", 78)).ok
    assert judge(low, mid, root(), revoked=crl("issuer", 78) + crl("root", 0xABC)).code == "revoked"
    assert judge(low, mid, root(), revoked=b"# nothing yet\n").ok
    der_list = x509.load_pem_x509_crl(crl("issuer", 77)).public_bytes(serialization.Encoding.DER)
    assert judge(low, mid, root(), revoked=der_list).code == "revoked"


def test_a_revocation_list_by_others_or_from_the_future_is_no_clean_bill():
    chain = (leaf(serial=77), issuer(), root())
    assert judge(*chain, revoked=crl("issuer", signed_by="thief")).code == "revocation_list"
    assert judge(*chain, revoked=crl("stranger")).code == "revocation_list"
    assert judge(*chain, revoked=crl("issuer", start=NOW + DAY, end=NOW + 2 * DAY)).code == "revocation_list"
    old = crl("issuer", 77, start=NOW - 9 * DAY, end=NOW - 8 * DAY)
    assert judge(*chain, revoked=old).code == "revoked", "what an old list took back stays taken back"
    with pytest.raises(NotValid, match="not a revocation list"):
        read_revoked(b"no such thing")


def test_a_second_path_saves_a_chain_whose_first_is_broken():
    made = {
        one.name + str(n): one.make() for n, one in enumerate([leaf(), issuer(end=NOW - DAY / 2), issuer(), root()])
    }
    old, new = der(made["issuer1"]), der(made["issuer2"])
    args = ([der(made["root3"])], [old, new], der(made["press-40"]), NOW)
    assert verify_device_certificate(*args).ok


def test_loops_and_crowds_of_intermediates_end_soon():
    ring = [issuer("a", "b", serial=n + 1) for n in range(12)] + [issuer("b", "a", serial=n + 1) for n in range(12)]
    between = [der(one.make()) for one in ring]
    verdict = verify_device_certificate([der(root().make())], between, der(leaf("a").make()), NOW)
    assert not verdict.ok
    many = verify_device_certificate([], between * 20, der(leaf("a").make()), NOW)
    assert many.code == "too_many"


def test_a_root_below_the_leaf_is_not_trusted_because_it_was_sent():
    thief = root(name="thief")
    verdict = verify_device_certificate([der(root().make())], [der(thief.make())], der(leaf("thief").make()), NOW)
    assert verdict.code == "unknown_issuer"


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_bytes_that_are_no_certificate_are_refused_and_never_raise(data):
    good, above, trusted = WHOLE
    place = data.draw(st.integers(0, len(good) - 1))
    changed = good[:place] + bytes([data.draw(st.integers(0, 255))]) + good[place + 1 :]
    verdict = verify_device_certificate([trusted], [above], changed, NOW)
    assert verdict.ok == (changed == good), verdict.reason
    cut = verify_device_certificate([trusted], [above], good[:place], NOW)
    assert cut.code == "malformed"


def test_duplicate_extensions_are_malformed():
    one = leaf().make()
    raw = der(one)
    marker = bytes.fromhex("0603551d25")  # the extended key usage becomes a second key usage
    verdict = verify_device_certificate(
        [der(root().make())], [der(issuer().make())], raw.replace(marker, bytes.fromhex("0603551d0f")), NOW
    )
    assert verdict.code == "malformed"


def test_pem_is_split_without_judging_what_is_in_it():
    made = [one.make() for one in GOOD["one-issuer"]]
    assert ders_of(b"text before\n" + pem(*made)) == tuple(der(one) for one in made)
    assert ders_of(der(made[0])) == (der(made[0]),)
    for bad in (b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(NotValid, match="no certificate"):
            ders_of(bad)


def test_the_same_certificate_for_another_key_does_not_pass():
    real, fake = issuer(), issuer(key="thief")
    assert key("issuer") != key("thief")
    assert named("issuer") == real.make().subject == fake.make().subject
    forged = leaf(signed_by="thief")
    assert judge(forged, fake, root()).code in ("unknown_issuer", "signature")
