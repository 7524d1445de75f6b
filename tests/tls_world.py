"""A small certificate authority for tests: devices' folders with credentials, and servers that know them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edgewise.ports import Credentials
from edgewise.trust import (
    TRUST_DOMAIN,
    CertificateKey,
    CertificateLimits,
    DeviceId,
    issue_device,
    issue_server,
    new_issuer,
    new_root,
    pem_of,
)
from edgewise.wire import PublicKey

LIMITS = CertificateLimits()


class TlsWorld:
    """One authority. `name` makes its keys, so two names are two authorities."""

    def __init__(self, folder: Path, name: str = "tests") -> None:
        self.folder = folder
        self.now = datetime.now(UTC)
        begun = self.now - timedelta(days=200)  # so that certificates can be old
        self._root_key = CertificateKey.generate(f"{name} root".encode())
        self._issuer_key = CertificateKey.generate(f"{name} issuer".encode())
        self.root = new_root(self._root_key, trust_domain=TRUST_DOMAIN, now=begun, limits=LIMITS)
        self.device_issuer, self.server_issuer = (self._issuer(kind, begun) for kind in ("devices", "servers"))

    def _issuer(self, kind: str, begun: datetime) -> bytes:
        made = {"root": self.root, "root_key": self._root_key, "trust_domain": TRUST_DOMAIN}
        return new_issuer(self._issuer_key, kind=kind, now=begun, limits=LIMITS, **made)

    def chain(self, credentials: Credentials, device: str, *, age_days: float = 0) -> tuple[bytes, ...]:
        """A certificate for these credentials' key, that began so many days ago, and its issuer."""
        return self.chain_for(credentials.key.public, device, age_days=age_days)

    def chain_for(self, public: PublicKey, device: str, *, age_days: float = 0) -> tuple[bytes, ...]:
        """The same for any key."""
        who = DeviceId(trust_domain=TRUST_DOMAIN, site="north", device=device)
        made = issue_device(
            public,
            who,
            issuer=self.device_issuer,
            issuer_key=self._issuer_key,
            now=self.now - timedelta(days=age_days),
            limits=LIMITS,
        )
        return made, self.device_issuer

    def credentials(self, folder: Path, device: str = "press-4") -> Credentials:
        """An enrolled device's files."""
        folder.mkdir(parents=True, exist_ok=True)
        held = Credentials(folder)
        held.pin(self.root)
        held.take(self.chain(held, device))
        return held

    def server(self) -> ssl.SSLContext:
        """A server on loopback that asks for certificates of this authority."""
        key = CertificateKey.generate(b"server")
        names = ["localhost", "127.0.0.1"]
        made = issue_server(
            key.public, names, issuer=self.server_issuer, issuer_key=self._issuer_key, now=self.now, limits=LIMITS
        )
        file = self.folder / "server.pem"
        file.write_bytes(key.to_pem() + pem_of(made, self.server_issuer))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.load_verify_locations(cadata=pem_of(self.root, self.device_issuer).decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        return context


def device_of(connection: ssl.SSLSocket) -> str | None:
    """The device in the certificate that the other side showed."""
    shown = connection.getpeercert() or {}
    names = [str(value) for _, value in shown.get("subjectAltName", ())]
    return names[0].rpartition("/")[2] if names else None
