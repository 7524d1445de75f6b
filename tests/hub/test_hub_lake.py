"""The lake: every row once, whatever is killed where; visible in a minute; never in anybody's way."""

from __future__ import annotations

import json

import pytest

from edgewise.hub import labels
from edgewise.hub.lake import TABLES, Asked, Lake, LakeConfig, ask, place_of
from edgewise.hub.lake._delta import LakeTable
from edgewise.hub.lake._rows import Batch
from edgewise.hub.lake._rules import ALWAYS
from edgewise.hub.store import lake as rows
from edgewise.wire import NotNow, NotValid
from lake_world import POLICY, START, Pond, event, feedback, readings


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def pond(yard, tmp_path):
    yard.apply(data=POLICY)
    return Pond(yard=yard, path=tmp_path / "lake")


@pytest.fixture
def device(pond):
    return pond.yard.enrol("one")


def send(device, number, *records, **changes):
    return device.send(device.segment(number, *records, **{"policy_version": 2} | changes))


def send_some(device, first=1, **changes):
    """A segment of each kind; comes back with ids by table."""
    sample = device.sample()
    block, plain = readings(device, [1.5, 2.5], channels=("ac_power", "temp_c")), device.telemetry(labels={"good": 9})
    told, word = event(device, line=4), feedback(device, sample.frame)
    send(device, first, sample, **changes)
    send(device, first + 1, block, plain, **changes)
    send(device, first + 2, told, record_class="audit", **changes)
    send(device, first + 3, word, record_class="feedback", **changes)
    return {
        "samples": [sample.id],
        "readings": [block.id] * 4,
        "telemetry": [plain.id],
        "events": [told.id],
        "feedback": [word.id],
    }


def test_rows_of_every_kind_arrive_with_their_columns(pond, device):
    sent = send_some(device)
    labels.set_labels(pond.yard.hub.store, [(sent["samples"][0], "pit")], who="ann", now=pond.yard.clock.now())
    assert pond.lake().commit(START)
    assert {table: pond.ids(table) for table in sent} == sent
    points = {(row["channel"], row["read_at"].second): row for row in pond.rows("readings")}
    assert [points["ac_power", second]["value"] for second in (0, 1)] == [1.5, 2.5]
    assert points["temp_c", 1] | {"id": ""} == {
        "use_case": "press",
        "site": "north",
        "date": START.date(),
        "id": "",
        "device": "one",
        "epoch": device.epoch,
        "number": 2,
        "received_at": START,
        "channel": "temp_c",
        "read_at": START.replace(second=1),
        "value": 2.5,
        "whole": None,
    }
    assert pond.rows("telemetry")[0]["labels"] == [{"name": "good", "count": 9}]
    assert pond.rows("events")[0]["data"] == '{"line": 4}'
    assert pond.rows("feedback")[0]["label"] == "pit"
    assert pond.rows("samples")[0]["decided"] == "good"
    assert [(row["sample"], row["label"], row["labelled_by"], row["device"]) for row in pond.rows("labels")] == [
        (sent["samples"][0], "pit", "ann", "one")
    ]


def test_whole_numbers_stay_exact(pond, device):
    send(device, 1, readings(device, [2**53 + 1, 3]))
    pond.lake().commit(START)
    assert [row["whole"] for row in pond.rows("readings")] == [2**53 + 1, 3]


def test_what_came_by_hand_arrives_with_its_labels(pond):
    ids = pond.yard.bring_in(("north", "a", "g1", "pit"), ("south", "b", "g2", None))
    pond.lake().commit(START)
    assert pond.ids("samples") == sorted(ids)
    assert [row["label"] for row in pond.rows("labels")] == ["pit"]
    pond.yard.bring_in(("north", "a", "g1", "good"))
    pond.lake().commit(START)
    history = sorted(pond.rows("labels"), key=lambda row: row["position"])
    assert [row["label"] for row in history] == ["pit", "good"]
    assert pond.ids("samples") == sorted(ids)


def test_a_record_that_the_store_has_already_is_in_the_lake_once(pond, device):
    one, two = device.telemetry(), device.telemetry()
    send(device, 1, one)
    send(device, 2, one, two, two)
    pond.lake().commit(START)
    assert pond.ids("telemetry") == sorted([one.id, two.id])


def everything(pond, device):
    sent = send_some(device)
    more = pond.yard.bring_in(("north", "a", "g1", "pit"))
    erased = device.sample("gone")
    send(device, 5, erased)
    return {**sent, "samples": sorted([*sent["samples"], *more, erased.id]), "labels": more}


STEPS = 20  # of that round; the test below counts them


@pytest.mark.parametrize("step", range(STEPS))
def test_a_kill_behind_any_step_neither_doubles_nor_loses_a_row(pond, device, step):
    wanted = everything(pond, device)
    count = 0

    def kill(_name):
        nonlocal count
        count += 1
        if count == step + 1:
            raise Killed

    with pytest.raises(Killed):
        pond.lake(kill).commit(START)
    # More comes meanwhile, so the next process cuts its batches elsewhere.
    late = device.telemetry()
    send(device, 6, late)
    wanted["telemetry"] = sorted([*wanted["telemetry"], late.id])
    pond.lake().commit(START)
    assert {table: pond.ids(table) for table in wanted} == wanted
    assert pond.status()["waiting"] == 0


def test_the_steps_behind_which_it_is_killed_are_all(pond, device):
    everything(pond, device)
    seen = []
    pond.lake(seen.append).commit(START)
    assert len(seen) == STEPS, seen


def test_a_second_round_without_news_writes_nothing(pond, device):
    send_some(device)
    lake = pond.lake()
    lake.commit(START)
    before = pond.status()
    pond.yard.clock.advance(60)
    lake.commit(pond.yard.clock.now())
    assert pond.status() == before


def test_small_batches_end_at_the_same_rows(pond, device):
    wanted = [device.telemetry() for _ in range(30)]
    for number, record in enumerate(wanted, start=1):
        send(device, number, record)
    lake = pond.lake(rows_max=7, bytes_max=300, segments_max=4)
    while not lake.commit(START):
        pass
    assert pond.ids("telemetry") == sorted(record.id for record in wanted)


def test_rows_are_visible_within_a_minute(pond, device):
    clock, lake = pond.yard.clock, pond.lake()
    seen: set[str] = set()
    sent = {}
    for number in range(1, 40):
        record = device.telemetry()
        send(device, number, record)
        sent[record.id] = clock.now()
        for _ in range(7):
            clock.advance(1)
            lake.tick(clock.now())
            if (pond.path / "telemetry").exists():
                for name in set(pond.ids("telemetry")) - seen:
                    assert (clock.now() - sent[name]).total_seconds() <= 60
                    seen.add(name)
            assert pond.status()["lag_s"] <= 60
    assert len(seen) > 30


def test_a_hub_that_lost_its_lease_commits_nothing(pond, device):
    send_some(device)
    other = pond.lake(holder="elsewhere/1")

    def overtaken(name):
        if name == "open labels":
            pond.yard.clock.advance(60)  # it hangs for longer than its lease lasts
            other.commit(pond.yard.clock.now())

    with pytest.raises(NotNow, match="another hub took the lake over"):
        pond.lake(overtaken).commit(START)
    assert len(pond.ids("readings")) == 4


def test_of_two_commits_on_one_version_the_second_does_not_happen(pond, device):
    """The lease alone is no protection: between looking at it and committing, everything can happen."""
    about = {"lake_id": "a" * 32, "hub_epoch": "b" * 32, "history_s": 3600}
    place = pond.lake().place
    LakeTable(place, "events", **about).begin()
    slow, quick = LakeTable(place, "events", **about), LakeTable(place, "events", **about)
    send(device, 1, event(device), record_class="audit")
    batch = Batch(dict.fromkeys(TABLES, 0), lambda _use_case, _site: ALWAYS)
    with pond.yard.hub.store.read() as connection:
        for segment in rows.bodies_between(connection, 0, 1):
            batch.add_segment(segment)
    quick.append(batch.table("events"), {"segments": 1, "notes": 0})
    with pytest.raises(NotNow, match="another version meanwhile"):
        slow.append(batch.table("events"), {"segments": 1, "notes": 0})
    assert len(pond.rows("events")) == 1
    slow.refresh()
    assert slow.offset("segments") == 1


def test_a_restored_hub_begins_the_tables_anew(pond, device):
    sent = send_some(device)
    imported = pond.yard.bring_in(("north", "a", "g1", "pit"))
    pond.lake().commit(START)
    pond.lake(hub_epoch="f" * 32).commit(START)
    assert {table: pond.ids(table) for table in sent} == sent | {"samples": sorted([*sent["samples"], *imported])}
    assert pond.ids("labels") == imported


def test_a_lost_table_is_made_anew_from_the_store(pond, device, tmp_path):
    sent = send_some(device)
    pond.yard.bring_in(("north", "a", "g1", "pit"))
    pond.lake().commit(START)
    for name in ("telemetry", "labels"):
        (pond.path / name).rename(tmp_path / f"away-{name}")
    pond.lake().commit(START)
    assert pond.ids("telemetry") == sent["telemetry"]
    assert len(pond.ids("labels")) == 1
    assert len(pond.ids("readings")) == 4
    assert len(pond.ids("samples")) == 2


def test_a_lake_of_another_hub_is_left_alone(pond, make_yard, device):
    send_some(device)
    pond.lake().commit(START)
    other = make_yard(seed=9)
    other.apply(data=POLICY)
    talker = other.enrol("two")
    send_some(talker)
    with pytest.raises(NotValid, match="name another place"):
        Pond(yard=other, path=pond.path).lake().commit(START)
    assert len(pond.ids("readings")) == 4


def test_a_broken_lake_stops_nothing_and_is_shown(pond, device):
    pond.path.write_text("no folder")
    lake = pond.lake()
    send_some(device)
    assert lake.tick(START)
    told = pond.status()
    assert told["waiting"] == 4
    assert "check the lake's place" in told["error"]["text"]
    assert pond.yard.hub.tick(START)
    send(device, 5, device.telemetry())
    pond.path.unlink()
    pond.yard.clock.advance(31)
    assert lake.tick(pond.yard.clock.now())
    assert pond.status()["error"] is None
    assert pond.status()["waiting"] == 0


def test_rows_that_have_to_stay_in_a_region_do_not_enter_a_lake_elsewhere(pond, device):
    usecase = pond.yard.apply(data=POLICY.model_copy(update={"version": 3, "residency": "region"}))
    south = pond.yard.enrol("two", "south")
    sites = (usecase.sites[0], usecase.sites[1].model_copy(update={"region": "eu-south"}))
    pond.yard.apply(data=usecase.data, sites=sites)
    send_some(device, policy_version=3)
    send_some(south, policy_version=3)
    pond.lake().commit(START)
    assert {row["site"] for row in pond.rows("readings")} == {"north"}
    assert pond.status()["held_back"] == ["press/south"]
    pond.config = LakeConfig(region="eu-south")
    pond.lake().commit(START)
    assert pond.rows("readings") == []  # what is here goes, when the lake is said to be elsewhere


def test_a_lake_in_a_bucket_is_written_and_asked(yard, bucket_url, s3_server):
    yard.apply(data=POLICY)
    device = yard.enrol("one")
    place = place_of(LakeConfig(), data_dir=None, objects_url=bucket_url, options=s3_server.options)
    assert place is not None
    assert place.url.startswith("s3://")
    assert "secret" not in repr(place)
    hub = yard.hub
    about = {"hub_epoch": hub.hub_epoch, "holder": hub.holder, "chance": hub.chance, "clock": yard.clock.now}
    lake = Lake(hub.store, place, LakeConfig(), hub.limits.lake, **about)
    send(device, 1, readings(device, [1.5, 2.5]), device.telemetry())
    lake.commit(START)
    send(device, 2, device.telemetry())
    Lake(hub.store, place, LakeConfig(), hub.limits.lake, **about).commit(START)
    count = "SELECT (SELECT count(*) FROM readings), (SELECT count(*) FROM telemetry)"
    assert json.loads(ask(lake, Asked(sql=count)).body)["rows"] == [[2, 2]]


def test_a_record_sent_again_on_the_short_way_is_in_the_lake_once(pond, device):
    """Readings and telemetry of a device that is as it was share commits, and are numbered together."""
    one, two = device.telemetry(), device.telemetry()
    send(device, 1, one)
    body = device.upload(device.segment(2, one, two, policy_version=2), acked=1)
    answer = pond.yard.door.quick("one", body)
    assert answer is not None
    assert answer.result(20) is not None
    pond.lake().commit(START)
    assert pond.ids("telemetry") == sorted([one.id, two.id])
    assert pond.status()["waiting"] == 0
