"""The store: one schema on three homes, times that stay times, one writer, errors in families."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from edgewise.hub import Store, audit
from edgewise.hub.store import leases, meta, tables
from edgewise.ports import MemoryBlobs
from edgewise.wire import NotNow, NotValid

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
def store(store_url):
    held = Store(store_url, MemoryBlobs())
    yield held
    held.close()


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(store):
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"target_metadata": tables.metadata})
        assert compare_metadata(context, tables.metadata) == []


def test_opening_a_store_again_changes_nothing(store, store_url):
    with store.write() as connection:
        meta.put(connection, "key", "value")
    if store_url == "sqlite://":
        pytest.skip("a store in memory ends with its process")
    again = Store(store_url, MemoryBlobs())
    with again.read() as connection:
        assert meta.get(connection, "key") == "value"
    again.close()


def test_a_database_of_a_newer_version_is_refused_with_what_to_do(store, store_url):
    if store_url == "sqlite://":
        pytest.skip("a store in memory ends with its process")
    with store.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NotValid, match="newer edgewise") as caught:
        Store(store_url, MemoryBlobs())
    assert caught.value.code == "database_version"


def test_times_come_back_aware_and_to_the_microsecond(store):
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    with store.write() as connection:
        leases.take(connection, "x", holder="a", until=elsewhere, now=NOW)
    with store.read() as connection:
        until = connection.execute(sa.select(tables.leases.c.until)).scalar_one()
        later = connection.execute(sa.select(tables.leases.c.name).where(tables.leases.c.until > NOW)).all()
    assert (until, until.tzinfo, later) == (NOW, UTC, [])


def test_a_write_that_fails_changes_nothing(store):
    def fail_half_way() -> None:
        with store.write() as connection:
            meta.put(connection, "key", "value")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with store.read() as connection:
        assert meta.get(connection, "key") is None


def test_an_inner_write_joins_the_outer_one_and_an_inner_read_sees_it(store):
    def fail_outside() -> None:
        with store.write() as outer:
            with store.write() as inner:
                meta.put(inner, "key", "value")
            with store.read() as reader:
                assert meta.get(reader, "key") == "value"
            assert inner is outer
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_outside()
    with store.read() as connection:
        assert meta.get(connection, "key") is None


def test_writers_wait_for_each_other_so_the_audit_chain_has_one_end(store):
    def work(name: str) -> None:
        for _ in range(8):
            with store.write() as connection:
                audit.note(connection, actor=name, action="test.done", subject="x", now=NOW, data={"n": 1.5})

    threads = [threading.Thread(target=work, args=(f"writer {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    checked = audit.verify(store)
    assert (checked.entries, checked.broken) == (32, None)


def test_a_lease_has_one_holder_and_its_fence_grows_with_each_new_one(store):
    def take(holder: str, at: datetime) -> int | None:
        with store.write() as connection:
            return leases.take(connection, "controllers", holder=holder, until=at + timedelta(seconds=30), now=at)

    later = NOW + timedelta(seconds=31)
    assert [take("a", NOW), take("b", NOW), take("a", NOW), take("b", later), take("a", later)] == [1, None, 1, 2, None]
    with store.write() as connection:
        leases.release(connection, "controllers", holder="b", now=later)
    assert take("a", later) == 3


def test_a_full_disk_is_not_now_and_loses_nothing(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'hub.db'}", MemoryBlobs())
    with store.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def small(connection: object, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")  # type: ignore[attr-defined]

    store.engine.dispose()
    sa.event.listen(store.engine, "connect", small)
    with pytest.raises(NotNow, match="no space left") as caught, store.write() as connection:
        meta.put(connection, "key", "x" * 1_000_000)
    assert caught.value.code == "disk_full"
    with store.read() as connection:
        assert meta.get(connection, "key") is None
    store.close()


def test_a_database_that_does_not_answer_is_not_now():
    with pytest.raises(NotNow, match="does not answer"):
        Store("postgresql+psycopg://nobody@127.0.0.1:1/none", MemoryBlobs())


def test_sqlite_keeps_its_promise_of_durability(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'hub.db'}", MemoryBlobs())
    with store.write() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("synchronous", "journal_mode")
        ]
    assert settings == [2, "wal"], "2 is FULL: an acknowledged commit survives a power cut"
    store.close()
