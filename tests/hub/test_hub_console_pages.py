"""Lists, filters, acts and rights of the console's pages, through the whole application."""

from __future__ import annotations

import asyncio
import contextlib
import html
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

import console_world
import loop_world
from edgewise.hub import audit
from edgewise.hub.console import nav
from edgewise.hub.console.data import FLEET_NAMED_MAX
from edgewise.hub.console.data_pages import POINTS_MAX, chart_of
from edgewise.hub.console.device_story import story_of
from edgewise.hub.console.watching import Watchers
from edgewise.hub.limits import Limits
from edgewise.hub.readings import Point
from edgewise.hub.store import devices, orders, people, rollouts
from edgewise.hub.store.tables import audit as audit_table

QUIET = timedelta(minutes=1)
LISTS = {  # path to a pattern that names each row
    "/devices": r'href="/devices/([\w-]+)"',
    "/orders": r'href="/orders/(\w{32})">\w+ ',
    "/releases": r'scope="row"><a href="/releases/([^"]+)"',
    "/rollouts": r'scope="row"><a href="/rollouts/(\w+)"',
    "/data": r'class="picture" href="/ledger/(\w+)"',
    "/audit": r'scope="row" class="num">(\d+)<',
    "/cost": r'scope="row"><a href="/devices/([\w-]+)"',
}


@pytest.fixture(scope="module")
def seen() -> console_world.Seen:
    return console_world.full()


@pytest.fixture(scope="module")
def url(seen: console_world.Seen) -> Iterator[str]:
    with loop_world.served(seen.world.hub) as found:
        yield found


@contextlib.contextmanager
def sign_in(url: str, token: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30, follow_redirects=True) as client:
        assert client.get("/", params={"token": token}).status_code == 200
        client.headers["origin"] = url
        yield client


@pytest.fixture
def client(seen: console_world.Seen, url: str) -> Iterator[httpx.Client]:
    with sign_in(url, seen.world.hub.tokens.text("admin")) as found:
        yield found


@pytest.fixture
def half(seen: console_world.Seen, url: str) -> Iterator[httpx.Client]:
    """An approver of one of the two sites."""
    with sign_in(url, console_world.token(seen.world, "approver", ["a"])) as found:
        yield found


def text_of(answer: httpx.Response) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text.partition("<main")[2])))


# -- lists -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
def test_a_long_list_pages_without_a_gap_or_a_double(
    client: httpx.Client, seen: console_world.Seen, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = seen.world.hub
    whole = re.findall(LISTS[path], client.get(path, params={"use_case": "parts"}).text)
    monkeypatch.setattr(hub, "limits", replace(hub.limits, console_rows_max=2))
    found, answer = [], client.get(path, params={"use_case": "parts"})
    for _ in range(60):
        assert answer.status_code == 200
        rows = re.findall(LISTS[path], answer.text)
        assert 0 < len(rows) <= 2
        found += rows
        onward = re.search(r'href="([^"]+)" rel="next"', answer.text)
        if onward is None:
            break
        answer = client.get(html.unescape(onward[1]))
    assert len(set(found)) == len(found)
    assert found[: len(whole)] == whole[: len(found)]
    assert len(found) >= min(len(whole), 3)


@pytest.mark.parametrize("path", ["/orders", "/rollouts", "/data", "/releases", "/audit", "/data/intake"])
def test_a_cursor_that_is_none_is_refused_with_what_to_do(client: httpx.Client, path: str) -> None:
    for cursor in ("nonsense", "-1", "bm9uc2Vuc2U="):
        answer = client.get(path, params={"cursor": cursor})
        assert answer.status_code == 422, cursor
        assert "begin at its top" in text_of(answer) or "take `next`" in text_of(answer)


def test_filters_find_and_an_empty_list_leads_back(client: httpx.Client, seen: console_world.Seen) -> None:
    def named(path: str, **asked: str) -> list[str]:
        return re.findall(LISTS[path], client.get(path, params={"use_case": "parts", **asked}).text)

    assert named("/devices", site="b") == ["press-3", "press-4"]
    assert named("/devices", release="parts@3") == ["press-1", "press-2"]
    assert named("/devices", begins="press-3") == ["press-3"]
    assert named("/devices", begins="%") == []
    assert len(named("/data", why="audit")) == 6
    assert len(named("/data", label="none")) == 6
    assert named("/data", label="none", site="a") == []
    assert named("/orders", state="open") == [seen.order]
    assert named("/rollouts", state="running") == [seen.rollout]
    assert named("/rollouts", state="paused") == []
    entries = named("/audit", action="release.", actor="signer")
    assert entries
    assert set(entries) < set(named("/audit", actor="signer"))
    for path, asked in (("/data", {"label": "none", "site": "a"}), ("/rollouts", {"state": "paused"})):
        assert "show all" in text_of(client.get(path, params=asked))


def test_every_page_answers_on_every_database(store_url: str) -> None:
    """The questions use JSON and sums that the databases write differently."""
    full = console_world.full(store_url)
    with loop_world.served(full.world.hub) as url, sign_in(url, full.world.hub.tokens.text("admin")) as client:
        for link in nav.LINKS:
            assert client.get(link.path).status_code == 200, link.path
        told = text_of(client.get("/cost"))
        assert "21.0 kB" in told  # the refused segment crossed the link too
        assert "120 kB" in told  # what three devices fetched; the fourth told of none in its last report
        assert "2.0 %" in text_of(client.get("/app"))
        for path in (
            "/data/readings",
            "/data/intake",
            f"/orders/{full.answered}",
            "/devices/press-4",
            "/settings/keys",
        ):
            assert client.get(path).status_code == 200, path
    full.world.hub.close()


# -- rights ------------------------------------------------------------------------------------------------------------


def test_the_head_offers_what_the_role_may_open(seen: console_world.Seen, url: str) -> None:
    for role, offered in (("viewer", False), ("operator", False), ("approver", True)):
        with sign_in(url, console_world.token(seen.world, role)) as client:
            assert ('href="/audit' in client.get("/orders").text) is offered
            assert client.get("/audit").status_code == (200 if offered else 403)
            assert client.get("/settings/people").status_code == 403
            assert "/settings/people" not in client.get("/settings").text


def test_somebody_of_some_sites_sees_these_alone(half: httpx.Client, seen: console_world.Seen) -> None:
    for path in ("/", "/use-case", "/devices", "/cost", "/app", "/data", "/data/intake", "/data/readings", "/labels"):
        answer = half.get(path)
        assert answer.status_code == 200, path
        assert not re.search(r"press-[34]", answer.text), path
    assert "press-1" in half.get("/devices").text
    for path in ("/orders", "/rollouts"):
        assert "Not for some sites" in half.get(path).text
    for path in (
        f"/orders/{seen.order}",
        f"/orders/{seen.order}/cancel",
        f"/rollouts/{seen.rollout}/watch",
        "/compare?a=parts@1&b=parts@2",
        "/devices/press-3",
        "/data/readings?device=press-3",
        "/audit",
    ):
        assert half.get(path).status_code == 403, path
    assert "minutes of workers" not in half.get("/cost").text


def test_acts_need_their_role_their_sites_and_the_consoles_own_origin(
    half: httpx.Client, client: httpx.Client, seen: console_world.Seen, url: str
) -> None:
    store = seen.world.store
    acts = {
        f"/orders/{seen.order}/cancel": {"reason": "x"},
        "/settings/people": {"name": "mallory", "role": "admin"},
        "/settings/keys/snapshot/new": {},
        "/audit/verify": {},
    }
    keys = len(seen.world.hub.online.of("snapshot"))
    with sign_in(url, console_world.token(seen.world, "viewer")) as viewer:
        for path, body in acts.items():
            assert viewer.post(path, data=body).status_code == 403, path
            assert half.post(path, data=body).status_code == 403, path
            for origin in ("http://evil.example", "null"):
                assert client.post(path, data=body, headers={"origin": origin}).status_code == 403, path
    with store.read() as connection:
        row = orders.get(connection, seen.order)
        assert row is not None
        assert row.state == "open"
        assert "mallory" not in {one.name for one in people.all_tokens(connection, limit=100)}
    assert len(seen.world.hub.online.of("snapshot")) == keys


# -- acts --------------------------------------------------------------------------------------------------------------


def test_a_token_is_shown_once_and_what_is_wrong_makes_none(client: httpx.Client, seen: console_world.Seen) -> None:
    for body in (
        {"name": "eve", "role": "king"},
        {"name": "admin", "role": "viewer"},
        {"name": "eve", "role": "viewer", "days": "-1"},
        {"name": "eve", "role": "viewer", "days": "9" * 9},
        {"name": "eve", "role": "worker", "sites": "a"},
        {"role": "viewer"},
    ):
        assert client.post("/settings/people", data=body).status_code == 422, body
    made = client.post("/settings/people", data={"name": "eve", "role": "viewer", "sites": "a, b", "days": "2"})
    text = re.search(r'id="token">([^<]+)<', made.text)
    assert text is not None
    assert text[1] not in client.get("/settings/people").text
    with seen.world.store.read() as connection:
        row = next(one for one in people.all_tokens(connection, limit=100) if one.name == "eve")
    assert row.sites == ["a", "b"]
    assert row.expires_at == seen.world.hub.now() + timedelta(days=2)
    assert client.get(f"/settings/people/{'0' * 32}/revoke").status_code == 404
    client.post(f"/settings/people/{row.id}/revoke")
    with seen.world.store.read() as connection:
        gone = people.token(connection, row.id)
    assert gone is not None
    assert gone.revoked_at is not None


def test_a_new_online_key_waits_until_the_offline_roles_name_it(client: httpx.Client) -> None:
    assert text_of(client.get("/settings/keys")).count("signs now") == 3
    assert client.get("/settings/keys/release/new").status_code == 404
    told = text_of(client.post("/settings/keys/timestamp/new"))
    assert told.count("signs now") == 3
    assert "It waits to be named: edgewise trust rotate timestamp --keys keys/root" in told


def test_a_chain_that_does_not_hold_is_told_with_its_place(client: httpx.Client, seen: console_world.Seen) -> None:
    assert "entries hold" in text_of(client.post("/audit/verify"))
    entry = audit_table.c.index == 5
    with seen.world.store.write() as connection:
        actor = connection.execute(audit_table.select().where(entry)).one().actor
        connection.execute(audit_table.update().where(entry).values(actor="mallory"))
    try:
        assert audit.verify(seen.world.store).broken == 5
        assert "Entry 5 does not hold" in text_of(client.post("/audit/verify"))
    finally:
        with seen.world.store.write() as connection:
            connection.execute(audit_table.update().where(entry).values(actor=actor))


def test_cancelling_says_what_it_does_needs_a_reason_and_is_offered_once() -> None:
    world = loop_world.LoopWorld(usecase=loop_world.a_usecase(retrain={"labels_min": 4}))
    world.label(3)
    world.tick()
    with world.store.read() as connection:
        order = orders.newest(connection, "parts")
    assert order is not None
    with loop_world.served(world.hub) as own, sign_in(own, world.hub.tokens.text("admin")) as client:
        assert "It ends for good" in text_of(client.get(f"/orders/{order.id}/cancel"))
        assert client.post(f"/orders/{order.id}/cancel", data={"reason": " "}).status_code == 422
        assert "A person ended it" in text_of(
            client.post(f"/orders/{order.id}/cancel", data={"reason": "wrong labels"})
        )
        assert client.get(f"/orders/{order.id}/cancel").status_code in (409, 422)
        assert f"/orders/{order.id}/cancel" not in client.get(f"/orders/{order.id}").text
        assert client.get(f"/orders/{'0' * 32}").status_code == 404


# -- single pages ------------------------------------------------------------------------------------------------------


def test_releases_stand_side_by_side_only_where_that_says_something(client: httpx.Client) -> None:
    told = text_of(client.get("/compare?a=parts@1&b=parts@2"))
    assert "parts@2 was weighed against parts@1" in told
    assert "overall" in told
    assert "signed against it" not in told
    assert client.get("/compare?a=parts@1&b=parts@1").status_code == 404
    assert client.get("/compare?a=parts@1&b=parts@9").status_code == 404


def test_the_text_of_a_use_case_is_told_by_version_with_what_changed(client: httpx.Client) -> None:
    answer = client.get("/settings")
    assert "version 3, in force" in text_of(answer)
    changed = re.findall(r'<span class="(new|gone)">([^<]+)</span>', answer.text)
    assert [(word, line.strip()[-5:]) for word, line in changed] == [("gone", ": 60}"), ("new", ": 40}")]
    assert "version 2" in text_of(client.get("/settings?version=2"))
    assert client.get("/settings?version=99").status_code == 404


def test_a_large_fleet_is_counted_by_site_and_not_named() -> None:
    world = loop_world.LoopWorld()
    for at in range(FLEET_NAMED_MAX + 1):
        world.enrol(f"d{at}", site="ab"[at % 2])
    with loop_world.served(world.hub) as url, sign_in(url, world.hub.tokens.text("admin")) as client:
        text = client.get("/").text
        assert ">d0<" not in text
        assert "site=a&amp;phase=new" in text
        assert re.search(rf">{FLEET_NAMED_MAX + 1} devices<", text)


def test_pages_forbid_and_have_no_inline_style_or_script(client: httpx.Client, seen: console_world.Seen) -> None:
    for path in (*(link.path for link in nav.LINKS), "/data/readings", f"/orders/{seen.answered}", "/settings/keys"):
        answer = client.get(path)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"<[^>]+ (style|on\w+)=", answer.text), path
        assert not re.search(r"<script(?![^>]*src=)|(src|href)=\"(https?:)?//", answer.text), path


# -- the stream --------------------------------------------------------------------------------------------------------


def test_a_rollout_is_told_of_as_it_changes(client: httpx.Client, seen: console_world.Seen) -> None:
    hub, path = seen.world.hub, f"/rollouts/{seen.rollout}/watch"
    with client.stream("GET", path) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in stream.iter_lines() if line.startswith("event:"))
        assert next(lines) == "event: change"
        with seen.world.store.write() as connection:
            rollouts.change(connection, seen.rollout, now=hub.now(), why="somebody wrote this")
            devices.change(connection, "press-2", phase="trial")
        assert next(lines) == "event: change"
    assert client.get("/rollouts/nothing/watch").status_code == 404


def test_streams_are_bounded_in_number_and_age() -> None:
    assert Watchers(Limits(console_watchers_max=0)).are_full
    watchers = Watchers(Limits(console_watchers_max=1, console_watch_s=0.2, console_watch_look_s=0.01))

    async def listen() -> list[str]:
        told = []
        async for line in watchers.changes(lambda: "same"):
            assert watchers.are_full
            told.append(line)
        return told

    assert asyncio.run(listen()) == ["event: change\ndata: look again\n\n"]
    assert not watchers.are_full


# -- pure --------------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def a_device(**changes: Any) -> devices.DeviceRow:
    wanted = {
        "device": "d",
        "number": 1,
        "hub_epoch": "e" * 32,
        "use_case": "parts",
        "release": "parts@2",
        "bundle": "2" * 64,
        "policy_version": 1,
        "reason": "wave 1 of 2",
        "issued_at": NOW.isoformat(),
    }
    values: dict[str, Any] = dict.fromkeys(devices.DeviceRow.__dataclass_fields__)
    values |= {"id": "d", "site": "a", "use_case": "parts", "labels": {}, "facts": {}, "seen_at": NOW, "phase": "idle"}
    return devices.DeviceRow(**values | {"release": "parts@1", "assignment": wanted} | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ("It runs parts@1, and is idle.", "wave 1 of 2", "At its next contact it learns of parts@2")),
        ({"phase": "trial"}, ("is trial", "parts@2", "it commits parts@2")),
        ({"phase": "committed", "release": "parts@2"}, ("It runs parts@2.", "told to run", "it runs what it should")),
        ({"seen_at": None, "release": None}, ("was not heard yet", "its first contact", "parts@2")),
        ({"seen_at": NOW - timedelta(hours=3)}, ("its next contact: it was heard 3 h ago", "decides on meanwhile")),
        ({"revoked_at": NOW}, ("It was shut out", "enrolled again under a new key")),
        ({"conflict": {"text": "it runs x@9", "since": "", "resolved": None}}, ("x@9", "until a person adopts")),
        ({"assignment": None}, ("Nothing was assigned", "The first rollout that selects it")),
    ],
)
def test_a_device_is_explained(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    story = story_of(a_device(**changes), None, quiet=QUIET, now=NOW)
    told = " | ".join((story.runs, story.why, *story.waits_for, story.then))
    for word in words:
        assert word in told, told


def test_readings_are_thinned_without_losing_a_peak_and_gaps_stay_gaps() -> None:
    def at(second: int, value: float) -> Point:
        return Point(channel="t", at=NOW + timedelta(seconds=second), value=value)

    points = [at(second, 1.0) for second in range(20 * POINTS_MAX)]
    points[777] = at(777, 99.0)
    points[778] = at(778, float("nan"))
    chart = chart_of(points, ["t", "u"])
    drawn, other = (line["y"] for line in chart["lines"])
    assert len(drawn) <= POINTS_MAX + 2
    assert max(drawn) == 99.0
    assert all(value is None for value in other)
    assert chart_of([], ["t"])["x"] == []
