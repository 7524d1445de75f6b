"""The device's half of a contact: what is sent when, and what each answer means."""

from __future__ import annotations

from datetime import timedelta

import pytest

from edgewise.edge.outbox import Entry, Outbox, OutboxLimits
from edgewise.edge.uplink import (
    Assigned,
    BlobLost,
    BlobsMissing,
    Heard,
    HubForgot,
    SegmentRefused,
    Stored,
    Uplink,
    contact,
)
from edgewise.ports import LinkDown, MemoryLink, Refused, SeededChance
from edgewise.wire import (
    DataPolicy,
    Decision,
    Event,
    NotValid,
    Receipt,
    Refusal,
    Report,
    Sample,
    digest,
    encode,
    unpack_upload,
)


@pytest.fixture
def talk(bench):
    """An outbox, its uplink and the tiny hub at the other end."""

    class Talk:
        hub = bench.hub
        now = bench.clock.now()
        outbox = Outbox(bench.folder, chance=SeededChance(1), limits=OutboxLimits(reserve_bytes=0))
        uplink = Uplink(outbox, "d1", DataPolicy())
        report = Report(at=now, phase="idle", facts={"line": 4})

        def link(self, lose=lambda _what: False):
            return MemoryLink(self.hub, "d1", lose)

        def contact(self, lose=lambda _what: False, **more):
            return list(contact(self.link(lose), self.uplink, self.outbox, lambda: self.report, self.now, **more))

        def event(self, number, record_class="audit"):
            record = Event(id=f"{number:032x}", at=self.now, what="x", text="t")
            self.outbox.add(Entry(record=record, record_class=record_class, policy_version=1))

        def sample(self, number):
            content = b"%d" % number * 50
            record = Sample(
                id=f"{number:032x}", frame=f"f{number}", site="north", taken_at=self.now, kept_at=self.now,
                why="margin", inclusion_probability=1, blob=digest(content), size_bytes=len(content),
                media_type="image/png", decision=Decision(label="a", confidence=1, margin=1, bundle="0" * 64),
            )  # fmt: skip
            entry = Entry(
                record=record, record_class="sample", policy_version=1, transform="strip-metadata", content=content
            )
            self.outbox.add(entry)
            return record.blob

        def receipt(self, **more):
            values = {"watermark": 0, "epoch": self.outbox.epoch, "hub_epoch": "a" * 32, "next_contact_s": 9}
            return encode(Receipt(**{**values, "at": self.now, **more}))

    made = Talk()
    yield made
    made.outbox.close()


def test_an_empty_outbox_still_reports_and_hears_the_hubs_wish(talk, bench):
    envelope = bench.assign(bench.release(1))
    assert talk.contact() == [Heard("a" * 32, 60.0, talk.hub.metadata, talk.now), Assigned(envelope)]
    assert talk.hub.uploads[0].report.facts == {"line": 4}
    assert talk.hub.uploads[0].segments == ()


def test_blobs_go_before_the_segment_that_names_them_and_never_twice(talk):
    blob = talk.sample(1)
    talk.hub.blobs[blob] = b"1" * 50  # the hub has it from elsewhere
    talk.sample(2)
    talk.hub.put_blob = lambda _device, sha256, data, put=talk.hub.put_blob, **more: (
        names.append(sha256),
        put("d1", sha256, data, **more),
    )
    names: list[str] = []
    events = talk.contact()
    assert Stored(1, 2) in events
    assert not any(isinstance(event, BlobsMissing) for event in events)
    assert len(names) == 1
    assert blob not in names


def test_a_lost_reply_is_answered_with_the_same_bytes_and_stored_once(talk):
    talk.event(1)
    with pytest.raises(LinkDown):
        talk.contact(lambda what: what == "reply")
    assert len(talk.hub.records) == 1
    assert talk.outbox.backlog().records == 1
    assert Stored(1, 1) in talk.contact()
    assert len(talk.hub.records) == 1


def test_what_was_acknowledged_before_the_link_broke_stays_acknowledged(talk):
    for number in range(30):
        talk.sample(number)
        talk.event(100 + number, "audit")
    lost = iter([False] * 40 + [True] * 1000)
    with pytest.raises(LinkDown):
        talk.contact(lambda _what: next(lost))
    done = len(talk.hub.records)
    talk.contact()
    ids = [record["id"] for record in talk.hub.records]
    assert len(ids) == len(set(ids)) == 60 > done


def test_a_hub_that_has_forgotten_gets_everything_open_under_a_new_epoch(talk):
    talk.event(1)
    talk.contact()
    talk.event(2)
    talk.hub.watermarks.clear()  # restored from a backup of before
    talk.hub.records.clear()
    epoch = talk.outbox.epoch
    events = talk.contact()
    assert any(isinstance(event, HubForgot) for event in events)
    assert [record["id"] for record in talk.hub.records] == [f"{2:032x}"]
    assert talk.outbox.epoch != epoch


def test_another_refusal_of_the_whole_contact_is_left_to_a_person(talk):
    with pytest.raises(Refused, match="corrupt"):
        talk.uplink.refused(Refused("corrupt", code="upload_corrupt"))


def test_a_refused_segment_is_told_once_counted_and_let_go(talk):
    talk.event(1)
    talk.uplink.seal(talk.now)
    refusal = Refusal(number=1, code="policy_unknown", text="no")
    events = talk.uplink.receive(talk.receipt(watermark=1, refused=(refusal,)))
    assert SegmentRefused(1, "policy_unknown", "no") in events
    assert talk.outbox.backlog().refused == {"audit": 1}
    again = talk.uplink.receive(talk.receipt(watermark=1, refused=(refusal,)))
    assert again == [Heard("a" * 32, 9, at=talk.now)]


def test_blobs_that_the_hub_misses_are_put_again(talk):
    blob = talk.sample(1)
    talk.uplink.seal(talk.now)
    talk.uplink.blob_is_there(blob)
    assert talk.uplink.blobs_to_put() == []
    assert BlobsMissing((blob,)) in talk.uplink.receive(talk.receipt(missing_blobs=(blob,)))
    assert talk.uplink.blobs_to_put() == [blob]


def test_a_segment_whose_blob_is_not_at_the_hub_is_not_sent_nor_any_after_it(talk):
    talk.sample(1)
    talk.event(2, "telemetry")
    talk.uplink.seal(talk.now)
    header, _ = unpack_upload(talk.uplink.request(talk.report, talk.now))
    assert [segment.record_class for segment in header.segments] == ["telemetry"]
    talk.event(3, "telemetry")
    talk.uplink.seal(talk.now)
    header, _ = unpack_upload(talk.uplink.request(talk.report, talk.now))
    assert [segment.number for segment in header.segments] == [1]


def test_bytes_that_rotted_on_the_device_do_not_block_what_follows(talk):
    blob = talk.sample(1)
    talk.event(2)
    file = next(path for path in talk.outbox.blobs.path.rglob("*") if path.is_file())
    file.write_bytes(b"rotten" * 9)
    events = talk.contact()
    assert BlobLost(blob, 1) in events
    assert talk.outbox.backlog().records == 0
    assert [record["kind"] for record in talk.hub.records] == ["event", "event"]


def test_a_receipt_for_another_epoch_is_not_used(talk):
    talk.event(1)
    talk.uplink.seal(talk.now)
    with pytest.raises(NotValid, match="epoch"):
        talk.uplink.receive(talk.receipt(epoch="f" * 32, watermark=1))
    assert talk.outbox.backlog().records == 1


def test_under_a_policy_without_reports_only_what_steers_the_device_is_told(talk):
    uplink = Uplink(talk.outbox, "d1", DataPolicy(leave=("sample",)))
    report = talk.report.model_copy(update={"last_failure": "x", "decisions": 9})
    header, _ = unpack_upload(uplink.request(report, talk.now + timedelta(seconds=1)))
    assert header.report == Report(at=talk.now, phase="idle")


def test_a_contact_is_bounded_and_the_next_one_goes_on(talk):
    for number in range(40):
        talk.event(number, "telemetry" if number % 2 else "audit")
    talk.contact(rounds_max=1)
    talk.contact()
    assert len(talk.hub.records) == 40
