"""An operator's "wrong" and "missed" are counts of the release that decided: the hub's proxy where nobody labels."""

from __future__ import annotations

import contextlib

import pytest

from edgewise.wire import NotNow


def ready(fleet, **more):
    device = fleet.device(**more)
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    assert device.updater.running is not None
    return device


def decide(fleet, device, count: int) -> None:
    fleet.feed(count)
    assert fleet.run(device, count, seconds=0.1) == count


def overrides(fleet) -> dict[str, int]:
    found: dict[str, int] = {}
    for record in fleet.stored("telemetry"):
        found[record["release"]] = found.get(record["release"], 0) + record.get("overrides", 0)
    return found


def test_an_override_counts_once_a_frame_under_the_release_that_decided(fleet):
    device = ready(fleet)
    decide(fleet, device, 32)
    for frame, verdict in (("f000003", "wrong"), ("f000004", "missed"), ("f000003", "missed"), ("f000005", "unknown")):
        device.feedback(fleet.clock.now(), verdict=verdict, frame=frame)
    fleet.run(device, 100, seconds=2)
    assert overrides(fleet) == {"parts@1": 2}
    assert len(fleet.stored("feedback")) == 4


def test_a_late_override_is_told_in_its_own_window_under_the_former_release(fleet):
    device = ready(fleet)
    decide(fleet, device, 32)
    fleet.run(device, 100, seconds=2)
    fleet.assign(fleet.release(2), rollout="b" * 32)
    fleet.run(device, 100, seconds=2)
    assert device.updater.running.release == "parts@2"
    told = len(fleet.stored("telemetry"))
    given = fleet.clock.now()
    device.feedback(given, verdict="wrong", frame="f000003")
    fleet.run(device, 100, seconds=2)
    (row,) = fleet.stored("telemetry")[told:]
    assert (row["release"], row["decisions"], row["overrides"]) == ("parts@1", 0, 1)
    assert row["start"] == row["end"] == given.isoformat().replace("+00:00", "Z")
    assert "rollout" not in row


def test_an_override_survives_a_power_cut_and_is_told_once(fleet):
    device = ready(fleet)
    decide(fleet, device, 37)  # in the middle of a period
    device.feedback(fleet.clock.now(), verdict="wrong", frame="f000001")
    device.feedback(fleet.clock.now(), verdict="wrong", frame="f000036")  # of the period that is not recorded yet
    device.outbox.close()  # nothing else is said: the process is gone
    device = fleet.device()
    fleet.run(device, 200, seconds=2)
    assert overrides(fleet) == {"parts@1": 2}
    assert sum(record["decisions"] for record in fleet.stored("telemetry")) == 37


def test_an_override_of_a_frame_that_is_forgotten_is_no_releases_and_is_said(fleet):
    device = ready(fleet)
    decide(fleet, device, 16)
    device.close(fleet.clock.now())
    device = fleet.device()
    device.feedback(fleet.clock.now(), verdict="wrong", frame="f000003")
    fleet.run(device, 100, seconds=2)
    assert overrides(fleet) == {"parts@1": 0}
    assert device.keeper.not_kept["override_of_unknown_decision"] == 1
    assert len(fleet.stored("feedback")) == 1


def test_what_the_disk_does_not_take_is_not_counted_and_may_be_said_again(fleet):
    device = ready(fleet)
    decide(fleet, device, 16)
    (pages,) = device.outbox._file._connection.execute("PRAGMA page_count").fetchone()
    device.outbox._file._connection.execute(f"PRAGMA max_page_count = {pages}")
    with contextlib.suppress(NotNow):
        for _ in range(100):
            device.feedback(fleet.clock.now(), verdict="unknown", frame="f000002", note="x" * 2000)
    with pytest.raises(NotNow):
        device.feedback(fleet.clock.now(), verdict="wrong", frame="f000003", note="x" * 2000)
    device.outbox._file._connection.execute("PRAGMA max_page_count = 1000000")
    device.feedback(fleet.clock.now(), verdict="wrong", frame="f000003")
    fleet.run(device, 100, seconds=2)
    assert overrides(fleet) == {"parts@1": 1}


def test_under_counts_min_overrides_wait_until_they_stand_for_enough_and_hold_up_nothing(fleet):
    data = {
        "data_class": "measurement",
        "transforms": [],
        "leave": ["telemetry", "feedback"],
        "private": {"counts_min": 5},
    }
    device = ready(fleet, data=data)
    decide(fleet, device, 32)
    for number in range(4):
        device.feedback(fleet.clock.now(), verdict="wrong", frame=f"f{number:06d}")
    fleet.run(device, 100, seconds=2)
    assert sum(record["decisions"] for record in fleet.stored("telemetry")) == 32
    assert overrides(fleet) == {"parts@1": 0}
    told = len(fleet.stored("telemetry"))
    decide(fleet, device, 32)
    fleet.run(device, 100, seconds=2)
    assert len(fleet.stored("telemetry")) <= told + 2, "what waits makes no window of its own each moment"
    device.feedback(fleet.clock.now(), verdict="missed", frame="f000010")
    fleet.run(device, 100, seconds=2)
    assert overrides(fleet) == {"parts@1": 5}
    assert sum(record["decisions"] for record in fleet.stored("telemetry")) == 64
    assert all(not 0 < record.get("overrides", 0) < 5 for record in fleet.stored("telemetry"))
