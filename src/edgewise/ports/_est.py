"""Enrolment over EST (RFC 7030), from the device's side."""

from __future__ import annotations

import base64
import binascii

from edgewise.ports._credentials import Credentials, tls_context
from edgewise.ports._http import ask, client
from edgewise.ports.api import API
from edgewise.trust import fingerprint, unpack_certificates
from edgewise.wire import NotTrusted, NotValid

EST = "/.well-known/est"
TIMEOUT_S = 20.0


def split_token(token: str) -> tuple[str, str]:
    """The secret of an enrolment token and the fingerprint of the hub's root.

    Raises:
        NotValid: not both are there.

    >>> split_token("ew_x." + "0" * 64)[0]
    'ew_x'
    """
    secret, _, wanted = token.strip().partition(".")
    if not secret or len(wanted) != 64 or not set(wanted) <= set("0123456789abcdef"):
        raise NotValid(
            "this is not an enrolment token; needs ew_SECRET.FINGERPRINT as `edgewise hub enrol-token` prints it",
            code="token_malformed",
        )
    return secret, wanted


def pin_root(credentials: Credentials, url: str, wanted: str, *, timeout_s: float = TIMEOUT_S) -> None:
    """Fetch the hub's root from anybody, and believe it only because it is the one that the token names.

    Raises:
        NotTrusted: whoever answers has another root; nothing was sent but the question.
        LinkDown, Refused: as every call of a link.
    """
    with client(url, tls_context(None), timeout_s) as http:
        found = _certificates(ask(http, url, "GET", f"{EST}/cacerts"))
    for one in found:
        if fingerprint(one) == wanted:
            credentials.pin(one)
            return
    seen = ", ".join(f"{fingerprint(one)[:16]}…" for one in found) or "none"
    raise NotTrusted(
        f"whoever answers at {url} is not the hub of this token: its certificates are {seen}, the token names "
        f"{wanted[:16]}…; check the address, and who sits between",
        code="hub_wrong",
    )


def first_certificate(
    credentials: Credentials, url: str, secret: str, *, wish: str = "", timeout_s: float = TIMEOUT_S
) -> None:
    """Exchange a one-time token for a certificate, over a connection that only the pinned hub can have.

    Raises:
        NotTrusted: the token is not valid, or the answer does not hold. LinkDown, Refused: as every call of a link.
    """
    basic = base64.b64encode(b"device:" + secret.encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    _ask_certificate(credentials, url, "simpleenroll", headers, wish, timeout_s, with_certificate=False)


def next_certificate(
    credentials: Credentials, url: str, *, with_certificate: bool, timeout_s: float = TIMEOUT_S
) -> None:
    """A new certificate for the same key.

    Args:
        with_certificate: show the present one; without it, within the hub's grace after its end, the request signed
            with the key is enough.
    Raises:
        NotTrusted: the hub refuses, or its answer does not hold. LinkDown, Refused: as every call of a link.
    """
    _ask_certificate(credentials, url, "simplereenroll", {}, "", timeout_s, with_certificate=with_certificate)


def fetch_identity(credentials: Credentials, url: str, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """What the device must know beyond its certificate: JSON with ``device``, ``site``, ``usecase``, ``root``, …"""
    with client(url, credentials.context(), timeout_s) as http:
        return ask(http, url, "GET", f"{API}/identity")


def _ask_certificate(
    credentials: Credentials,
    url: str,
    what: str,
    headers: dict[str, str],
    wish: str,
    timeout_s: float,
    *,
    with_certificate: bool,
) -> None:
    body = base64.encodebytes(credentials.request(wish))
    headers = headers | {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
    with client(url, credentials.context(with_certificate=with_certificate), timeout_s) as http:
        answer = ask(http, url, "POST", f"{EST}/{what}", body, headers)
    credentials.take(_certificates(answer))


def _certificates(answer: bytes) -> tuple[bytes, ...]:
    try:
        return unpack_certificates(base64.b64decode(b"".join(answer.split()), validate=True))
    except (binascii.Error, ValueError) as error:
        raise NotTrusted(f"the hub's certificates are not base64: {error}", code="certificate_invalid") from error
