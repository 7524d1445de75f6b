"""A device that states values: what it records, when it raises an alarm, what it keeps."""

from __future__ import annotations

from typing import Any

import pytest

import value_rows
from edgewise.edge._limits import LimitAlarms
from edgewise.edge.apps import act_maker
from edgewise.frames import Decided
from edgewise.ports import Frame, OnnxRuntime
from edgewise.wire import Target, canonical, encode

TARGET = {"name": "wear", "unit": "um", "above": 40}
OUTCOME = {"goal": "know the wear", "metric": "mae", "target": TARGET}


@pytest.fixture(scope="module")
def made() -> Any:
    return value_rows.trained(above=40)


def frame(number: int, force: float) -> Frame:
    body = canonical({"force": force, "speed": 0.1})
    return Frame(f"f{number:06d}", body, "application/json", value_rows.NOW, f"g{number}", {})


def test_a_device_records_the_value_and_its_interval_and_alarms_once_a_crossing(fleet: Any, made: Any) -> None:
    fleet.hub.blobs.update(made.blobs)
    fleet.manifests[made.digest] = encode(made.manifest)
    fleet.assign(fleet.sign(made.digest))
    target = Target.model_validate(TARGET)
    device = fleet.device(
        outcome=OUTCOME,
        runtime=OnnxRuntime(),
        act=LimitAlarms(target),
        upload={"period_frames": 16, "share_of_bytes": 1.0},
    )
    fleet.run(device, 20)
    forces = [0.0] * 8 + [3.0] * 4 + [0.0] * 4 + [3.0] * 2 + [0.0] * 14
    fleet.frames += [frame(number, force) for number, force in enumerate(forces)]
    for one in fleet.frames:
        fleet.source.add(one)
    assert fleet.run(device, 200) == len(forces)
    kept = fleet.stored("sample")
    assert kept
    for sample in kept:
        low, value, high = sample["decision"]["stated"]
        assert low <= value <= high
        assert sample["decision"]["label"] == ("above" if low > 40 else "within")
    alarms = [record for record in fleet.stored("event") if record["what"] == "alarm"]
    assert [one["text"].partition(":")[0] for one in alarms] == ["wear is probably above 40 um"] * 2
    assert all(one["data"]["stated"][0] > 40 for one in alarms)
    counted = [record for record in fleet.stored("telemetry") if record.get("decisions")]
    assert sum(record["labels"].get("above", 0) for record in counted) == 6
    assert sum(record["alarms"] for record in counted) == 6


def said(low: float, value: float, high: float) -> Decided:
    return Decided("within", 0.9, None, 0.5, None, "0" * 64, stated=(low, value, high))


def test_an_interval_that_touches_the_limit_and_leaves_it_again_is_one_crossing() -> None:
    act = LimitAlarms(Target(name="power", above=10, below=2))
    texts = [
        act(frame(0, 0), said(*one))
        for one in ((11, 12, 13), (9.9, 11, 12), (11, 12, 13), (9, 10, 12), (11, 12, 13), (0, 1, 1.5), (0, 1, 1.9))
    ]
    assert [text is not None for text in texts] == [True, False, False, False, True, True, False]
    assert act(frame(0, 0), said(1, 2, 3)) is None
    assert act(frame(0, 0), said(0, 1, 1.5)) == "power is probably below 2: 1 (0 to 1.5)"


def test_limits_raise_alarms_where_no_app_is_installed() -> None:
    assert act_maker("nobody-has-this", Target(name="power"))() is None
    make = act_maker("nobody-has-this", Target(name="power", above=10))
    one, other = make(), make()
    assert one is not None
    assert other is not None
    assert one(frame(0, 0), said(11, 12, 13)) == other(frame(0, 0), said(11, 12, 13))  # a state of its own in each
    crack = Decided("crack", 0.9, 0.9, 0.5, None, "0" * 64)
    assert one(frame(0, 0), crack) is None
