"""The short way for readings and telemetry: stored as by the long way, and never past anything that changed."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import Future
from datetime import timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewise.delta import Column, encode_series
from edgewise.hub import erasures
from edgewise.hub.access import Person
from edgewise.hub.limits import Limits
from edgewise.hub.store import devices, meta, tables
from edgewise.wire import DataPolicy, Erasure, Event, NotNow, Readings, Receipt, decode
from field_servers import until

EVERYBODY = Person(name="ann", role="admin")
POLICY = DataPolicy(fields=("frame",), telemetry=("temperature",))
STORED = (tables.segments, tables.telemetry, tables.readings, tables.watermarks, tables.audit)


def block(device, start, *, count=3, channel="temperature") -> Readings:
    """Readings of one channel, one a second from `start` on."""
    times = int(start.timestamp() * 1000) + np.arange(count) * 1000
    data = encode_series([Column(channel=0, times_ms=times, values=np.linspace(20.0, 21.0, count))])
    end = start + timedelta(seconds=count - 1)
    return Readings(id=device.id(), site="north", end=end, channels=(channel,), count=count,
                    block=base64.b64encode(data).decode())  # fmt: skip


@pytest.fixture
def make_streaming(make_yard):
    """A hub, and devices whose next readings can take the short way."""

    def make(*names, **more):
        yard = make_yard(usecase=False, **more)
        yard.apply(data=POLICY)
        talkers = [yard.enrol(name) for name in names]
        for talker in talkers:
            talker.send(talker.segment(1, talker.telemetry()))
        return yard, talkers

    return make


def quick(yard, talker, *segments, **changes) -> Receipt | None:
    """The receipt by the short way, None where it is not taken."""
    answer = yard.door.quick(talker.name, talker.upload(*segments, **changes))
    answer = answer.result(10) if isinstance(answer, Future) else answer
    return None if answer is None else decode(Receipt, answer)


def stored(yard) -> dict[str, list[dict[str, object]]]:
    return {table.name: sorted((dict(row) for row in yard.rows(table)), key=repr) for table in STORED}


def test_a_receipt_by_the_short_way_means_that_segments_and_watermark_are_stored(make_streaming):
    yard, (one,) = make_streaming("one")
    receipt = quick(yard, one, one.segment(2, block(one, yard.clock.now())), one.segment(3, one.telemetry()), acked=1)
    assert (receipt.watermark, receipt.refused, receipt.missing_blobs, receipt.at) == (3, (), (), yard.clock.now())
    assert [(row["number"], row["duplicates"]) for row in yard.rows(tables.segments)] == [(1, 0), (2, 0), (3, 0)]
    assert len(yard.rows(tables.readings)) == 1
    assert [row["number"] for row in yard.rows(tables.watermarks)] == [3]
    assert quick(yard, one, acked=3).watermark == 3  # a quiet one, from memory


# Each example makes two hubs of its own.
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.lists(st.sampled_from(["telemetry", "readings", "sample", "again", "event"]), max_size=3), max_size=6)
)
def test_both_ways_leave_the_same_rows(make_streaming_pair, said):
    short, long = make_streaming_pair()
    for yard, talker in (short, long):
        number, acked = 1, 1
        for kinds in said:
            segments, old = [], None
            for kind in kinds:
                number += 1
                record = {
                    "telemetry": talker.telemetry,
                    "readings": lambda: block(talker, yard.clock.now()),  # noqa: B023
                    "sample": talker.sample,
                    "again": lambda: old or talker.telemetry(),  # noqa: B023
                    "event": lambda: Event(id=talker.id(), at=yard.clock.now(), what="started", text="it began"),  # noqa: B023
                }[kind]()
                old = record if kind in ("telemetry", "again") else old
                changes = {"record_class": "audit"} if kind == "event" else {}
                segments.append(talker.segment(number, record, **changes))
            yard.clock.advance(0.1)
            found = quick(yard, talker, *segments, acked=acked) if yard is short[0] else None
            acked = (found or talker.send(*segments, acked=acked)).watermark
        yard.hub.tick()
    assert stored(short[0]) == stored(long[0])


@pytest.fixture
def make_streaming_pair(make_streaming):
    def make():
        return [(yard, talker) for yard, (talker,) in (make_streaming("one"), make_streaming("one"))]

    return make


@pytest.mark.parametrize("case", ["gap", "old", "other epoch", "channel", "count", "sample", "site"])
def test_what_is_not_plainly_the_next_takes_the_long_way_and_changes_nothing(make_streaming, case):
    yard, (one,) = make_streaming("one")
    before = stored(yard)
    number = {"gap": 3, "old": 1}.get(case, 2)
    record = {
        "channel": lambda: block(one, yard.clock.now(), channel="sound"),
        "sample": one.sample,
        "site": lambda: one.telemetry(site="south"),
    }.get(case, one.telemetry)()
    changes = {"count": 2} if case == "count" else {}
    more = {"epoch": "f" * 32} if case == "other epoch" else {}
    assert quick(yard, one, one.segment(number, record, **changes), acked=1, **more) is None
    assert stored(yard) == before


@pytest.mark.parametrize("change", ["shut out", "erasure", "elsewhere"])
def test_a_change_between_arrival_and_commit_sends_it_the_long_way(make_streaming, change):
    yard, (one,) = make_streaming("one")
    store = yard.hub.store
    with store.write() as connection:  # the commit of the contact waits for this one
        body = one.upload(one.segment(2, one.telemetry()), acked=1)
        promise = yard.door.quick("one", body)
        if change == "shut out":
            devices.change(connection, "one", revoked_at=yard.clock.now())
        elif change == "elsewhere":
            meta.put(connection, "changes", "999")  # as another hub of this database does
        else:
            wish = Erasure(number=1, subject="5" * 64, site="north", reason="asked for")
            erasures.create(yard.hub, "press", wish, EVERYBODY)
    assert promise.result(10) is None
    assert [row["number"] for row in yard.rows(tables.watermarks)] == [1]


def test_contacts_that_wait_share_a_commit_and_a_device_is_in_it_once(make_streaming):
    yard, (first, one, two) = make_streaming("first", "one", "two")
    commits = []
    sa.event.listen(yard.hub.store.engine, "commit", lambda _: commits.append(1))
    with yard.hub.store.write():
        promises = []
        for talker in (first, one, one, two):
            body = talker.upload(talker.segment(2, talker.telemetry()), acked=1)
            promises.append(yard.door.quick(talker.name, body))
            if talker is first:  # until the writer waits with it for this commit, so that the others share the next one
                until(lambda: not yard.hub.streams.waiting, "the writer takes the first contact")
    answers = [one.result(10) for one in promises]
    assert [answer is not None for answer in answers] == [True, True, False, True]
    assert len(commits) == 3  # the one above, the first contact's, and the shared one


def test_one_record_that_the_database_refuses_costs_the_others_nothing(make_streaming):
    yard, (one, two) = make_streaming("one", "two")
    bad = two.telemetry()
    with yard.hub.store.write() as connection:
        when = f"BEFORE INSERT ON telemetry WHEN NEW.id = '{bad.id}'"
        connection.execute(sa.text(f"CREATE TRIGGER refuse {when} BEGIN SELECT RAISE(ABORT, 'no'); END"))
    bodies = [
        talker.upload(talker.segment(2, record), acked=1) for talker, record in ((one, one.telemetry()), (two, bad))
    ]
    with yard.hub.store.write():
        promises = [yard.door.quick(*pair) for pair in zip(("one", "two"), bodies, strict=True)]
    assert promises[1].result(10) is None
    answer = promises[0].result(10) or yard.door.exchange("one", bodies[0])
    assert decode(Receipt, answer).watermark == 2
    assert [row["number"] for row in yard.rows(tables.watermarks) if row["device"] == "two"] == [1]


def test_a_store_that_is_down_is_told_to_all_that_wait_and_their_records_come_again(make_streaming, monkeypatch):
    yard, (one,) = make_streaming("one")

    def down(*_):
        raise NotNow("the hub's database has no space left; free some", code="disk_full")

    with monkeypatch.context() as patched:
        patched.setattr("edgewise.hub.streams._store", down)
        with pytest.raises(NotNow, match="no space left"):
            quick(yard, one, one.segment(2, one.telemetry()), acked=1)
    assert quick(yard, one, one.segment(2, one.telemetry()), acked=1).watermark == 2


def test_nothing_is_acknowledged_before_its_commit_is_done(make_streaming):
    yard, (one,) = make_streaming("one")
    engine = yard.hub.store.engine

    def fail(_connection):
        raise NotNow("the disk is full; free some", code="disk_full")

    sa.event.listen(engine, "commit", fail)
    try:
        with pytest.raises(NotNow, match="the disk is full"):
            quick(yard, one, one.segment(2, one.telemetry()), acked=1)
    finally:
        sa.event.remove(engine, "commit", fail)
    assert [row["number"] for row in yard.rows(tables.watermarks)] == [1]
    assert quick(yard, one, one.segment(2, one.telemetry()), acked=1).watermark == 2


def test_more_than_may_wait_take_the_long_way(make_streaming):
    yard, talkers = make_streaming("one", "two", "three", limits=Limits(streams_waiting_max=1))
    with yard.hub.store.write():
        found = [yard.door.quick(one.name, one.upload(one.segment(2, one.telemetry()), acked=1)) for one in talkers]
    # One may be in the writer's hands while another waits.
    assert [one for one in found if one is None]


def test_what_was_taken_is_stored_when_the_hub_closes(make_streaming, tmp_path):
    yard, talkers = make_streaming("one", "two", data_dir=tmp_path)
    promises = [yard.door.quick(one.name, one.upload(one.segment(2, one.telemetry()), acked=1)) for one in talkers]
    yard.hub.close()
    assert all(promise.done() and promise.result() for promise in promises)


def test_many_threads_by_both_ways_lose_nothing_and_double_nothing(make_yard, store_url):
    more = {} if store_url == "sqlite://" else {"url": store_url}
    yard = make_yard(usecase=False, **more)
    yard.apply(data=POLICY)
    talkers = [yard.enrol(f"device-{number}") for number in range(6)]

    def talk(talker):
        acked = 0
        for number in range(1, 13):
            segment = talker.segment(number, talker.telemetry(), block(talker, yard.clock.now()))
            receipt = quick(yard, talker, segment, acked=acked) if number % 4 else None
            acked = (receipt or talker.send(segment, acked=acked)).watermark
            assert acked == number

    threads = [threading.Thread(target=talk, args=(one,)) for one in talkers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {row["number"] for row in yard.rows(tables.watermarks)} == {12}
    assert len(yard.rows(tables.segments)) == len(yard.rows(tables.telemetry)) == len(yard.rows(tables.readings)) == 72
    assert {row["duplicates"] for row in yard.rows(tables.segments)} == {0}
