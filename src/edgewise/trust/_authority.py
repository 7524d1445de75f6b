"""The hub's certificate authority: a root, one issuer for devices and one for servers, and what they issue."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgewise.trust._certificate_keys import CertificateKey, public_record
from edgewise.trust._device_id import DeviceId
from edgewise.wire import NotTrusted, NotValid, PublicKey, digest

PEM_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateLimits:
    """Every span and size of certificates, in one place."""

    root_days: float = 20 * 365.25
    issuer_days: float = 10 * 365.25
    server_days: float = 30
    device_days: float = 7
    device_days_max: float = 90
    renew_at_share: float = 2 / 3  # of a certificate's life
    skew_s: float = 900  # a certificate begins so much earlier, for clocks that are behind
    grace_days: float = 90  # after the end, in which a device may still enrol again with its old key
    request_bytes_max: int = 16 << 10
    server_names_max: int = 50


@dataclass(frozen=True, slots=True)
class Request:
    """A certificate signing request whose signature holds: the sender has the private key."""

    public: PublicKey
    common_name: str


def make_request(key: CertificateKey, common_name: str = "") -> bytes:
    """PKCS #10 in DER, signed with the key.

    Args:
        common_name: the name wished for; the hub's token decides.
    """
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    return builder.sign(key.private, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def open_request(data: bytes) -> Request:
    """What a signing request asks for; names and extensions that it wishes are not taken over.

    Raises:
        NotValid: not a PKCS #10 request, or not for a P-256 key.
        NotTrusted: it is not signed with the key that it is for.
    """
    try:
        request = x509.load_der_x509_csr(data)
        holds, key = request.is_signature_valid, request.public_key()
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        wish = str(names[0].value) if names else ""
    except Exception as error:
        raise NotValid(f"this is not a certificate signing request (PKCS #10): {error}", code="csr_invalid") from error
    public = public_record(key)
    if not holds:
        raise NotTrusted("the request is not signed with the key that it is for", code="csr_signature")
    return Request(public=public, common_name=wish)


def new_root(key: CertificateKey, *, trust_domain: str, now: datetime, limits: CertificateLimits) -> bytes:
    """A root certificate in DER, signed by itself."""
    builder = _builder(f"edgewise root of {trust_domain}", None, key.public, now, limits.root_days, limits)
    builder = _as_authority(builder, path_length=1)
    return _signed(builder, key, key.private.public_key())


def new_issuer(
    key: CertificateKey,
    *,
    root: bytes,
    root_key: CertificateKey,
    kind: str,
    trust_domain: str,
    now: datetime,
    limits: CertificateLimits,
) -> bytes:
    """An issuing certificate in DER.

    Args:
        kind: ``devices``: may only issue client certificates with names of this trust domain; ``servers``: may only
            issue server certificates. A stolen key of one can never speak as the other.
    """
    above = x509.load_der_x509_certificate(root)
    builder = _builder(
        f"edgewise {kind} of {trust_domain}", above.subject, key.public, now, limits.issuer_days, limits, within=above
    )
    builder = _as_authority(builder, path_length=0)
    builder = builder.add_extension(x509.ExtendedKeyUsage([CLIENT if kind == "devices" else SERVER]), critical=False)
    if kind == "devices":
        constraints = x509.NameConstraints([x509.UniformResourceIdentifier(trust_domain)], None)
        builder = builder.add_extension(constraints, critical=True)
    return _signed(builder, root_key, root_key.private.public_key())


def issue_device(
    public: PublicKey,
    name: DeviceId,
    *,
    issuer: bytes,
    issuer_key: CertificateKey,
    now: datetime,
    limits: CertificateLimits,
) -> bytes:
    """A device's certificate in DER, good for ``limits.device_days``.

    Raises:
        NotValid: the limits ask for a longer life than they allow.
    """
    if not 0 < limits.device_days <= limits.device_days_max:
        raise NotValid(
            f"device certificates for {limits.device_days:g} days: needs more than 0 and at most "
            f"{limits.device_days_max:g}",
            code="certificate_days",
        )
    above = x509.load_der_x509_certificate(issuer)
    builder = _builder(name.device[:64], above.subject, public, now, limits.device_days, limits, within=above)
    builder = _as_leaf(builder, CLIENT, [x509.UniformResourceIdentifier(name.uri)])
    return _signed(builder, issuer_key, issuer_key.private.public_key())


def issue_server(
    public: PublicKey,
    names: Sequence[str],
    *,
    issuer: bytes,
    issuer_key: CertificateKey,
    now: datetime,
    limits: CertificateLimits,
) -> bytes:
    """A server's certificate in DER for host names and IP addresses.

    Raises:
        NotValid: no names, too many, or one that is neither.
    """
    if not 0 < len(names) <= limits.server_names_max:
        raise NotValid(
            f"{len(names)} names for the hub, needs from 1 to {limits.server_names_max}", code="names_invalid"
        )
    above = x509.load_der_x509_certificate(issuer)
    hosts = [_host(name) for name in names]
    builder = _builder(names[0][:64], above.subject, public, now, limits.server_days, limits, within=above)
    builder = _as_leaf(builder, SERVER, hosts)
    return _signed(builder, issuer_key, issuer_key.private.public_key())


def pem_of(*certificates: bytes) -> bytes:
    """DER certificates as one PEM text."""
    return b"".join(
        x509.load_der_x509_certificate(one).public_bytes(serialization.Encoding.PEM) for one in certificates
    )


def ders_of(data: bytes) -> tuple[bytes, ...]:
    """The certificates of a PEM text in DER, not looked into; other bytes are one certificate in DER.

    Raises:
        NotValid: a PEM text without a certificate.
    """
    blocks = PEM_BLOCK.findall(data)
    if not blocks and (b"-----BEGIN" in data or data.isascii()):
        raise NotValid("there is no certificate in PEM in these bytes", code="certificate_invalid")
    try:
        return tuple(base64.b64decode(b"".join(block.split()), validate=True) for block in blocks) or (data,)
    except binascii.Error as error:
        raise NotValid(f"a certificate in PEM is not base64: {error}", code="certificate_invalid") from error


def pack_certificates(certificates: Sequence[bytes]) -> bytes:
    """DER certificates as a certs-only PKCS #7 message in DER, as EST answers (RFC 7030 section 4.1.3)."""
    loaded = [x509.load_der_x509_certificate(one) for one in certificates]
    return pkcs7.serialize_certificates(loaded, serialization.Encoding.DER)


def unpack_certificates(data: bytes) -> tuple[bytes, ...]:
    """The DER certificates of a certs-only PKCS #7 message.

    Raises:
        NotTrusted: it is none.
    """
    try:
        found = pkcs7.load_der_pkcs7_certificates(data)
    except Exception as error:
        raise NotTrusted(f"the hub's certificates are not PKCS #7: {error}", code="certificate_invalid") from error
    return tuple(one.public_bytes(serialization.Encoding.DER) for one in found)


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a DER certificate, 64 hexadecimal characters."""
    return digest(certificate)


def validity_of(certificate: bytes) -> tuple[datetime, datetime]:
    """From when to when a DER certificate holds."""
    loaded = x509.load_der_x509_certificate(certificate)
    return loaded.not_valid_before_utc, loaded.not_valid_after_utc


def key_of(certificate: bytes) -> PublicKey:
    """The key that a DER certificate is for. NotValid: not P-256."""
    return public_record(x509.load_der_x509_certificate(certificate).public_key())


def _builder(
    common_name: str,
    issuer: x509.Name | None,
    public: PublicKey,
    now: datetime,
    days: float,
    limits: CertificateLimits,
    *,
    within: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    key = serialization.load_der_public_key(base64.b64decode(public.public))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    start = now.astimezone(UTC).replace(microsecond=0) - timedelta(seconds=limits.skew_s)
    end = now.astimezone(UTC).replace(microsecond=0) + timedelta(days=days)
    if within is not None:  # a certificate that outlives its issuer breaks chains on the day nobody looks
        start, end = max(start, within.not_valid_before_utc), min(end, within.not_valid_after_utc)
    if start >= end:
        raise NotValid(f"the issuing certificate ended at {end.isoformat()}; renew it", code="issuer_expired")
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _as_authority(builder: x509.CertificateBuilder, *, path_length: int) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.add_extension(_usage(signs=True), critical=True)


def _as_leaf(
    builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier, names: Sequence[x509.GeneralName]
) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: CertificateKey, public: ec.EllipticCurvePublicKey) -> bytes:
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    return builder.sign(key.private, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        if not name or "/" in name or ":" in name or " " in name:
            raise ValueError("needs letters, digits, '-' and '.'")
        return x509.DNSName(name)
    except ValueError as error:
        raise NotValid(f"{name[:80]!r} is neither a host name nor an address: {error}", code="names_invalid") from error
