"""At rest on the device everything that tells of a person or a frame is encrypted, and a lost key stops nothing."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgewise.edge._offline import outbox_status
from edgewise.edge.outbox import Outbox, OutboxLimits
from edgewise.edge.recover import _move_all, _opened
from edgewise.ports import FileVault, MemoryVault, SeededChance, open_safe, read_safe
from edgewise.wire import Erasure, NotValid
from outbox_entries import event, fates, sample

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLANTED = "HAENDEL-1685"


def found_in(folder: Path, *planted: str) -> list[str]:
    """Files of the folder in whose bytes or names one of these texts stands, in whatever encoding we write."""
    needles = [form for text in planted for form in (text.encode(), text.encode().hex().encode())]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(
        str(path.relative_to(folder))
        for path in files
        if any(needle in path.read_bytes() or needle in str(path.relative_to(folder)).encode() for needle in needles)
    )


def planted_frame(fleet, number: int):
    plain = fleet.frame(number)
    row = json.loads(plain.data) | {"name": PLANTED * 20}
    return plain._replace(
        name=f"{PLANTED}-{number:04d}.json",
        data=json.dumps(row).encode(),
        group=f"group-{PLANTED}",
        facts={"operator": PLANTED},
    )


def run_with_planted(fleet, device, count: int = 40) -> None:
    for number in range(count):
        frame = planted_frame(fleet, number)
        fleet.frames.append(frame)
        fleet.source.add(frame)
    fleet.run(device, steps=count + 100)


def test_the_folder_of_a_device_shows_nothing_of_its_frames(fleet):
    bundle = fleet.sign(fleet.bundle(1))
    fleet.assign(bundle)
    device = fleet.device(
        data={"data_class": "measurement", "transforms": [], "fields": ["frame", "group", "operator"]}
    )
    fleet.run(device, steps=40)
    fleet.lost = lambda _what: True
    run_with_planted(fleet, device)
    device.feedback(fleet.clock.now(), verdict="wrong", note=f"said {PLANTED}")
    assert device.outbox.seal(NOW) > 0
    assert device.outbox.backlog().records > 0
    assert list(device.outbox.blobs.digests())
    blobs = list(device.outbox.blobs.digests())
    assert (fleet.folder / "outbox" / "outbox.db-wal").stat().st_size > 0
    assert found_in(fleet.folder, PLANTED, *blobs) == []
    device.close(fleet.clock.now())
    assert found_in(fleet.folder, PLANTED, *blobs) == []
    fleet.lost = lambda _what: False
    again = fleet.device()
    fleet.run(again, steps=200)
    assert any(PLANTED in json.dumps(record) for record in fleet.hub.records)  # what leaves is as it was
    again.close(fleet.clock.now())


KILLED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from outbox_entries import event, sample
from edgewise.edge.outbox import Outbox, OutboxLimits
from edgewise.ports import SystemChance
box = Outbox(Path(sys.argv[1]), chance=SystemChance(), limits=OutboxLimits(reserve_bytes=0, bytes_max=300_000))
number = 0
while True:
    content = b"HAENDEL-1685" * 300 + number.to_bytes(4, "big")
    entry = sample(number, content=content, frame=f"HAENDEL-1685/{number}")
    box.add_many([entry, event(10**6 + number, text="HAENDEL-1685")], {"keeper": b"HAENDEL-1685"})
    if number % 7 == 0:
        box.seal(datetime.now(UTC))
    if number % 31 == 0:
        box.ack(box.acked + 1)
    number += 1
    print(number, flush=True)
"""


def test_a_kill_at_any_moment_leaves_nothing_in_clear(tmp_path):
    for attempt in range(3):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parents[1])]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(30 + 17 * attempt):
            assert writer.stdout.readline()
        writer.kill()
        writer.communicate()
        assert (tmp_path / "outbox.db-wal").stat().st_size > 0
        assert found_in(tmp_path, PLANTED) == []
        box = Outbox(tmp_path, chance=SeededChance(attempt), limits=OutboxLimits(reserve_bytes=0))
        assert box.backlog().records > 0
        for segment in box.open_segments():
            assert box.payload(segment.number)
            assert all(box.blobs.has(blob) for blob in segment.blobs)
        box.close()


def test_a_status_without_the_key_tells_counts(fleet):
    fleet.assign(fleet.sign(fleet.bundle(1)))
    device = fleet.device()
    fleet.run(device, steps=40)
    fleet.lost = lambda _what: True
    run_with_planted(fleet, device)
    decisions, backlog = device.decisions, device.outbox.backlog()
    device.close(fleet.clock.now())
    for file in (fleet.folder / "data-key.json", *(fleet.folder / "keys").glob("data.key")):
        file.unlink()
    told = outbox_status(fleet.folder / "outbox")
    assert told["decisions"] == decisions
    assert told["backlog"] >= backlog.records


def test_a_device_whose_key_is_gone_decides_on_and_says_so(fleet):
    fleet.assign(fleet.sign(fleet.bundle(1)))
    device = fleet.device()
    fleet.run(device, steps=40)
    fleet.lost = lambda _what: True
    run_with_planted(fleet, device)
    old = device.outbox.epoch
    device.close(fleet.clock.now())
    (fleet.folder / "keys" / "data.key").unlink()
    again = fleet.device()
    assert again.outbox.epoch != old
    fleet.feed(20)
    assert fleet.run(again, steps=40) >= 20
    fleet.lost = lambda _what: False
    fleet.run(again, steps=400)
    (alarm,) = [record for record in fleet.hub.records if record.get("what") == "outbox_locked"]
    assert "set aside in outbox.locked" in alarm["text"]
    again.close(fleet.clock.now())
    # Nothing is destroyed: with its key the set-aside outbox still holds what waited.
    aside = fleet.folder / "outbox" / "outbox.locked"
    assert (aside / "outbox.db").exists()
    assert any((aside / "blobs").rglob("*"))


def test_what_was_set_aside_is_read_again_with_its_key(tmp_path):
    key = MemoryVault(b"1" * 32)
    box = Outbox(tmp_path / "outbox", chance=SeededChance(1), safe=open_safe(tmp_path, key).safe)
    box.add_many([sample(1), event(2)])
    box.close()
    wrong = open_safe(tmp_path, MemoryVault(b"2" * 32))
    fresh = Outbox(tmp_path / "outbox", chance=SeededChance(2), safe=wrong.safe)
    assert fresh.locked_as == tmp_path / "outbox" / "outbox.locked"
    assert fresh.backlog().records == 0
    assert fresh.add(event(3))
    fresh.close()
    (tmp_path / "data-key.json.locked").replace(tmp_path / "data-key.json")
    back = Outbox(fresh.locked_as, chance=SeededChance(3), safe=open_safe(tmp_path, key).safe)
    assert back.backlog().waiting == {"sample": 1, "audit": 1}
    assert back.blobs.get(sample(1).record.blob) == sample(1).content
    back.close()


def test_a_damaged_record_does_not_hold_up_the_others(tmp_path):
    box = Outbox(tmp_path, chance=SeededChance(1), limits=OutboxLimits(reserve_bytes=0))
    box.add_many([event(number) for number in range(5)])
    swap(tmp_path, "UPDATE records SET body = (SELECT body FROM records WHERE seq = 4) WHERE seq = 2")
    assert box.seal(NOW) == 1
    (segment,) = box.open_segments()
    assert segment.count == 4
    assert fates(box)[f"{1:032x}"] == "lost"
    box.close()


def test_a_damaged_segment_sets_the_file_aside_at_the_next_start(tmp_path):
    box = Outbox(tmp_path, chance=SeededChance(1), limits=OutboxLimits(reserve_bytes=0))
    box.add_many([event(1), event(2, "alarm")])
    box.seal(NOW)
    box.close()
    swap(tmp_path, "UPDATE segments SET payload = (SELECT payload FROM segments WHERE number = 2) WHERE number = 1")
    again = Outbox(tmp_path, chance=SeededChance(2), limits=OutboxLimits(reserve_bytes=0))
    assert again.was_broken
    assert again.backlog().records == 0
    again.close()


def swap(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "outbox.db")
    with connection:
        connection.execute(statement)
    connection.close()


def test_two_devices_with_the_same_content_have_nothing_alike_on_disk(tmp_path):
    seen = []
    for name in ("one", "two"):
        opened = open_safe(tmp_path / name, FileVault(tmp_path / f"{name}.key"))
        box = Outbox(tmp_path / name, chance=SeededChance(1), safe=opened.safe)
        box.add(sample(1))
        box.close()
        seen.append({path.name for path in (tmp_path / name / "blobs").rglob("*") if path.is_file()})
    assert not seen[0] & seen[1]


def test_what_was_set_aside_is_moved_into_the_present_outbox_once_its_key_is_back(tmp_path):
    key, wrong = MemoryVault(b"1" * 32), MemoryVault(b"2" * 32)
    person = "5" * 64
    box = Outbox(tmp_path / "outbox", chance=SeededChance(1), safe=open_safe(tmp_path, key).safe)
    box.add_many([sample(1, subject=person), event(2, "alarm")])
    box.seal(NOW)
    box.add_many([replace(sample(3), subject=person, about_at=NOW), event(4)])
    box.close()
    present = Outbox(tmp_path / "outbox", chance=SeededChance(2), safe=open_safe(tmp_path, wrong).safe)
    present.add(event(4))  # known here already, and not taken twice
    present.add(event(5))
    safes = [(tmp_path / "data-key.json.locked", read_safe(tmp_path, key, name="data-key.json.locked"))]
    assert _move_all(tmp_path, present, safes) == {"records": 4, "shed": 0, "still_locked": 0}
    assert present.backlog().waiting == {"sample": 2, "alarm": 1, "audit": 2}
    assert all(present.blobs.get(sample(n).record.blob) == sample(n).content for n in (1, 3))
    assert present.erase(Erasure(subject=person)).records == 1  # whom it is about came along
    assert not (tmp_path / "outbox" / "outbox.locked").exists()
    assert not (tmp_path / "data-key.json.locked").exists()
    present.close()


def test_a_device_gets_its_records_back_by_the_former_key_file(fleet):
    fleet.assign(fleet.sign(fleet.bundle(1)))
    device = fleet.device()
    fleet.run(device, steps=40)
    fleet.lost = lambda _what: True
    run_with_planted(fleet, device)
    samples = device.outbox.backlog()
    device.close(fleet.clock.now())
    key = fleet.folder / "keys" / "data.key"
    key.replace(fleet.folder.parent / "old.key")
    fleet.device().close(fleet.clock.now())
    with pytest.raises(NotValid, match="does not fit"):
        _opened(fleet.folder, None)
    safes = _opened(fleet.folder, fleet.folder.parent / "old.key")
    again = fleet.device()
    moved = _move_all(fleet.folder, again.outbox, safes)
    assert moved["records"] >= samples.records
    assert not list(fleet.folder.glob("**/*.locked*"))
    again.close(fleet.clock.now())
    with pytest.raises(NotValid, match="nothing is set aside"):
        _opened(fleet.folder, None)
