"""Quiet contacts: answered from memory, written with the tick, and never from what has changed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from edgewise.hub import Hub, HubConfig, LocalDoor, erasures, usecases
from edgewise.hub.access import Person
from edgewise.hub.store import devices, tables
from edgewise.ports import MemoryBlobs, MemoryKeys, MemoryRuntime, SeededChance
from edgewise.wire import Erasure, NotNow, NotTrusted, Receipt, Report, decode


@contextmanager
def statements(hub: Hub) -> Iterator[list[str]]:
    """What the store is asked meanwhile."""
    seen: list[str] = []

    def note(_connection, _cursor, statement, *_more):
        seen.append(statement)

    sa.event.listen(hub.store.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(hub.store.engine, "before_cursor_execute", note)


def row_of(yard, name="one"):
    with yard.hub.store.read() as connection:
        return devices.get(connection, name)


def report(yard, **changes) -> Report:
    fields = {"at": yard.clock.now(), "phase": "idle", "facts": {"cpu": "x86"}} | changes
    return Report(**fields)


@pytest.fixture
def quiet(yard):
    """A device whose next contact is quiet."""
    device = yard.enrol("one")
    for _ in range(2):
        device.send(report=report(yard))
    yard.hub.tick()
    return device


def test_a_quiet_contact_asks_the_store_nothing_and_is_written_with_the_tick(yard, quiet):
    yard.clock.advance(60)
    with statements(yard.hub) as asked:
        receipt = quiet.send(report=report(yard, decisions=7, facts={"cpu": "x86", "load": 0.5}))
    assert asked == []
    assert (receipt.watermark, receipt.at, receipt.assignment) == (0, yard.clock.now(), None)
    assert 48 <= receipt.next_contact_s <= 72
    assert row_of(yard).seen_at == yard.clock.now() - timedelta(seconds=60)
    yard.hub.tick()
    row = row_of(yard)
    assert (row.seen_at, row.sent_at) == (yard.clock.now(), yard.clock.now())
    assert (row.last_report.decisions, row.facts) == (7, {"cpu": "x86", "load": 0.5})


@pytest.mark.parametrize(
    "changes",
    [
        {"phase": "trial"},
        {"release": "press@1", "bundle": "1" * 64},
        {"assignment": 1},
        {"last_failure": "too slow"},
        {"erased": 1, "erased_of": "2" * 32},
        {"version": "9"},
    ],
    ids=str,
)
def test_whatever_somebody_acts_on_is_stored_before_the_answer(yard, quiet, changes):
    quiet.send(report=report(yard, **changes))
    told = row_of(yard).last_report
    assert {name: getattr(told, name) for name in changes} == changes


def test_what_is_answered_where_it_arrives_is_what_a_thread_would_answer_and_nothing_else(yard, quiet):
    door, now = yard.door, yard.clock.now
    assert decode(Receipt, door.quick("one", quiet.upload(report=report(yard)))).at == now()
    assert door.quick("one", quiet.upload(report=report(yard, phase="trial"))) is None
    assert door.quick("one", quiet.upload(quiet.segment(1, quiet.sample()), report=report(yard))) is None
    assert door.quick("two", quiet.upload(report=report(yard))) is None
    yard.clock.advance(1)  # another hub may have changed something meanwhile: the store must be asked
    assert door.quick("one", quiet.upload(report=report(yard))) is None
    quiet.send(report=report(yard))
    assert door.quick("one", quiet.upload(report=report(yard))) is not None


def test_records_are_stored_before_the_answer_and_the_next_contact_knows_their_watermark(yard, quiet):
    assert quiet.send(quiet.segment(1, quiet.telemetry())).watermark == 1
    assert quiet.send(acked=1).watermark == 1
    with statements(yard.hub) as asked:
        assert quiet.send(acked=1).watermark == 1
    assert asked == []
    assert quiet.send(acked=0).watermark == 1  # the receipt was lost: it is told again


def test_a_device_that_was_shut_out_is_refused_at_its_next_contact(yard, quiet):
    with yard.hub.store.write() as connection:
        devices.change(connection, "one", revoked_at=yard.clock.now())
    with pytest.raises(NotTrusted, match="was shut out"):
        quiet.send(report=report(yard))


def test_an_order_to_erase_reaches_a_quiet_device_at_its_next_contact(yard, quiet):
    everybody = Person(name="ann", role="admin")
    erasures.create(yard.hub, "press", Erasure(number=1, subject="5" * 64, site="north", reason="asked for"), everybody)
    assert quiet.send(report=report(yard)).assignment is not None


def test_a_change_of_the_use_case_is_told_at_the_next_contact(yard, quiet):
    usecase = yard.apply()
    calm = usecase.model_copy(update={"connectivity": usecase.connectivity.model_copy(update={"contact_s": 600})})
    usecases.apply(yard.hub.store, calm, source="", who="test", now=yard.clock.now())
    assert quiet.send(report=report(yard)).next_contact_s >= 480


def test_words_of_another_device_leave_this_one_known(yard, quiet):
    other = yard.enrol("two")
    quiet.send(report=report(yard))
    other.send(other.segment(1, other.telemetry()), report=report(yard, phase="trial"))
    with statements(yard.hub) as asked:
        quiet.send(report=report(yard))
    assert asked == []


def test_what_a_contact_says_is_never_overwritten_by_what_was_said_before_it(yard, quiet):
    quiet.send(report=report(yard, decisions=1))
    yard.clock.advance(1)
    quiet.send(report=report(yard, phase="trial", decisions=2))
    yard.hub.tick()
    told = row_of(yard).last_report
    assert (told.phase, told.decisions) == ("trial", 2)


def test_what_a_quiet_device_runs_goes_on_running_there(yard, quiet):
    runs = {"phase": "committed", "release": "press@1", "bundle": "1" * 64}
    for _ in range(3):
        yard.clock.advance(60)
        quiet.send(report=report(yard, **runs))
    yard.hub.tick()
    (stretch,) = yard.rows(tables.commits)
    assert stretch["last_at"] == stretch["since"] + timedelta(seconds=120)


def test_a_store_that_takes_nothing_now_is_told_later(yard, quiet, monkeypatch):
    yard.clock.advance(60)
    quiet.send(report=report(yard, decisions=5))

    def full(*_):
        raise NotNow("no space left", code="disk_full")

    with monkeypatch.context() as patched:
        patched.setattr("edgewise.hub.known.devices.heard_quiet", full)
        with pytest.raises(NotNow):
            yard.hub.known.flush()
    yard.hub.known.flush()
    assert row_of(yard).last_report.decisions == 5


def test_another_hub_on_the_database_is_heard_in_time(make_yard, store_url):
    if store_url == "sqlite://":
        pytest.skip("a store in memory has one hub")
    yard = make_yard(url=store_url)
    device = yard.enrol("one")
    for _ in range(3):
        device.send(report=report(yard))
    other = Hub(
        HubConfig(database_url=store_url),
        clock=yard.clock,
        chance=SeededChance(2),
        runtime=MemoryRuntime(),
        blobs=MemoryBlobs(),
        keys=MemoryKeys(b"hub"),
    )
    with other.store.write() as connection:
        devices.change(connection, "one", revoked_at=yard.clock.now())
    yard.clock.advance(yard.hub.limits.known_s)
    with pytest.raises(NotTrusted, match="was shut out"):
        device.send(report=report(yard))
    other.close()


def test_a_device_that_calls_at_another_hub_meanwhile_keeps_its_watermark(make_yard, store_url):
    if store_url == "sqlite://":
        pytest.skip("a store in memory has one hub")
    yard = make_yard(url=store_url)
    device = yard.enrol("one")
    for _ in range(3):
        device.send(report=report(yard))
    other = Hub(
        HubConfig(database_url=store_url),
        clock=yard.clock,
        chance=SeededChance(2),
        runtime=MemoryRuntime(),
        blobs=MemoryBlobs(),
        keys=MemoryKeys(b"hub"),
    )
    upload = device.upload(device.segment(1, device.telemetry()))
    assert decode(Receipt, LocalDoor(other).exchange("one", upload)).watermark == 1
    assert device.send(acked=1, report=report(yard)).watermark == 1
    other.close()


@pytest.mark.usefixtures("quiet")
def test_devices_that_say_more_keep_none_of_the_others_from_being_held(yard):
    """Many that take the long way at once must not keep each other on it."""
    known, other = yard.hub.known, yard.enrol("two")
    other.send(report=report(yard))
    known.drop("two")
    began, go_on = threading.Event(), threading.Event()
    read = known._read

    def slow(header):
        began.set()
        assert go_on.wait(10)
        return read(header)

    known._read = slow
    thread = threading.Thread(target=other.send, kwargs={"report": report(yard)})
    thread.start()
    assert began.wait(10)
    known.drop("one")
    go_on.set()
    thread.join(10)
    assert known.holds("two", yard.clock.now())
    assert not known.holds("one", yard.clock.now())
