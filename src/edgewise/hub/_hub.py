"""The hub: its store, its keys and its clock in one place, and `tick`, which runs all controllers once."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from edgewise.hub import (
    adapt_orders,
    alerts,
    control,
    drift,
    forget,
    likeness,
    orders,
    repository,
    score_orders,
    threats,
)
from edgewise.hub.alerts import AlertSettings, tellers_of
from edgewise.hub.app_page import AppPage
from edgewise.hub.attempts import Attempts
from edgewise.hub.authority import Authority
from edgewise.hub.counters import Counters
from edgewise.hub.deltas import Deltas, Run
from edgewise.hub.folder import Folder
from edgewise.hub.known import KnownDevices
from edgewise.hub.lake import Lake, LakeConfig, place_of
from edgewise.hub.limits import Limits
from edgewise.hub.oidc import Oidc, OidcSettings
from edgewise.hub.online_keys import OnlineKeys
from edgewise.hub.places import blobs_at, database_at
from edgewise.hub.quotas import Quotas
from edgewise.hub.repository import Published
from edgewise.hub.restore import need_not_moved
from edgewise.hub.sightings import Sightings
from edgewise.hub.store import Store, leases, meta
from edgewise.hub.streams import Streams
from edgewise.hub.tokens import Tokens
from edgewise.hub.uploads import Uploads
from edgewise.ports import (
    Blobs,
    Chance,
    Clock,
    FolderKeys,
    FolderParts,
    Keys,
    MemoryKeys,
    MemoryParts,
    OnnxRuntime,
    Parts,
    Runtime,
    SystemChance,
    SystemClock,
)
from edgewise.ports.alerts import Teller
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
        object_options: of that object store, by obstore's names; secrets are among them.
        oidc: the issuer whose people may sign in; None for tokens alone.
        lake: where its tables lie and how often they get what came.
        trust_domain: of the names in device certificates; chosen once, at the first start.
        names: host names and addresses under which devices reach the hub, beside loopback.
        proxies: addresses or networks whose word about a device's certificate is believed.
        app_pages: by the name of an app, what makes the blocks of its page on the console.
        alerts: whom to tell of what goes wrong.
    """

    data_dir: Path | None = None
    database_url: str | None = None
    objects_url: str | None = None
    object_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    oidc: OidcSettings | None = None
    lake: LakeConfig = field(default_factory=LakeConfig)
    trust_domain: str = TRUST_DOMAIN
    names: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    alerts: AlertSettings = field(default_factory=AlertSettings)
    certificates: CertificateLimits = field(default_factory=CertificateLimits)
    limits: Limits = field(default_factory=Limits)
    app_pages: Mapping[str, AppPage] = field(default_factory=dict)


class Hub:
    """One hub process (or one simulated hub).

    Args:
        clock, chance, runtime, blobs, keys, issuer: the doors outside; real ones where none are given.
        run: does what takes longer than a request may; a thread where none is given.
        tellers: ways to tell people of alerts; those of the settings where none are given.
        disk: free bytes and size of the hub's disk; asked of the system where not given.
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
        tellers: Sequence[Teller] | None = None,
        disk: Callable[[], tuple[int, int] | None] | None = None,
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.clock: Clock = clock or SystemClock()
        self.started_at = self.clock.now()  # until then it heard no device
        self.chance: Chance = chance or SystemChance()
        self.runtime: Runtime = runtime or OnnxRuntime()
        self.folder = None if config.data_dir is None else Folder(config.data_dir)
        try:
            self.counters = Counters()
            self.sightings = Sightings(self.limits, self.counters)
            self.store = Store(self._database_url(), blobs or self._blobs(), self.counters)
            with self.store.read() as connection:
                need_not_moved(connection)
            self.known = KnownDevices(self.store, self.limits, self.sightings)
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
            self.streams = Streams(self.store, self.known, self.limits, hub_epoch=self.hub_epoch, chance=self.chance)
        except BaseException:
            self.close()
            raise
        seconds, most = self.limits.attempts_window_s, self.limits.attempts_keys_max
        self.quotas = Quotas(self.limits)
        self.attempts = Attempts(failures_max=self.limits.attempts_max, window_s=seconds, keys_max=most)
        self.refusals = Attempts(failures_max=self.limits.refusals_max, window_s=seconds, keys_max=most)
        self.oidc = None if config.oidc is None else Oidc(config.oidc, issuer or _issuer(self.limits), self.limits)
        self.holder = self._holder()
        self.lake = self._lake()
        self.tellers = tellers_of(config.alerts, self.clock) if tellers is None else list(tellers)
        self.disk = disk or self._disk
        self._leads = False
        self.round_at: datetime | None = None  # when all controllers last had their turn here, or another hub led
        self._drift_seen: dict[str, tuple[str | None, int]] = {}

    def close(self) -> None:
        """Give the folder back; what was acknowledged is durable without it."""
        deltas = getattr(self, "deltas", None)
        if deltas is not None:
            deltas.close()
        store = getattr(self, "store", None)
        streams = getattr(self, "streams", None)
        if streams is not None:
            streams.close()
        if store is not None:
            if getattr(self, "_leads", False):
                self._give_back_lease()
            if hasattr(self, "known"):
                with contextlib.suppress(NotNow):  # then it is not known when these devices were heard last
                    self.known.flush()
                    self.sightings.flush(store)
            store.close()
        if self.folder is not None:
            self.folder.close()

    def now(self) -> datetime:
        return self.clock.now()

    def tick(self, now: datetime | None = None) -> bool:
        """Run every controller once; False while another hub of the same database does.

        Level-triggered: each reads the whole situation and acts on it, so a tick too many changes nothing.
        """
        moment, turn = now or self.now(), self.counters.turn
        with turn("quiet_contacts"):
            self.known.flush()
            self.sightings.flush(self.store)
        with self.store.write() as connection:
            until = moment + timedelta(seconds=self.limits.controller_lease_s)
            fence = leases.take(connection, control.LEASE, holder=self.holder, until=until, now=moment)
        self._leads = fence is not None
        if self._leads:
            self._control(moment)
        self.counters.round(leads=self._leads, at_s=moment.timestamp())
        self.round_at = moment
        return self._leads

    def _control(self, moment: datetime) -> None:
        """The turn of each controller, timed."""
        turn, chance, limits = self.counters.turn, self.chance, self.limits
        with turn("repository"):
            repository.renew(self.store, self.online, moment)
        with turn("orders"):
            likeness.tick(self.store)
            forget.sweep(self.store)
            for kind in (orders, score_orders, adapt_orders):
                kind.tick(self.store, moment, chance=chance, limits=limits)
        with turn("rollouts"):
            control.tick(self, moment)
        with turn("drift"):
            check = control.fence(self)
            drift.tick(self.store, moment, chance=chance, limits=limits, seen=self._drift_seen, check=check)
        with turn("threats"):
            threats.look(self.store, self.sightings, moment, limits)

    def watch(self, now: datetime | None = None) -> int:
        """Raise the alerts that the situation asks for and tell what is due; comes back with how many were told.

        It is no controller: it must also notice that these stand still, and a slow mail server must not hold them up.

        Raises:
            NotNow: the store cannot take it now.
        """
        moment, settings = now or self.now(), self.config.alerts
        with self.store.read() as connection:
            watched = alerts.look(
                connection,
                moment,
                settings,
                disk=self.disk(),
                round_at=self.round_at,
                started_at=self.started_at,
            )
        alerts.raise_wanted(
            self.store,
            alerts.wanted(watched, settings),
            channels=[one.name for one in self.tellers],
            now=moment,
            chance=self.chance,
            limits=self.limits,
            counters=self.counters,
        )
        return alerts.deliver(self.store, self.tellers, now=moment, limits=self.limits, counters=self.counters)

    def _disk(self) -> tuple[int, int] | None:
        if self.folder is None:
            return None
        try:
            usage = shutil.disk_usage(self.folder.path)
        except OSError:
            return None
        return usage.free, usage.total

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
        return database_at(self.config.database_url, None if self.folder is None else self.folder.path)

    def _blobs(self) -> Blobs:
        config = self.config
        path = None if self.folder is None else self.folder.path
        return blobs_at(config.objects_url, path, options=config.object_options, limits=self.limits.bucket)

    def _lake(self) -> Lake | None:
        config = self.config
        path = None if self.folder is None else self.folder.path
        place = place_of(config.lake, data_dir=path, objects_url=config.objects_url, options=config.object_options)
        if place is None:
            return None
        return Lake(
            self.store,
            place,
            config.lake,
            self.limits.lake,
            hub_epoch=self.hub_epoch,
            holder=self.holder,
            chance=self.chance,
            clock=self.now,
        )

    def _parts(self) -> Parts:
        return MemoryParts() if self.folder is None else FolderParts(self.folder.path / "uploads")

    def _keys(self) -> Keys:
        return MemoryKeys() if self.folder is None else FolderKeys(self.folder.path / "keys")


def _issuer(limits: Limits) -> Issuer:
    return HttpIssuer(bytes_max=limits.issuer_bytes_max, wait_s_max=limits.issuer_wait_s_max)
