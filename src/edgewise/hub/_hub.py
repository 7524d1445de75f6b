"""The hub: its store, its keys and its clock in one place, and `tick`, which runs all controllers once."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from edgewise.hub import adapt_orders, control, drift, likeness, orders, repository, score_orders
from edgewise.hub.app_page import AppPage
from edgewise.hub.attempts import Attempts
from edgewise.hub.authority import Authority
from edgewise.hub.deltas import Deltas, Run
from edgewise.hub.folder import Folder
from edgewise.hub.known import KnownDevices
from edgewise.hub.limits import Limits
from edgewise.hub.oidc import Oidc, OidcSettings
from edgewise.hub.online_keys import OnlineKeys
from edgewise.hub.repository import Published
from edgewise.hub.store import Store, leases, meta
from edgewise.hub.tokens import Tokens
from edgewise.hub.uploads import Uploads
from edgewise.ports import (
    Blobs,
    Chance,
    Clock,
    FolderKeys,
    FolderParts,
    Keys,
    MemoryBlobs,
    MemoryKeys,
    MemoryParts,
    ObjectBlobs,
    OnnxRuntime,
    Parts,
    Runtime,
    SystemChance,
    SystemClock,
)
from edgewise.ports.oidc import HttpIssuer, Issuer
from edgewise.trust import TRUST_DOMAIN, CertificateLimits, PrivateKey, check_trust_domain
from edgewise.wire import NotNow


@dataclass(frozen=True, kw_only=True, slots=True)
class HubConfig:
    """Where the hub keeps things and whom it trusts.

    Attributes:
        data_dir: its folder; None keeps everything in memory, for the simulator and tests.
        database_url: an SQLAlchemy address such as ``postgresql+psycopg://user@host/name``; None: SQLite in `data_dir`.
        objects_url: an object store such as ``s3://bucket/prefix``; None: files in `data_dir`.
        oidc: the issuer whose people may sign in; None for tokens alone.
        trust_domain: of the names in device certificates; chosen once, at the first start.
        names: host names and addresses under which devices reach the hub, beside loopback.
        proxies: addresses or networks whose word about a device's certificate is believed.
        app_pages: by the name of an app, what makes the blocks of its page on the console.
    """

    data_dir: Path | None = None
    database_url: str | None = None
    objects_url: str | None = None
    oidc: OidcSettings | None = None
    trust_domain: str = TRUST_DOMAIN
    names: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    certificates: CertificateLimits = field(default_factory=CertificateLimits)
    limits: Limits = field(default_factory=Limits)
    app_pages: Mapping[str, AppPage] = field(default_factory=dict)


class Hub:
    """One hub process (or one simulated hub).

    Args:
        clock, chance, runtime, blobs, keys, issuer: the doors outside; real ones where none are given.
        run: does what takes longer than a request may; a thread where none is given.
    Raises:
        NotNow: another hub uses the folder, or the database does not answer.
        NotValid: the folder was made by another version.
    """

    def __init__(
        self,
        config: HubConfig,
        *,
        clock: Clock | None = None,
        chance: Chance | None = None,
        runtime: Runtime | None = None,
        blobs: Blobs | None = None,
        keys: Keys | None = None,
        issuer: Issuer | None = None,
        run: Run | None = None,
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.clock: Clock = clock or SystemClock()
        self.started_at = self.clock.now()  # until then it heard no device
        self.chance: Chance = chance or SystemChance()
        self.runtime: Runtime = runtime or OnnxRuntime()
        self.folder = None if config.data_dir is None else Folder(config.data_dir)
        try:
            self.store = Store(self._database_url(), blobs or self._blobs())
            self.known = KnownDevices(self.store, self.limits)
            self.keys = keys or self._keys()
            self.online = OnlineKeys(self.keys)
            self.authority = Authority(
                self.store,
                self.keys,
                trust_domain=check_trust_domain(config.trust_domain),
                now=self.now(),
                limits=config.certificates,
            )
            self.tokens = Tokens(self.chance, None if self.folder is None else self.folder.path / "tokens")
            self.deltas = Deltas(self.store, self.limits, self.clock, run)
            self.uploads = Uploads(self._parts(), self.store.blobs, self.limits, self.now)
            self.hub_epoch = self._remember("hub_epoch", self.chance.id())
        except BaseException:
            self.close()
            raise
        seconds, most = self.limits.attempts_window_s, self.limits.attempts_keys_max
        self.attempts = Attempts(failures_max=self.limits.attempts_max, window_s=seconds, keys_max=most)
        self.refusals = Attempts(failures_max=self.limits.refusals_max, window_s=seconds, keys_max=most)
        self.oidc = None if config.oidc is None else Oidc(config.oidc, issuer or _issuer(self.limits), self.limits)
        self.holder = self._holder()
        self._leads = False
        self._drift_seen: dict[str, tuple[str | None, int]] = {}

    def close(self) -> None:
        """Give the folder back; what was acknowledged is durable without it."""
        deltas = getattr(self, "deltas", None)
        if deltas is not None:
            deltas.close()
        store = getattr(self, "store", None)
        if store is not None:
            if getattr(self, "_leads", False):
                self._give_back_lease()
            if hasattr(self, "known"):
                with contextlib.suppress(NotNow):  # then it is not known when these devices were heard last
                    self.known.flush()
            store.close()
        if self.folder is not None:
            self.folder.close()

    def now(self) -> datetime:
        return self.clock.now()

    def tick(self, now: datetime | None = None) -> bool:
        """Run every controller once; False while another hub of the same database does.

        Level-triggered: each reads the whole situation and acts on it, so a tick too many changes nothing.
        """
        moment = now or self.now()
        self.known.flush()
        with self.store.write() as connection:
            until = moment + timedelta(seconds=self.limits.controller_lease_s)
            fence = leases.take(connection, control.LEASE, holder=self.holder, until=until, now=moment)
        self._leads = fence is not None
        if not self._leads:
            return False
        repository.renew(self.store, self.online, moment)
        likeness.tick(self.store)
        orders.tick(self.store, moment, chance=self.chance, limits=self.limits)
        score_orders.tick(self.store, moment, chance=self.chance, limits=self.limits)
        adapt_orders.tick(self.store, moment, chance=self.chance, limits=self.limits)
        control.tick(self, moment)
        check = control.fence(self)
        drift.tick(self.store, moment, chance=self.chance, limits=self.limits, seen=self._drift_seen, check=check)
        return True

    @property
    def key(self) -> PrivateKey:
        """The key that signs assignments now."""
        return repository.assignment_key(self.store, self.online)

    @property
    def root(self) -> str:
        """The root of trust that devices of this hub pin, as its signed JSON.

        Raises:
            NotNow: there is none yet.
        """
        return repository.root(self.store)

    def publish(
        self, documents: Mapping[str, bytes], files: Mapping[str, bytes], *, who: str, why: str = ""
    ) -> Published:
        """Take what offline keys signed; see `repository.publish`."""
        return repository.publish(
            self.store, self.online, documents, files, who=who, now=self.now(), chance=self.chance, why=why
        )

    def _remember(self, key: str, value: str) -> str:
        """The stored value, `value` where none is stored yet."""
        with self.store.write() as connection:
            held = meta.get(connection, key)
            if held is None:
                meta.put(connection, key, value)
            return held or value

    def _holder(self) -> str:
        """The name under which this process holds leases; the folder's part outlives the process."""
        process = self.chance.id()
        return process if self.folder is None else f"{self.folder.home(process)}/{process}"

    def _give_back_lease(self) -> None:
        """Let another hub of this database go on at once; where that cannot be, it waits for the lease's end."""
        self._leads = False
        with contextlib.suppress(NotNow), self.store.write() as connection:
            leases.release(connection, control.LEASE, holder=self.holder, now=self.now())

    def _database_url(self) -> str:
        if self.config.database_url is not None:
            return self.config.database_url
        return "sqlite://" if self.folder is None else f"sqlite:///{self.folder.path / 'hub.db'}"

    def _blobs(self) -> Blobs:
        if self.config.objects_url is None and self.folder is None:
            return MemoryBlobs()
        return _object_blobs(self.config.objects_url, self.folder)

    def _parts(self) -> Parts:
        return MemoryParts() if self.folder is None else FolderParts(self.folder.path / "uploads")

    def _keys(self) -> Keys:
        return MemoryKeys() if self.folder is None else FolderKeys(self.folder.path / "keys")


def _issuer(limits: Limits) -> Issuer:
    return HttpIssuer(bytes_max=limits.issuer_bytes_max, wait_s_max=limits.issuer_wait_s_max)


def _object_blobs(url: str | None, folder: Folder | None) -> Blobs:
    import obstore.store

    if url is not None:
        return ObjectBlobs(obstore.store.from_url(url))
    assert folder is not None
    place = folder.path / "objects"
    place.mkdir(exist_ok=True)
    return ObjectBlobs(obstore.store.LocalStore(place))
