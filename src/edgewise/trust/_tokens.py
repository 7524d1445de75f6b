"""Bearer tokens: shown once, stored only as their hash."""

from __future__ import annotations

import base64

from edgewise.wire import NotValid, digest

TOKEN_BYTES_MIN = 16


def new_token(random_bytes: bytes) -> str:
    """A token of these bytes, which must come from a source of chance fit for secrets.

    Raises:
        NotValid: fewer than 16 bytes, which could be guessed.

    >>> new_token(bytes(16))
    'ew_AAAAAAAAAAAAAAAAAAAAAA'
    """
    if len(random_bytes) < TOKEN_BYTES_MIN:
        raise NotValid(
            f"a token was asked for from {len(random_bytes)} random bytes, needs at least {TOKEN_BYTES_MIN}",
            code="token_weak",
        )
    return "ew_" + base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode()


def token_digest(token: str) -> str:
    """What to store and look up: SHA-256 of the token. It is random already, so no slow hash is needed.

    >>> token_digest("ew_x") == digest(b"ew_x")
    True
    """
    return digest(token.strip().encode())
