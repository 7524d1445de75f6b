"""The certificate of whoever is at the other end: from the connection itself, or by the word of a known proxy."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

from starlette.types import Scope

from edgewise.trust import ders_of
from edgewise.wire import NotTrusted, NotValid

FORWARDED = b"x-forwarded-client-cert"
FORWARDED_CHARACTERS_MAX = 32_768
PLAIN = re.compile(r'Cert="([\w%+/=.~-]*)"', re.ASCII)
CERTIFICATES_MAX = 4096  # of connections that stand, whose bytes are kept from one request to the next


def peer_certificate(scope: Scope, proxies: Sequence[str]) -> bytes | None:
    """The caller's certificate in DER, None where it has none.

    Args:
        proxies: addresses and networks that may speak for others.
    Raises:
        NotTrusted: somebody else sent the header, or it is not in Envoy's format.
    """
    headers = [value.decode("latin-1") for name, value in scope["headers"] if name == FORWARDED]
    if not headers:
        return _of_connection(scope)
    client = scope.get("client")
    if client is None or not is_proxy(client[0], proxies):
        raise NotTrusted(
            f"the header X-Forwarded-Client-Cert came from {client[0] if client else 'nowhere'}, which is no proxy of "
            "this hub; name its address with --proxy",
            code="proxy_unknown",
        )
    if len(headers) > 1:
        raise NotTrusted(
            "X-Forwarded-Client-Cert was sent twice; the proxy must replace it", code="forwarded_malformed"
        )
    return forwarded_certificate(headers[0])


def is_proxy(address: str, proxies: Sequence[str]) -> bool:
    """
    >>> is_proxy("10.1.2.3", ["10.0.0.0/8"]), is_proxy("11.1.2.3", ["10.0.0.0/8"])
    (True, False)
    """
    try:
        host = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(host in network for network in check_proxies(proxies))


def check_proxies(proxies: Sequence[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """
    Raises:
        NotValid: one is neither an address nor a network.
    """
    try:
        return [ipaddress.ip_network(one) for one in proxies]
    except ValueError as error:
        raise NotValid(f"a proxy is named by its address or network: {error}", code="proxy_invalid") from error


def forwarded_certificate(header: str) -> bytes | None:
    """The certificate in an ``X-Forwarded-Client-Cert`` header in Envoy's format, None where its `Cert` is empty.

    Exactly one element is taken: several mean that a proxy appended to what a stranger sent.

    Raises:
        NotTrusted: not such a header.

    >>> forwarded_certificate('Cert=""') is None
    True
    """
    if len(header) > FORWARDED_CHARACTERS_MAX:
        raise NotTrusted(
            f"X-Forwarded-Client-Cert has {len(header)} characters, at most {FORWARDED_CHARACTERS_MAX}",
            code="forwarded_malformed",
        )
    plain = PLAIN.fullmatch(header)  # as our own nginx sends it; taking it apart by character costs as much as the rest
    values = [plain[1]] if plain else []
    elements = [] if plain else _split(header, ",")
    for pair in _split(elements[0], ";") if len(elements) == 1 else ():
        key, equals, value = pair.strip().partition("=")
        if equals and key.strip().lower() == "cert":
            values.append(value.strip())
    if len(values) != 1:
        raise NotTrusted(
            f'X-Forwarded-Client-Cert is {header[:80]!r}, needs one element with one Cert="…" in it',
            code="forwarded_malformed",
        )
    text = unquote(values[0].removeprefix('"').removesuffix('"')).strip()
    if not text:
        return None
    try:
        (certificate,) = ders_of(text.encode())
    except (NotValid, ValueError) as error:
        raise NotTrusted(
            f"X-Forwarded-Client-Cert holds no single certificate in PEM: {error}", code="forwarded_malformed"
        ) from error
    return certificate


def _split(text: str, separator: str) -> list[str]:
    """Split where the separator stands outside of quotes; a backslash keeps the next character."""
    parts, quoted, escaped = [""], False, False
    for character in text:
        if character == separator and not quoted:
            parts.append("")
            continue
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = character == "\\" and not escaped
        parts[-1] += character
    return parts


def _of_connection(scope: Scope) -> bytes | None:
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain") or ()
    return _der(chain[0]) if chain else None


@lru_cache(CERTIFICATES_MAX)
def _der(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem)
