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
from edgewise.hub.store import devices
from edgewise.ports import MemoryBlobs, MemoryClock, MemoryKeys, MemoryRuntime, SeededChance
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
    name = f"edgewise_test_{secrets.token_hex(6)}"
    engine = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield sa.make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
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


@pytest.fixture
def make_yard() -> Iterator[Callable[..., Yard]]:
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
            config = HubConfig(data_dir=data_dir, database_url=url, **more)
            memory: dict[str, Any] = {} if data_dir else {"blobs": MemoryBlobs(), "keys": MemoryKeys(b"hub")}
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
