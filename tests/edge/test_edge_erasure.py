"""What is to be forgotten is gone from memory, files, free pages and the log, and the hub never gets it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.edge._sinks import Sinks
from edgewise.edge.outbox import Outbox, OutboxLimits, unpack
from edgewise.policy import subject_hash, subject_of
from edgewise.ports import FolderBlobs, Frame, MemorySink, Safe, SeededChance
from edgewise.wire import Decision, Erasure, NotValid, decode, loads
from outbox_entries import event, fates, sample

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = b"k" * 32
ADA, BEA = subject_hash("Ada", KEY), subject_hash("Bea", KEY)


class PowerCut(BaseException):
    """No handler of ours may catch it: a cut runs no code."""


class PlainSafe(Safe):
    """Encrypts nothing, so that what is left in a file shows."""

    def seal(self, _kind: str, _row: str | int, data: bytes) -> bytes:
        return data

    def unseal(self, _kind: str, _row: str | int, cell: bytes) -> bytes:
        return cell


def open_plain(folder: Path, **more: Any) -> Outbox:
    return Outbox(
        folder, chance=SeededChance(1), limits=OutboxLimits(reserve_bytes=0), safe=PlainSafe(KEY),
        blobs=FolderBlobs(folder / "blobs"), **more,
    )  # fmt: skip


def about(number: int, subject: str, text: str, *, at: datetime = NOW, content: bytes | None = None):
    content = (text.encode() + number.to_bytes(4, "big")) * 30 if content is None else content
    return replace(sample(number, content=content, frame=f"{text}-{number}"), subject=subject, about_at=at)


def found_in(folder: Path, text: str) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes())


# -- the outbox --------------------------------------------------------------------------------------------------------


def test_nothing_of_a_forgotten_subject_is_left_in_any_byte_of_the_folder(tmp_path):
    box = open_plain(tmp_path)
    # Large enough for pages of their own, small enough to share some, changed and deleted before: all leave traces.
    for number in range(0, 300, 2):
        box.add_many([about(number, ADA, "ADA-LOVELACE"), about(number + 1, BEA, "BEA-WITNESS")])
    assert found_in(tmp_path, "ADA-LOVELACE")
    assert any("wal" in name for name in found_in(tmp_path, "ADA-LOVELACE"))
    erased = box.erase(Erasure(subject=ADA))
    assert (erased.records, erased.sealed) == (150, ())
    assert found_in(tmp_path, "ADA-LOVELACE") == []
    assert found_in(tmp_path, "BEA-WITNESS")
    assert box.backlog().waiting == {"sample": 150}
    assert box.backlog().erased == {"sample": 150}
    assert box.backlog().shed == {}
    assert len(list(box.blobs.digests())) == 150
    assert box.erase(Erasure(subject=ADA)).sealed == ()  # asked again, nothing more happens
    assert box.backlog().erased == {"sample": 150}
    box.close()


def test_a_forgotten_record_is_not_taken_again(tmp_path):
    box = open_plain(tmp_path)
    box.add(about(1, ADA, "ada"))
    box.erase(Erasure(subject=ADA))
    assert box.add(about(1, ADA, "ada"))
    assert box.backlog().records == 0
    assert fates(box) == {f"{1:032x}": "erased"}
    box.close()


@pytest.mark.parametrize(
    ("erasure", "stays"),
    [
        (Erasure(subject=ADA), {2, 4, 5}),
        (Erasure(since=NOW + timedelta(hours=1)), {1, 2, 5}),
        (Erasure(until=NOW + timedelta(minutes=59)), {3, 4, 5}),
        (Erasure(since=NOW, until=NOW), {3, 4, 5}),
        (Erasure(subject=ADA, since=NOW + timedelta(minutes=1)), {1, 2, 4, 5}),
        (Erasure(site="a"), {5}),  # the device compares the site; what is about no frame always stays
    ],
)
def test_subject_and_time_are_both_asked_for(tmp_path, erasure, stays):
    box = open_plain(tmp_path)
    later = NOW + timedelta(hours=2)
    box.add_many(
        [about(1, ADA, "a"), about(2, BEA, "b"), about(3, ADA, "c", at=later), about(4, BEA, "d", at=later), event(5)]
    )
    box.erase(erasure)
    assert {int(name, 16) for name, fate in fates(box).items() if fate == "waiting"} == stays
    box.close()


def test_bytes_that_somebody_else_shares_stay(tmp_path):
    box = open_plain(tmp_path)
    box.add_many([about(1, ADA, "x", content=b"shared"), about(2, BEA, "y", content=b"shared")])
    box.erase(Erasure(subject=ADA))
    assert len(list(box.blobs.digests())) == 1
    box.seal(NOW)
    box.add(about(3, ADA, "z", content=b"shared"))
    box.erase(Erasure(subject=BEA))
    assert len(list(box.blobs.digests())) == 1  # a waiting record needs them
    box.close()


def test_what_is_sealed_stays_as_it_is_and_is_told_and_its_blob_goes(tmp_path):
    box = open_plain(tmp_path)
    box.add_many([about(1, ADA, "ada"), about(2, BEA, "bea")])
    box.seal(NOW)
    before = box.payload(1)
    erased = box.erase(Erasure(subject=ADA))
    assert (erased.records, erased.sealed, erased.blobs) == (0, (f"{1:032x}",), 1)
    assert box.payload(1) == before
    gone = about(1, ADA, "ada").record.blob
    assert not box.blobs.has(gone)
    assert box.give_up_blob(gone, NOW) == 1  # what a contact does where the hub lacks it too
    assert [loads(line)["id"] for line in unpack(box.payload(1))] == [f"{2:032x}"]
    box.close()


CUTS = ("erased", "blob_deleted", "sealed_blobs_deleted", "scrubbed")


@settings(max_examples=40, deadline=None)
@given(
    whose=st.lists(st.sampled_from("ABN"), min_size=1, max_size=40),
    sealed=st.integers(0, 40),
    cut=st.sampled_from(CUTS),
    after=st.integers(0, 6),
)
def test_an_erasure_cut_off_anywhere_ends_the_same_when_it_is_asked_again(whose, sealed, cut, after):
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        folder, left = Path(place) / "box", [after]

        def checkpoint(name: str) -> None:
            if name == cut:
                left[0] -= 1
                if left[0] < 0:
                    raise PowerCut

        box = open_plain(folder)
        subjects = {"A": ADA, "B": BEA, "N": ""}
        entries = [about(n, subjects[who], f"WHOSE-{who}") for n, who in enumerate(whose)]
        box.add_many(entries[:sealed])
        box.seal(NOW)
        box.add_many(entries[sealed:])
        open_before = [box.payload(segment.number) for segment in box.open_segments()]
        sealed_ids = {name for name, fate in fates(box).items() if fate == "sealed"}
        box._checkpoint = checkpoint
        try:
            box.erase(Erasure(subject=ADA))
            box._checkpoint = lambda _: None
        except PowerCut:
            shutil.copytree(folder, Path(place) / "after")  # as after a kill: nothing is flushed or closed first
            box.close()
            folder = Path(place) / "after"
            box = open_plain(folder)
        erased = box.erase(Erasure(subject=ADA))
        mine = {entry.record.id for entry in entries if entry.subject == ADA}
        fate = fates(box)
        assert {name for name, what in fate.items() if what == "erased"} == mine - sealed_ids
        assert set(erased.sealed) == mine & sealed_ids
        assert erased.records == len(mine - sealed_ids)  # counted over both runs
        assert [box.payload(segment.number) for segment in box.open_segments()] == open_before
        held = {entry.record.blob for entry in entries if entry.record.id not in mine}
        assert set(box.blobs.digests()) == held
        files = [path for path in folder.rglob("*") if path.is_file() and "db" not in path.name]
        assert not any(b"WHOSE-A" in path.read_bytes() for path in files)
        if not mine & sealed_ids:
            assert found_in(folder, "WHOSE-A") == []
        box.close()


# -- the device --------------------------------------------------------------------------------------------------------


def people_frame(fleet, number: int) -> Frame:
    who = "ADA" if number % 2 else "BEA"
    row = json.loads(fleet.frame(number).data) | {"who": who}
    return fleet.frame(number)._replace(data=json.dumps(row).encode(), group="", facts={"subject": who})


def feed_people(fleet, first: int, count: int) -> None:
    for number in range(first, first + count):
        frame = people_frame(fleet, number)
        fleet.frames.append(frame)
        fleet.source.add(frame)


def whose(fleet) -> set[str]:
    """Subjects of all content that the hub got."""
    return {json.loads(data).get("who", "") for data in fleet.hub.blobs.values() if data.startswith(b'{"x"')}


def offline_with_people(fleet, count: int = 64, sealed_after: float = 10.0):
    release = fleet.sign(fleet.bundle(1))
    fleet.assign(release)
    device = fleet.device()
    fleet.run(device, steps=40)
    assert device.updater.running is not None
    fleet.lost = lambda _what: True
    device.contacts.next_at = fleet.clock.now() + timedelta(seconds=sealed_after)  # a contact seals what waits
    feed_people(fleet, 0, count)
    fleet.run(device, steps=count + 70)
    assert device.outbox.backlog().records
    return device, release


def test_an_erasure_in_the_assignment_is_carried_out_reported_and_told_once(fleet):
    device, release = offline_with_people(fleet, sealed_after=1000)
    hidden = device.keeper.hidden("ADA")
    running = device.updater.running
    # As a courier or a contact would bring it, before anything is sent.
    envelope = fleet.assign(release, erasures=(Erasure(number=3, subject=hidden, reason="asked for"),))
    assert device.updater.accept(envelope, fleet.clock.now())
    for _ in range(4):
        device.record_step(fleet.clock.now())
        device.decide_step(fleet.clock.now())
    assert device.eraser.done == 3
    assert device.outbox.backlog().erased
    assert device.report(fleet.clock.now()).erased == 3
    assert device.report(fleet.clock.now()).erased_of == "a" * 32
    assert not any(item.subject == "ADA" for item in device.decider.recent)
    assert device.ring.get("f000001") is None
    assert device.ring.get("f000000") is not None
    fleet.lost = lambda _what: False
    fleet.run(device, steps=300)
    assert whose(fleet) == {"BEA"}
    (told,) = [record for record in fleet.hub.records if record.get("what") == "erased"]
    assert (told["data"]["erasure"], told["data"]["sealed"]) == (3, [])
    assert told["data"]["records"] == device.outbox.backlog().erased["sample"] + device.outbox.backlog().erased.get(
        "audit_sample", 0
    )
    assert device.updater.running is running  # a new assignment for an erasure disturbs no release
    device.close(fleet.clock.now())


def test_what_was_sealed_but_not_at_the_hub_does_not_get_there(fleet):
    device, _ = offline_with_people(fleet)
    assert device.outbox.open_segments()
    told = device.erase(Erasure(subject=device.keeper.hidden("ADA")), fleet.clock.now())
    assert told["sealed"]
    fleet.lost = lambda _what: False
    fleet.run(device, steps=300)
    assert whose(fleet) == {"BEA"}
    device.close(fleet.clock.now())


def test_a_source_that_tells_of_old_frames_again_is_not_believed(fleet):
    upload = {"period_frames": 16, "share_of_bytes": 1.0, "audit_share": 1.0}
    device, _ = offline_with_people(fleet)
    feed_people(fleet, 64, 8)
    fleet.run(device, steps=10)
    assert device.decider.period_frames == 8  # an unfinished period: its frames are decided again after a power cut
    device.erase(Erasure(subject=device.keeper.hidden("ADA")), fleet.clock.now())
    again = fleet.device(upload=upload)
    fleet.lost = lambda _what: False
    fleet.run(again, steps=400)
    assert whose(fleet) == {"BEA"}
    assert again.keeper.not_kept["erased"] > 0
    again.close(fleet.clock.now())


def test_a_power_cut_between_the_steps_of_an_erasure_leads_to_the_same_end(fleet):
    device, release = offline_with_people(fleet)
    hidden = device.keeper.hidden("ADA")
    envelope = fleet.assign(release, erasures=(Erasure(number=1, subject=hidden), Erasure(number=2, subject=hidden)))
    device.updater.accept(envelope, fleet.clock.now())
    device.record_step(fleet.clock.now())  # begun, not done
    assert device.eraser.done == 0
    again = fleet.device()
    assert again.keeper.hidden("ADA") == hidden
    for _ in range(8):
        again.step(fleet.clock.now())
    assert again.eraser.done == 2
    fleet.lost = lambda _what: False
    fleet.run(again, steps=300)
    assert "ADA" not in whose(fleet)
    told = [record["data"]["erasure"] for record in fleet.hub.records if record.get("what") == "erased"]
    assert sorted(told) == [1, 2]
    again.close(fleet.clock.now())


def test_a_hub_set_up_anew_counts_its_erasures_anew(fleet):
    device, release = offline_with_people(fleet)
    hidden = device.keeper.hidden("ADA")
    for epoch in ("a" * 32, "b" * 32):
        envelope = fleet.assign(release, hub_epoch=epoch, erasures=(Erasure(number=1, subject=hidden),))
        assert device.updater.accept(envelope, fleet.clock.now())
        for _ in range(4):
            device.step(fleet.clock.now())
        report = device.report(fleet.clock.now())
        assert (report.erased, report.erased_of) == (1, epoch)
    device.close(fleet.clock.now())


def test_an_erasure_of_another_site_covers_nothing_and_is_done(fleet):
    device, _ = offline_with_people(fleet)
    before = device.outbox.backlog().records
    told = device.erase(Erasure(site="south"), fleet.clock.now())
    assert (told["records"], told["frames"]) == (0, 0)
    assert device.outbox.backlog().records >= before
    device.close(fleet.clock.now())


def test_forgetting_a_whole_site_takes_what_was_set_aside_too(fleet):
    device, _ = offline_with_people(fleet)
    (fleet.folder / "outbox" / "outbox.locked").mkdir()
    (fleet.folder / "outbox" / "outbox.locked" / "outbox.db").write_bytes(b"locked")
    assert device.erase(Erasure(subject="0" * 64), fleet.clock.now())["set_aside"] == 1
    assert device.erase(Erasure(site="north"), fleet.clock.now())["set_aside_dropped"]
    assert not (fleet.folder / "outbox" / "outbox.locked").exists()
    assert not device.outbox.backlog().waiting.get("sample")
    assert device.ring.bytes_held == 0
    device.close(fleet.clock.now())


def test_an_order_that_names_nothing_is_no_order():
    with pytest.raises(NotValid, match="names a subject, a site, or a time"):
        decode(Erasure, b'{"number": 1, "reason": "x"}')


def test_a_subject_is_hidden_otherwise_than_a_name():
    assert subject_of({"subject": "Ada"}, "ward") == "Ada"
    assert subject_of({}, "ward") == "ward"
    assert subject_hash("Ada", b"j" * 32) != ADA
    with pytest.raises(NotValid):
        subject_hash("Ada", b"short")


def test_what_waits_for_a_sink_is_forgotten_too(fleet):
    sinks = [{"kind": "console", "name": "s", "events": ["decision"]}]
    case = fleet.device(sinks=sinks).identity
    told = Sinks(case, fleet.folder, clock=fleet.clock, open_one=lambda _: MemorySink())
    device = fleet.device(sinks=sinks)
    told.bind(device)
    act = told.heard(None, None)
    word = Decision(label="good", confidence=0.9, margin=0.8, bundle="0" * 64)
    for number in range(10):
        act(people_frame(fleet, number), word)
    assert told.queues["s"].waiting == 10
    device.erase(Erasure(subject=device.keeper.hidden("ADA")), fleet.clock.now() + timedelta(seconds=1))
    assert told.queues["s"].waiting == 5
    told.close()
    device.close(fleet.clock.now())


def test_an_erasure_that_cannot_end_says_why_and_holds_up_no_decision(fleet):
    device, release = offline_with_people(fleet, sealed_after=10_000)
    reader = sqlite3.connect(fleet.folder / "outbox" / "outbox.db")  # somebody reads the file all the while
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM made").fetchone()
    envelope = fleet.assign(release, erasures=(Erasure(number=1, subject=device.keeper.hidden("ADA")),))
    device.updater.accept(envelope, fleet.clock.now())
    feed_people(fleet, 64, 10)
    assert fleet.run(device, steps=12) == 10
    assert device.eraser.done == 0
    assert any("an erasure: " in reason for reason in device.waits_for())
    assert device.eraser.holds(device.updater.assignment, fleet.clock.now())
    late = fleet.clock.now() + timedelta(seconds=120)
    assert not device.eraser.holds(device.updater.assignment, late)  # an alarm does not wait for a disk that fails
    reader.close()
    fleet.run(device, steps=3)
    assert device.eraser.done == 1
    assert not any("an erasure: " in reason for reason in device.waits_for())
    device.close(fleet.clock.now())
