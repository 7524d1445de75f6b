"""Private keys as PKCS #8 bytes, whatever their algorithm."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from edgewise.wire import NotValid


def read_private_pem(pem: bytes) -> PrivateKeyTypes:
    """The key in these bytes, of any kind: the caller checks that it is the right one.

    Raises:
        NotValid: not an unencrypted private key.
    """
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        text = f"these bytes are not an unencrypted PKCS #8 private key: {error}"
        raise NotValid(text, code="key_invalid") from error


def private_pem(key: PrivateKeyTypes) -> bytes:
    """PKCS #8, not encrypted: who may read the file is the caller's duty."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
