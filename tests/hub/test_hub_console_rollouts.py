"""Pages of rollouts and devices, and one rollout by clicks in a real browser."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

import loop_world
from conftest import missing
from edgewise.hub import people, rollouts
from edgewise.hub.access import Person
from edgewise.hub.console.acts import ACTS, NEEDS, WITH_REASON, offered
from edgewise.hub.console.story import LISTED_MAX, stages_of, story_of
from edgewise.hub.rollout import MOVES, Event
from edgewise.hub.rollout_status import DeviceStatus, RolloutStatus, WaveStatus, statuses
from edgewise.hub.store import devices
from edgewise.wire import Failure

CHROMIUM = Path("/usr/bin/chromium")
FLEET = ("d1", "d2", "d3", "d4")
WAVES = {"waves": [{"devices": 1}, {"devices": 3}, {"percent": 100}]}


@pytest.fixture
def world() -> Any:
    """Four devices that run parts@1, and parts@2, which is signed."""
    made = loop_world.LoopWorld()
    for index, name in enumerate(FLEET):
        made.enrol(name, site="ab"[index % 2])
        made.hear(name)
    made.sign(made.bundle(name="net-1"), override="drill")
    made.roll_out("parts@1")
    go(made)
    assert {made.row(name).release for name in FLEET} == {"parts@1"}
    made.sign(made.bundle(name="net-2"), override="drill")
    return made


@pytest.fixture
def client(world: Any) -> Iterator[httpx.Client]:
    """Somebody who signed in as administrator."""
    with loop_world.served(world.hub) as url, httpx.Client(base_url=url, timeout=60) as client:
        client.get("/", params={"token": world.hub.tokens.text("admin")})
        client.headers["origin"] = url
        yield client


def go(world: Any, minutes: float = 4, *, names: tuple[str, ...] = FLEET) -> None:
    for _ in range(int(minutes * 4)):
        world.tick(15)
        for name in names:
            world.hear(name)
    world.tick()


def sign_in(client: httpx.Client, world: Any, role: str, *, name: str = "", sites: list[str] | None = None) -> None:
    hub, admin = world.hub, Person(name="admin", role="admin")
    who: dict[str, Any] = {
        "name": name or f"some-{role}",
        "role": role,
        "sites": sites,
        "expires_at": None,
        "by": admin,
    }
    token, _ = people.make_token(hub.store, now=hub.now(), chance=hub.chance, limits=hub.limits, **who)
    client.cookies.clear()
    assert client.post("/login", data={"token": token}).status_code == 200


def status(world: Any, rollout: str) -> RolloutStatus:
    with world.store.read() as connection:
        return statuses(connection, [rollouts.need(connection, rollout)], now=world.hub.now())[0]


class Page(HTMLParser):
    """A page whose elements are all closed, its fields named, with its words and links."""

    VOID = frozenset({"meta", "link", "input", "br", "img", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == [], f"never closed: {self.open}"
        self.text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))
        self.links = {str(attributes.get("href")) for tag, attributes in self.tags if tag == "a"}
        named = {attributes.get("for") for tag, attributes in self.tags if tag == "label"}
        for tag, attributes in self.tags:
            assert "style" not in attributes, f"{tag} has a style that the policy forbids"
            if tag in ("input", "textarea") and attributes.get("type") != "hidden":
                assert attributes.get("id") in named, attributes

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(client: httpx.Client, path: str, *, code: int = 200) -> Page:
    answer = client.get(path)
    assert answer.status_code == code, answer.text
    return Page(answer.text)


def acts_on(shown: Page, rollout: str) -> set[str]:
    return {link.rsplit("/", 1)[1] for link in shown.links if link.startswith(f"/rollouts/{rollout}/")}


def test_every_move_that_a_person_makes_has_words_and_nothing_else_does():
    asked = {(state, event) for state, event in MOVES if event in NEEDS}
    assert {(state, act.event) for state, acts in ACTS.items() for act in acts} == asked


def test_a_rollout_says_where_it_stands_what_it_waits_for_and_what_comes_next(client, world):
    rollout = world.roll_out("parts@2", **WAVES)
    world.tick()
    shown = page(client, f"/rollouts/{rollout}")
    for words in (
        "It is on its way, in wave 1 of 3.",
        "Why drill",
        "Waits for",
        "After wave 1 of 3 comes wave 2 of 3.",
        "Would return to parts@1",
        "1 assigned",
        "2 waves",
        "holds at 10.00, goes back at 100",
        "No device told of a failure.",
        "its newest assignment is of this rollout and asks for the release",
    ):
        assert words in shown.text, words
    assert f"/rollouts/{rollout}" in page(client, "/").links
    go(world, 12)
    shown = page(client, f"/rollouts/{rollout}")
    assert "It has finished" in shown.text
    assert "It asks:" not in shown.text


def test_a_stage_lists_its_devices_up_to_fifty_and_counts_them_beyond(world):
    rollout = status(world, world.roll_out("parts@2", **WAVES))
    device = DeviceStatus(device="x", site="a", state="not_now")
    gone = DeviceStatus(device="y", site="", state="gone")
    for count, listed in ((LISTED_MAX, True), (LISTED_MAX + 1, False)):
        wave = WaveStatus(
            wave=1,
            state="open",
            opened_at=world.hub.now(),
            passed_at=None,
            by_hand=False,
            waits_for=(),
            devices=(gone, *[device] * (count - 1)),
        )
        (stage,) = stages_of(rollout.model_copy(update={"waves": (wave,)}))
        assert (stage.listed, stage.counts) == (listed, (("not_now", count - 1), ("gone", 1)))


def test_a_shadow_stage_and_what_both_rules_say_are_shown(client, world):
    shadow = {"devices": 2, "pairs_min": 10}
    rollout = world.roll_out("parts@2", shadow=shadow, backstop={}, **WAVES)
    world.tick()
    for name in FLEET:
        world.hear(name)
    world.tick()
    shown = page(client, f"/rollouts/{rollout}")
    for words in (
        "It is on its way, in the shadow stage.",
        "comes wave 1 of 3",
        "2 shadow",
        "Backstop, without labels",
    ):
        assert words in shown.text, words


@pytest.mark.parametrize(
    ("role", "running", "paused"),
    [
        ("viewer", set(), set()),
        ("labeller", set(), set()),
        ("operator", {"pause", "revert", "abort"}, {"resume", "revert", "abort"}),
        ("approver", {"pause", "revert", "abort"}, {"resume", "approve", "revert", "abort"}),
    ],
)
def test_an_act_is_offered_where_the_state_and_the_role_allow_it(client, world, role, running, paused):
    rollout = world.roll_out("parts@2", **WAVES)
    world.tick()
    sign_in(client, world, role)
    assert acts_on(page(client, f"/rollouts/{rollout}"), rollout) == running
    if not running:
        assert client.get(f"/rollouts/{rollout}/pause").status_code == 403
        return
    assert "until somebody resumes it" in page(client, f"/rollouts/{rollout}/pause").text
    assert client.post(f"/rollouts/{rollout}/pause").status_code == 303
    assert status(world, rollout).reason == f"paused by some-{role}"
    shown = page(client, f"/rollouts/{rollout}")
    assert acts_on(shown, rollout) == paused
    assert "It is paused" in shown.text
    assert "possible now: resume" in page(client, f"/rollouts/{rollout}/pause", code=409).text


def test_what_asks_for_a_reason_is_not_done_without_one(client, world):
    rollout = world.roll_out("parts@2", **WAVES)
    for event in WITH_REASON:
        answer = client.post(f"/rollouts/{rollout}/{event.value}", data={"reason": " "})
        assert answer.status_code == 422
        assert f"{event.value} needs its reason" in Page(answer.text).text
    assert status(world, rollout).state == "running"
    assert "cannot be done to a rollout" in page(client, f"/rollouts/{rollout}/dance", code=404).text
    client.post(f"/rollouts/{rollout}/abort", data={"reason": "wrong week"})
    assert status(world, rollout).reason == "aborted by admin: wrong week"
    answer = client.post(f"/rollouts/{rollout}/pause")
    assert answer.status_code == 409
    assert "it is over" in Page(answer.text).text


def test_who_made_a_rollout_is_not_offered_to_approve_it(client, world):
    sign_in(client, world, "approver", name="ann")
    rollout = world.roll_out("parts@2", approval="person", **WAVES)
    shown = page(client, f"/rollouts/{rollout}")
    assert acts_on(shown, rollout) == {"deny", "abort"}
    assert "only an approver who is somebody else" in shown.text
    assert "somebody else has to approve it" in page(client, f"/rollouts/{rollout}/approve", code=409).text
    sign_in(client, world, "approver", name="bob")
    assert "it opens wave 1 of 3" in page(client, f"/rollouts/{rollout}/approve").text
    client.post(f"/rollouts/{rollout}/approve")
    assert status(world, rollout).reason == "approved by bob"


def test_a_first_release_offers_no_way_back(world):
    with world.store.read() as connection:
        (row,) = rollouts.rows.find(connection, release="parts@1")
    first = status(world, row.id)
    operator = Person(name="bob", role="operator")
    assert [act.event for act in offered(first, operator)] == [Event.RESUME]
    assert story_of(first).asks == ""


def test_a_rollout_that_asks_says_what_a_person_can_do(client, world):
    rollout = world.roll_out("parts@2", wave_s_max=120, **WAVES)
    world.tick()
    go(world, 4, names=())
    shown = page(client, f"/rollouts/{rollout}")
    for words in ("It paused by itself, in wave 1 of 3", "It asks:", "counts as passed", "inconclusive"):
        assert words in shown.text, words


def test_failures_stand_by_code_and_what_it_was_taken_back_on_can_be_read(client, world):
    rollout = world.roll_out("parts@2", **WAVES)
    world.tick()
    (device,) = status(world, rollout).waves[0].devices
    about = {"at": world.hub.now(), "phase": "trial", "component": "trial", "category": "quality"}
    failure = Failure(code="latency_over_deadline", text="p99 is 310 ms, 200 ms are allowed", **about)
    old = world.row(device.device)
    world.hear(device.device, release=old.release, bundle=old.bundle, failure=failure, failed_rollout=rollout)
    world.tick()
    shown = page(client, f"/rollouts/{rollout}")
    for words in ("latency_over_deadline 1", "1 failed", "It was taken back to parts@1", "Taken back on 0 paired"):
        assert words in shown.text, words
    links = [link for link in shown.links if link.startswith("/api/v1/")]
    assert len(links) == 2
    assert all(client.get(link).json() for link in links)


def test_between_two_stages_nothing_is_offered_to_count_as_passed(client, world):
    rollout = world.roll_out("parts@2", **WAVES)
    assert "before wave 1 of 3" in page(client, f"/rollouts/{rollout}").text
    client.post(f"/rollouts/{rollout}/pause")
    shown = page(client, f"/rollouts/{rollout}")
    assert "It is paused, before wave 1 of 3." in shown.text
    assert acts_on(shown, rollout) == {"resume", "revert", "abort"}
    world.tick()
    page(client, f"/rollouts/{rollout}/approve", code=409)


def test_the_part_that_changes_comes_alone_to_htmx(client, world):
    rollout = world.roll_out("parts@2", **WAVES)
    answer = client.get(f"/rollouts/{rollout}", headers={"hx-request": "true"})
    assert answer.text.lstrip().startswith("<h1")
    Page(answer.text)


# -- before it starts --------------------------------------------------------------------------------------------------


def test_a_release_is_looked_at_before_it_starts_and_then_started(client, world):
    assert "/releases/parts%402/preview" in page(client, "/releases/parts@2").links
    shown = page(client, "/releases/parts@2/preview")
    for words in ("Finished 2026-05-04", "take part 4 of 4 devices", "wave 2", "would return to parts@1", "no price"):
        assert words in shown.text, words
    policy = "waves: [{devices: 1}, {percent: 50}, {percent: 100}]\napproval: person"
    changed = page(client, f"/releases/parts@2/preview?{httpx.QueryParams(policy=policy)}")
    assert "wave 3" in changed.text
    assert "Somebody else than you has to approve it" in changed.text
    answer = client.post("/releases/parts@2/rollouts", data={"policy": policy, "why": "autumn data"})
    assert answer.status_code == 303
    made = status(world, answer.headers["location"].removeprefix("/rollouts/"))
    assert (made.state, made.who, len(made.policy.waves)) == ("waiting", "admin", 3)
    assert made.reason.startswith("autumn data")


@pytest.mark.parametrize(
    ("policy", "words", "refused"),
    [
        ("waves: 3", "Input should be", 422),
        ("select: [{fact: site, op: eq, value: nowhere}]", "It could never work", 422),
        ("stuck_s: 0.5", "stuck_s", 422),
    ],
)
def test_a_policy_that_cannot_work_is_told_and_not_started(client, policy, words, refused):
    shown = page(client, f"/releases/parts@2/preview?{httpx.QueryParams(policy=policy)}")
    assert words in shown.text
    assert "Start the rollout" not in shown.text
    answer = client.post("/releases/parts@2/rollouts", data={"policy": policy, "why": "x"})
    assert answer.status_code == refused
    Page(answer.text)


def test_devices_that_cannot_take_it_are_named_with_the_reason(client):
    client.post("/devices/d2/decide", data={"act": "pin", "reason": "audit week"})
    shown = page(client, "/releases/parts@2/preview")
    assert "Cannot take it: 1" in shown.text
    assert "pinned to parts@1 by admin" in shown.text
    assert "/devices/d2" in shown.links


def test_who_may_not_start_a_rollout_sees_no_preview(client, world):
    sign_in(client, world, "labeller")
    assert not any("preview" in link for link in page(client, "/releases/parts@2").links)
    assert client.get("/releases/parts@2/preview").status_code == 403
    sign_in(client, world, "operator", sites=["a"])
    assert client.get("/releases/parts@2/preview").status_code == 403
    assert client.post("/releases/parts@2/rollouts", data={"why": "x"}).status_code == 403


# -- devices -----------------------------------------------------------------------------------------------------------


def test_a_device_is_pinned_and_let_go_on_its_page(client, world):
    assert "/devices/d1" in page(client, "/").links
    assert client.post("/devices/d1/decide", data={"act": "pin", "reason": ""}).status_code == 422
    client.post("/devices/d1/decide", data={"act": "pin", "reason": "audit week"})
    assert world.row("d1").pin["why"] == "audit week"
    rollout = world.roll_out("parts@2", **WAVES)
    world.tick()
    shown = page(client, "/devices/d1")
    for words in ("It is pinned to parts@1 by admin since 2026-05-04: audit week", "an operator pinned it", "Variant"):
        assert words in shown.text, words
    assert "Pinned: 1" in page(client, f"/rollouts/{rollout}").text
    client.post("/devices/d1/decide", data={"act": "unpin"})
    assert world.row("d1").pin is None


@pytest.mark.parametrize("act", ["adopt", "reassign"])
def test_a_device_in_conflict_asks_and_is_resolved(client, world, act):
    told = world.row("d1").assignment_number
    world.hear("d1", assignment=told + 3)
    assert "d1 is left alone until somebody decides" in page(client, "/").text
    shown = page(client, "/devices/d1")
    for words in ("conflict paused", "left alone until a person decides", "Adopt", "Reassign"):
        assert words in shown.text, words
    assert client.post("/devices/d1/decide", data={"act": act, "reason": "the backup was old"}).status_code == 303
    assert not world.row("d1").in_conflict
    assert (world.row("d1").pin is not None) == (act == "adopt")


def test_many_devices_in_conflict_do_not_fill_what_a_person_has_to_do(client, world):
    for name in ("d5", "d6", "d7"):
        world.enrol(name)
    for name in (*FLEET, "d5", "d6", "d7"):
        world.hear(name, assignment=1000)
    text = page(client, "/").text
    assert text.count("is left alone until somebody decides") == 4
    assert "3 more devices are in conflict" in text
    with world.store.write() as connection:
        devices.change(connection, "d7", revoked_at=world.hub.now())
    assert "shut out" in page(client, "/devices/d7").text


def test_a_device_says_which_variant_it_gets_or_why_none_fits(client, world):
    world.sign(world.bundle(name="net-3", ram_mb=80), override="drill")
    world.roll_out("parts@3")
    world.tick()
    assert "fp32" in page(client, "/devices/d1").text
    world.hear("d2", facts={"ram_mb": 5})
    shown = page(client, "/devices/d2").text
    assert "none of parts@3 can run here" in shown
    assert "80" in shown


def test_a_device_is_seen_and_changed_by_those_of_its_site(client, world):
    sign_in(client, world, "operator", sites=["b"])
    assert client.get("/devices/d1").status_code == 403
    assert client.post("/devices/d1/decide", data={"act": "pin", "reason": "x"}).status_code == 403
    page(client, "/devices/d2")
    sign_in(client, world, "viewer")
    assert "Why should it stay" not in page(client, "/devices/d1").text
    assert client.post("/devices/d1/decide", data={"act": "pin", "reason": "x"}).status_code == 403
    assert client.post("/devices/d1/decide", headers={"origin": "http://evil.example"}).status_code == 403
    assert "there is no device" in page(client, "/devices/nobody", code=404).text


# -- in a browser ------------------------------------------------------------------------------------------------------


def test_a_rollout_is_started_paused_resumed_and_taken_back_by_clicks(world):
    api = pytest.importorskip("playwright.sync_api", reason="the extra `dev` brings playwright")
    if not CHROMIUM.exists():
        missing("browser", f"there is no browser at {CHROMIUM}")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(loop_world.served(world.hub))
        play = stack.enter_context(api.sync_playwright())
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        stack.callback(browser.close)
        tab = browser.new_page(viewport={"width": 390, "height": 844})
        complaints: list[str] = []
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(f"{url}/?token={world.hub.tokens.text('admin')}")
        api.expect(tab.get_by_role("heading", name="parts", exact=True)).to_be_visible(timeout=20_000)

        def click(role: str, name: str) -> None:
            tab.get_by_role(role, name=name, exact=True).click()

        def stands(text: str) -> None:
            api.expect(tab.locator(".stands")).to_have_text(re.compile(text), timeout=20_000)

        def narrow() -> None:
            wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{tab.url} is {wide} px wider than a telephone"

        tab.goto(f"{url}/releases/parts@2")
        click("link", "Look what a rollout would do")
        stands("Finished .*, .* after it begins")
        narrow()
        tab.get_by_label("Why now?").fill("autumn data")
        click("button", "Start the rollout")
        stands("It is on its way, before wave 1 of 2")
        narrow()
        world.tick()
        stands("It is on its way, in wave 1 of 2")  # the page follows by itself
        tab.get_by_text("1 device", exact=True).click()
        api.expect(tab.get_by_role("cell", name="assigned")).to_be_visible()
        click("link", "Pause")
        api.expect(tab.get_by_role("heading", name="What will happen")).to_be_visible()
        narrow()
        click("button", "Pause")
        stands("It is paused, in wave 1 of 2")
        click("link", "Go on")
        click("button", "Go on")
        stands("It is on its way")
        go(world, 1)
        tab.get_by_role("link", name="Take it back", exact=True).focus()
        tab.keyboard.press("Enter")
        tab.get_by_label("Why?").fill("cracks were missed")
        tab.keyboard.press("Enter")
        stands("It is being taken back to parts@1")
        go(world, 1)
        stands("It was taken back to parts@1")
        narrow()
        assert complaints == []
    assert {world.row(name).release for name in FLEET} == {"parts@1"}
