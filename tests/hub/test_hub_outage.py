"""The database or the bucket goes away while the hub serves: 503, nothing half-stored, and on it goes afterwards."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
import sqlalchemy as sa

import s3_server as s3
from edgewise.hub import create_app
from edgewise.hub.store import tables
from edgewise.ports import BucketLimits, open_bucket
from edgewise.wire import NotNow, digest

QUICK = BucketLimits(connect_s=1, read_s=2, tries_max=2, wait_s_max=2)


@contextmanager
def shut(server: str, url: str):
    """The database takes nobody, and has thrown everybody out."""
    name = sa.make_url(url).database
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        try:
            yield
        finally:
            connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    engine.dispose()


def asked(yard, path: str):
    """What a program is told, over the whole application."""
    headers = {"Authorization": f"Bearer {yard.hub.tokens.text('admin')}"}

    async def get():
        transport = httpx.ASGITransport(create_app(yard.hub), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(get())


def test_a_database_that_is_gone_is_503_and_a_device_loses_nothing(homes, a_yard, postgres_server):
    place = homes("postgres+s3")
    yard = a_yard(place)
    talker = yard.enrol("press-1")
    assert talker.send(talker.segment(1, talker.telemetry())).watermark == 1
    second = talker.segment(2, talker.telemetry(), talker.telemetry())
    with shut(postgres_server, place.url):
        for _ in range(3):
            with pytest.raises(NotNow, match="the hub's database does not answer"):
                talker.send(second)
        answer = asked(yard, "/api/v1/devices")
        assert (answer.status_code, answer.json()["code"]) == (503, "database_down")
        assert int(answer.headers["retry-after"]) > 0
        assert asked(yard, "/readyz").status_code == 503
        assert asked(yard, "/livez").status_code == 200
    assert talker.send(second).watermark == 2
    assert len(yard.rows(tables.telemetry)) == 3
    yard.hub.tick()


def test_a_connection_that_is_cut_in_the_middle_of_a_contact_stores_none_of_it(homes, a_yard, postgres_server):
    place = homes("postgres+s3")
    yard = a_yard(place)
    talker = yard.enrol("press-1")
    both = (talker.segment(1, talker.sample()), talker.segment(2, talker.telemetry()))
    cut = []

    def strike(_connection, cursor, statement, *_):
        if "INSERT INTO telemetry" in statement and not cut:
            cut.append(statement)
            killer = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
            with killer.connect() as other:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({cursor.connection.info.backend_pid})")
            killer.dispose()

    sa.event.listen(yard.hub.store.engine, "before_cursor_execute", strike)
    with pytest.raises(NotNow):
        talker.send(*both)
    assert cut
    assert (yard.rows(tables.samples), yard.rows(tables.segments)) == ([], [])
    assert talker.send(*both).watermark == 2
    assert (len(yard.rows(tables.samples)), len(yard.rows(tables.telemetry))) == (1, 1)


def test_a_bucket_that_is_gone_is_503_and_acknowledges_no_segment_with_contents(homes, a_yard):
    with s3.served() as server:
        url = server.make_bucket(f"gone-{secrets.token_hex(4)}")
        blobs = open_bucket(url, server.options, limits=QUICK)
        yard = a_yard(replace(homes("postgres+s3"), blobs=blobs))
        talker = yard.enrol("press-1")
        kept = talker.segment(1, talker.sample())
        plain = talker.segment(1, talker.telemetry())
    with pytest.raises(NotNow, match="the object store does not answer"):
        talker.send(kept)
    data = b"pixels"
    with pytest.raises(NotNow):
        yard.door.put_blob("press-1", digest(data), data)
    answer = asked(yard, f"/api/v1/blobs/{digest(data)}")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unreachable")
    ready = asked(yard, "/readyz")
    assert (ready.status_code, ready.json()["checks"]["store"]) == (503, "ok")
    assert "the object store does not answer" in ready.json()["checks"]["blobs"]
    assert yard.rows(tables.segments) == []
    assert talker.send(plain).watermark == 1, "what has no contents is taken all the same"
