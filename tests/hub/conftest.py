"""A hub in memory under a seed, devices that talk to it in bytes, and databases to run the store on."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from edgewise._zstd import zstd
from edgewise.hub import Hub, HubConfig, LocalDoor, enrol, read_usecase, samples, usecases
from edgewise.hub.samples import ImportedSample
from edgewise.hub.store import Store, devices
from edgewise.ports import (
    Blobs,
    FolderBlobs,
    MemoryBlobs,
    MemoryClock,
    MemoryKeys,
    MemoryRuntime,
    SeededChance,
    open_bucket,
)
from edgewise.sim._keeper import Keeper
from edgewise.trust import CertificateKey
from edgewise.wire import (
    AnyRecord,
    Decision,
    PublicKey,
    Receipt,
    Report,
    Sample,
    SegmentHeader,
    Telemetry,
    UploadHeader,
    UseCase,
    decode,
    digest,
    encode,
    pack_upload,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
SERVER = os.environ.get("EDGEWISE_TEST_POSTGRES", "postgresql+psycopg://root@127.0.0.1:5432/postgres")
ON_BOTH_STORAGES = {
    "test_hub_enrol",
    "test_hub_erasures",
    "test_hub_intake",
    "test_hub_labels",
    "test_hub_orders",
    "test_hub_uploads",
}
USECASE = """
name: press
app: factory
outcome: {goal: find pits, labels: [good, pit], good_labels: [good]}
people: {owner: ann, approver: bob, oversight: the line's stop button}
sites: [{name: north}, {name: south}]
retrain: {labels_min: 4}
connectivity: {contact_s: 60}
data: {fields: [frame, group, taken_at, line]}
"""


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """Address of a PostgreSQL server where databases may be made; skips the test without one."""
    try:
        engine = sa.create_engine(SERVER, connect_args={"connect_timeout": 2})
        with engine.connect():
            pass
        engine.dispose()
    except sa.exc.OperationalError:
        why = f"no PostgreSQL answers at {SERVER}; name one with EDGEWISE_TEST_POSTGRES"
        if "postgres" in os.environ.get("EDGEWISE_REQUIRE", "").split(","):
            pytest.fail(why)
        pytest.skip(why)
    return SERVER


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of its own, removed afterwards."""
    with a_database(postgres_server) as url:
        yield url


@contextlib.contextmanager
def a_database(server: str, template: str = "template1") -> Iterator[str]:
    """A new database, until the end of the block."""
    name = f"edgewise_test_{secrets.token_hex(6)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        engine.dispose()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The three homes of a store, one after the other."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 'hub.db'}"


@dataclass
class Yard:
    """One hub and those who use it."""

    hub: Hub
    clock: MemoryClock
    keeper: Keeper
    door: LocalDoor = field(init=False)

    def __post_init__(self) -> None:
        self.door = LocalDoor(self.hub)

    def apply(self, text: str = USECASE, **changes: Any) -> UseCase:
        usecase = read_usecase(text).model_copy(update=changes)
        usecases.apply(self.hub.store, usecase, source=text, who="test", now=self.hub.now())
        return usecase

    def token(self, site: str = "north", **more: Any) -> str:
        hub = self.hub
        who = {"who": "test", "now": hub.now(), "chance": hub.chance, "limits": hub.limits}
        return enrol.make_token(hub.store, site=site, use_case="press", **who, **more)[0]

    def enrol(self, name: str, site: str = "north") -> Talker:
        key = CertificateKey.generate(name.encode())
        self.door.enrol(enrol.Enrolment(token=self.token(site), device=name, public=key.public))
        return Talker(yard=self, name=name, site=site, key=key)

    def key_of(self, device: str) -> PublicKey:
        with self.hub.store.read() as connection:
            row = devices.get(connection, device)
        assert row is not None
        return row.public_key

    def picture(self, text: str) -> str:
        return self.hub.store.blobs.put(text.encode())

    def bring_in(self, *frames: tuple[str, str, str, str | None]) -> list[str]:
        """Import (site, frame, group, label) samples."""
        wanted = [
            ImportedSample(
                use_case="press",
                site=site,
                frame=frame,
                group=group,
                label=label,
                blob=self.picture(f"{site}/{frame}"),
                taken_at=START,
            )
            for site, frame, group, label in frames
        ]
        return samples.import_samples(self.hub.store, wanted, who="test", now=self.hub.now())

    def rows(self, table: sa.Table) -> list[Any]:
        with self.hub.store.read() as connection:
            return list(connection.execute(sa.select(table)).mappings())


@dataclass
class Talker:
    """A device as the hub sees one: it makes segments and uploads by hand."""

    yard: Yard
    name: str
    site: str
    key: CertificateKey
    epoch: str = field(default="")
    count: int = 0

    def __post_init__(self) -> None:
        self.epoch = self.epoch or digest(self.name.encode())[:32]

    def id(self) -> str:
        self.count += 1
        return digest(f"{self.name}/{self.count}".encode())[:32]

    def sample(self, frame: str = "", **changes: Any) -> Sample:
        name = self.id()
        frame = frame or f"frame-{self.count}"
        content = f"{self.name}/{frame}".encode()
        fields: dict[str, Any] = {
            "id": name,
            "frame": frame,
            "site": self.site,
            "taken_at": self.yard.clock.now(),
            "kept_at": self.yard.clock.now(),
            "why": "margin",
            "inclusion_probability": 0.5,
            "blob": self.yard.hub.store.blobs.put(content),
            "size_bytes": len(content),
            "media_type": "image/jpeg",
            "decision": Decision(label="good", confidence=0.7, margin=0.4, bundle="0" * 64),
        }
        return Sample(**fields | changes)

    def telemetry(self, **changes: Any) -> Telemetry:
        now = self.yard.clock.now()
        return Telemetry(**{"id": self.id(), "site": self.site, "start": now, "end": now, "decisions": 10} | changes)

    def segment(self, number: int, *records: AnyRecord, **changes: Any) -> tuple[SegmentHeader, bytes]:
        """A segment of these records; changes go into its header afterwards, so that it can lie."""
        payload = zstd.compress(b"\n".join(encode(record) for record in records))
        blobs = tuple(record.blob for record in records if isinstance(record, Sample))
        fields: dict[str, Any] = {
            "number": number,
            "sha256": digest(payload),
            "size_bytes": len(payload),
            "record_class": "sample" if blobs else "telemetry",
            "count": len(records),
            "policy_version": 1,
            "transform": "strip-metadata" if blobs else "none",
            "blobs": blobs,
            "sealed_at": self.yard.clock.now(),
        }
        return SegmentHeader(**fields | changes), payload

    def upload(self, *segments: tuple[SegmentHeader, bytes], report: Report | None = None, **changes: Any) -> bytes:
        now = self.yard.clock.now()
        fields: dict[str, Any] = {
            "device": self.name,
            "epoch": self.epoch,
            "sent_at": now,
            "report": report or Report(at=now, phase="idle"),
            "segments": tuple(header for header, _ in segments),
        }
        return pack_upload(UploadHeader(**fields | changes), [payload for _, payload in segments])

    def send(self, *segments: tuple[SegmentHeader, bytes], **changes: Any) -> Receipt:
        return decode(Receipt, self.yard.door.exchange(self.name, self.upload(*segments, **changes)))


@dataclass(frozen=True, kw_only=True)
class Home:
    """Gives a database and blobs to each new hub, the same ones to hubs of the same folder."""

    give: Callable[[Path | None], tuple[str, Blobs]]
    is_folder: bool  # what a hub with a folder of its own uses without being told


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever touches storage runs on both of a hub's homes; everything else in memory, which is faster."""
    if "home" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in ON_BOTH_STORAGES:
        metafunc.parametrize("home", ["sqlite+files", "postgres+s3"], indirect=True)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """A database that has the schema already: a copy of it costs far less than all migrations."""
    with a_database(postgres_server) as url:
        Store(url, MemoryBlobs()).close()
        yield str(sa.make_url(url).database)


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home | None]:
    """Where hubs keep things; None: as they like."""
    kind = getattr(request, "param", None)
    if kind is None:
        yield None
        return
    if kind == "postgres+s3":
        server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_template")
        bucket, options = request.getfixturevalue("bucket_url"), request.getfixturevalue("s3_server").options
    made: dict[Path | int, tuple[str, Blobs]] = {}
    with contextlib.ExitStack() as stack:

        def give(data_dir: Path | None) -> tuple[str, Blobs]:
            key = data_dir or len(made)
            if key not in made and kind == "postgres+s3":
                url = stack.enter_context(a_database(server, template))
                made[key] = url, open_bucket(f"{bucket}/{len(made)}", options, probe=False)
            elif key not in made:
                folder = tmp_path / f"home-{len(made)}"
                folder.mkdir()
                made[key] = f"sqlite:///{folder / 'hub.db'}", FolderBlobs(folder / "objects" / "blobs")
            return made[key]

        yield Home(give=give, is_folder=kind == "sqlite+files")


@pytest.fixture
def make_yard(home: Home | None) -> Iterator[Callable[..., Yard]]:
    """Makes hubs; closes them at the end."""
    with contextlib.ExitStack() as stack:

        def make(
            *,
            url: str | None = None,
            data_dir: Path | None = None,
            seed: int = 1,
            usecase: bool = True,
            start: datetime = START,
            **more: Any,
        ) -> Yard:
            clock = MemoryClock(start)
            memory: dict[str, Any] = {} if data_dir else {"blobs": MemoryBlobs(), "keys": MemoryKeys(b"hub")}
            if home is not None and url is None and not (data_dir and home.is_folder):
                url, memory["blobs"] = home.give(data_dir)
            config = HubConfig(data_dir=data_dir, database_url=url, **more)
            hub = Hub(config, clock=clock, chance=SeededChance(seed), runtime=MemoryRuntime(), **memory)
            stack.callback(hub.close)
            yard = Yard(hub=hub, clock=clock, keeper=Keeper(hub, b"offline", ["press"], now=start))
            if usecase:
                yard.apply()
            return yard

        yield make


@pytest.fixture
def yard(make_yard: Callable[..., Yard]) -> Yard:
    """A hub in memory with one use case."""
    return make_yard()


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one hub keeps its rows and contents."""

    url: str
    blobs: Blobs


@pytest.fixture
def homes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    """New, empty places by the name of their kind."""
    with contextlib.ExitStack() as stack:
        count = iter(range(100))

        def make(kind: str) -> Place:
            number = next(count)
            if kind == "sqlite+files":
                folder = tmp_path / f"place-{number}"
                folder.mkdir()
                blobs = FolderBlobs(folder / "objects" / "blobs")
                return Place(url=f"sqlite:///{folder / 'hub.db'}", blobs=blobs)
            url = stack.enter_context(a_database(request.getfixturevalue("postgres_server")))
            bucket, server = request.getfixturevalue("bucket_url"), request.getfixturevalue("s3_server")
            return Place(url=url, blobs=open_bucket(f"{bucket}/place-{number}", server.options, probe=False))

        yield make


@pytest.fixture
def a_yard() -> Iterator[Callable[..., Yard]]:
    """A hub at a place, with its keys in memory."""
    keys = MemoryKeys(b"hub")  # the same for every hub: they are not part of a backup
    with contextlib.ExitStack() as stack:

        def make(place: Place, *, seed: int = 1, start: Any = START, is_new: bool = True) -> Yard:
            clock = MemoryClock(start)
            hub = Hub(
                HubConfig(database_url=place.url), clock=clock, chance=SeededChance(seed), runtime=MemoryRuntime(),
                blobs=place.blobs, keys=keys,
            )  # fmt: skip
            stack.callback(hub.close)
            if not is_new:
                return Yard(hub=hub, clock=clock, keeper=None)  # type: ignore[arg-type]
            yard = Yard(hub=hub, clock=clock, keeper=Keeper(hub, b"offline", ["press"], now=start))
            yard.apply()
            return yard

        yield make
