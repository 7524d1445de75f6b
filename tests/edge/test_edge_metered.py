"""A link that costs money: what goes over it, what waits, and what it costs, said before it is spent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.edge._metered import DAYS_MAX, Meter, MeteredLink, Waits, cost, may_send, why_waiting
from edgewise.edge.outbox import Entry
from edgewise.ports import MemoryFacts
from edgewise.wire import CLASSES, Connectivity, Event, Metered, digest

NOW = datetime(2026, 3, 17, 12, tzinfo=UTC)
TERMS = Metered(classes=("audit", "feedback"), bytes_per_day=1000)


@given(st.booleans(), st.integers(0, 5000), st.none() | st.just(TERMS))
def test_alarms_go_over_any_link_and_a_free_one_takes_everything(is_metered, spent, terms):
    classes = may_send(terms, is_metered=is_metered, spent_bytes=spent)
    assert "alarm" in classes
    if not is_metered or terms is None:
        assert classes == CLASSES
    else:
        assert classes == (("alarm", "audit", "feedback") if spent < 1000 else ("alarm",))


def test_the_preview_names_bytes_and_money_by_class():
    waiting = {"alarm": Waits(records=1, size_bytes=400), "sample": Waits(records=9, size_bytes=3_000_000)}
    waiting |= {"audit": Waits(records=4, size_bytes=2000)}
    about = Connectivity(price_per_gb=5, currency="EUR", metered=TERMS)
    days = {"2026-02-28": 10**9, "2026-03-01": 4_000_000, "2026-03-17": 400}
    told = cost(waiting, about, is_metered=True, days=days, now=NOW)
    assert told["waiting"]["sample"] == {"records": 9, "bytes": 3_000_000, "cost": 0.015}
    assert told["today"] == {"bytes": 400, "cost": 0.000002}
    assert told["this_month"] == {"bytes": 4_000_400, "cost": 0.020002}
    assert told["next_contact"]["bytes"] == 1500 + 400 + 600  # the alarm, and as much of the audit as is left today
    assert told["waits_for_a_free_link"] == ["sample"]
    assert why_waiting(told) == "a link that is not metered: 9 records of sample wait, 3000000 bytes"
    free = cost(waiting, about, is_metered=False, days=days, now=NOW)
    assert (free["next_contact"]["cost"], free["next_contact"]["bytes"]) == (0.0, 3_003_900)
    assert why_waiting(free) is None


def test_without_a_price_bytes_are_told_and_money_is_not():
    told = cost({"sample": Waits(records=1, size_bytes=9)}, Connectivity(), is_metered=True, days={}, now=NOW)
    assert told["waiting"]["sample"]["cost"] is None
    assert told["next_contact"]["cost"] is None


def test_sums_are_kept_by_day_and_only_so_many(bench):
    meter = Meter(lambda: True, bench.clock.now, {})
    for _ in range(100):
        meter.count(10)
        bench.clock.advance(86_400)
    assert len(meter.plain()) == DAYS_MAX
    assert Meter(lambda: False, bench.clock.now, {}).plain() == {}


def test_every_byte_either_way_is_counted(bench):
    counted: list[int] = []
    link = MeteredLink(bench.link(), counted.append)
    data = b"x" * 100
    link.put_blob(digest(data), data)
    assert link.blob_offset(digest(data)) is None
    assert b"".join(link.get_blob(digest(data), offset=40)) == data[40:]
    assert sum(counted) == 160


@pytest.fixture
def metered(fleet):
    facts = MemoryFacts(network_metered=True)
    about = {"contact_s": 60, "price_per_gb": 4, "currency": "EUR"}
    terms = {"metered": {"classes": ["audit", "telemetry"], "bytes_per_day": 200_000}}
    device = fleet.device(facts=facts, connectivity=about | terms)
    fleet.assign(fleet.release(1))
    fleet.run(device, 5)
    yield fleet, device, facts
    device.close(fleet.clock.now())


def test_over_a_metered_link_only_listed_classes_go_the_rest_waits_and_updates_are_not_held_up(metered):
    fleet, device, facts = metered
    assert device.updater.running is not None, "an update over a metered link is the terms' affair alone"
    fleet.feed(64)
    fleet.run(device, 200)
    assert fleet.stored("sample") == []
    assert fleet.stored("telemetry")
    assert device.outbox.backlog().records > 0
    said = [reason for reason in device.waits_for() if "not metered" in reason]
    assert len(said) == 1
    told = device.status(fleet.clock.now())["cost"]
    assert told["today"]["bytes"] > 1000
    assert told["next_contact"]["classes"] == ["alarm", "audit", "telemetry"]
    facts.tell(network_metered=False)
    fleet.run(device, 100)
    assert fleet.stored("sample")
    assert device.backlog == 0
    assert not [reason for reason in device.waits_for() if "not metered" in reason]


def test_an_alarm_goes_over_a_metered_link_with_no_bytes_left_also_behind_what_was_sealed_for_another(metered):
    fleet, device, facts = metered
    facts.tell(network_metered=False)
    fleet.lost = lambda _what: True
    fleet.feed(64)
    fleet.run(device, 100)  # samples are sealed for a link that then breaks
    assert {segment.record_class for segment in device.outbox.open_segments()} & {"sample", "audit_sample"}
    fleet.lost = lambda _what: False
    facts.tell(network_metered=True)
    device.meter.count(10**6)
    fleet.clock.advance(2000)
    before = len(fleet.hub.records)
    record = Event(id="f" * 32, at=fleet.clock.now(), what="x", text="fire")
    device.outbox.add(Entry(record=record, record_class="alarm", policy_version=1))
    fleet.run(device, 100)
    assert "f" * 32 in [item["id"] for item in fleet.hub.records[before:]]


def test_what_a_metered_link_cost_is_remembered_over_a_start(fleet):
    facts = MemoryFacts(network_metered=True)
    device = fleet.device(facts=facts)
    fleet.assign(fleet.release(1))
    fleet.feed(40)
    fleet.run(device, 100)
    device.close(fleet.clock.now())
    spent = device.meter.today(fleet.clock.now())
    again = fleet.device(facts=facts)
    assert again.meter.today(fleet.clock.now()) == spent > 0
    again.close(fleet.clock.now())
