"""TLS for servers of devices and of cascades: 1.2 and 1.3, forward secrecy, and certificates of clients."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from edgewise.wire import NotValid

# Forward secrecy and authenticated encryption only (Mozilla's "intermediate"), for certificates of both kinds.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)


def server_context(ciphers: str = CIPHERS) -> ssl.SSLContext:
    """A context for a server, still without a certificate and without asking clients for theirs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """The PEM files of a server that answers only to clients with a certificate."""

    certificate: Path  # the server's, then those between it and its root
    key: Path  # without a password
    client_ca: Path  # the authorities whose clients are answered

    def context(self) -> ssl.SSLContext:
        """A context for such a server.

        Raises:
            NotValid: a file cannot be read, is not such a file, or certificate and key do not belong together.
        """
        context = tls_server_context(self.certificate, self.key)
        try:
            context.load_verify_locations(cafile=self.client_ca)
        except OSError as error:
            raise NotValid(
                f"{self.client_ca} names no authority of clients ({_why(error)}); needs a PEM file of certificates",
                code="tls_client_ca",
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def tls_server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A context for a server that proves itself and asks no client to.

    Raises:
        NotValid: a file cannot be read, is not such a file, or certificate and key do not belong together.
    """
    context = server_context()
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise NotValid(
            f"the certificate {certificate} with the key {key} cannot be used ({_why(error)}); needs two "
            "PEM files that belong together, the key without a password",
            code="tls_certificate",
        ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")  # a server that starts alone has nobody to ask


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM").replace("_", " ").lower()
    return error.strerror or "unreadable" if isinstance(error, OSError) else str(error)
