"""From the sketches of many days to alarms, causes and one order: a whole fleet, told day by day."""

from __future__ import annotations

from datetime import timedelta

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

import loop_world
from edgewise.cli._app import build
from edgewise.hub import drift
from edgewise.hub.store import tables
from edgewise.measure import Sketcher
from edgewise.wire import Event, NotValid
from edgewise.wire.usecase import Retrain

BUNDLE = "b" * 64
FLEET = 14
STARTS, ENDS = 18, 23  # days on which cameras with another lens see something else


def make_sketcher() -> Sketcher:
    rng = np.random.default_rng(0)
    decided = rng.integers(0, 3, 300)
    return Sketcher.fit(rng.standard_normal((300, 12)) + 3 * np.eye(12)[decided], decided)


def told(device, rng, made, day: str, shift: float, bundle: str = BUNDLE) -> Event:
    decided = rng.choice(3, 60, p=(0.8, 0.1, 0.1))
    frames = np.repeat(rng.standard_normal((60, 12)) + 3 * np.eye(12)[decided] + shift, 3, axis=0)
    sketch = made.sketch(frames, np.repeat(decided, 3), rng.uniform(0.9, 1, len(frames)), 3)
    data = {"day": day, "pipeline": "main", "bundle": bundle, "release": "press@1", "sketch": sketch.text()}
    return Event(id=device.id(), at=device.yard.clock.now(), what="day_sketch", text="sketch", data=data)


class Days:
    """A fleet that tells a sketch a day; the last `blurred` cameras see something else for some days."""

    def __init__(self, yard, blurred: int) -> None:
        self.yard, self.rng, self.made, self.number = yard, np.random.default_rng(1), make_sketcher(), 0
        self.cameras = [yard.enrol(f"cam-{n:02d}", site="north" if n < FLEET - blurred else "south")
                        for n in range(FLEET)]  # fmt: skip
        self.blurred = [camera.name for camera in self.cameras[FLEET - blurred :]] if blurred else []

    def run(self, until: int, *, ticks: int = 1) -> None:
        while self.number < until:
            day = self.yard.clock.now().date().isoformat()
            drifted = STARTS <= self.number < ENDS
            for camera in self.cameras:
                shift = 1.2 if drifted and camera.name in self.blurred else 0.0
                event = told(camera, self.rng, self.made, day, shift)
                camera.send(camera.segment(self.number + 1, event))
            self.number += 1
            self.yard.clock.advance(timedelta(days=1).total_seconds())
            for _ in range(ticks):
                self.yard.hub.tick()

    def overview(self) -> drift.Overview:
        with self.yard.hub.store.read() as connection:
            return drift.overview(connection, "press", limit=100)

    def audited(self, action: str) -> list[str]:
        return [row["subject"] for row in self.yard.rows(tables.audit) if row["action"] == action]


def test_blurred_cameras_are_alarmed_in_days_close_again_and_cause_one_order(yard):
    yard.apply(retrain=Retrain(labels_min=1000))
    yard.bring_in(*(("north", f"f{n}", f"g{n}", "good" if n % 2 else "bad") for n in range(12)))
    days = Days(yard, blurred=5)
    days.run(STARTS)
    assert days.overview().alarms == []
    quiet = [state.data for state in days.overview().devices if state.data["word"] == "quiet"]
    assert len(quiet) >= 10
    assert all(0.9 <= data["accuracy"] <= 1 and data["why_no_accuracy"] is None for data in quiet)
    orders_before = len(yard.rows(tables.orders))

    days.run(STARTS + 2)
    found = days.overview()
    alarmed = {alarm.subject: alarm for alarm in found.alarms if alarm.kind == "device"}
    assert sorted(alarmed) == days.blurred
    first = (yard.clock.now() - timedelta(days=2)).date().isoformat()
    assert {alarm.began for alarm in alarmed.values()} == {first}
    assert "site=south" in [alarm.subject for alarm in found.alarms if alarm.kind == "cohort"]
    assert [(cause.attribute, cause.value) for cause in found.causes] == [("site", "south")]
    state = next(state for state in found.devices if state.subject == days.blurred[0])
    assert state.data["accuracy"] is None
    assert "has changed" in state.data["why_no_accuracy"]
    told_orders = [alarm.data["order"] for alarm in found.alarms if "order" in alarm.data]
    assert len(told_orders) == 1
    assert len(yard.rows(tables.orders)) == orders_before + 1

    days.run(ENDS + 8)
    after = days.overview()
    assert [alarm.subject for alarm in after.alarms if alarm.closed_at is None and alarm.kind == "device"] == []
    assert {alarm.subject for alarm in after.alarms if alarm.kind == "device"} == set(days.blurred)
    assert len(yard.rows(tables.orders)) == orders_before + 1
    assert set(days.audited("drift.closed")) >= set(days.blurred)
    assert [days.audited("drift.alarmed").count(name) for name in days.blurred] == [1] * 5


def test_a_healthy_fleet_raises_no_alarm_and_a_second_tick_writes_nothing(yard):
    days = Days(yard, blurred=0)
    days.run(26, ticks=2)
    assert days.overview().alarms == []
    before = yard.rows(tables.audit), yard.rows(tables.drift_states)
    yard.hub.tick()
    assert (yard.rows(tables.audit), yard.rows(tables.drift_states)) == before


def test_another_bundle_closes_the_alarm_and_is_learned_afresh(yard):
    days = Days(yard, blurred=5)
    days.run(STARTS + 2)
    name = days.blurred[0]
    camera = days.cameras[-5]
    event = told(camera, days.rng, days.made, yard.clock.now().date().isoformat(), 0.0, bundle="c" * 64)
    camera.send(camera.segment(days.number + 1, event))
    yard.clock.advance(86_400)
    yard.hub.tick()
    closed = [alarm for alarm in days.overview().alarms if alarm.subject == name]
    assert [alarm.closed_why for alarm in closed] == ["another bundle runs there"]


@pytest.mark.parametrize("sketch", ["", "AAAA", "not base64!", None])
def test_a_sketch_that_cannot_be_read_is_audited_and_harms_nothing(yard, sketch):
    camera = yard.enrol("cam-1")
    data = {"day": "2026-03-01", "bundle": BUNDLE, "sketch": sketch}
    event = Event(id=camera.id(), at=yard.clock.now(), what="day_sketch", text="sketch", data=data)
    assert camera.send(camera.segment(1, event)).watermark == 1
    assert yard.rows(tables.day_sketches) == []
    assert [row["action"] for row in yard.rows(tables.audit)].count("drift.sketch_refused") == 1


def test_sketches_older_than_the_bound_are_forgotten(yard):
    camera = yard.enrol("cam-1")
    rng, made = np.random.default_rng(2), make_sketcher()
    days = [(yard.clock.now() - timedelta(days=back)).date().isoformat() for back in (100, 1)]
    camera.send(camera.segment(1, *(told(camera, rng, made, day, 0.0) for day in days)))
    yard.hub.tick()
    assert [row["day"] for row in yard.rows(tables.day_sketches)] == days[1:]


def test_the_drift_of_no_use_case_is_an_error(yard):
    with yard.hub.store.read() as connection, pytest.raises(NotValid):
        drift.overview(connection, "nothing", limit=10)


def test_routes_the_page_and_the_commands_say_the_same(yard):
    days = Days(yard, blurred=5)
    days.run(STARTS + 2)
    name, token = days.blurred[0], yard.hub.tokens.text("admin")
    with loop_world.served(yard.hub) as url, httpx.Client(base_url=url, timeout=60) as client:
        who = {"Authorization": f"Bearer {token}"}
        found = client.get("/api/v1/usecases/press/drift", headers=who).json()
        assert name in [alarm["subject"] for alarm in found["alarms"]]
        assert found["causes"][0]["value"] == "south"
        states = client.get("/api/v1/usecases/press/drift/devices", headers=who).json()
        assert {one["data"]["word"] for one in states if one["subject"] == name} == {"changed"}
        assert client.get("/api/v1/usecases/press/drift/cohorts", headers=who).json()
        assert client.get("/api/v1/usecases/press/drift/causes", headers=who).json() == found["causes"]
        assert client.get("/api/v1/usecases/nothing/drift", headers=who).status_code == 404
        client.get("/", params={"token": token})
        page = client.get("/drift/press")
        assert page.status_code == 200, page.text
        assert name in page.text
        assert "<polyline" in page.text
        told = CliRunner().invoke(build("drift"), ["drift", "status", "press", "--hub", url, "--token", token])
        assert "likely cause: site south" in told.output, told.output
        shown = CliRunner().invoke(build("drift"), ["drift", "show", name, "--hub", url, "--token", token])
        assert "changed" in shown.output, shown.output
