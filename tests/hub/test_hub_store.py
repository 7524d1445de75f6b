"""The store: one schema on three homes, times that stay times, one writer, errors in families."""

from __future__ import annotations

import importlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from edgewise.hub import Store, audit
from edgewise.hub.store import labels, leases, meta, opinions, tables, verdicts
from edgewise.hub.store.migrations import upgrade
from edgewise.ports import MemoryBlobs
from edgewise.wire import NotNow, NotValid
from field_servers import until

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


def test_an_empty_database_and_one_that_was_migrated_step_by_step_have_one_schema(store_url):
    made = Store(store_url, MemoryBlobs())
    with made.write() as connection:
        new = _schema(connection)
        connection.execute(sa.text("DROP TABLE alembic_version"))
        tables.metadata.drop_all(connection)
        upgrade(connection)
        assert _schema(connection) == new
    made.close()


def _schema(connection: sa.Connection) -> dict[str, object]:
    """All that the database says of each table, in an order of its own."""
    look = sa.inspect(connection)
    asked = (look.get_foreign_keys, look.get_unique_constraints, look.get_indexes, look.get_check_constraints)
    return {
        name: {
            "columns": {
                one["name"]: (str(one["type"]), one["nullable"], one["default"]) for one in look.get_columns(name)
            },
            "key": look.get_pk_constraint(name)["constrained_columns"],
            "more": [sorted(_words(one) for one in ask(name)) for ask in asked],
        }
        for name in look.get_table_names()
    }


def _words(value: object) -> str:
    """Without addresses of objects: the condition of a partial index is one."""
    return f"{sorted((key, _words(one)) for key, one in value.items())}" if isinstance(value, dict) else str(value)


def test_opening_a_store_again_changes_nothing(store, store_url):
    with store.write() as connection:
        meta.put(connection, "key", "value")
    if store_url == "sqlite://":
        pytest.skip("a store in memory ends with its process")
    again = Store(store_url, MemoryBlobs())
    with again.read() as connection:
        assert meta.get(connection, "key") == "value"
    again.close()


def test_labels_from_before_opinions_were_kept_become_opinions(store):
    who_said = [("s1", "ann", "pit"), ("s1", "bob", "good"), ("s1", "ann", "good"), ("s2", "bob", "pit")]
    row = {"use_case": "press", "site": "north", "frame": "f", "group": "g", "why": "import", "blob": "0" * 64}
    times = dict.fromkeys(("taken_at", "kept_at", "received_at"), NOW)
    more = {"inclusion_probability": 1.0, "media_type": "image/png", "priority": 5}
    with store.write() as connection:
        for sample in ("s1", "s2"):
            connection.execute(sa.insert(tables.samples).values(id=sample, **row, **times, **more))
        for sample, who, label in who_said:
            labels.add(connection, "press", sample, label=label, who=who, now=NOW)
        step = importlib.import_module("edgewise.hub.store.migrations.versions.0007_labelling")
        connection.execute(sa.text(step.backfill(connection.dialect.name)))
        held = opinions.of(connection, ["s1", "s2"])
    said = {sample: [(one.who, one.label, one.blind, one.settled) for one in rows] for sample, rows in held.items()}
    assert said == {
        "s1": [("bob", "good", False, True), ("ann", "good", False, True)],
        "s2": [("bob", "pit", True, True)],
    }


def test_questions_about_labelling_are_answered_on_every_home(store):
    with store.read() as connection:
        for pool in (opinions.newest, opinions.apart, opinions.uncertain, opinions.disputed):
            assert pool(connection, "press", limit=5, sites=["north"]) == []
        assert opinions.for_second(connection, "press", "ann", limit=5) == []
        assert opinions.blind(connection, "press", limit=5, sites=["north"]) == []
        assert opinions.counted(connection, "press", since=NOW, sites=["north"]) == []
        assert opinions.words(connection, "press", answered=None, limit=5, sites=None) == []
        assert opinions.words_of(connection, [("cam", "f"), ("cam", "g")]) == []
        assert verdicts.sized(connection, "press", limit=5) == []


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


def together(store, *work):
    """Run each in a thread of its own while the writer is held, so that all wait for one commit."""
    with ThreadPoolExecutor(len(work)) as pool:
        with store.write():
            futures = [pool.submit(store.write_grouped, one) for one in work]
            until(lambda: len(store._waiting) == len(work), "all wait")
        return [future.exception() or future.result() for future in futures]


def putting(key, *, fails=None):
    def put(connection):
        meta.put(connection, key, "value")
        if fails is not None:
            raise fails
        return key

    return put


def test_work_that_waits_shares_one_commit_and_one_that_fails_undoes_itself_alone(store):
    commits = []
    sa.event.listen(store.engine, "commit", commits.append)
    wrong = NotValid("no", code="no")
    work = [putting("a"), putting("b", fails=wrong), putting("c"), putting("d", fails=NotNow("later", code="later"))]
    a, b, c, d = together(store, *work)
    assert (a, b, c, str(d)) == ("a", wrong, "c", "later")
    assert len(commits) == 2  # of the writer that they waited for, and theirs
    with store.read() as connection:
        assert [meta.get(connection, key) for key in "abcd"] == ["value", None, "value", None]


def test_a_commit_that_fails_has_failed_for_everybody_in_it(store):
    commits = []

    def refuse_second(connection):
        commits.append(connection)
        if len(commits) == 2:
            raise OSError("the disk is gone")

    sa.event.listen(store.engine, "commit", refuse_second)
    assert [str(found) for found in together(store, putting("a"), putting("b"))] == ["the disk is gone"] * 2
    with store.read() as connection:
        assert [meta.get(connection, key) for key in "ab"] == [None, None]
    assert store.write_grouped(putting("a")) == "a"


def test_of_many_that_wait_no_commit_takes_more_than_a_group(store, monkeypatch):
    monkeypatch.setattr("edgewise.hub.store._store.GROUP_MAX", 3)
    commits = []
    sa.event.listen(store.engine, "commit", commits.append)
    assert together(store, *(putting(str(number)) for number in range(8))) == [str(number) for number in range(8)]
    assert len(commits) == 1 + 3


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
