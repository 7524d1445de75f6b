"""Sources and sinks as records: each bound has a unit, secrets have no place in them, limits cannot contradict."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from edgewise.wire import SinkSpec, SourceSpec
from edgewise.wire.sources import SOURCE, type_range

SINK: TypeAdapter[SinkSpec] = TypeAdapter(SinkSpec)
GATE = {"name": "gate", "address": 7, "min": 0, "max": 10}
SOURCES: list[dict[str, Any]] = [
    {"kind": "folder", "path": "pictures"},
    {"kind": "video", "path": "line.mp4", "every_s": 0.5},
    {"kind": "camera", "device": 0},
    {"kind": "camera", "url": "rtsp://10.0.0.7/stream", "login": {"user": "viewer", "password_env": "CAMERA_PASSWORD"}},
    {"kind": "mqtt", "host": "broker", "topic": "plant/+/press/#", "share": "inspectors"},
    {"kind": "modbus", "host": "inverter", "sunspec": {}},
    {"kind": "modbus", "host": "plc", "registers": [{"column": "force", "address": 3, "type": "float32"}]},
    {"kind": "opcua", "url": "opc.tcp://plc:4840", "nodes": [{"column": "force", "node": "ns=2;s=Press.Force"}]},
    {"kind": "csv", "path": "march.csv", "speed": 60, "row": {"time": "at"}},
    {"kind": "push", "token_file": "push-token"},
]


@pytest.mark.parametrize("value", SOURCES, ids=lambda value: value["kind"])
def test_a_source_comes_back_as_it_was_written(value: dict[str, Any]) -> None:
    spec: SourceSpec = SOURCE.validate_python(value)
    assert SOURCE.validate_json(SOURCE.dump_json(spec)) == spec


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"kind": "telepathy"}, "does not match any of the expected tags"),
        ({"kind": "camera"}, "exactly one of device, path and url"),
        ({"kind": "camera", "device": 0, "url": "rtsp://a"}, "exactly one of device, path and url"),
        ({"kind": "camera", "url": "rtsp://ann:secret@10.0.0.7/"}, "a password does not belong into a URL"),
        ({"kind": "camera", "device": 0, "login": {"user": "a", "password_env": "P"}}, "only a camera with a url"),
        ({"kind": "mqtt", "host": "b", "topic": "a/b#"}, "no topic filter"),
        ({"kind": "mqtt", "host": "b", "topic": "a/#/b"}, "no topic filter"),
        ({"kind": "mqtt", "host": "b", "topic": "a", "login": {"user": "a"}}, "exactly one of password_file"),
        ({"kind": "mqtt", "host": "b", "topic": "a", "password": "x"}, "Extra inputs"),
        ({"kind": "mqtt", "host": "b", "topic": "a", "retry_s_min": 9, "retry_s_max": 3}, "at most retry_s_max"),
        ({"kind": "modbus", "host": "plc"}, "nothing to read"),
        ({"kind": "modbus", "host": "p", "registers": [{"column": "a", "address": 65_535, "type": "int32"}]}, "beyond"),
        ({"kind": "modbus", "host": "p", "registers": [{"column": "a", "address": 1, "table": "coil"}]}, "type bool"),
        ({"kind": "modbus", "host": "p", "registers": [{"column": "a", "address": 1}] * 2}, "share a column"),
        ({"kind": "opcua", "url": "http://plc", "nodes": [{"column": "a", "node": "i=1"}]}, "pattern"),
        ({"kind": "opcua", "url": "opc.tcp://p", "nodes": [{"column": "a", "node": "i=1"}], "security": "sign"}, "tls"),
    ],
)
def test_a_source_that_cannot_be_says_why(value: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        SOURCE.validate_python(value)


@pytest.mark.parametrize(
    ("register", "write", "says"),
    [
        ({}, {"to": "gate", "value": 11}, "outside of the limits"),
        ({}, {"to": "gate", "value": 0.5}, "outside of the limits"),
        ({}, {"to": "valve", "value": 1}, "not among the registers that may be written"),
        ({"values": [0, 5]}, {"to": "gate", "value": 4}, "outside of the limits"),
        ({"safe": 12}, {"to": "gate", "value": 4}, "outside of the limits"),
        ({"hold_s": 5}, {"to": "gate", "value": 4}, "needs a safe value"),
        ({"min": 6, "max": 5}, {"to": "gate", "value": 4}, "at most max"),
        ({"max": 70_000}, {"to": "gate", "value": 4}, "more than a uint16 holds"),
        ({"max": float("inf")}, {"to": "gate", "value": 4}, "finite number"),
        ({"table": "coil"}, {"to": "gate", "value": 1}, "coils are of type bool"),
    ],
)
def test_a_write_outside_of_its_limits_is_refused_before_anything_runs(
    register: dict[str, Any], write: dict[str, Any], says: str
) -> None:
    value = {"kind": "modbus", "name": "plc", "host": "plc", "registers": [GATE | register], "writes": [write]}
    with pytest.raises(ValidationError, match=says):
        SINK.validate_python(value)


def test_a_message_goes_to_one_topic() -> None:
    with pytest.raises(ValidationError, match="wild card"):
        SINK.validate_python({"kind": "mqtt", "name": "m", "host": "b", "topic": "alarms/#"})


@pytest.mark.parametrize("url", ["https://ann:secret@example.org/", "ftp://example.org", "https://a b"])
def test_a_webhook_goes_to_a_plain_address(url: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        SINK.validate_python({"kind": "webhook", "name": "w", "url": url})


def test_the_range_of_a_type_is_what_its_registers_hold() -> None:
    assert type_range("uint32") == (0, 2**32 - 1)
    assert type_range("float32")[1] == pytest.approx(3.4028235e38)
