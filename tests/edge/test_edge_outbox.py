"""The outbox: durable when added, exactly once at the hub, bounded, never deleted before it is acknowledged."""

import os
import shutil
import sqlite3
import tempfile
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgewise.edge._outbox_tidy import Tidying
from edgewise.edge.outbox import Entry, Outbox, OutboxLimits, unpack
from edgewise.ports import FOLDERS, MemoryClock, SeededChance
from edgewise.wire import CLASSES, SEGMENTS_MAX, Decision, Event, NotNow, NotValid, Sample, digest, loads

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOMY = OutboxLimits(reserve_bytes=0)


class PowerCut(BaseException):
    """No handler of ours may catch it: a cut runs no code."""


def event(number: int, record_class: str = "audit", text: str = "x") -> Entry:
    record = Event(id=f"{number:032x}", at=NOW + timedelta(seconds=number), what="started", text=text)
    return Entry(record=record, record_class=record_class, policy_version=1)


def sample(number: int, record_class: str = "sample", size: int = 300, same: bool = False) -> Entry:
    content = (b"same" if same else number.to_bytes(4, "big")) * (size // 4)
    decision = Decision(label="good", confidence=0.9, margin=0.8, bundle="0" * 64)
    record = Sample(
        id=f"{number:032x}", frame=f"f{number}", site="a", taken_at=NOW, kept_at=NOW, why="margin", decision=decision,
        inclusion_probability=1, blob=digest(content), size_bytes=len(content), media_type="image/png",
    )  # fmt: skip
    return Entry(
        record=record, record_class=record_class, policy_version=1, transform="strip-metadata", content=content
    )


def open_outbox(folder: Path, *, limits: OutboxLimits = ROOMY, seed: int = 0, **more) -> Outbox:
    return Outbox(folder, chance=SeededChance(seed), limits=limits, **more)


@pytest.fixture
def outbox(tmp_path):
    box = open_outbox(tmp_path / "outbox")
    yield box
    box.close()


def fates(outbox: Outbox) -> dict[str, str]:
    return {item.id: item.fate for item in outbox.made(100_000)}


def test_segments_are_numbered_at_sealing_and_urgent_classes_go_first(outbox):
    for number, record_class in enumerate(["sample", "telemetry", "alarm", "disagreement"]):
        outbox.add(event(number, record_class))
    assert outbox.open_segments() == []
    assert outbox.seal(NOW) == 4
    assert [segment.record_class for segment in outbox.open_segments()] == [
        "alarm", "disagreement", "telemetry", "sample",
    ]  # fmt: skip
    assert [segment.number for segment in outbox.open_segments()] == [1, 2, 3, 4]


def test_at_most_eight_segments_are_open_and_an_alarm_is_sealed_next(tmp_path):
    box = open_outbox(tmp_path, limits=OutboxLimits(reserve_bytes=0, segment_records_max=2))
    box.add_many([event(number, "sample") for number in range(40)])
    assert box.seal(NOW) == SEGMENTS_MAX
    box.add(event(99, "alarm"))
    assert box.seal(NOW) == 0
    box.ack(1)
    assert box.seal(NOW) == 1
    assert box.open_segments()[-1].record_class == "alarm"
    box.close()


def test_what_is_sealed_is_bounded_in_bytes_so_that_an_alarm_waits_behind_little(tmp_path):
    limits = OutboxLimits(reserve_bytes=0, sealed_bytes_max=4000, segment_blob_bytes_max=900)
    box = open_outbox(tmp_path, limits=limits)
    box.add_many([sample(number) for number in range(30)])
    box.seal(NOW)
    assert 1 < len(box.open_segments()) < SEGMENTS_MAX
    box.close()


def test_an_acknowledged_segment_and_its_blobs_are_deleted_and_no_others(outbox):
    one, two = sample(1), sample(2, "alarm")
    outbox.add_many([one, two])
    outbox.seal(NOW)
    assert outbox.ack(1) == 1
    assert list(outbox.blobs.digests()) == [one.record.blob]
    assert fates(outbox) == {one.record.id: "sealed", two.record.id: "stored"}
    assert outbox.ack(1) == 0
    assert outbox.ack(2) == 1
    assert list(outbox.blobs.digests()) == []
    assert outbox.backlog().held_bytes == 0


def test_a_blob_that_two_records_share_stays_until_the_last_is_acknowledged(outbox):
    outbox.add_many([sample(1, "alarm", same=True), sample(2, same=True)])
    outbox.seal(NOW)
    outbox.ack(1)
    assert len(list(outbox.blobs.digests())) == 1
    outbox.ack(2)
    assert len(list(outbox.blobs.digests())) == 0


def test_the_same_record_twice_is_one_record(outbox):
    assert outbox.add_many([event(1), event(1)]) == [True, True]
    assert outbox.backlog().waiting == {"audit": 1}


def test_a_full_outbox_sheds_the_lowest_class_first_evenly_and_says_so(tmp_path):
    box = open_outbox(tmp_path, limits=OutboxLimits(bytes_max=20_000, reserve_bytes=0))
    for number in range(200):
        box.add(sample(number, size=400))
    stays = [number for number in range(200) if fates(box)[f"{number:032x}"] == "waiting"]
    gaps = [right - left for left, right in pairwise(stays)]
    # Evenly: what stays covers the whole time, with no hole much larger than the mean distance.
    assert max(gaps) <= 4 * (sum(gaps) / len(gaps))
    assert stays[0] < 20
    assert stays[-1] > 180
    assert box.backlog().shed == {"sample": 200 - len(stays)}
    assert box.backlog().held_bytes <= 20_000
    for number in range(200, 215):
        assert box.add(sample(number, "disagreement", size=400))
    assert box.backlog().waiting["disagreement"] == 15
    assert box.backlog().held_bytes <= 20_000
    assert len(list(box.blobs.digests())) == box.backlog().records
    box.close()


def test_lower_classes_cannot_take_the_room_kept_for_alarms(tmp_path):
    box = open_outbox(tmp_path, limits=OutboxLimits(bytes_max=10_000, reserve_bytes=3_000))
    for number in range(60):
        box.add(sample(number, "feedback", size=400))
    assert box.backlog().held_bytes <= 7_000
    box.seal(NOW)  # what is sealed cannot be shed any more
    for number in range(100, 110):
        assert box.add(event(number, "alarm"))
    assert box.backlog().shed.get("alarm", 0) == 0
    box.close()


def test_a_record_that_alone_is_over_the_budget_is_shed_and_one_over_its_bound_refused(tmp_path):
    box = open_outbox(tmp_path, limits=OutboxLimits(bytes_max=2_000, reserve_bytes=0, record_bytes_max=900))
    assert box.add(sample(1, size=4000)) is False
    assert box.backlog().shed == {"sample": 1}
    with pytest.raises(NotValid, match="at most 900"):
        box.add(event(2, text="y" * 1000))
    box.close()


def test_a_segment_that_may_not_leave_is_dropped_and_counted(outbox):
    outbox.add_many([sample(1), event(2, "telemetry")])

    def only_telemetry(header):
        if header.record_class != "telemetry":
            raise NotValid("the policy does not allow samples to leave")

    assert outbox.seal(NOW, only_telemetry) == 1
    assert [segment.record_class for segment in outbox.open_segments()] == ["telemetry"]
    assert outbox.backlog().shed == {"sample": 1}
    assert list(outbox.blobs.digests()) == []


def test_records_under_different_policies_never_share_a_segment(outbox):
    first = sample(1)
    other = Entry(
        record=sample(2).record, content=sample(2).content, record_class="sample", policy_version=2, transform="grey"
    )
    outbox.add_many([first, other, sample(3)])
    outbox.seal(NOW)
    assert [(item.policy_version, item.transform) for item in outbox.open_segments()] == [
        (1, "strip-metadata"), (1, "strip-metadata"), (2, "grey"),
    ]  # fmt: skip


def test_state_is_stored_in_the_same_transaction_as_the_records(tmp_path):
    def cut(name):
        if name == "added":
            raise PowerCut

    box = open_outbox(tmp_path, checkpoint=cut)
    with pytest.raises(PowerCut):
        box.add_many([event(1)], {"cursor": b"f1"})
    box.close()
    again = open_outbox(tmp_path)
    assert again.state("cursor") is None
    assert again.backlog().records == 0
    again.add_many([event(1)], {"cursor": b"f1"})
    assert again.state("cursor") == b"f1"
    again.close()


def test_a_full_disk_is_not_now_and_the_reserve_still_takes_an_alarm(tmp_path):
    box = open_outbox(tmp_path, limits=OutboxLimits(reserve_bytes=100_000))
    assert (tmp_path / "reserve").stat().st_size == 100_000
    (pages,) = box._file._connection.execute("PRAGMA page_count").fetchone()
    box._file._connection.execute(f"PRAGMA max_page_count = {pages}")  # the database's own way to be out of space
    with pytest.raises(NotNow, match="no space left"):
        box.add_many([event(number, "telemetry", "z" * 900) for number in range(40)])
    assert box.backlog().records == 0
    assert (tmp_path / "reserve").exists()
    with pytest.raises(NotNow):
        box.add_many([event(number, "alarm", "z" * 900) for number in range(40)])
    # The alarm gave the reserve back to the disk before it gave up.
    assert not (tmp_path / "reserve").exists()
    box.close()


def test_no_space_for_a_blob_leaves_neither_record_nor_bytes(tmp_path):
    class FullBlobs:
        def put_as(self, _sha256, _data):
            raise NotNow("no space left", code="disk_full")

        def delete(self, _sha256):
            pass

    box = open_outbox(tmp_path, blobs=FullBlobs())
    with pytest.raises(NotNow):
        box.add(sample(1))
    assert box.backlog().records == 0
    assert box.made() == []
    box.close()


def test_a_broken_file_is_set_aside_and_a_new_epoch_starts(tmp_path):
    box = open_outbox(tmp_path)
    box.add_many([event(number) for number in range(50)])
    epoch = box.epoch
    box.close()
    (tmp_path / "outbox.db").write_bytes(b"this is no database " * 500)
    again = open_outbox(tmp_path, seed=1)
    assert again.was_broken
    assert again.epoch != epoch
    assert (tmp_path / "outbox.db.broken").exists()
    assert again.add(event(1))
    again.close()


def test_a_file_of_another_version_is_refused_with_what_to_do(tmp_path):
    open_outbox(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "outbox.db")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(NotValid, match="has format 7") as caught:
        open_outbox(tmp_path)
    assert caught.value.code == "data_dir_version"


def test_a_hub_that_knows_more_than_this_file_makes_a_new_epoch(outbox):
    outbox.add(event(1))
    outbox.seal(NOW)
    epoch = outbox.epoch
    outbox.ack(7)  # the file was restored from an image of the disk: numbers 2 to 7 were used before
    assert outbox.epoch != epoch
    assert (outbox.acked, outbox.next_number) == (0, 1)


def test_a_hub_that_forgot_gets_the_open_segments_in_a_new_epoch(outbox):
    outbox.add(event(1))
    outbox.seal(NOW)
    outbox.ack(1)
    outbox.add_many([event(2), event(3, "alarm")])
    outbox.seal(NOW)
    payloads = [outbox.payload(number) for number in (2, 3)]
    outbox.renew_epoch()
    assert [segment.number for segment in outbox.open_segments()] == [1, 2]
    assert [outbox.payload(number) for number in (1, 2)] == payloads
    assert outbox.ack(2) == 2
    assert set(fates(outbox).values()) == {"stored"}


def test_a_sample_whose_bytes_are_lost_does_not_block_the_rest(outbox):
    outbox.add_many([sample(1), sample(2)])
    outbox.seal(NOW)
    gone = sample(1).record.blob
    outbox.blobs.delete(gone)
    assert outbox.give_up_blob(gone, NOW) == 1
    (segment,) = outbox.open_segments()
    assert segment.blobs == (sample(2).record.blob,)
    lines = [loads(line) for line in unpack(outbox.payload(1))]
    assert [line["id"] for line in lines] == [sample(2).record.id]
    assert segment.count == 1
    assert segment.sha256 == digest(outbox.payload(1))
    assert fates(outbox)[sample(1).record.id] == "lost"
    assert outbox.give_up_blob(sample(2).record.blob, NOW) == 1
    (segment,) = outbox.open_segments()
    assert (segment.record_class, segment.blobs, segment.transform) == ("audit", (), "none")
    assert loads(unpack(outbox.payload(1))[0])["what"] == "samples_lost"
    outbox.ack(1)
    assert outbox.backlog().held_bytes == 0


def test_bytes_that_no_record_names_are_tidied_up(outbox):
    outbox.add(sample(1))
    outbox.blobs.put(b"left by a power cut")
    assert outbox.tidy() == 1
    assert list(outbox.blobs.digests()) == [sample(1).record.blob]


def test_files_are_tidied_up_one_folder_at_a_time_and_the_reserve_comes_back(tmp_path):
    box = open_outbox(tmp_path, limits=OutboxLimits(reserve_bytes=100_000))
    box.add(sample(1))
    for number in range(30):
        box.blobs.put(b"left by a power cut %d" % number)
    half = next(path for path in box.blobs.path.iterdir()) / ".abc.0123.part"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    (tmp_path / "reserve").unlink()  # given back while the disk was full
    clock = MemoryClock(NOW)
    tidying = Tidying(box, clock, every_s=10)
    tidying.step()
    assert tidying.removed == 0  # not yet time
    for _ in range(FOLDERS):
        clock.advance(10)
        before = tidying.removed
        tidying.step()
        tidying.step()
        assert tidying.removed - before < 30  # a step is a folder
    assert tidying.removed == 30
    assert list(box.blobs.digests()) == [sample(1).record.blob]
    assert not half.exists()
    assert (tmp_path / "reserve").stat().st_size == 100_000
    box.close()


def test_the_ledger_forgets_finished_records_only(tmp_path):
    box = open_outbox(tmp_path, limits=OutboxLimits(reserve_bytes=0, ledger_max=10))
    box.add(event(0, "sample"))
    for number in range(1, 40):
        box.add(event(number, "alarm"))
    box.add(event(100, "sample"))
    box.seal(NOW)
    box.ack(1)
    assert len(box.made()) == 12 - 1  # ten newest numbers, and the one that is still sealed
    assert fates(box)[f"{0:032x}"] == "sealed"
    box.close()


def test_a_start_takes_as_long_with_a_large_backlog_as_without(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    open_outbox(small).close()
    box = open_outbox(large)
    for start in range(0, 20_000, 2000):
        box.add_many([event(number, "sample") for number in range(start, start + 2000)])
    box.close()

    def start_s(folder):
        best = 9.0
        for _ in range(5):
            began = time.perf_counter()
            box = open_outbox(folder)
            box.backlog()
            box.urgent()
            best = min(best, time.perf_counter() - began)
            box.close()
        return best

    assert start_s(large) < 5 * start_s(small) + 0.01


class Hub:
    """As little of a hub as the promise needs: contiguous numbers, one watermark an epoch."""

    def __init__(self) -> None:
        self.watermarks: dict[str, int] = {}
        self.seen: dict[tuple[str, int], str] = {}
        self.stored: list[str] = []

    def receive(self, epoch, segments, payloads, has_blob) -> int:
        watermark = self.watermarks.get(epoch, 0)
        for segment, payload in zip(segments, payloads, strict=True):
            assert digest(payload) == segment.sha256
            if segment.number <= watermark:
                assert self.seen[epoch, segment.number] == segment.sha256, "a sealed segment has changed"
                continue
            assert segment.number == watermark + 1, "a gap"
            assert all(has_blob(blob) for blob in segment.blobs), "a blob was deleted before it was acknowledged"
            watermark = segment.number
            self.seen[epoch, watermark] = segment.sha256
            self.stored += [loads(line)["id"] for line in unpack(payload)]
        self.watermarks[epoch] = watermark
        return watermark


class OutboxMachine(RuleBasedStateMachine):
    """Any order of adding, sealing, losing requests and replies, acknowledging, power cuts and starts."""

    limits = OutboxLimits(bytes_max=9_000, reserve_bytes=1_000, segment_records_max=3, ledger_max=100_000)

    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.generation, self.cut_at = 0, ""
        self.hub, self.added, self.offered, self.count = Hub(), set(), set(), 0
        self.outbox = open_outbox(self.root / "0", limits=self.limits, checkpoint=self.checkpoint)

    def checkpoint(self, name: str) -> None:
        if name == self.cut_at:
            raise PowerCut

    @rule(record_class=st.sampled_from(CLASSES), size=st.integers(0, 900), same=st.booleans())
    def add(self, record_class: str, size: int, same: bool) -> None:
        self.count += 1
        entry = sample(self.count, record_class, size, same) if size >= 4 else event(self.count, record_class)
        self.offered.add(entry.record.id)
        self.outbox.add(entry)
        self.added.add(entry.record.id)

    @rule()
    def seal(self) -> None:
        self.outbox.seal(NOW)

    @rule(lose=st.sampled_from(["", "request", "reply"]))
    def send(self, lose: str) -> None:
        segments = self.outbox.open_segments()
        payloads = [self.outbox.payload(segment.number) for segment in segments]
        if lose == "request":
            return
        watermark = self.hub.receive(self.outbox.epoch, segments, payloads, self.outbox.blobs.has)
        if lose != "reply":
            self.outbox.ack(watermark)

    @rule(
        where=st.sampled_from(["blob_written", "added", "sealed", "acked", "blob_deleted"]),
        record_class=st.sampled_from(CLASSES),
    )
    def cut_the_power(self, where: str, record_class: str) -> None:
        self.cut_at = where
        try:
            self.add(record_class, 500, False)
            self.seal()
            self.send("")
        except PowerCut:
            pass
        self.cut_at = ""
        self.restart()

    @rule()
    def restart(self) -> None:
        """Start from a copy of the files as they are now: nothing is flushed or closed first, as after a kill."""
        self.generation += 1
        folder = self.root / str(self.generation)
        shutil.copytree(self.root / str(self.generation - 1), folder)
        self.outbox.close()
        shutil.rmtree(self.root / str(self.generation - 1))
        self.outbox = open_outbox(folder, limits=self.limits, checkpoint=self.checkpoint, seed=self.generation)

    @rule()
    def tidy(self) -> None:
        self.outbox.tidy()

    @invariant()
    def nothing_is_lost_and_nothing_comes_twice(self) -> None:
        if not hasattr(self, "outbox"):
            return
        assert len(self.hub.stored) == len(set(self.hub.stored)), "stored twice"
        fate = fates(self.outbox)
        assert self.added <= fate.keys() <= self.offered
        for item in self.added:
            if fate[item] == "stored":
                assert item in self.hub.stored, "deleted before the hub had it"
            assert fate[item] != "lost"
        backlog = self.outbox.backlog()
        assert sum(backlog.shed.values()) == sum(value == "shed" for value in fate.values())
        assert backlog.records == sum(value in ("waiting", "sealed") for value in fate.values())
        assert backlog.held_bytes <= self.limits.bytes_max
        assert len(self.outbox.open_segments()) <= SEGMENTS_MAX

    @precondition(lambda self: hasattr(self, "outbox"))
    @rule()
    def drain(self) -> None:
        """With a good link everything that was not shed arrives, exactly once."""
        for _ in range(200):
            self.outbox.seal(NOW)
            if not self.outbox.open_segments():
                break
            self.send("")
        fate = fates(self.outbox)
        expected = {item for item in fate if fate[item] == "stored"}
        assert expected == set(self.hub.stored)
        assert {item for item in fate if fate[item] not in ("stored", "shed")} == set()
        self.outbox.tidy()
        assert list(self.outbox.blobs.digests()) == []

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.outbox.close()
            shutil.rmtree(self.root, ignore_errors=True)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(
    max_examples=int(os.environ.get("EDGEWISE_EXAMPLES", "40")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
