"""Exactly once, acknowledged only when durable, refused where the policy says so (invariants 2, 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from edgewise._zstd import zstd
from edgewise.hub import enrol
from edgewise.hub.intake import ClonedKey, Gap
from edgewise.hub.store import devices as device_rows
from edgewise.hub.store import tables
from edgewise.trust import open_assignment
from edgewise.wire import Assignment, DataPolicy, Event, Feedback, NotTrusted, NotValid, Report, digest

TELEMETRY = (
    b'{"id":"11111111111111111111111111111111","kind":"telemetry","site":"north",'
    b'"start":"2026-03-01T00:00:00Z","end":"2026-03-01T00:00:00Z","decisions":%s}'
)


def test_a_segment_is_stored_once_and_acknowledged_again_when_it_is_sent_again(yard):
    device = yard.enrol("one")
    first = device.segment(1, device.sample(), device.sample())
    assert device.send(first).watermark == 1
    assert device.send(first).watermark == 1
    assert device.send(first, device.segment(2, device.telemetry())).watermark == 2
    assert len(yard.rows(tables.samples)) == 2
    assert len(yard.rows(tables.telemetry)) == 1
    assert [row["duplicates"] for row in yard.rows(tables.segments)] == [0, 0]


def test_a_gap_is_refused_with_the_watermark_to_go_on_from_and_stores_nothing(yard):
    device = yard.enrol("one")
    device.send(device.segment(1, device.telemetry()))
    with pytest.raises(Gap, match="send again from 2") as caught:
        device.send(device.segment(3, device.telemetry()))
    assert (caught.value.watermark, caught.value.code) == (1, "gap")
    assert len(yard.rows(tables.segments)) == 1


def test_the_same_number_with_other_bytes_betrays_a_cloned_key_and_is_audited_once(yard):
    device = yard.enrol("one")
    device.send(device.segment(1, device.telemetry()))
    other = device.segment(1, device.telemetry(decisions=99))
    for _ in range(2):
        with pytest.raises(ClonedKey, match="two devices use one key"):
            device.send(other)
    assert [row["action"] for row in yard.rows(tables.audit)].count("device.cloned") == 1
    assert len(yard.rows(tables.telemetry)) == 1


def test_what_a_device_refused_joins_the_chain_once_and_within_bounds(yard):
    device = yard.enrol("one")

    def event(what: str, text: str = "why") -> Event:
        return Event(id=device.id(), at=yard.clock.now(), what=what, text=text, data={"code": "bundle_corrupt"})

    refused = event("bundle_refused", "blob 3 has another digest")
    device.send(device.segment(1, refused, event("started"), record_class="audit"))
    device.send(device.segment(2, refused, record_class="audit"))
    told = [row for row in yard.rows(tables.audit) if row["action"].startswith("device.bundle")]
    assert [(row["actor"], row["subject"], row["data"]["text"]) for row in told] == [
        ("device one", "one", "blob 3 has another digest")
    ]
    assert told[0]["data"]["code"] == "bundle_corrupt"
    device.send(device.segment(3, *(event("metadata_refused") for _ in range(60)), record_class="audit"))
    actions = [row["action"] for row in yard.rows(tables.audit)]
    assert (actions.count("device.metadata_refused"), actions.count("device.more_refused")) == (50, 1)


def test_a_new_epoch_starts_at_one_again(yard):
    device = yard.enrol("one")
    device.send(device.segment(1, device.telemetry()))
    device.epoch = "f" * 32
    assert device.send(device.segment(1, device.telemetry())).watermark == 1
    assert len(yard.rows(tables.telemetry)) == 2


def test_a_missing_blob_is_named_and_nothing_from_there_on_is_acknowledged(yard):
    device = yard.enrol("one")
    blob = digest(b"not here yet")
    first, second = device.segment(1, device.telemetry()), device.segment(2, device.sample(blob=blob))
    third = device.segment(3, device.telemetry())
    receipt = device.send(first, second, third)
    assert (receipt.watermark, receipt.missing_blobs) == (1, (blob,))
    yard.door.put_blob("one", blob, b"not here yet")
    receipt = device.send(second, third)
    assert (receipt.watermark, receipt.missing_blobs) == (3, ())


class TornWrite(Exception):
    """The commit did not happen."""


@pytest.mark.parametrize("step", ["segment", "watermark", "commit"])
def test_no_receipt_is_given_for_what_was_not_committed(yard, step):
    """Whatever breaks inside the transaction, the device hears nothing and the store holds nothing of it."""
    device = yard.enrol("one")
    body = device.upload(device.segment(1, device.sample(), device.sample()))
    broken = {"segment": "INSERT INTO segments", "watermark": "INSERT INTO watermarks"}.get(step)

    def statement(_c: Any, _cursor: Any, text: str, *_: Any) -> None:
        if broken is not None and text.startswith(broken):
            raise TornWrite

    def commit(_connection: Any) -> None:
        if step == "commit":
            raise TornWrite

    engine = yard.hub.store.engine
    sa.event.listen(engine, "before_cursor_execute", statement)
    sa.event.listen(engine, "commit", commit)
    with pytest.raises(TornWrite):
        yard.door.exchange("one", body)
    sa.event.remove(engine, "before_cursor_execute", statement)
    sa.event.remove(engine, "commit", commit)
    for table in (tables.samples, tables.segments, tables.watermarks):
        assert yard.rows(table) == []
    yard.door.exchange("one", body)
    assert len(yard.rows(tables.samples)) == 2


def refused(yard, device, segment) -> str:
    receipt = device.send(segment)
    assert receipt.watermark == segment[0].number, "a refused number is taken, else it would block the outbox"
    again = device.send(segment)
    assert again.refused == receipt.refused, "the device hears it again when the first answer was lost"
    rows = [row for row in yard.rows(tables.segments) if row["refused_code"]]
    assert rows[-1]["body"] is None, "what may not leave the device is not kept here either"
    return receipt.refused[0].code


def test_sums_by_channel_without_the_noise_that_the_policy_asks_for_are_refused_and_audited(yard):
    noise = {"epsilon_per_day": 0.5, "clip": 3.0}
    policy = DataPolicy.model_validate({"version": 2, "private": {"sums_noise": noise}})
    yard.apply(data=policy)
    device = yard.enrol("one")
    part = {"clip": 3.0, "values_per_frame": 1, "total_deviation": 9.0, "square_deviation": 9.0}
    applied = {"mechanism": "gaussian", "unit": "frame", "epsilon": 0.5, "delta": 1e-6, "parts": [part]}

    def sums(**more: Any) -> Event:
        data = {"norms": [{"count": 1}]} | more
        return Event(id=device.id(), at=yard.clock.now(), what="channel_sums", text="", data=data)

    assert refused(yard, device, device.segment(1, sums(), policy_version=2)) == "noise_missing"
    told = [row["data"]["code"] for row in yard.rows(tables.audit) if row["action"] == "segment.refused"]
    assert told == ["noise_missing"]
    assert device.send(device.segment(2, sums(noise=applied), policy_version=2)).refused == ()
    assert [row["what"] for row in yard.rows(tables.events)] == ["channel_sums"]


def test_what_the_policy_forbids_is_refused_and_not_kept(yard):
    device = yard.enrol("one")
    cases = [
        {"transform": "none"},
        {"policy_version": 9},
        {"record_class": "telemetry"},
        {"blobs": ()},
    ]
    codes = [
        refused(yard, device, device.segment(number, device.sample(), **lie))
        for number, lie in enumerate(cases, start=1)
    ]
    assert codes == ["transform_missing", "policy_unknown", "content_forbidden", "content_forbidden"]
    assert refused(yard, device, device.segment(5, device.sample(facts={"line": "4", "operator": "x"}))) == (
        "fields_forbidden"
    )
    assert yard.rows(tables.samples) == []


def test_a_device_speaks_for_its_own_site_only(yard):
    device = yard.enrol("one", site="north")
    assert refused(yard, device, device.segment(1, device.sample(site="south"))) == "segment_invalid"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"not zstd", "segment_invalid"),
        (zstd.compress(b"not json"), "segment_invalid"),
        (zstd.compress(b"\n" * 7), "segment_invalid"),
        (zstd.compress(bytes(40 << 20)), "segment_too_big"),
        (zstd.compress(b'{"kind":"telemetry"}'), "segment_invalid"),
        (zstd.compress(TELEMETRY % b"100000000000000000000000"), "not_canonical"),
        (zstd.compress(TELEMETRY % b'1,"labels":{"a\\u0000":1}'), "segment_invalid"),
    ],
)
def test_a_segment_that_cannot_be_read_is_refused(yard, payload, code):
    device = yard.enrol("one")
    lie = {"sha256": digest(payload), "size_bytes": len(payload)}
    header, _ = device.segment(1, device.telemetry(), **lie)
    assert refused(yard, device, (header, payload)) == code


def test_an_upload_that_lies_about_its_bytes_or_its_sender_is_refused_whole(yard):
    device, other = yard.enrol("one"), yard.enrol("two")
    header, payload = device.segment(1, device.telemetry())
    with pytest.raises(NotValid, match="send it again"):
        device.send((header.model_copy(update={"sha256": "0" * 64}), payload))
    with pytest.raises(NotValid, match="one after the other"):
        device.send(device.segment(2, device.telemetry()), device.segment(1, device.telemetry()))
    with pytest.raises(NotTrusted, match="in the name of two"):
        yard.door.exchange("one", other.upload())
    with pytest.raises(NotTrusted, match="not enrolled"):
        yard.door.exchange("nobody", device.upload(device="nobody"))
    with pytest.raises(NotValid, match="starts with"):
        yard.door.exchange("one", b"hello")
    assert yard.rows(tables.segments) == []


def test_feedback_moves_a_frame_up_the_queue_whichever_comes_first(yard):
    device = yard.enrol("one")
    now = yard.clock.now()

    def word(frame: str) -> Feedback:
        return Feedback(id=device.id(), frame=frame, site="north", given_at=now, verdict="wrong")

    before, after = device.sample("before"), device.sample("after")
    device.send(
        device.segment(1, before, device.sample("other")),
        device.segment(2, word("before"), word("after"), record_class="feedback"),
        device.segment(3, after),
    )
    urgent = {row["frame"]: row["priority"] for row in yard.rows(tables.samples)}
    assert urgent == {"before": 1, "after": 1, "other": 4}


def test_events_and_reports_are_kept_and_a_commit_is_remembered(yard):
    device = yard.enrol("one")
    now, bundle = yard.clock.now(), "b" * 64
    event = Event(id=device.id(), at=now, what="phase", text="committed", data={"n": 1})
    report = Report(at=now, phase="committed", release="press@1", bundle=bundle, facts={"ram_mb": 512})
    device.send(device.segment(1, event, record_class="audit"), report=report)
    yard.clock.advance(60)
    device.send(report=report)
    device.send(report=report.model_copy(update={"release": "press@2"}))
    device.send(report=report)
    stays = [(row["release"], (row["last_at"] - row["since"]).total_seconds()) for row in yard.rows(tables.commits)]
    assert stays == [("press@1", 60.0), ("press@2", 0.0), ("press@1", 0.0)]
    assert yard.rows(tables.events)[0]["data"] == {"n": 1}
    assert yard.rows(tables.devices)[0]["facts"] == {"ram_mb": 512}


def test_an_assignment_comes_signed_for_this_device_until_it_has_it(yard):
    device = yard.enrol("one")
    wanted = Assignment(
        device="one",
        number=1,
        hub_epoch=yard.hub.hub_epoch,
        use_case="press",
        release="press@1",
        issued_at=yard.clock.now(),
    )
    assert device.send().assignment is None
    with yard.hub.store.write() as connection:
        device_rows.assign(connection, wanted)
    envelope = device.send().assignment
    got = open_assignment(envelope, [yard.hub.key.public], device="one", newest=0, hub_epoch=yard.hub.hub_epoch)
    assert got == wanted
    assert device.send(has_assignment=1).assignment is None


def test_a_device_that_was_shut_out_is_refused(yard):
    device = yard.enrol("one")
    enrol.shut_out(yard.hub.store, "one", reason="stolen", who="test", now=yard.clock.now())
    with pytest.raises(NotTrusted, match="shut out"):
        device.send()


def test_contacts_of_a_fleet_are_spread_in_time(yard):
    device = yard.enrol("one")
    waits = [device.send().next_contact_s for _ in range(200)]
    assert 48 <= min(waits) < 50
    assert 70 < max(waits) <= 72


class Exchange(RuleBasedStateMachine):
    """Random uploads, replays, gaps, losses and a clone, against a model of what was acknowledged."""

    make_yard: Callable[..., Any]

    @initialize()
    def start(self) -> None:
        self.yard = self.make_yard()
        self.devices = [self.yard.enrol(name) for name in ("one", "two")]
        self.sealed: dict[str, list[Any]] = {device.name: [] for device in self.devices}  # index 0 is number 1
        self.made: dict[str, list[str]] = {device.name: [] for device in self.devices}
        self.acked = {device.name: 0 for device in self.devices}

    def device(self, which: int) -> Any:
        return self.devices[which]

    @rule(which=st.integers(0, 1), kinds=st.lists(st.sampled_from(["sample", "telemetry"]), min_size=1, max_size=3))
    def seal(self, which: int, kinds: list[str]) -> None:
        device = self.device(which)
        same = [kind for kind in kinds if kind == kinds[0]]  # a segment holds one class
        records = [getattr(device, kind)() for kind in same]
        mine = self.sealed[device.name]
        mine.append(device.segment(len(mine) + 1, *records))
        self.made[device.name] += [record.id for record in records]

    @rule(which=st.integers(0, 1), back=st.integers(0, 3), count=st.integers(1, 4), reply_lost=st.booleans())
    def send(self, which: int, back: int, count: int, reply_lost: bool) -> None:
        """From a bit before what is known to be acknowledged: replays overlap with what is new."""
        device = self.device(which)
        start = max(0, self.acked[device.name] - back)
        some = self.sealed[device.name][start : start + count]
        receipt = device.send(*some)
        if some:
            assert receipt.watermark >= some[-1][0].number
        if not reply_lost:
            self.acked[device.name] = receipt.watermark

    @rule(which=st.integers(0, 1), skip=st.integers(1, 3))
    def skip(self, which: int, skip: int) -> None:
        device = self.device(which)
        mark = self.mark(device)
        later = self.sealed[device.name][mark + skip :]
        if later:
            with pytest.raises(Gap) as caught:
                device.send(later[0])
            assert caught.value.watermark == mark

    @rule(which=st.integers(0, 1), pick=st.integers(0, 20))
    def clone(self, which: int, pick: int) -> None:
        device = self.device(which)
        mark = self.mark(device)
        if mark:
            number = pick % mark + 1
            with pytest.raises(ClonedKey):
                device.send(device.segment(number, device.telemetry(decisions=1_000_000)))

    def mark(self, device: Any) -> int:
        rows = [row for row in self.yard.rows(tables.watermarks) if row["device"] == device.name]
        return rows[0]["number"] if rows else 0

    @invariant()
    def everything_acknowledged_is_stored_exactly_once(self) -> None:
        if not hasattr(self, "yard"):
            return
        stored = [row["id"] for table in (tables.samples, tables.telemetry) for row in self.yard.rows(table)]
        assert len(stored) == len(set(stored))
        for device in self.devices:
            mark = self.mark(device)
            assert mark >= self.acked[device.name]
            held = sum(header.count for header, _ in self.sealed[device.name][:mark])
            assert set(self.made[device.name][:held]) <= set(stored)
            assert not set(self.made[device.name][held:]) & set(stored)


def test_whatever_is_sent_replayed_lost_or_cloned_is_stored_exactly_once(make_yard):
    machine = type("Machine", (Exchange,), {"make_yard": staticmethod(make_yard)})
    checked = settings(
        max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(machine, settings=checked)


def test_two_epochs_at_once_betray_a_copied_key_and_lose_nothing(yard):
    device = yard.enrol("one")
    device.send(device.segment(1, device.telemetry()))
    copy = replace(device, epoch="c" * 32, count=1000)
    yard.clock.advance(1)
    copy.send(copy.segment(1, copy.telemetry()))
    assert yard.rows(tables.devices)[0]["clone_seen"] is None, "a new outbox alone is no clone"
    copy.send(copy.segment(2, copy.telemetry()))
    assert yard.rows(tables.devices)[0]["clone_seen"] is None
    yard.clock.advance(1)
    for number in (2, 3):  # the old outbox goes on: two devices are at work
        assert device.send(device.segment(number, device.telemetry())).watermark == number
    assert yard.rows(tables.devices)[0]["clone_seen"] == f"{device.epoch}:again"
    assert [row["action"] for row in yard.rows(tables.audit)].count("device.cloned") == 1
    assert len(yard.rows(tables.telemetry)) == 5
