"""The threat view: what doors, contacts and the audit log show, for the right eyes, and fleet health beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

import loop_world
from edgewise.hub import health, threats
from edgewise.hub.intake import ClonedKey
from edgewise.hub.odd import oddities
from edgewise.hub.store import devices, failures, tables
from edgewise.wire import Report, UploadHeader

API = "/api/v1"


@pytest.fixture
def ask(yard) -> Iterator[httpx.Client]:
    who = {"Authorization": f"Bearer {yard.hub.tokens.text('admin')}"}
    with loop_world.served(yard.hub) as url, httpx.Client(base_url=url, headers=who, timeout=60) as client:
        yield client


def kinds(yard, **more: Any) -> dict[str, int]:
    yard.hub.tick()
    with yard.hub.store.read() as connection:
        found = threats.threats(connection, yard.hub.now(), **more)
    return {one["kind"]: one["signs"] for one in found["kinds"] if one["signs"]}


def test_a_cloned_key_a_replay_and_a_clock_that_is_wrong_are_seen(yard):
    talker = yard.enrol("press-4")
    first = talker.segment(1, talker.telemetry())
    talker.send(first)
    assert kinds(yard) == {}, "an honest device shows no sign"
    talker.send(first)
    assert kinds(yard) == {}, "a receipt that was lost is no replay"
    recorded = talker.upload(first)
    yard.clock.advance(600)
    talker.send()
    yard.door.exchange("press-4", recorded)
    assert kinds(yard) == {"replay": 1}
    talker.send(sent_at=yard.clock.now() + timedelta(hours=3))
    assert kinds(yard) == {"replay": 1, "clock": 1}
    with pytest.raises(ClonedKey):
        talker.send(talker.segment(1, talker.telemetry()))
    assert kinds(yard)["cloned_key"] == 1
    assert kinds(yard)["cloned_key"] == 1, "the audit log is looked at once"


def test_versions_that_go_back_are_seen_unless_it_was_meant(yard):
    talker = yard.enrol("press-4")
    now = yard.clock.now()
    with yard.hub.store.read() as connection:
        row = devices.get(connection, "press-4")
    before = Report(at=now, phase="committed", release="p@3", metadata=7).model_dump(mode="json")
    row = replace(row, report=before, release="p@3", sent_at=now)

    def seen(**report: Any) -> list[str]:
        told = Report(at=now, phase="committed", **report)
        header = UploadHeader(device="press-4", epoch=talker.epoch, sent_at=now, report=told)
        return [kind for kind, _ in oddities(row, header, brought=False, now=now, limits=yard.hub.limits)]

    assert seen(release="p@3", metadata=7) == []
    assert seen(release="p@4", metadata=8) == []
    assert seen(release="other@1", metadata=7) == []
    assert seen(release="p@3", metadata=6) == ["version_regression"]
    assert seen(release="p@2", metadata=7) == ["version_regression"]
    row = replace(row, report={**before, "previous": "p@2"})
    assert seen(release="p@2", metadata=7) == [], "a device goes back to the one before by itself"


def test_a_quiet_device_whose_metadata_go_back_or_whose_clock_is_wrong_is_not_overlooked(yard):
    talker = yard.enrol("press-4")
    now = yard.clock.now()
    for number in (5, 5, 5):
        talker.send(report=Report(at=now, phase="idle", metadata=number))
    talker.send(report=Report(at=now, phase="idle", metadata=4))
    assert kinds(yard) == {"version_regression": 1}
    for _ in range(3):
        talker.send(report=Report(at=now, phase="idle", metadata=4), sent_at=now + timedelta(hours=1))
    assert kinds(yard)["clock"] >= 2


def test_wrong_tokens_and_what_devices_refused_come_from_the_audit_log(yard, ask):
    for _ in range(3):
        assert ask.get(f"{API}/devices", headers={"Authorization": "Bearer nonsense"}).status_code in (401, 403)
    assert kinds(yard) == {"failed_authentication": 3}
    page = ask.get(f"{API}/threats", params={"kind": "failed_authentication"}).json()
    assert [row["count"] for row in page["rows"]] == [3]
    assert page["next"] is None
    assert ask.get(f"{API}/threats", params={"kind": "rain"}).status_code == 422
    assert ask.get(f"{API}/threats", params={"hours": 0}).status_code == 422


def test_signs_are_paged_bounded_and_shown_by_site(yard, ask):
    for name, site in (("press-4", "north"), ("press-5", "south")):
        yard.enrol(name, site=site)
        yard.hub.sightings.add("replay", name, "again", yard.hub.now())
    yard.hub.sightings.add("unknown_device", "192.0.2.1", "not enrolled", yard.hub.now())
    assert kinds(yard) == {"replay": 2, "unknown_device": 1}
    assert kinds(yard, sites=["north"]) == {"replay": 1}
    first = ask.get(f"{API}/threats", params={"limit": 2}).json()
    rest = ask.get(f"{API}/threats", params={"limit": 2, "before": first["next"]}).json()
    assert [len(first["rows"]), len(rest["rows"]), rest["next"]] == [2, 1, None]
    yard.hub.sightings._limits = replace(yard.hub.limits, threats_held_max=3, threats_hour_max=5)
    for number in range(50):
        yard.hub.sightings.add("unknown_device", f"198.51.100.{number}", "not enrolled", yard.hub.now())
    yard.hub.tick()
    held = yard.rows(tables.threats)
    assert len(held) <= 7
    assert sum(row["count"] for row in held) == 53, "none is lost, the rest has one row"


def test_health_groups_failures_and_names_who_is_silent_or_behind(yard, ask):
    for name, site in (("press-4", "north"), ("press-5", "north"), ("press-6", "south")):
        yard.enrol(name, site=site).send()
    now = yard.hub.now()
    failed = {"use_case": "press", "at": now, "received_at": now, "phase": "trial", "component": "guard"}
    with yard.hub.store.write() as connection:
        for name, site, code in (
            ("press-4", "north", "too_slow"),
            ("press-6", "south", "too_slow"),
            ("press-4", "north", "x"),
        ):
            more = {"site": site, "device": name, "code": code, "category": "latency", "text": "t", "release": "p@2"}
            failures.add(connection, failed | more, kept_max=10)
    yard.clock.advance(3 * 60)
    found = ask.get(f"{API}/fleet/health", params={"hours": 1}).json()
    told = found["failures"]
    assert told["total"] == 3
    assert [(one["code"], one["failures"], one["devices"]) for one in told["by_code"]] == [
        ("too_slow", 2, 2),
        ("x", 1, 1),
    ]
    assert [(one["site"], one["failures"]) for one in told["by_site"]] == [("north", 2), ("south", 1)]
    assert told["by_release"][0]["release"] == "p@2"
    assert sum(told["over_time"]["counts"]["latency"]) == 3
    assert found["devices"] == {"all": {"north": 2, "south": 1}, "silent": {}, "behind": {}}
    yard.clock.advance(10 * 60)
    page = ask.get(f"{API}/fleet/health/silent", params={"limit": 2}).json()
    rest = ask.get(f"{API}/fleet/health/silent", params={"limit": 2, "after": page["next"]}).json()
    names = [one["id"] for one in [*page["devices"], *rest["devices"]]]
    assert (names, rest["next"]) == (["press-4", "press-5", "press-6"], None)
    with yard.hub.store.read() as connection:
        scoped = health.fleet_health(connection, yard.hub.now(), sites=["south"])
    assert (scoped["failures"]["total"], scoped["devices"]["silent"]) == (1, {"south": 1})
    assert ask.get(f"{API}/fleet/health", params={"use_case": "none"}).status_code == 404


def test_a_device_that_does_not_take_what_it_was_told_is_behind(store_url):
    world = loop_world.LoopWorld(url=store_url)
    world.enrol("d1", site="a")
    world.hear("d1")
    world.label(6)
    world.sign(world.candidate(), override="test")
    world.roll_out("parts@1", waves=[{"percent": 100}])
    world.tick(15)
    now = world.hub.now()

    def behind(hours: float) -> dict[str, int]:
        with world.store.read() as connection:
            return health.fleet_health(connection, now + timedelta(hours=hours))["devices"]["behind"]

    assert behind(1) == {}
    assert behind(25) == {"a": 1}
    world.hub.close()
