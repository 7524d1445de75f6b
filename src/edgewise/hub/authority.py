"""The hub as certificate authority: its root and issuers, what it issues, and who a certificate is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.store import Store, meta
from edgewise.ports import Keys
from edgewise.trust import (
    CertificateLimits,
    ChainVerdict,
    DeviceId,
    ders_of,
    fingerprint,
    issue_device,
    issue_server,
    key_of,
    new_issuer,
    new_root,
    pem_of,
    verify_device_certificate,
)
from edgewise.wire import NotTrusted, NotValid, PublicKey

ROOT, DEVICES, SERVERS = "ca-root", "ca-devices", "ca-servers"
SEEN_MAX = 10_000  # certificates whose chain was checked and need not be checked again


class Authority:
    """Keys in the hub's folder, certificates in its store; both are made at the first start.

    Raises:
        NotValid: the store's certificates belong to other keys, or to another trust domain.
    """

    def __init__(
        self, store: Store, keys: Keys, *, trust_domain: str, now: datetime, limits: CertificateLimits
    ) -> None:
        self.trust_domain = trust_domain
        self.limits = limits
        self._keys = {name: keys.certificate_key(name) for name in (ROOT, DEVICES, SERVERS)}
        self._seen: dict[str, tuple[ChainVerdict, PublicKey]] = {}
        self._lock = threading.Lock()
        with store.write() as connection:
            self.root = _held(
                connection,
                ROOT,
                lambda: new_root(self._keys[ROOT], trust_domain=trust_domain, now=now, limits=limits),
            )
            self.device_issuer = _held(connection, DEVICES, lambda: self._issuer("devices", DEVICES, now))
            self.server_issuer = _held(connection, SERVERS, lambda: self._issuer("servers", SERVERS, now))
            held_domain = meta.get(connection, "trust_domain")
            if held_domain is None:
                meta.put(connection, "trust_domain", trust_domain)
        self._check(held_domain or trust_domain)

    def _issuer(self, kind: str, key: str, now: datetime) -> bytes:
        return new_issuer(
            self._keys[key],
            root=self.root,
            root_key=self._keys[ROOT],
            kind=kind,
            trust_domain=self.trust_domain,
            now=now,
            limits=self.limits,
        )

    def _check(self, held_domain: str) -> None:
        if held_domain != self.trust_domain:
            raise NotValid(
                f"this hub's certificates are of trust domain {held_domain}, it was started with {self.trust_domain}; "
                f"start it with --trust-domain {held_domain}",
                code="trust_domain_changed",
            )
        held = {ROOT: self.root, DEVICES: self.device_issuer, SERVERS: self.server_issuer}
        for name, certificate in held.items():
            if key_of(certificate) != self._keys[name].public:
                raise NotValid(
                    f"the key {name} in the hub's folder is not the one of its certificate in the database; "
                    "restore the folder keys/ that belongs to this database",
                    code="authority_key",
                )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the root, which every enrolment token carries."""
        return fingerprint(self.root)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """What a device needs to check the hub and itself."""
        return (self.root, self.server_issuer, self.device_issuer)

    def device_certificate(self, public: PublicKey, *, site: str, device: str, now: datetime) -> bytes:
        """A new certificate of a device, DER."""
        name = DeviceId(trust_domain=self.trust_domain, site=site, device=device)
        key = self._keys[DEVICES]
        return issue_device(public, name, issuer=self.device_issuer, issuer_key=key, now=now, limits=self.limits)

    def server_certificate(self, public: PublicKey, names: tuple[str, ...], *, now: datetime) -> bytes:
        """A new certificate of the hub itself, DER."""
        key = self._keys[SERVERS]
        return issue_server(public, names, issuer=self.server_issuer, issuer_key=key, now=now, limits=self.limits)

    def who(self, certificate: bytes, now: datetime) -> DeviceId:
        """The device that a certificate of this authority names. Raises as `caller`."""
        return self.caller(certificate, now)[0]

    def has_seen(self, certificate: bytes) -> bool:
        """Whether the signatures of this certificate were checked before, so that `caller` answers at once."""
        with self._lock:
            return fingerprint(certificate) in self._seen

    def caller(self, certificate: bytes, now: datetime) -> tuple[DeviceId, PublicKey]:
        """The device that a certificate of this authority names, and the key that it is for.

        Raises:
            NotTrusted: it does not hold; the code is `certificate_` and the check that failed.
        """
        name = fingerprint(certificate)
        with self._lock:
            seen = self._seen.get(name)
        # The signatures of a chain hold for ever; its time is asked for each request.
        if seen is None or seen[0].not_after is None or seen[0].not_after < now:
            verdict = verify_device_certificate(
                [self.root], [self.device_issuer], certificate, now, trust_domain=self.trust_domain
            )
            if not verdict.ok:
                raise NotTrusted(
                    f"the device's certificate does not hold: {verdict.reason}", code=f"certificate_{verdict.code}"
                )
            seen = verdict, key_of(certificate)
            with self._lock:
                if len(self._seen) >= SEEN_MAX:
                    self._seen.clear()
                self._seen[name] = seen
        verdict, key = seen
        return DeviceId(trust_domain=self.trust_domain, site=verdict.site, device=verdict.device), key


def _held(connection: sa.Connection, name: str, make: Callable[[], bytes]) -> bytes:
    """The stored certificate; a new one is stored where there is none."""
    text = meta.get(connection, name)
    if text is not None:
        return ders_of(text.encode())[0]
    made = make()
    meta.put(connection, name, pem_of(made).decode())
    return made
