"""Invariant 4, every way out at once: under a policy that forbids everything the device decides on and tells nobody."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgewise.edge import Device
from edgewise.edge._field import FieldSide
from edgewise.edge._pipelines import PipelinePart
from edgewise.edge.api import local_api
from edgewise.edge.courier import write_out
from edgewise.edge.device import Identity
from edgewise.edge.private import sample_id
from edgewise.policy import Forbidden
from edgewise.ports import Credentials, Frame, ListSource, MemoryLink, MemoryRuntime, MemorySink, SeededChance
from edgewise.wire import DataPolicy, Decision, NotValid

NAME = "Ada-Lovelace"
FORBIDS_ALL = {"data_class": "measurement", "transforms": [], "leave": [], "fields": []}


class TapLink(MemoryLink):
    """A link that remembers every byte it was given to carry."""

    sent = b""

    def exchange(self, body: bytes) -> bytes:
        self.sent += body
        return super().exchange(body)

    def put_blob(self, sha256: str, data: bytes, *, offset: int = 0) -> None:
        self.sent += data[offset:]
        super().put_blob(sha256, data, offset=offset)


def look(frame: Frame, _: Decision) -> str:
    return f"look at {frame.name} of {frame.group} and {frame.facts['operator']}"


class Told:
    """A device whose frames all name a person, and everything that came out of it."""

    def __init__(self, fleet: Any, data: dict[str, Any]) -> None:
        self.fleet = fleet
        self.link = TapLink(fleet.hub, "d1")
        self.device = fleet.device(link=self.link, data=data, act=look)
        fleet.assign(fleet.release(1))
        fleet.run(self.device, 5)

    def decide(self, count: int) -> int:
        for number in range(len(self.fleet.frames), len(self.fleet.frames) + count):
            frame = self.fleet.frame(number, operator=f"Frau {NAME}")
            frame = frame._replace(name=f"{NAME}-{number:04d}", group=NAME)
            self.fleet.frames.append(frame)
            self.fleet.source.add(frame)
        return self.fleet.run(self.device, count + 60, seconds=2)

    def heard(self) -> str:
        """Everything that the hub got, unpacked."""
        reports = [repr(header.report) for header in self.fleet.hub.uploads]
        return json.dumps(self.fleet.hub.records) + "".join(reports) + repr(self.fleet.hub.blobs)

    def break_source(self) -> None:
        def broken() -> None:
            raise RuntimeError(f"cannot read the frame of {NAME}")

        self.fleet.source.next = broken
        self.device.decide_step(self.fleet.clock.now())

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        app = local_api(self.device, self.fleet.clock, lambda: True)

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                return await http.request(method, path, json=body)

        return asyncio.run(call())


def test_under_a_policy_that_forbids_everything_the_device_decides_and_nothing_leaves_by_any_way(
    fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Told(fleet, FORBIDS_ALL)
    assert told.decide(40) == 40
    told.break_source()
    fleet.run(told.device, 60, seconds=2)

    # Uplink: contacts go on, so that the device can be steered, and carry neither records nor facts.
    assert fleet.hub.records == []
    assert len(fleet.hub.uploads) > 2
    # Local API: health, counts and the network's shape; no decision, no frame.
    pages = [told.ask("GET", path) for path in ("/", "/status", "/metrics", "/livez", "/readyz", "/v2/models/net1")]
    assert {page.status_code for page in pages} == {200}
    assert pages[1].json()["made_ids"] == []
    assert told.ask("POST", "/feedback", {"verdict": "wrong"}).status_code == 400
    infer = {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [0.1, 0.2]}]}
    refused = told.ask("POST", "/v2/models/net1/infer", infer)
    assert (refused.status_code, "local-api" in refused.json()["error"]) == (403, True)
    # Courier: no stick is written.
    with pytest.raises(Forbidden, match="courier may not leave"):
        write_out(told.device, Credentials(tmp_path), tmp_path / "stick", fleet.clock.now())
    assert not (tmp_path / "stick").exists()

    out = told.link.sent + b"".join(page.content for page in pages) + refused.content
    told_on_stderr = capsys.readouterr()
    assert NAME.encode() not in out
    assert NAME not in told.heard()
    assert NAME not in told_on_stderr.err + told_on_stderr.out
    assert told.device.decisions == 40


def test_where_only_names_may_not_travel_records_leave_without_them(fleet) -> None:
    told = Told(fleet, FORBIDS_ALL | {"leave": list(DataPolicy().leave)})
    told.decide(40)
    told.break_source()
    fleet.run(told.device, 60, seconds=2)
    assert {record["kind"] for record in fleet.hub.records} >= {"sample", "event"}
    assert NAME not in told.heard()
    texts = {record["text"] for record in fleet.hub.records if record.get("what") == "alarm"}
    assert texts == {"look at [frame] of [group] and [operator]"}
    assert any("cannot be read" in reason for reason in fleet.hub.uploads[-1].report.waits_for)
    ids = {record["id"] for record in fleet.hub.records}
    names = [f"{NAME}-{number:04d}" for number in range(40)]
    assert not ids & {
        sample_id("d1", name, why) for name in names for why in ("margin", "audit", "alarm", "alarm event")
    }


def test_the_local_api_names_frames_only_where_the_policy_lists_it(fleet) -> None:
    told = Told(fleet, FORBIDS_ALL | {"leave": ["feedback"]})
    told.decide(5)
    answer = told.ask("POST", "/feedback", {"verdict": "wrong", "note": "Ada was here"})
    assert (answer.status_code, answer.json()["frame"]) == (202, None)
    open_ = Told(fleet, FORBIDS_ALL | {"leave": ["feedback", "local-api"]})
    fleet.run(open_.device, 5)
    assert json.loads(open_.ask("GET", "/status").content)["waits_for"] == []


def test_an_alarms_text_and_an_operators_note_travel_without_identifiers(fleet) -> None:
    told = Told(fleet, FORBIDS_ALL | {"leave": ["feedback", "local-api"]})
    told.decide(3)
    told.ask("POST", "/feedback", {"verdict": "wrong", "note": "ask ada@example.com, tel. 044 668 18 00"})
    fleet.run(told.device, 30, seconds=2)
    (record,) = fleet.stored("feedback")
    assert record["note"] == "ask [email], tel. [phone]"


def test_counts_below_the_policys_minimum_wait_or_are_merged_before_they_are_queued(fleet) -> None:
    data = FORBIDS_ALL | {"leave": ["telemetry"], "private": {"counts_min": 20}}
    told = Told(fleet, data)
    told.decide(15)
    assert fleet.stored("telemetry") == []
    told.decide(15)
    fleet.run(told.device, 60, seconds=2)
    records = fleet.stored("telemetry")
    assert sum(record["decisions"] for record in records) == 30
    assert all(count >= 20 for record in records for count in record["labels"].values())
    assert all(record["alarms"] in (0, record["decisions"]) for record in records)


class NeverAsked:
    """A large bundle that nobody may ask."""

    asked = 0

    def decide(self, data: bytes, media_type: str, *, timeout_s: float) -> Decision:
        del data, media_type, timeout_s
        self.asked += 1
        raise NotValid("it was asked")

    def close(self) -> None:
        return None


def test_under_that_policy_neither_a_sink_nor_a_large_bundle_hears_of_a_frame(fleet, make_usecase) -> None:
    sink, large = MemorySink(), NeverAsked()
    terms = {"url": "http://127.0.0.1:1", "bundle": "large", "margin_max": 1.0, "share_max": 1.0}
    case = make_usecase(
        data=FORBIDS_ALL,
        sinks=[{"kind": "console", "name": "s", "events": ["decision", "alarm"]}],
        placement={"mode": "cascade", "cascade": terms},
    )
    identity = Identity(device="d1", site="north", use_case="parts", usecase=case, root=fleet.root)
    field = FieldSide(identity, fleet.folder, clock=fleet.clock, open_sink=lambda _: sink)
    source = ListSource()
    part = field.fit([PipelinePart(open_source=lambda _: source, act=look, patient=False)])[0]
    device = Device(
        fleet.folder, identity=identity, open_source=lambda _: source, link=fleet.link(), runtime=MemoryRuntime(),
        clock=fleet.clock, chance=SeededChance(1), act=part.act, large=large,
    )  # fmt: skip
    field.sinks.bind(device)
    fleet.assign(fleet.release(1))
    fleet.run(device, 10)
    for number in range(10):
        source.add(fleet.frame(number, operator=NAME))
    assert fleet.run(device, 40) == 10
    while device.defer_step():
        pass
    while field.sinks.queues["s"].turn() == 0:
        pass
    assert (sink.tries, sink.events, large.asked) == (0, [], 0)
    assert device.cascade.totals()["forbidden"] == 10
    assert field.status()["sinks"]["s"]["forbidden"] == {"alarm": 10, "decision": 10}
    device.close(fleet.clock.now())
