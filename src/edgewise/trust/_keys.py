"""ed25519 keys: the only module that knows the algorithm, so that another one needs a change here alone."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgewise.trust._pem import private_pem, read_private_pem
from edgewise.wire import NotTrusted, NotValid, PublicKey, digest

KEY_BYTES = 32
SIGNATURE_BYTES = 64


class PrivateKey:
    """A signing key. It never shows its secret in a log, a message or a repr.

    >>> key = PrivateKey.generate(seed=b"for a doctest only")
    >>> verifies(key.public, key.sign(b"hello"), b"hello")
    True
    >>> PrivateKey.from_pem(key.to_pem()) == key
    True
    """

    __slots__ = ("_key", "_public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        raw = key.public_key().public_bytes_raw()
        self._key = key
        self._public = PublicKey(keyid=digest(raw), public=base64.b64encode(raw).decode())

    @classmethod
    def generate(cls, seed: bytes | None = None) -> PrivateKey:
        """A new key.

        Args:
            seed: bytes from which the key follows, for the simulator and for tests: the key is exactly as secret as
                they are. None draws from the operating system.
        Raises:
            NotValid: the seed is empty.
        """
        if seed is None:
            return cls(Ed25519PrivateKey.generate())
        if not seed:
            raise NotValid(
                "the seed of a key is empty, needs at least one byte; pass None for a random key", code="seed_empty"
            )
        # Hashed under a name of its own: a seed of any length serves, and no other use of it gives the same bytes.
        return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(digest(b"edgewise ed25519 seed\0" + seed))))

    @classmethod
    def from_pem(cls, pem: bytes) -> PrivateKey:
        """The key in these PKCS #8 bytes.

        Raises:
            NotValid: not an unencrypted ed25519 key.
        """
        key = read_private_pem(pem)
        if not isinstance(key, Ed25519PrivateKey):
            raise NotValid(
                f"the key is a {type(key).__name__}, needs to be ed25519; make a new one", code="key_invalid"
            )
        return cls(key)

    def to_pem(self) -> bytes:
        """PKCS #8, not encrypted: who may read the file is the caller's duty (``ports.FolderKeys`` writes it 0600)."""
        return private_pem(self._key)

    @property
    def public(self) -> PublicKey:
        """The public half, as a record that may travel."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of the message; the same message always gives the same one (RFC 8032)."""
        return self._key.sign(message)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateKey) and other._public == self._public

    def __hash__(self) -> int:
        return hash(self._public.keyid)

    def __repr__(self) -> str:
        return f"PrivateKey(keyid={self._public.keyid[:16]}…)"


def verifies(public: PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether this key made this signature over this message.

    Raises:
        NotTrusted: the record is not a key, or its keyid is not the SHA-256 of its bytes. One key under two ids would
            otherwise count twice towards a threshold.
    """
    raw = unbase64(public.public, "a public key")
    if len(raw) != KEY_BYTES or digest(raw) != public.keyid:
        raise NotTrusted(
            f"public key {public.keyid[:16]}… has {len(raw)} bytes with SHA-256 {digest(raw)[:16]}…; needs "
            f"{KEY_BYTES} bytes whose SHA-256 is the keyid; get the trust root again from its owner",
            code="key_mismatch",
        )
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
    except InvalidSignature:
        return False
    except ValueError as error:
        raise NotTrusted(
            f"public key {public.keyid[:16]}… is not a point of the curve: {error}", code="key_mismatch"
        ) from error
    return True


def unbase64(text: str, what: str) -> bytes:
    """Bytes of strict base64.

    Raises:
        NotTrusted: not base64. It is refused rather than repaired: two readings of one text would be two contents.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotTrusted(f"{what} is not base64: {error}", code="base64_invalid") from error
