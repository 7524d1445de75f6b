"""ECDSA P-256 keys for certificates: TLS stacks everywhere and most secure elements speak this suite."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from edgewise.trust._pem import private_pem, read_private_pem
from edgewise.wire import NotValid, PublicKey, digest

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, SEC 2 section 2.4.2


class CertificateKey:
    """A private P-256 key of a device, a server or a certificate authority. It never shows its secret in a repr.

    >>> key = CertificateKey.generate(seed=b"for a doctest only")
    >>> CertificateKey.from_pem(key.to_pem()) == key
    True
    """

    __slots__ = ("_key", "_public")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._public = public_record(key.public_key())

    @classmethod
    def generate(cls, seed: bytes | None = None) -> CertificateKey:
        """A new key; None draws it from the operating system, a seed makes it follow, for the simulator and tests.

        Raises:
            NotValid: the seed is empty.
        """
        if seed is None:
            return cls(ec.generate_private_key(ec.SECP256R1()))
        if not seed:
            raise NotValid("the seed of a key is empty, needs at least one byte", code="seed_empty")
        wide = digest(b"edgewise p256 seed 1\0" + seed) + digest(b"edgewise p256 seed 2\0" + seed)
        return cls(ec.derive_private_key(int(wide, 16) % (ORDER - 1) + 1, ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> CertificateKey:
        """The key in these PKCS #8 bytes.

        Raises:
            NotValid: not an unencrypted P-256 key.
        """
        key = read_private_pem(pem)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise NotValid(
                f"the key is a {type(key).__name__}, needs to be ECDSA P-256; make a new one", code="key_invalid"
            )
        return cls(key)

    def to_pem(self) -> bytes:
        """PKCS #8, not encrypted: who may read the file is the caller's duty."""
        return private_pem(self._key)

    @property
    def public(self) -> PublicKey:
        """Base64 of the SubjectPublicKeyInfo in DER, and its SHA-256."""
        return self._public

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        """The key itself, for the X.509 library."""
        return self._key

    def sign(self, message: bytes) -> bytes:
        """A DER signature, ECDSA with SHA-256."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CertificateKey) and other._public == self._public

    def __hash__(self) -> int:
        return hash(self._public.keyid)

    def __repr__(self) -> str:
        return f"CertificateKey(keyid={self._public.keyid[:16]}…)"


def public_record(key: PublicKeyTypes) -> PublicKey:
    """A public key as a record that may travel.

    Raises:
        NotValid: not a P-256 key.
    """
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        what = f"EC {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
        raise NotValid(f"the public key is {what}, needs to be ECDSA P-256", code="key_invalid")
    raw = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(keyid=digest(raw), public=base64.b64encode(raw).decode())
