"""Certificates that were taken back: by revocation lists (X.509 CRLs) or plain serial numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from edgewise.wire import NotValid

LIST_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Revoked:
    """What was taken back.

    Attributes:
        lists: CRLs; one must be signed by an authority of the path that is judged.
        serials: serial numbers, of any issuer.
    """

    lists: tuple[x509.CertificateRevocationList, ...] = ()
    serials: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class TakenBack:
    code: str  # "revoked", or "revocation_list" where the list itself cannot be believed
    reason: str
    certificate: x509.Certificate


def read_revoked(data: bytes) -> Revoked:
    """A CRL in PEM or DER, several in PEM, or serial numbers as text (hexadecimal or decimal, one a line).

    Raises:
        NotValid: none of these.

    >>> sorted(read_revoked(b"0x1f\\n").serials)
    [31]
    """
    if len(data) > LIST_BYTES_MAX:
        raise NotValid(f"the revocation list has {len(data)} bytes, at most {LIST_BYTES_MAX}", code="too_big")
    try:
        if b"-----BEGIN X509 CRL-----" in data:
            ends = re.findall(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", data, re.DOTALL)
            return Revoked(lists=tuple(x509.load_pem_x509_crl(one + b"\n") for one in ends))
        if (data[:1] == b"\x30" and not data[:40].isascii()) or data[:2] in (b"\x30\x81", b"\x30\x82", b"\x30\x83"):
            return Revoked(lists=(x509.load_der_x509_crl(data),))
        return Revoked(serials=_serials(data.decode()))
    except (ValueError, UnicodeDecodeError) as error:
        raise NotValid(
            f"not a revocation list: {error}; needs a CRL in PEM or DER, or serial numbers, one a line",
            code="revocation_list",
        ) from error


def revoked_by(path: Sequence[x509.Certificate], revoked: Revoked, now: datetime) -> TakenBack | None:
    """The first certificate of a path, leaf first, that was taken back; None where none was.

    A list that is past its next update still counts, for what it names was taken back; one from the future is refused.
    """
    for certificate in path[:-1]:
        if certificate.serial_number in revoked.serials:
            return TakenBack("revoked", f"serial {certificate.serial_number:x} was revoked", certificate)
    spoken = 0
    for one in revoked.lists:
        for certificate, issuer in pairwise(path):
            if one.issuer != certificate.issuer:
                continue
            key = issuer.public_key()
            if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) or not one.is_signature_valid(key):
                return TakenBack("revocation_list", "the revocation list is not signed by its issuer", issuer)
            if one.last_update_utc > now:
                return TakenBack("revocation_list", f"the revocation list is of {one.last_update_utc}", issuer)
            spoken += 1
            entry = one.get_revoked_certificate_by_serial_number(certificate.serial_number)
            if entry is not None:
                text = f"serial {certificate.serial_number:x} was revoked at {entry.revocation_date_utc.isoformat()}"
                return TakenBack("revoked", text, certificate)
    if revoked.lists and not spoken:
        names = ", ".join(one.issuer.rfc4514_string() for one in revoked.lists)[:200]
        return TakenBack("revocation_list", f"no authority of the path made the revocation list of {names}", path[0])
    return None


def _serials(text: str) -> frozenset[int]:
    """Each number in both readings where it has two: a serial that may be meant is one that was taken back."""
    found: set[int] = set()
    for line in text.splitlines():
        for word in re.split(r"[\s,;\[\]\"']+", line.partition("#")[0]):
            plain = word.lower().removeprefix("serial=").replace(":", "")
            if not plain:
                continue
            found.add(int(plain.removeprefix("0x"), 16))
            if plain.isdecimal():
                found.add(int(plain))
    return frozenset(found)
