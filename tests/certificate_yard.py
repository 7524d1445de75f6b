"""Makes certificates good and bad, so that a test states only what is wrong with one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
URI = x509.UniformResourceIdentifier
DEVICE = "spiffe://edgewise.internal/site/north/device/press-4"
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
STRANGE = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")


def usage(**yes: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: yes.get(name, False) for name in names.split()})


SIGNS, SPEAKS = usage(key_cert_sign=True, crl_sign=True), usage(digital_signature=True)
_KEYS: dict[str, Any] = {}


def key(name: str) -> Any:
    """A key by name: made once for all tests. `rsa1024` and `rsa2048` are RSA, `p224` is a weak curve."""
    if name not in _KEYS:
        kind = name.partition("-")[0]
        _KEYS[name] = {
            "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
            "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
            "p224": lambda: ec.generate_private_key(ec.SECP224R1()),
            "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
            "k256": lambda: ec.generate_private_key(ec.SECP256K1()),
        }.get(kind, lambda: ec.generate_private_key(ec.SECP256R1()))()
    return _KEYS[name]


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


@dataclass
class Cert:
    """One certificate to be. `None` in an extension's place leaves it out."""

    name: str
    issuer: str = ""
    key: str = ""
    signed_by: str = ""
    above_key: str = ""  # named as the issuer's; its own where not given
    ca: bool | None = False
    path_length: int | None = None
    usage: x509.KeyUsage | None = SPEAKS
    purposes: list[ObjectIdentifier] | None = None
    names: list[x509.GeneralName] | None = None
    constraints: x509.NameConstraints | None = None
    start: datetime = NOW - DAY
    end: datetime = NOW + 9 * DAY
    serial: int = 0
    more: list[tuple[x509.ExtensionType, bool]] = field(default_factory=list)
    hash: Any = field(default_factory=hashes.SHA256)
    subject: x509.Name | None = None

    def make(self) -> x509.Certificate:
        issuer = self.issuer or self.name
        mine, theirs = key(self.key or self.name), key(self.signed_by or issuer)
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(self.name) if self.subject is None else self.subject)
            .issuer_name(named(issuer))
            .public_key(mine.public_key())
            .serial_number(self.serial or x509.random_serial_number())
            .not_valid_before(self.start)
            .not_valid_after(self.end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(mine.public_key()), critical=False)
        )
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(key(self.above_key or issuer).public_key())
        builder = builder.add_extension(above, critical=False)
        extensions: list[tuple[Any, bool]] = [
            (None if self.ca is None else x509.BasicConstraints(self.ca, self.path_length), True),
            (self.usage, True),
            (x509.ExtendedKeyUsage(self.purposes) if self.purposes else None, False),
            (x509.SubjectAlternativeName(self.names) if self.names else None, self.subject is not None),
            (self.constraints, True),
            *self.more,
        ]
        for one, critical in extensions:
            if one is not None:
                builder = builder.add_extension(one, critical=critical)
        return builder.sign(theirs, self.hash)


def root(**changes: Any) -> Cert:
    return Cert(**{"name": "root", "ca": True, "usage": SIGNS} | changes)


def issuer(name: str = "issuer", above: str = "root", **changes: Any) -> Cert:
    return Cert(**{"name": name, "issuer": above, "ca": True, "usage": SIGNS} | changes)


def leaf(above: str = "issuer", **changes: Any) -> Cert:
    return Cert(**{"name": "press-4", "issuer": above, "purposes": [CLIENT], "names": [URI(DEVICE)]} | changes)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def crl(by: str, *serials: int, signed_by: str = "", start: datetime = NOW - DAY, end: datetime = NOW + DAY) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(named(by)).last_update(start).next_update(end)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(key(signed_by or by), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
