"""Erasures at the hub: ordered by those who may, carried to devices, kept at the door, forgotten when told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from edgewise._zstd import zstd
from edgewise.hub import erasures
from edgewise.hub.access import Person, Refused
from edgewise.hub.segments import without
from edgewise.hub.store import devices as device_rows
from edgewise.hub.store import tables
from edgewise.trust import open_assignment
from edgewise.wire import Assignment, Erasure, Event, Feedback, NotValid, Report, digest, loads

ADA, BEA = digest(b"Ada"), digest(b"Bea")
BOSS = Person(name="boss", role="approver")


def order(yard, *, by: Person = BOSS, **wish: Any) -> int:
    return erasures.create(yard.hub, "press", Erasure(**wish, reason="asked for"), by).row.number


def receipt_of(yard, device, *segments, erased: int = 0, has: int = 0, of: str = ""):
    report = Report(at=yard.clock.now(), phase="idle", erased=erased, erased_of=of or yard.hub.hub_epoch)
    return device.send(*segments, report=report, has_assignment=has)


def assignment_in(yard, receipt) -> Assignment:
    assert receipt.assignment is not None
    keys = [yard.hub.key.public]
    return open_assignment(receipt.assignment, keys, device="one", newest=0, hub_epoch=None)


def audited(yard, action: str) -> list[Any]:
    return [row["data"] for row in yard.rows(tables.audit) if row["action"] == action]


def test_an_order_reaches_the_devices_it_covers_and_is_done_when_they_say_so(yard):
    yard.apply(
        data=yard.apply().data.model_copy(update={"fields": ("frame", "group", "taken_at", "subject"), "version": 2})
    )
    one, two = yard.enrol("one", "north"), yard.enrol("two", "south")
    number = order(yard, site="north", subject=ADA)
    first = receipt_of(yard, one)
    assignment = assignment_in(yard, first)
    assert [erasure.number for erasure in assignment.erasures] == [number]
    assert (assignment.release, assignment.bundle) == (None, None)
    assert receipt_of(yard, two).assignment is None
    assert receipt_of(yard, one, has=assignment.number).assignment is None  # the same state twice changes nothing
    (progress,) = erasures.listed(yard.hub, BOSS)
    assert (progress.done, progress.devices) == (0, 1)
    receipt_of(yard, one, has=assignment.number, erased=number)
    (progress,) = erasures.listed(yard.hub, BOSS)
    assert (progress.done, progress.devices) == (1, 1)
    assert audited(yard, "erasure.done") == [{"erasures": [number]}]
    receipt_of(yard, one, has=assignment.number, erased=number)
    assert len(audited(yard, "erasure.done")) == 1
    assert len(audited(yard, "erasure.ordered")) == 1


def test_another_hubs_numbers_acknowledge_nothing(yard):
    one = yard.enrol("one")
    order(yard, subject=ADA)
    receipt_of(yard, one, erased=99, of="f" * 32)
    (progress,) = erasures.listed(yard.hub, BOSS)
    assert progress.done == 0


def test_an_assignment_keeps_what_it_says_when_an_erasure_joins_it(yard):
    one = yard.enrol("one")
    with yard.hub.store.write() as connection:
        wish = Assignment(
            device="one", number=1, hub_epoch=yard.hub.hub_epoch, use_case="press", release="press@3", bundle="b" * 64,
            bake=True, rollout="c" * 32, trial_s=7, policy_version=1, issued_at=yard.clock.now(),
        )  # fmt: skip
        device_rows.assign(connection, wish)
    order(yard, subject=ADA)
    got = assignment_in(yard, receipt_of(yard, one, has=1))
    changed = {"number", "erasures", "issued_at"}
    assert got.model_dump(exclude=changed) == wish.model_dump(exclude=changed)
    assert got.number == 2


def test_more_orders_than_fit_into_one_assignment_come_one_after_the_other(yard):
    one = yard.enrol("one")
    numbers = [order(yard, subject=digest(str(n).encode())) for n in range(70)]
    got = assignment_in(yard, receipt_of(yard, one))
    assert [erasure.number for erasure in got.erasures] == numbers[:64]
    got = assignment_in(yard, receipt_of(yard, one, has=got.number, erased=numbers[63]))
    assert [erasure.number for erasure in got.erasures] == numbers[64:]


def with_subjects(yard) -> Any:
    data = yard.apply().data
    yard.apply(data=data.model_copy(update={"fields": ("frame", "group", "taken_at", "subject"), "version": 2}))
    return yard.enrol("one")


def test_what_falls_under_an_erasure_is_left_out_at_the_door(yard):
    one = with_subjects(yard)
    order(yard, subject=ADA)
    samples = [one.sample(facts={"subject": who}) for who in (ADA, BEA, ADA)]
    segment = one.segment(1, *samples, policy_version=2)
    assert receipt_of(yard, one, segment).watermark == 1
    assert [row["id"] for row in yard.rows(tables.samples)] == [samples[1].id]
    (stored,) = yard.rows(tables.segments)
    assert [loads(line)["id"] for line in zstd.decompress(stored["body"]).splitlines()] == [samples[1].id]
    assert (stored["sha256"], stored["duplicates"]) == (segment[0].sha256, 0)
    assert receipt_of(yard, one, segment).watermark == 1  # the same bytes are still known as the same
    assert audited(yard, "erasure.left_out")[0]["records"] == 2


def test_what_a_device_makes_after_it_has_erased_is_new(yard):
    one = with_subjects(yard)
    number = order(yard, subject=ADA)
    old = one.sample(facts={"subject": ADA})
    yard.clock.advance(60)
    receipt_of(yard, one, erased=number)
    yard.clock.advance(60)
    new = one.sample(facts={"subject": ADA})
    receipt_of(yard, one, one.segment(1, old, new, policy_version=2), erased=number)
    assert [row["id"] for row in yard.rows(tables.samples)] == [new.id]


def test_a_site_and_a_time_are_left_out_without_knowing_anybody(yard):
    one = yard.enrol("one")
    now = yard.clock.now()
    order(yard, site="north", until=now)
    early = one.sample()
    late = one.sample(taken_at=now + timedelta(hours=1))
    word = Feedback(id=one.id(), frame="f", site="north", given_at=now, verdict="wrong")
    receipt_of(
        yard, one, one.segment(1, early, late), one.segment(2, word, record_class="feedback"),
        one.segment(3, one.telemetry()),
    )  # fmt: skip
    assert [row["id"] for row in yard.rows(tables.samples)] == [late.id]
    assert yard.rows(tables.feedback) == []
    assert len(yard.rows(tables.telemetry)) == 1


def test_what_was_sealed_before_is_forgotten_when_the_device_tells_it(yard):
    one = yard.enrol("one")
    gone, stays = one.sample(), one.sample()
    word = Feedback(id=one.id(), frame="f", site="north", given_at=yard.clock.now(), verdict="wrong")
    receipt_of(yard, one, one.segment(1, gone, stays), one.segment(2, word, record_class="feedback"))
    other = yard.enrol("two").sample()
    told = {"erasure": 1, "sealed": [gone.id, word.id, other.id], "segments": [1, 2], "epoch": one.epoch}
    event = Event(id=one.id(), at=yard.clock.now(), what="erased", text="x", data=told)
    receipt_of(yard, one, one.segment(3, event, record_class="audit"))
    assert [row["id"] for row in yard.rows(tables.samples)] == [stays.id]
    assert yard.rows(tables.feedback) == []
    bodies = b"".join(zstd.decompress(row["body"]) for row in yard.rows(tables.segments) if row["number"] < 3)
    assert gone.id.encode() not in bodies
    assert word.id.encode() not in bodies
    assert stays.id.encode() in bodies
    assert audited(yard, "erasure.forgotten") == [{"erasure": 1, "told": 3, "forgotten": 2, "labelled": 0}]


@pytest.mark.parametrize("sealed", [None, "x", [1, None, {}], ["a" * 32] * 20_000, [["b"]]])
def test_a_device_that_tells_nonsense_changes_nothing(yard, sealed):
    one = yard.enrol("one")
    kept = one.sample()
    told = {"sealed": sealed, "segments": ["x", -1, 2**53 - 1], "epoch": "e"}
    event = Event(id=one.id(), at=yard.clock.now(), what="erased", text="x", data=told)
    receipt_of(yard, one, one.segment(1, kept), one.segment(2, event, record_class="audit"))
    assert [row["id"] for row in yard.rows(tables.samples)] == [kept.id]


def test_only_those_of_the_sites_may_order(yard):
    yard.enrol("one", "north")
    north = Person(name="n", role="approver", sites=frozenset({"north"}))
    assert order(yard, by=north, site="north", until=yard.clock.now())
    for wish in ({"site": "south"}, {"subject": ADA}):
        with pytest.raises(Refused):
            order(yard, by=north, **wish)
    with pytest.raises(NotValid):
        order(yard, site="nowhere")
    assert [one.row.site for one in erasures.listed(yard.hub, north)] == ["north"]


def test_a_payload_loses_only_the_named_records(yard):
    one = yard.enrol("one")
    _, payload = one.segment(1, one.telemetry(), one.telemetry())
    lines = zstd.decompress(payload).splitlines()
    assert zstd.decompress(without(payload, {loads(lines[0])["id"]})).splitlines() == lines[1:]
