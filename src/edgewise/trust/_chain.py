"""Whether a device's certificate may be believed, and if not, which one fact speaks against it.

Every check of RFC 5280 section 6 that a device certificate can meet is made here and named, so that a person learns
what to change. The X.509 library's own verifier is the second opinion: both must agree. It cannot judge name
constraints on URIs and directory names, and it counts self-issued authorities against RFC 5280 section 4.2.1.9; chains
with either are judged here alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from edgewise.trust._device_id import device_id_of
from edgewise.trust._name_constraints import broken_constraint
from edgewise.trust._revocation import Revoked, revoked_by
from edgewise.wire import NotTrusted

DEPTH_MAX = 8  # certificates of a path
PATHS_MAX = 64  # tried; more candidates are an attack, not a fleet
CERTIFICATES_MAX = 200
RSA_BITS_MIN = 2048
CURVES = ("secp256r1", "secp384r1", "secp521r1")
HASHES = ("sha256", "sha384", "sha512")
SERIAL_BITS_MAX = 160
UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.NameConstraints,
    x509.CertificatePolicies,
)


class _Broken(Exception):
    """One check failed."""

    def __init__(self, code: str, reason: str, certificate: x509.Certificate | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.certificate = certificate


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainVerdict:
    """What was found.

    Attributes:
        code: ``ok``, or the check that failed: ``malformed``, ``validity``, ``signature``, ``unknown_issuer``,
            ``basic_constraints``, ``path_length``, ``key_usage``, ``extended_key_usage``, ``name_constraints``,
            ``critical_extension``, ``weak_key``, ``weak_hash``, ``revoked``, ``revocation_list``, ``identity``,
            ``too_many``, ``library``.
        certificate: subject of the certificate that failed.
        path: subjects from the leaf to the root, where a path holds.
    """

    ok: bool
    code: str
    reason: str
    certificate: str = ""
    spiffe_id: str = ""
    site: str = ""
    device: str = ""
    serial: str = ""
    not_after: datetime | None = None
    path: tuple[str, ...] = field(default=())


def verify_device_certificate(
    roots: Sequence[bytes],
    intermediates: Sequence[bytes],
    leaf: bytes,
    time: datetime,
    revoked: Revoked | None = None,
    *,
    trust_domain: str | None = None,
) -> ChainVerdict:
    """Judge a device's certificate; never raises for what the certificates hold.

    Args:
        roots, intermediates, leaf: certificates in DER.
        time: the moment to judge for, with its zone.
        revoked: what was taken back.
        trust_domain: the leaf must name exactly one device of this domain; None reads a name where there is one.
    """
    loaded: x509.Certificate | None = None
    try:
        if len(roots) + len(intermediates) > CERTIFICATES_MAX:
            raise _Broken("too_many", f"{len(roots) + len(intermediates)} certificates, at most {CERTIFICATES_MAX}")
        loaded = _load(leaf, "the leaf")
        anchors = [_load(one, "a root") for one in roots]
        # An intermediate that cannot be read is no help and no harm: a stranger may have put it there.
        between = [one for one in map(_load_or_none, intermediates) if one is not None]
        path = _believable(loaded, between, anchors, time.astimezone(UTC), revoked or Revoked())
        who = _identity(loaded, trust_domain)
    except _Broken as error:
        about = error.certificate or loaded
        return ChainVerdict(
            ok=False,
            code=error.code,
            reason=str(error),
            certificate="" if about is None else _name(about),
            serial="" if loaded is None else f"{loaded.serial_number:x}",
        )
    return ChainVerdict(
        ok=True,
        code="ok",
        reason="the certificate holds",
        serial=f"{loaded.serial_number:x}",
        not_after=loaded.not_valid_after_utc,
        path=tuple(_name(one) for one in path),
        **who,
    )


def _believable(
    leaf: x509.Certificate,
    between: list[x509.Certificate],
    anchors: list[x509.Certificate],
    now: datetime,
    revoked: Revoked,
) -> list[x509.Certificate]:
    _check_leaf(leaf, now)
    first: _Broken | None = None
    for tried, path in enumerate(_paths([leaf], between, anchors)):
        if tried >= PATHS_MAX:
            raise _Broken("too_many", f"over {PATHS_MAX} possible paths; name fewer intermediates", leaf)
        try:
            _check_path(path, now, revoked)
            _second_opinion(path, now)
        except _Broken as error:
            # The path tried first is the most direct one, and what it lacks is what a person can act on.
            first = first or error
            continue
        return path
    raise first or _Broken(
        "unknown_issuer",
        f"no certificate of {leaf.issuer.rfc4514_string() or 'an unnamed issuer'} leads to a root",
        leaf,
    )


def _paths(
    path: list[x509.Certificate], between: list[x509.Certificate], anchors: list[x509.Certificate]
) -> Iterator[list[x509.Certificate]]:
    """Every way from the leaf to a root by names and key identifiers, the shortest first at each step."""
    last = path[-1]
    for root in anchors:
        if root.subject == last.issuer and _identifiers_meet(last, root):
            yield [*path, root]
    if len(path) >= DEPTH_MAX - 1:
        return
    for one in between:
        if one.subject == last.issuer and one not in path and _identifiers_meet(last, one):
            yield from _paths([*path, one], between, anchors)


def _identifiers_meet(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        wanted = below.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        found = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return True
    return wanted is None or wanted == found


def _check_path(path: list[x509.Certificate], now: datetime, revoked: Revoked) -> None:
    leaf, above = path[0], path[1:]
    for one in above:
        _check_strength(one, is_root=one is path[-1])
        _check_validity(one, now)
    for below, issuer in zip(path, above, strict=False):
        _check_signature(below, issuer)
    for place, authority in enumerate(above):
        _check_authority(authority, path[1 : place + 1])
    for place, authority in enumerate(above, start=1):
        _check_constraints(authority, path[:place], leaf)
    taken_back = revoked_by(path, revoked, now)
    if taken_back is not None:
        raise _Broken(taken_back.code, taken_back.reason, taken_back.certificate)


def _check_leaf(leaf: x509.Certificate, now: datetime) -> None:
    _check_strength(leaf)
    _check_validity(leaf, now)
    _check_critical(leaf)
    basic = _extension(leaf, x509.BasicConstraints)
    if basic is not None and basic.ca:
        raise _Broken("basic_constraints", "the leaf is a certificate authority's, needs to be a device's own", leaf)
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and (usage.key_cert_sign or not usage.digital_signature):
        raise _Broken("key_usage", "the leaf's key usage needs digitalSignature, without keyCertSign", leaf)
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        seen = "none" if purposes is None else ", ".join(one.dotted_string for one in purposes)
        raise _Broken("extended_key_usage", f"the leaf is for {seen}, needs clientAuth (1.3.6.1.5.5.7.3.2)", leaf)
    if _extension(leaf, x509.NameConstraints) is not None:
        raise _Broken("name_constraints", "name constraints belong into an authority's certificate, not a leaf", leaf)


def _check_authority(authority: x509.Certificate, below: list[x509.Certificate]) -> None:
    """`below`: the authorities between this one and the leaf."""
    _check_critical(authority)
    basic = _extension(authority, x509.BasicConstraints)
    if basic is None or not basic.ca:
        raise _Broken("basic_constraints", f"{_name(authority)} is no certificate authority but issued one", authority)
    counted = sum(one.subject != one.issuer for one in below)
    if basic.path_length is not None and counted > basic.path_length:
        raise _Broken(
            "path_length", f"{_name(authority)} allows {basic.path_length} authorities below, seen {counted}", authority
        )
    usage = _extension(authority, x509.KeyUsage)
    if usage is None or not usage.key_cert_sign:
        raise _Broken("key_usage", f"{_name(authority)} may not sign certificates: keyCertSign is missing", authority)
    purposes = _extension(authority, x509.ExtendedKeyUsage)
    allowed = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if purposes is not None and not any(one in purposes for one in allowed):
        raise _Broken("extended_key_usage", f"{_name(authority)} may not issue clientAuth certificates", authority)


def _check_constraints(authority: x509.Certificate, below: list[x509.Certificate], leaf: x509.Certificate) -> None:
    constraints = _extension(authority, x509.NameConstraints)
    if constraints is None:
        return
    for one in below:
        if one is not leaf and one.subject == one.issuer:
            continue
        broken = broken_constraint(constraints, one)
        if broken is not None:
            raise _Broken("name_constraints", f"{broken}, as {_name(authority)} demands", one)


def _check_strength(certificate: x509.Certificate, *, is_root: bool = False) -> None:
    if certificate.version is not x509.Version.v3:
        raise _Broken("malformed", f"a certificate of version {certificate.version.name}, needs v3", certificate)
    if not 0 < certificate.serial_number.bit_length() <= SERIAL_BITS_MAX or certificate.serial_number <= 0:
        raise _Broken("malformed", "the serial number needs to be positive with at most 20 bytes", certificate)
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < RSA_BITS_MIN:
            raise _Broken("weak_key", f"an RSA key of {key.key_size} bits, needs {RSA_BITS_MIN}", certificate)
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        what = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
        raise _Broken("weak_key", f"a key of kind {what}, needs RSA or EC on {', '.join(CURVES)}", certificate)
    used = certificate.signature_hash_algorithm
    # A root is trusted for its key: the signature that it put under itself proves nothing.
    if not is_root and (not isinstance(used, hashes.HashAlgorithm) or used.name not in HASHES):
        seen = "none" if used is None else used.name
        raise _Broken("weak_hash", f"signed over the hash {seen}, needs one of {', '.join(HASHES)}", certificate)


def _check_validity(certificate: x509.Certificate, now: datetime) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < start:
        raise _Broken("validity", f"not valid before {start.isoformat()}, the time is {now.isoformat()}", certificate)
    if now > end:
        raise _Broken("validity", f"expired at {end.isoformat()}, the time is {now.isoformat()}", certificate)


def _check_signature(below: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        below.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm) as error:
        detail = f": {error}" if str(error) else ""
        raise _Broken("signature", f"{_name(below)} is not signed by {_name(issuer)}{detail}", below) from error


def _check_critical(certificate: x509.Certificate) -> None:
    for one in certificate.extensions:
        if one.critical and not isinstance(one.value, UNDERSTOOD):
            raise _Broken(
                "critical_extension", f"the critical extension {one.oid.dotted_string} is not understood", certificate
            )


def _second_opinion(path: list[x509.Certificate], now: datetime) -> None:
    if any(_beyond_library(one) for one in path) or any(one.subject == one.issuer for one in path[1:-1]):
        return
    store = verification.Store([path[-1]])
    verifier = verification.PolicyBuilder().store(store).time(now).max_chain_depth(DEPTH_MAX).build_client_verifier()
    try:
        verifier.verify(path[0], path[1:-1])
    except (verification.VerificationError, ValueError) as error:
        raise _Broken("library", f"the X.509 library refuses the path: {error}", path[0]) from error


def _beyond_library(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.NameConstraints)
    if constraints is None:
        return False
    trees = [*(constraints.permitted_subtrees or []), *(constraints.excluded_subtrees or [])]
    return any(isinstance(one, x509.UniformResourceIdentifier | x509.DirectoryName) for one in trees)


def _identity(leaf: x509.Certificate, trust_domain: str | None) -> dict[str, Any]:
    try:
        name = device_id_of(leaf)
    except NotTrusted as error:
        if trust_domain is None:
            return {}
        raise _Broken("identity", str(error), leaf) from error
    if trust_domain not in (None, name.trust_domain):
        raise _Broken("identity", f"the device is of {name.trust_domain}, needs {trust_domain}", leaf)
    return {"spiffe_id": name.uri, "site": name.site, "device": name.device}


def _load(data: bytes, what: str) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(data)
        list(certificate.extensions)
        certificate.public_key()
        _ = certificate.signature_hash_algorithm
        _ = (certificate.subject, certificate.issuer, certificate.serial_number)
    except Exception as error:  # the parser raises many kinds; all mean the same here
        raise _Broken("malformed", f"{what} cannot be read: {error}") from error
    return certificate


def _load_or_none(data: bytes) -> x509.Certificate | None:
    try:
        return _load(data, "an intermediate")
    except _Broken:
        return None


def _extension(certificate: x509.Certificate, kind: Any) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"certificate {certificate.serial_number:x}"
