"""Sources as typed, sources under observation, and frames pushed over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgewise.edge._field import FieldSide
from edgewise.edge._pipelines import PipelinePart
from edgewise.edge._push import PushDoor
from edgewise.edge._source_text import read_source, settled
from edgewise.edge._watched_source import WatchedSource
from edgewise.edge.api import local_api
from edgewise.edge.device import Identity
from edgewise.frames import Decided
from edgewise.ports import Frame, ListSource, MemoryClock, PushSource, open_source
from edgewise.wire import DataPolicy, MqttSpec, NotNow, NotValid, PushSpec

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PICTURE = b"\xff\xd8\xff\xe0 a picture"
LOUD = DataPolicy(leave=("log",))


# -- sources as a person types them ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("pictures", {"kind": "folder", "path": "pictures"}),
        ("/var/camera", {"kind": "folder", "path": "/var/camera"}),
        ("video:line 3.mp4?every_s=0.5", {"kind": "video", "path": "line 3.mp4", "every_s": 0.5}),
        ("camera:0", {"kind": "camera", "device": 0}),
        ("camera:/dev/video2?format=bmp", {"kind": "camera", "path": "/dev/video2", "format": "bmp"}),
        ("rtsp://10.0.0.7/live?channel=1", {"kind": "camera", "url": "rtsp://10.0.0.7/live?channel=1"}),
        ("mqtt://broker/plant/+/press", {"kind": "mqtt", "host": "broker", "port": 1883, "topic": "plant/+/press"}),
        ("mqtts://broker/a", {"kind": "mqtt", "port": 8883, "topic": "a"}),
        ("mqtt://[::1]:99/a?row.facts=[line]&row.time=at", {"host": "::1", "port": 99, "row.facts": ("line",)}),
        ("modbus://inverter:1502/7?sunspec={}&every_s=5", {"kind": "modbus", "port": 1502, "unit": 7, "every_s": 5.0}),
        (
            "modbus://plc?registers=[{column: force, address: 3}]",
            {"kind": "modbus", "registers.0.column": "force", "registers.0.address": 3},
        ),
        (
            "opc.tcp://plc:4840/x?nodes=[{column: a, node: 'ns=2;s=A'}]",
            {"kind": "opcua", "url": "opc.tcp://plc:4840/x", "nodes.0.node": "ns=2;s=A"},
        ),
        ("csv:march.csv?speed=60&row.time=at", {"kind": "csv", "path": "march.csv", "speed": 60.0, "row.time": "at"}),
        ("push:", {"kind": "push", "name": "push"}),
        ("push:phone?queue_max=3", {"kind": "push", "name": "phone", "queue_max": 3}),
    ],
)
def test_a_text_means_a_source(text: str, wanted: dict[str, Any]) -> None:
    spec = read_source(text)
    for where, value in wanted.items():
        found: Any = spec
        for part in where.split("."):
            found = found[int(part)] if part.isdecimal() else getattr(found, part)
        assert found == value, where


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("camera:", "exactly one of device, path and url"),
        ("csv:a.csv?sped=60", "sped"),
        ("csv:a.csv?row.time=at&row=3", "row"),
        ("csv:a.csv?row=3&row.time=at", "two ways"),
        ("mqtt://broker", "topic"),
        ("mqtt://ann:secret@broker/a", "holds a password"),
        ("rtsp://ann:secret@camera/a", "holds a password"),
        ("mqtt://broker:99999/a", "is no address"),
        ("kafka://broker/a", "'kafka' is no kind of source; there is a folder, video:PATH"),
        ("modbus://plc", "nothing to read"),
        ("none.yaml", "cannot be read"),
    ],
)
def test_a_text_that_means_no_source_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(NotValid, match=re.escape(says)) as raised:
        read_source(text)
    assert "secret" not in str(raised.value)


def test_a_source_may_lie_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "press.yaml"
    file.write_text("kind: csv\npath: march.csv\nspeed: 0\n")
    assert read_source(str(file)).speed == 0
    file.write_text("[1]")
    with pytest.raises(NotValid, match="must hold one source"):
        read_source(str(file))
    file.write_text("kind: csv\n")
    with pytest.raises(NotValid, match=r"csv\.path: Field required"):
        read_source(str(file))


def test_only_the_device_knows_its_name_at_a_broker_and_where_tokens_lie(tmp_path: Path) -> None:
    spec = settled(MqttSpec(host="b", topic="a", name="press"), device="d1", folder=tmp_path)
    assert spec.client == "d1-press"
    assert settled(MqttSpec(host="b", topic="a", client="x"), device="d1", folder=tmp_path).client == "x"
    assert settled(PushSpec(name="phone"), device="d1", folder=tmp_path).token_file == f"{tmp_path}/keys/push-phone"
    given = PushSpec(token_env="TOKEN")
    assert settled(given, device="d1", folder=tmp_path) is given


# -- under observation -------------------------------------------------------------------------------------------------


class Flaky(ListSource):
    """A source that fails as told."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: Exception | None = None

    def next(self) -> Frame | None:
        if self.fails is not None:
            raise self.fails
        return super().next()


def failed(source: WatchedSource, times: int) -> None:
    for _ in range(times):
        with pytest.raises(NotNow):
            source.next()


def test_an_outage_is_one_outage_and_one_line_however_often_it_is_looked_at() -> None:
    lines: list[str] = []
    inside = Flaky()
    source = WatchedSource(inside, "camera", LOUD, lines.append)
    inside.add(Frame(name="a", data=b"", media_type="image/jpeg", taken_at=NOW))
    assert source.next() is not None
    inside.fails = NotNow("no picture", code="camera_lost")
    failed(source, 2000)
    assert (source.outages, source.is_up, source.frames) == (1, False, 1)
    inside.fails = None
    assert source.next() is None
    assert source.is_up
    assert lines == ["edgewise source camera gives no frames: NotNow: no picture", "edgewise source camera is back"]


def test_a_source_that_comes_and_goes_for_weeks_fills_no_journal() -> None:
    lines: list[str] = []
    inside = Flaky()
    source = WatchedSource(inside, "camera", LOUD, lines.append)
    for _ in range(1000):
        inside.fails = NotNow("no picture")
        failed(source, 2)
        inside.fails = None
        source.next()
    assert source.outages == 1000
    assert len([line for line in lines if "gives no frames" in line]) == 4
    assert "(1000 times)" in lines[-2]


def test_skipped_frames_are_said_by_orders_of_magnitude_and_in_the_words_that_the_policy_allows() -> None:
    for policy, shown in ((LOUD, True), (DataPolicy(), False)):
        lines: list[str] = []
        inside = ListSource()
        source = WatchedSource(inside, "csv", policy, lines.append)
        for number in range(1, 501):
            inside.skipped, inside.last_skip = number, f"row {number} of Ada is no number"
            source.next()
        assert len(lines) == 3
        assert ("Ada" in "".join(lines)) is shown


# -- pushed frames -----------------------------------------------------------------------------------------------------


class Door:
    """A device's local API with one push source."""

    def __init__(self, fleet: Any, make_usecase: Any, *, leave: list[str] | None = None, **spec: Any) -> None:
        self.clock = MemoryClock(NOW)
        self.push = open_source(PushSpec.model_validate({"name": "phone"} | spec), None, clock=self.clock)
        assert isinstance(self.push, PushSource)
        data = {"data_class": "measurement", "transforms": []} | ({} if leave is None else {"leave": leave})
        usecase = make_usecase(data=data)
        identity = Identity(device="d1", site="north", use_case="parts", usecase=usecase, root=fleet.root)
        self.field = FieldSide(identity, fleet.folder, clock=fleet.clock)
        part = self.field.fit([PipelinePart(open_source=lambda _: self.push, patient=False)])[0]
        part.open_source(None)
        self.act = part.act
        self.device = fleet.device(data=data)
        self.app = local_api(self.device, fleet.clock, lambda: True, self.field)
        self.headers = {"authorization": f"Bearer {self.push.token}"}

    def ask(self, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
        """The answers to requests that are made at the same time."""

        async def together() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8081") as http:
                return list(await asyncio.gather(*(http.request(m, path, **more) for m, path, more in requests)))

        return asyncio.run(together())

    def post(self, path: str = "/push/phone", **more: Any) -> httpx.Response:
        return self.ask(("POST", path, {"headers": self.headers} | more))[0]


@pytest.fixture
def door(fleet, make_usecase):
    door = Door(fleet, make_usecase)
    yield door
    door.device.close(NOW)


def test_a_pushed_frame_is_queued_under_a_name(door):
    answer = door.post(content=PICTURE)
    assert (answer.status_code, answer.json()) == (202, {"frame": "phone-20260301T120000000000-000001"})
    frame = door.push.next()
    assert (frame.name, frame.data, frame.media_type) == (answer.json()["frame"], PICTURE, "image/jpeg")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer ü".encode()}])
def test_without_the_token_nothing_is_taken_and_no_name_is_told(door, headers):
    answers = door.ask(
        ("POST", "/push/phone", {"headers": headers, "content": PICTURE}),
        ("POST", "/push/other", {"headers": headers, "content": PICTURE}),
        ("POST", "/push/other", {"headers": door.headers, "content": PICTURE}),
    )
    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert answers[0].text.replace("phone", "other") == answers[1].text
    assert door.push.next() is None


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"hello", 400, "bad_reading"),
        (b'{"x": "high"}', 400, "bad_reading"),
        (b"", 400, "bad_reading"),
        (b"\xff\xd8\xff" + b"x" * 1000, 413, "frame_too_large"),
    ],
)
def test_what_is_no_frame_is_refused_in_words(fleet, make_usecase, content, status, code):
    door = Door(fleet, make_usecase, frame_bytes_max=1000)
    answer = door.post(content=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    door.device.close(NOW)


def test_over_its_bound_it_says_when_to_come_again_and_counts(fleet, make_usecase):
    door = Door(fleet, make_usecase, queue_max=2)
    answers = [door.post(content=PICTURE) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202, 202, 429, 429, 429]
    assert answers[-1].headers["retry-after"] == "1"
    metrics = door.ask(("GET", "/metrics", {}))[0].text
    assert 'edgewise_edge_source_skipped_total{pipeline="main"} 3.0' in metrics
    door.device.close(NOW)


def decide_soon(door: Door) -> None:
    """What the decision loop does with the next pushed frame."""
    frame = door.push.next()
    assert frame is not None
    door.act(frame, Decided("crack", 0.9, None, 0.5, None, "b" * 64))


def test_a_caller_may_wait_for_the_decision(door):
    async def talk() -> httpx.Response:
        transport = httpx.ASGITransport(app=door.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            asked = asyncio.create_task(http.post("/push/phone?wait_s=5", content=PICTURE, headers=door.headers))
            while door.push._queue == type(door.push._queue)():
                await asyncio.sleep(0.005)
            decide_soon(door)
            return await asked

    answer = asyncio.run(talk())
    assert answer.status_code == 200
    assert answer.json()["decision"]["label"] == "crack"


def test_a_decision_that_does_not_come_in_time_is_not_waited_for(door):
    assert door.post("/push/phone?wait_s=0.05", content=PICTURE).status_code == 202
    for wrong in ("-1", "11", "nan", "x"):
        assert door.post(f"/push/phone?wait_s={wrong}", content=PICTURE).json()["code"] == "wait_invalid"


def test_a_policy_that_lets_no_decision_out_by_the_local_api_is_kept(fleet, make_usecase):
    door = Door(fleet, make_usecase, leave=["sample", "report"])
    assert door.post("/push/phone?wait_s=5", content=PICTURE).json().keys() == {"frame"}
    decide_soon(door)
    door.device.close(NOW)


def test_other_methods_other_hosts_and_a_device_without_push_are_told_apart(door, fleet):
    get, foreign = door.ask(
        ("GET", "/push/phone", {"headers": door.headers}),
        ("POST", "/push/phone", {"headers": door.headers | {"host": "evil.example"}, "content": PICTURE}),
    )
    assert (get.status_code, get.headers["allow"], foreign.status_code) == (405, "POST", 403)
    plain = local_api(door.device, fleet.clock, lambda: True)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=plain), base_url="http://localhost") as http:
            return await http.get("/camera")

    assert asyncio.run(ask()).status_code == 404


def test_the_camera_page_loads_nothing_from_elsewhere(door):
    page, script, style = door.ask(*(("GET", path, {}) for path in ("/camera", "/camera.js", "/camera.css")))
    assert [one.status_code for one in (page, script, style)] == [200, 200, 200]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.findall(r"https?://", page.text + script.text + style.text)
    assert door.ask(("POST", "/camera", {}))[0].status_code == 405


def test_remembered_decisions_are_bounded():
    door = PushDoor(may_show=True)
    door.add(PushSource(PushSpec(name="phone"), clock=MemoryClock(NOW)))
    for number in range(10_000):
        door.decided(f"main/phone-{number}", Decided("a", 1, None, 1, None, "b" * 64))
        door.decided(f"other-{number}", Decided("a", 1, None, 1, None, "b" * 64))
    assert len(door._decisions) == 256


def test_the_state_of_sources_stands_in_status_and_metrics(door):
    door.post(content=b"hello")
    status, metrics = door.ask(("GET", "/status", {}), ("GET", "/metrics", {}))
    about = json.loads(status.text)["sources"]["main"]
    assert (about["up"], about["skipped"]) == (True, 1)
    assert "neither a picture" in about["last_skip"]
    assert 'edgewise_edge_source_up{pipeline="main"} 1.0' in metrics.text
