"""Sensor readings at the hub: stored once as received, opened within bounds, refused where the policy says so."""

from __future__ import annotations

import base64
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from edgewise.delta import Column, encode_series
from edgewise.hub import readings
from edgewise.hub.api.readings import _json
from edgewise.hub.store import tables
from edgewise.wire import DataPolicy, Readings

START = datetime(2026, 3, 1, tzinfo=UTC)
START_MS = round(START.timestamp() * 1000)


@pytest.fixture
def device(yard):
    usecase = yard.apply()
    yard.apply(data=DataPolicy(version=2, fields=usecase.data.fields, telemetry=("ac_power", "temp_c")))
    return yard.enrol("one")


def block(device, values, *, first_s: float = 0, channels=("ac_power",), **changes) -> Readings:
    times = START_MS + np.round((first_s + np.arange(len(values))) * 1000).astype(np.int64)
    columns = [Column(channel=index, times_ms=times, values=np.array(values)) for index in range(len(channels))]
    fields = {
        "id": device.id(),
        "site": device.site,
        "end": START + timedelta(seconds=first_s + len(values) - 1),
        "channels": channels,
        "count": len(values) * len(channels),
        "block": base64.b64encode(encode_series(columns)).decode(),
    }
    return Readings(**fields | changes)


def send(device, number, *records):
    return device.send(device.segment(number, *records, policy_version=2))


def find(yard, **more):
    asked = {"since": START, "until": START + timedelta(days=1), "count_max": 1000} | more
    with yard.hub.store.read() as connection:
        return readings.find(connection, "one", **asked)


def test_readings_are_stored_once_and_found_by_channel_and_time(yard, device):
    first = device.segment(1, block(device, [1.5, 2.5, 3.5], channels=("ac_power", "temp_c")), policy_version=2)
    device.send(first)
    device.send(first)
    send(device, 2, block(device, [7, 8], first_s=100), device.telemetry())
    assert len(yard.rows(tables.readings)) == 2
    assert [row["duplicates"] for row in yard.rows(tables.segments)] == [0, 0]
    power = find(yard, channel="ac_power").points
    assert [(item.at, item.value) for item in power] == [
        (START + timedelta(seconds=second), value)
        for second, value in ((0, 1.5), (1, 2.5), (2, 3.5), (100, 7), (101, 8))
    ]
    part = find(yard, since=START + timedelta(milliseconds=500), until=START + timedelta(seconds=2)).points
    assert [(item.channel, item.value) for item in part] == [("ac_power", 2.5), ("temp_c", 2.5)]
    assert find(yard, channel="temp_f").points == []


def test_pages_go_on_where_the_one_before_ended(yard, device):
    for number in range(1, 6):
        send(device, number, block(device, [number, number], first_s=10 * number))
    page = find(yard, count_max=3)
    assert [item.value for item in page.points] == [1, 1, 2, 2]
    rest = find(yard, cursor=page.next)
    assert [item.value for item in rest.points] == [3, 3, 4, 4, 5, 5]
    assert rest.next is None


def test_a_channel_that_the_policy_does_not_list_is_refused_and_not_kept(yard, device):
    receipt = send(device, 1, block(device, [1.0], channels=("operator",)))
    assert receipt.refused[0].code == "fields_forbidden"
    assert yard.rows(tables.readings) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"block": "no base64!"},
        {"block": base64.b64encode(b"\x01\x02nothing").decode()},
        {"count": 9},
        {"count": 10_000},
        {"end": START + timedelta(days=9)},
        {"channels": ("temp_c", "ac_power")},
    ],
)
def test_a_block_that_is_not_what_its_record_says_is_refused_or_harmless(yard, device, changes):
    receipt = send(device, 1, block(device, [1.0, 2.0], **changes))
    assert receipt.watermark == 1  # for good: one bad segment must not block a device for ever
    stored = len(yard.rows(tables.readings))
    assert (stored, len(receipt.refused)) == ((1, 0) if "channels" in changes else (0, 1))


def test_a_bomb_of_readings_is_refused_before_there_is_room_for_it(device):
    times = np.arange(2_000_000)
    bomb = encode_series([Column(channel=0, times_ms=times, values=np.zeros(len(times)))])
    receipt = send(device, 1, block(device, [1.0], block=base64.b64encode(bomb).decode(), count=10_000))
    assert "2000000 readings" in receipt.refused[0].text


def test_values_that_json_cannot_say_are_words():
    assert [_json(value) for value in (math.nan, math.inf, -math.inf, -0.0, 7)] == [
        "NaN", "Infinity", "-Infinity", -0.0, 7,
    ]  # fmt: skip
