"""Alerts: once for each cause and window, told until taken, kept over a restart, with nothing private in them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alert_servers import HookServer, MailServer
from edgewise.hub import alerts
from edgewise.hub.alerts import AlertSettings, Watched, wanted, window_of
from edgewise.hub.settings import load_settings
from edgewise.hub.store import alerts as rows
from edgewise.hub.store import tables
from edgewise.ports.alerts import MemoryTeller
from edgewise.wire import NotNow, NotValid

NOW = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
SETTINGS = AlertSettings()


def states(yard, channel="memory"):
    return [row["state"] for row in yard.rows(tables.alerts) if row["channel"] == channel]


def cloned(yard):
    yard.hub.sightings.add("cloned_key", "press-4", "two devices use one key", yard.hub.now())
    yard.hub.sightings.flush(yard.hub.store)


def test_a_cause_is_told_once_in_a_window_and_again_in_the_next(yard):
    memory = MemoryTeller()
    yard.hub.tellers = [memory]
    cloned(yard)
    for _ in range(5):
        cloned(yard)
        yard.hub.tick()
        yard.hub.watch()
    assert [(one.cause, one.about) for one in memory.told] == [("threat", "cloned_key")]
    yard.clock.advance(SETTINGS.window_s)
    yard.hub.tick()
    yard.hub.watch()
    assert len(memory.told) == 1, "signs of the window before are not told twice"
    cloned(yard)
    yard.hub.watch()
    assert len(memory.told) == 2


def test_what_is_not_taken_waits_longer_each_time_and_is_given_up_at_its_bound(yard):
    down = [NotNow("the server is away")]
    memory = MemoryTeller(fails=lambda: down[0] if down else None)
    yard.hub.tellers = [memory]
    cloned(yard)
    assert yard.hub.watch() == 0
    assert yard.hub.watch() == 0, "not before its pause is over"
    assert [row["attempts"] for row in yard.rows(tables.alerts) if row["channel"] == "memory"] == [1]
    for _ in range(60):
        yard.clock.advance(4000)
        yard.hub.round_at = yard.hub.now()
        yard.hub.watch()
    first = next(row for row in yard.rows(tables.alerts) if row["channel"] == "memory")
    assert (first["state"], first["attempts"]) == (rows.GIVEN_UP, yard.hub.limits.alerts_attempts_max)
    assert "away" in first["error"]
    down.clear()
    yard.clock.advance(4000)
    cloned(yard)
    assert yard.hub.watch() >= 1


def test_a_refusal_for_good_is_given_up_at_once(yard):
    yard.hub.tellers = [MemoryTeller(fails=lambda: NotValid("no such address"))]
    cloned(yard)
    yard.hub.watch()
    assert states(yard) == [rows.GIVEN_UP]


def test_a_restart_loses_nothing_and_real_servers_get_it_once(make_yard, tmp_path):
    hook, mail = HookServer(), MailServer()
    hook.status = 503
    settings = AlertSettings(
        webhook_urls=(hook.url,),
        webhook_secret="key",
        smtp_host="127.0.0.1",
        smtp_port=mail.port,
        smtp_tls="none",
        mail_to=("ann@b.example",),
    )
    yard = make_yard(data_dir=tmp_path / "hub", alerts=settings)
    talker = yard.enrol("press-4")
    cloned(yard)
    yard.hub.watch()
    assert (states(yard, "webhook-1"), states(yard, "mail")) == ([rows.WAITING], [rows.SENT])
    yard.hub.close()
    again = make_yard(data_dir=tmp_path / "hub", alerts=settings, usecase=False)
    again.clock.advance(120)
    hook.status = 204
    assert again.hub.watch() == 1
    assert again.hub.watch() == 0
    bodies = [json.loads(body) for _, body in hook.got]
    assert len({body["id"] for body in bodies}) == 1, "one id, however often it is sent"
    assert len(mail.got) == 1
    out = json.dumps(bodies) + mail.got[0].content.decode()
    assert talker.name not in out
    hook.close()
    mail.close()


def test_no_alert_names_an_address_a_person_or_a_device(yard):
    memory = MemoryTeller()
    yard.hub.tellers = [memory]
    for _ in range(30):
        yard.hub.sightings.refused("token_unknown", "192.0.2.77", "a token of Ann at 192.0.2.77", yard.hub.now())
        yard.hub.sightings.add("replay", "press-4-of-ann", "an upload came again", yard.hub.now())
    yard.hub.tick()
    yard.hub.watch()
    told = " ".join(one.model_dump_json() for one in memory.told)
    assert {one.about for one in memory.told} == {"failed_authentication", "replay"}
    assert not [word for word in ("192.0.2", "Ann", "press-4-of-ann") if word in told]


def test_each_condition_asks_for_its_alert_and_a_calm_hub_for_none():
    calm = Watched(window_at=window_of(NOW, SETTINGS), disk=(50, 100), silent={"press": (100, 5)}, stuck_s=3)
    assert wanted(calm, SETTINGS) == []
    at = calm.window_at
    cases = {
        "disk_low": replace(calm, disk=(5, 100)),
        "controllers_stuck": replace(calm, stuck_s=301),
        "devices_silent": replace(calm, silent={"press": (100, 20)}),
        "release_withdrawn": replace(calm, acts=[(at, "release.withdrawn", "p@2", False)]),
        "rollout_reverted": replace(calm, acts=[(at, "rollout.reverting", "p@2", True)]),
        "threat": replace(calm, signs={(at, "replay"): (1, 1)}),
    }
    for cause, watched in cases.items():
        assert [one.cause for one in wanted(watched, SETTINGS)] == [cause]
    assert "by the hub itself" in wanted(cases["rollout_reverted"], SETTINGS)[0].text
    assert wanted(replace(calm, signs={(at, "failed_authentication"): (19, 1)}), SETTINGS) == []


def test_stuck_controllers_a_low_disk_and_silent_devices_are_noticed_by_the_hub(make_yard):
    yard = make_yard()
    memory = MemoryTeller()
    yard.hub.tellers, yard.hub.disk = [memory], lambda: (1, 100)
    for name in ("press-4", "press-5"):
        yard.enrol(name).send()
    yard.hub.tick()
    yard.clock.advance(timedelta(hours=1).total_seconds())
    yard.hub.watch()
    assert {one.cause for one in memory.told} == {"disk_low", "controllers_stuck", "devices_silent"}


def test_the_queue_is_bounded_and_says_what_it_left_out(yard):
    yard.hub.tellers = [MemoryTeller(fails=lambda: NotNow("away"))]
    yard.hub.limits = replace(yard.hub.limits, alerts_waiting_max=2)
    found = [
        alerts.Wanted(window_at=NOW, cause="threat", about=f"kind-{number}", title="t", text="t") for number in range(5)
    ]
    hub = yard.hub
    more = {"chance": hub.chance, "limits": hub.limits, "counters": hub.counters}
    assert alerts.raise_wanted(hub.store, found, channels=["memory"], now=hub.now(), **more) == 5
    assert states(yard) == [rows.WAITING] * 2
    shed = hub.counters.registry.get_sample_value(
        "edgewise_hub_alerts_told_total", {"channel": "memory", "outcome": "shed"}
    )
    assert shed == 3


def test_settings_come_from_the_environment_and_secrets_from_files(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("key\n")
    told = {
        "EDGEWISE_ALERTS__WEBHOOK_URLS": '["https://hook.example/a"]',
        "EDGEWISE_ALERTS__WEBHOOK_SECRET_FILE": str(secret),
        "EDGEWISE_ALERTS__SILENT_SHARE": "0.5",
    }
    found = load_settings(None, environment=told, flags={"data_dir": tmp_path}).alerts
    assert (found.webhook_urls, found.webhook_secret, found.silent_share) == (("https://hook.example/a",), "key", 0.5)
    with pytest.raises(NotValid, match="window_s"):
        load_settings(None, environment={"EDGEWISE_ALERTS__WINDOW_S": "10"}, flags={"data_dir": tmp_path})
    with pytest.raises(NotValid, match="mail_to"):
        alerts.tellers_of(AlertSettings(smtp_host="mail.example"), None)
