"""Sensor readings: only listed numbers, at a bounded rate, in few bytes, each at the hub exactly once."""

from __future__ import annotations

import csv
import gzip
import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from edgewise.delta import decode_series
from edgewise.edge._outbox_records import pack
from edgewise.edge._readings import Block, Reading, Sampler
from edgewise.ports import Frame
from edgewise.wire import Readings, Sampling, decode, encode

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def frame(seconds: float, row: object, **facts) -> Frame:
    data = row if isinstance(row, bytes) else json.dumps(row).encode()
    at = NOW + timedelta(seconds=seconds)
    return Frame(name=f"{seconds:012.3f}", data=data, media_type="application/json", taken_at=at, facts=facts)


def test_only_listed_numbers_are_read_and_nothing_else_of_a_frame():
    sampler = Sampler(["power", "count", "flag", "text", "huge", "line"], every_s=0)
    row = {"power": 4.5, "count": 3, "flag": True, "text": "4", "huge": 2**70, "person": 17}
    assert sampler.take(frame(0, row, line=7)).values == {"power": 4.5, "count": 3, "line": 7}
    assert sampler.take(frame(1, {"person": 17})) is None


@pytest.mark.parametrize("data", [b"", b"[1, 2]", b"{", b"\xff\xd8\xff", b"[" * 5000, b'{"power": "4"}'])
def test_what_is_no_row_gives_no_reading_and_no_error(data):
    assert Sampler(["power"], every_s=0).take(frame(0, data)) is None


def test_each_channel_is_read_at_its_own_bounded_rate():
    sampler = Sampler(["a", "b"], every_s=10)
    read = [sampler.take(frame(second, {"a": second, **({"b": 1} if second % 7 == 0 else {})})) for second in range(40)]
    assert [item.at_ms for item in read if item and "a" in item.values] == [
        round((NOW.timestamp() + second) * 1000) for second in (0, 10, 20, 30)
    ]
    assert [second for second, item in enumerate(read) if item and "b" in item.values] == [0, 14, 28]


def test_a_second_pipeline_has_its_channels_under_its_own_name():
    assert Sampler(["a", "oven/a"], every_s=0, prefix="oven/").take(frame(0, {"a": 1})).values == {"oven/a": 1}
    assert Sampler(["a"], every_s=0, prefix="oven/").take(frame(0, {"a": 1})) is None


def test_a_clock_that_is_set_back_by_ten_years_does_not_silence_a_sensor():
    sampler = Sampler(["a"], every_s=60)
    assert sampler.take(frame(0, {"a": 1}))
    assert sampler.take(frame(1, {"a": 1})) is None
    years = 10 * 365 * 86_400
    assert sampler.take(frame(-years, {"a": 1}))
    assert sampler.take(frame(1 - years, {"a": 1})) is None
    assert sampler.take(frame(61 - years, {"a": 1}))


def test_a_block_comes_back_from_its_state_and_from_its_record_bit_for_bit():
    odd = [1.5, -0.0, math.nan, math.inf, 7, -(2**63) + 1, 5e-324]
    block = Block(Sampling())
    for second, value in enumerate(odd):
        block.take(Reading(at_ms=second * 1000, values={"a": value, "b": 0.25}), NOW)
    again = Block.from_state(block.state(), Sampling())
    assert (again.count, again.opened_at) == (14, NOW)
    first, second = block.record("1" * 32, "north"), again.record("1" * 32, "north")
    assert repr(points(first)) == repr(points(second))
    assert {repr(value) for name, _, value in points(first) if name == "a"} == {repr(value) for value in odd}
    assert Block.from_state(None, Sampling()).count == 0


def points(record: Readings) -> list[tuple[str, int, float | int]]:
    columns = decode_series(record.block_bytes(), channels=len(record.channels), count=record.count)
    return sorted(
        (record.channels[column.channel], at, value)
        for column in columns
        for at, value in zip(column.times_ms.tolist(), column.values.tolist(), strict=True)
    )


CASE = {
    "data": {"data_class": "measurement", "transforms": [], "telemetry": ["x", "y"]},
    "telemetry": {"every_s": 0, "period_s": 30, "readings_max": 100},
}


def test_every_reading_reaches_the_hub_exactly_once_over_a_killed_agent(fleet):
    device = fleet.device(**CASE)
    fleet.assign(fleet.release(1))
    fleet.run(device, 5)
    fleet.feed(100)
    fleet.run(device, 100)
    device.outbox.close()  # no close of the device: as after a kill, what was not recorded is lost with the memory
    device = fleet.device(**CASE)
    fleet.feed(60)
    fleet.run(device, 400)
    blocks = [decode(Readings, json.dumps(item)) for item in fleet.stored("readings")]
    found = sorted((name, value) for block in blocks for name, _, value in points(block))
    rows = [json.loads(item.data) for item in fleet.frames]
    assert found == sorted((name, row[name]) for row in rows for name in ("x", "y"))
    assert max(block.count for block in blocks) <= 100
    assert {segment.record_class for segment in fleet.hub.headers if segment.count} >= {"telemetry"}
    device.close(fleet.clock.now())


def test_a_channel_that_the_policy_does_not_list_never_leaves(fleet):
    device = fleet.device(**CASE | {"data": CASE["data"] | {"telemetry": ["x"]}})
    fleet.assign(fleet.release(1))
    fleet.feed(64)
    fleet.run(device, 200)
    assert {name for block in fleet.stored("readings") for name in block["channels"]} == {"x"}
    device.close(fleet.clock.now())


@pytest.mark.parametrize("data", [{"telemetry": []}, {"telemetry": ["x"], "leave": ["sample", "report"]}])
def test_without_leave_no_frame_is_even_looked_at(fleet, data):
    device = fleet.device(**CASE | {"data": CASE["data"] | data})
    fleet.assign(fleet.release(1))
    fleet.feed(64)
    fleet.run(device, 200)
    assert fleet.stored("readings") == []
    device.close(fleet.clock.now())


# -- bytes -------------------------------------------------------------------------------------------------------------

BYTES_MAX = {100: 5.5, 1000: 3.5}


def bytes_per_reading(times_ms, columns: dict[str, np.ndarray], readings: int) -> float:
    """Mean bytes a reading of whole segment payloads, one block each: what goes over the link beside the header."""
    rows, sizes = max(1, readings // len(columns)), []
    for start in np.linspace(0, len(times_ms) - rows, 12).astype(int):
        block = Block(Sampling(readings_max=10_000))
        for index in range(start, start + rows):
            values = {name: column[index].item() for name, column in columns.items()}
            block.take(Reading(at_ms=int(times_ms[index]), values=values), NOW)
        name = f"{start:032x}"[::-1]
        sizes.append(len(pack([encode(block.record(name, "north"))])) / block.count)
    return float(np.mean(sizes))


def synthetic() -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Series as sensors give them: stepped by their resolution, with noise, at uneven times."""
    random = np.random.default_rng(7)
    count = 3000
    even = np.arange(count) * 1000
    late = even + random.integers(0, 5, count)  # a reading is some milliseconds late
    walk = np.cumsum(random.normal(0, 0.02, count))
    return {
        "temperature and humidity": (
            even,
            {"temp_c": np.round(20 + walk, 2), "humidity": np.round(50 + random.normal(0, 1, count), 1)},
        ),
        "inverter": (
            late,
            {
                "ac_power": np.round(4000 + 300 * walk + random.normal(0, 20, count), 1),
                "ac_volts": np.round(230 + random.normal(0, 0.7, count), 2),
                "dc_current": np.round(9 + random.normal(0, 0.2, count), 3),
                "poa": np.round(800 + random.normal(0, 10, count), 1),
                "state": random.choice([4, 4, 4, 5], count),
            },
        ),
        "round trip": (late, {"rtt_ms": np.round(20 + random.gamma(2, 5, count), 2)}),
    }


@pytest.mark.parametrize("readings", BYTES_MAX)
@pytest.mark.parametrize("name", synthetic())
def test_a_reading_takes_few_bytes(name, readings):
    times, columns = synthetic()[name]
    assert bytes_per_reading(times, columns, readings) <= BYTES_MAX[readings]


REAL = {
    "energy/inverters/serf_west_15min": ("Unnamed: 0", "ac_current__779 ac_power__773 ac_volts__778 ambient_temp__780"),
    "energy/inverters/serf_east_15min_ac_power": ("measured_on", "ac_power"),
    "energy/stations/site1_50MW": ("time", "total_irradiance_wm2 ghi_wm2 air_temp_c pressure_hpa power_mw"),
    "energy/stations/site2_130MW": ("time", "total_irradiance_wm2 ghi_wm2 air_temp_c pressure_hpa power_mw"),
    "common/network_starlink_moving": ("time", "down_mbps up_mbps speed_mps"),
    "common/elec2": (None, "nswprice nswdemand vicprice vicdemand transfer"),
}


def real_series(root, name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    when, names = REAL[name]
    times, values = [], []
    with gzip.open(root / f"{name}.csv.gz", "rt") as file:
        for number, row in enumerate(csv.DictReader(file)):
            try:
                values.append([float(row[column]) for column in names.split()])
            except ValueError:
                continue  # a gap in the source
            moment = datetime.fromisoformat(row[when]) if when else NOW + timedelta(minutes=30) * number
            times.append(round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000))
    return np.array(times), dict(zip(names.split(), np.array(values).T, strict=True))


@pytest.mark.parametrize("readings", BYTES_MAX)
@pytest.mark.parametrize("name", REAL)
def test_a_reading_of_real_sensors_takes_few_bytes(name, readings, data_root, record_property):
    times, columns = real_series(data_root, name)
    found = bytes_per_reading(times, columns, readings)
    record_property("bytes_per_reading", round(found, 2))
    assert found <= BYTES_MAX[readings]
