"""A disk of two megabytes, really full: decisions go on, alarms and audit are shed last, what is shed is counted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import missing
from edgewise.edge.device import DeviceLimits
from edgewise.edge.outbox import Entry, Outbox, OutboxLimits
from edgewise.ports import SeededChance
from edgewise.wire import Event, NotNow

ALARM_EVERY = 100
SMALL = OutboxLimits(bytes_max=200_000_000, reserve_bytes=100_000)  # the disk ends long before the budget


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A device's folder whose outbox lies on a file system of two megabytes."""
    place = tmp_path / "device" / "outbox"
    place.mkdir(parents=True)
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        missing("tmpfs", "only root can mount a small file system")
    done = subprocess.run([str(mount), "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=False)
    if done.returncode:
        missing("tmpfs", "a small file system cannot be mounted here")
    yield place.parent
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("frames", [1500, pytest.param(10_000, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])])
def test_on_a_full_disk_no_decision_fails_and_alarms_and_audit_are_shed_last(fleet, small_disk, frames):
    site = type(fleet)(small_disk)
    wide = site.frame
    site.frame = lambda number: wide(number)._replace(data=wide(number).data + b" " * 2000)
    device = site.device(
        act=lambda frame, _: "look" if int(frame.name[1:]) % ALARM_EVERY == 0 else None,
        limits=DeviceLimits(outbox=SMALL),
        upload={"period_frames": 64, "share_of_bytes": 0.9, "bytes_per_day": 10**9},
    )
    site.assign(site.release(1), trial_s=0)
    site.run(device, 20)
    assert device.updater.running is not None, device.waits_for()
    site.lost = lambda _what: True
    made = 0
    for _ in range(0, frames, 500):
        site.feed(500)
        made += site.run(device, 500, seconds=0.05)
    device.decider.close_period()
    device.record_step(site.clock.now())
    assert made == frames
    assert device.decisions == frames
    assert shutil.disk_usage(small_disk / "outbox").free < 400_000, "the disk was never full"
    shed = device.keeper.shed()
    assert shed["sample"] > frames // 4
    assert shed.get("alarm", 0) == shed.get("audit", 0) == 0
    found = Counter((item.record_class, item.fate) for item in device.outbox.made(100_000))
    assert found["alarm", "waiting"] + found["alarm", "sealed"] == 2 * frames // ALARM_EVERY  # the event and its frame
    assert device.keeper.notes_waiting == 0
    # The link comes back: all that was not shed arrives, once.
    site.lost = lambda _what: False
    site.run(device, 600, seconds=5)
    ids = [record["id"] for record in site.hub.records]
    assert len(ids) == len(set(ids))
    counted = sum(record["decisions"] for record in site.stored("telemetry"))
    assert counted == frames or (counted < frames and device.keeper.shed()["telemetry"] > 0)
    assert sum(record.get("what") == "alarm" for record in site.stored("event")) == frames // ALARM_EVERY
    assert device.backlog == 0
    device.close(site.clock.now())


def event(number: int, record_class: str) -> Entry:
    record = Event(id=f"{number:032x}", at=datetime(2026, 3, 1, tzinfo=UTC), what="x", text="y" * 900)
    return Entry(record=record, record_class=record_class, policy_version=1)


def held(box: Outbox, entry: Entry) -> bool:
    try:
        return box.add(entry)
    except NotNow:
        return False


def test_without_space_alarms_and_audit_take_the_place_of_what_is_less_urgent(tmp_path):
    """The same by the database's own way to be out of space, which needs no disk of its own."""
    box = Outbox(tmp_path, chance=SeededChance(1), limits=OutboxLimits(reserve_bytes=20_000))
    box._file._connection.execute("PRAGMA max_page_count = 100")
    low = sum(held(box, event(number, "telemetry")) for number in range(500))
    assert 50 < low < 500, "the file was never full"
    assert all(held(box, event(1000 + number, "alarm" if number % 2 else "audit")) for number in range(100))
    backlog = box.backlog()
    assert backlog.waiting["alarm"] == backlog.waiting["audit"] == 50
    assert backlog.shed == {"telemetry": low - backlog.waiting.get("telemetry", 0)}
    # Nothing is left that is less urgent: now alarms are refused as well, and the caller counts them.
    assert not all(held(box, event(2000 + number, "alarm")) for number in range(500))
    assert box.backlog().waiting.get("telemetry", 0) == 0
    box.close()
