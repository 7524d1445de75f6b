"""The devices' listener: TLS 1.2 and 1.3, the hub's own certificate, and the client's handed to the application."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgewise.hub._hub import Hub
from edgewise.ports import replace_file, server_context
from edgewise.trust import pem_of, validity_of

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# The hub's own certificate is an ECDSA one.
CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305"
CURVE = "prime256v1"
# X509_V_FLAG_NO_CHECK_TIME: a device with an expired certificate gets a sentence from the application instead of a
# broken connection; `Authority.who` checks the time of every request.
NO_CHECK_TIME = 0x200000
STOP_S_MAX = 10.0
GRACEFUL_S = 5


class CertificateProtocol(HttpToolsProtocol):
    """Puts the client's certificate into the scope, under the names of the ASGI TLS extension.

    The server library does not (yet); only the leaf is known before Python 3.13, and the hub knows the rest.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._tls: dict[str, Any] = {}
        connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if connection is not None:
            leaf = connection.getpeercert(binary_form=True)
            chain = [] if leaf is None else [ssl.DER_cert_to_PEM_cert(leaf)]
            self._tls = {"client_cert_chain": chain, "tls_version": connection.version()}

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[Any, Any] = {"tls": self._tls}
        self.scope["extensions"] = extensions


class ServerCertificate:
    """The hub's certificate for its devices' listener, renewed on the living context.

    Args:
        hub: issues it, for loopback and the configured names.
        folder: where it is kept, with its key, as ``server.pem``, and the authorities beside it: the TLS library takes
            files only, and so does a proxy.
    """

    def __init__(self, hub: Hub, folder: Path) -> None:
        self._hub = hub
        self._folder = folder
        self._key = hub.keys.certificate_key("server")
        self._renew_at: datetime | None = None
        self.context = _context(hub)
        self.refresh(hub.now())

    def refresh(self, now: datetime) -> bool:
        """Issue and load a new certificate when two thirds of the old one's life are over; True when it did.

        Connections that stand keep the old one; each new handshake has the new one.
        """
        if self._renew_at is not None and now < self._renew_at:
            return False
        authority = self._hub.authority
        names = tuple(dict.fromkeys((*LOOPBACK, *self._hub.config.names)))
        made = authority.server_certificate(self._key.public, names, now=now)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self._folder / "authorities.pem", pem_of(authority.root, authority.device_issuer))
        file = self._folder / "server.pem"
        replace_file(file, self._key.to_pem() + pem_of(made, authority.server_issuer), mode=0o600)
        self.context.load_cert_chain(file)
        start, end = validity_of(made)
        self._renew_at = start + (end - start) * authority.limits.renew_at_share
        return True


class DeviceListener:
    """The server for devices in a thread of its own.

    Args:
        app: what devices meet.
        listener: a bound socket; it is closed by its owner.
    Raises:
        NotValid: a configured name is neither a host name nor an address.
    """

    def __init__(self, hub: Hub, app: ASGIApp, listener: socket.socket) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="edgewise-tls-") if hub.folder is None else None
        folder = Path(self._temporary.name) if self._temporary else _own_folder(hub)
        self.certificate = ServerCertificate(hub, folder)
        context = self.certificate.context
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=CertificateProtocol,
                ssl_context_factory=lambda _config, _default: context,
                proxy_headers=False,  # the peer's address decides whose word is believed
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=GRACEFUL_S,
                server_header=False,
                lifespan="off",
            )
        )
        host, port = listener.getsockname()[:2]
        self.url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="devices", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the server; comes back when it has ended, or after a while."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_S_MAX)
        if self._temporary is not None:
            self._temporary.cleanup()


def _context(hub: Hub) -> ssl.SSLContext:
    context = server_context(CIPHERS)
    context.set_ecdh_curve(CURVE)
    authority = hub.authority
    context.load_verify_locations(cadata=pem_of(authority.root, authority.device_issuer).decode())
    context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    # Enrolment comes without a certificate; every other route asks for one itself.
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _own_folder(hub: Hub) -> Path:
    assert hub.folder is not None
    return hub.folder.path / "tls"
