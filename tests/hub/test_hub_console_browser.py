"""Every page of the console in a real browser: it renders, full and empty, is quiet, fits, and can be read by all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import console_world
import loop_world
from conftest import missing
from edgewise.hub.store import labels, orders, rollouts

CHROMIUM = Path("/usr/bin/chromium")
PHONE, DESK = {"width": 375, "height": 812}, {"width": 1280, "height": 900}
# Name to address; words in braces are fields of `console_world.Seen`.
PAGES = {
    "overview": "/",
    "use-case": "/use-case",
    "devices": "/devices",
    "device": "/devices/press-1",
    "data": "/data",
    "readings": "/data/readings",
    "intake": "/data/intake",
    "labelling": "/labelling",
    "labels": "/labels",
    "orders": "/orders",
    "order": "/orders/{answered}",
    "order-cancel": "/orders/{order}/cancel",
    "releases": "/releases",
    "release": "/releases/parts@2",
    "compare": "/compare?a=parts@1&b=parts@2",
    "rollouts": "/rollouts",
    "rollout": "/rollouts/{rollout}",
    "app": "/app",
    "cost": "/cost",
    "audit": "/audit",
    "settings": "/settings",
    "people": "/settings/people",
    "keys": "/settings/keys",
    "rounds": "/rounds/parts",
    "drift": "/drift/parts",
    "ledger": "/ledger/{sample}",
}
OF_ONE_THING = re.compile(r"\{|press-1|parts@|/rounds|/drift")
DRAWN = """() => new Promise((done) => {
  const fits = (box) => !box.firstElementChild || Math.abs(box.firstElementChild.clientWidth - box.clientWidth) < 2;
  const look = (left) => [...document.querySelectorAll(".chart, .lines")].every(fits) || !left
    ? done() : setTimeout(look, 20, left - 1);
  look(100);
})"""
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
Shoot = Callable[[Any, str], None]
SERIOUS = ("serious", "critical")


class Tab:
    """One tab of the browser, with what it complained of."""

    def __init__(self, api: Any, browser: Any, url: str, token: str, **context: Any) -> None:
        self.api, self.url = api, url
        self.page = browser.new_context(reduced_motion="reduce", **context).new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"{url}/?token={token}")
        api.expect(self.page.get_by_role("link", name="edgewise", exact=True)).to_be_visible(timeout=20_000)

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{self.page.url}: {message.text}")

    def go(self, path: str) -> Any:
        answer = self.page.goto(self.url + path)
        assert answer.status == 200, f"{path}: {answer.status}"
        return self.page

    def click(self, role: str, name: str | re.Pattern[str]) -> None:
        self.page.get_by_role(role, name=name, exact=isinstance(name, str)).click()

    def shows(self, text: str | re.Pattern[str]) -> None:
        self.api.expect(self.page.get_by_text(text).first).to_be_visible(timeout=20_000)


@pytest.fixture(scope="module")
def api() -> Any:
    found = pytest.importorskip("playwright.sync_api", reason="the extra `dev` brings playwright")
    if not CHROMIUM.exists():
        missing("browser", f"there is no browser at {CHROMIUM}")
    return found


@pytest.fixture(scope="module")
def browser(api: Any) -> Iterator[Any]:
    with api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def seen() -> console_world.Seen:
    return console_world.full()


@pytest.fixture(scope="module")
def url(seen: console_world.Seen) -> Iterator[str]:
    with loop_world.served(seen.world.hub) as found:
        yield found


@pytest.fixture
def tab(api: Any, browser: Any, url: str, seen: console_world.Seen) -> Iterator[Tab]:
    made = Tab(api, browser, url, seen.world.hub.tokens.text("admin"), viewport=DESK)
    yield made
    made.page.context.close()
    assert made.complaints == []


@pytest.fixture(scope="module")
def shoot(tmp_path_factory: pytest.TempPathFactory) -> Shoot:
    """Keeps a picture of a page: all of them, whole, in the folder that EDGEWISE_ARTEFACTS names; without it those of
    one kind, as large as the window, in a folder that pytest forgets after some runs.
    """
    named = os.environ.get("EDGEWISE_ARTEFACTS")
    place = Path(named) / "console" if named else tmp_path_factory.mktemp("console")
    place.mkdir(parents=True, exist_ok=True)

    def shoot(page: Any, name: str) -> None:
        if named or name.endswith("-light"):
            page.screenshot(path=place / f"{name}.png", full_page=named is not None)

    return shoot


def paths(seen: console_world.Seen) -> dict[str, str]:
    return {name: path.format_map(vars_of(seen)) for name, path in PAGES.items()}


def vars_of(seen: console_world.Seen) -> dict[str, str]:
    return {"rollout": seen.rollout, "order": seen.order, "answered": seen.answered, "sample": seen.sample}


def settle(page: Any) -> None:
    """Wait until all charts are drawn, as wide as their place."""
    page.evaluate(DRAWN)


def serious(page: Any, axe: Any, **options: Any) -> list[str]:
    """What axe-core finds serious or critical, with the elements."""
    found = axe.run(page, options={"resultTypes": ["violations"], **options}).response["violations"]
    return [
        f"{page.url} {one['id']}: {node['target']} {node['html'][:160]}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"][:3]
    ]


@pytest.fixture(scope="module")
def axe() -> Any:
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        missing("browser", "axe-playwright-python is not installed; the extra `dev` brings it")
    return Axe()


def test_every_page_is_quiet_fits_a_telephone_and_has_no_serious_finding_in_light_and_dark(
    tab: Tab, seen: console_world.Seen, axe: Any, shoot: Shoot
) -> None:
    found: list[str] = []
    for name, path in paths(seen).items():
        page = tab.go(path)
        settle(page)
        found += serious(page, axe)
        assert page.get_by_role("heading", level=1).count() == 1, path
        shoot(page, f"{name}-light")
        page.emulate_media(color_scheme="dark")
        found += serious(page, axe, runOnly=["color-contrast"])
        shoot(page, f"{name}-dark")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(PHONE)
        settle(page)
        wide = page.evaluate(TOO_WIDE)
        if wide > 0:
            found.append(f"{path} is {wide} px wider than a telephone")
        shoot(page, f"{name}-phone")
        page.set_viewport_size(DESK)
    assert not found, "\n".join(found)


def test_every_page_of_an_empty_hub_says_what_to_do_next(api: Any, browser: Any, axe: Any, shoot: Shoot) -> None:
    """Once with a use case in which nothing has happened, and once without any."""
    world = loop_world.LoopWorld()
    found: list[str] = []
    with loop_world.served(world.hub) as url:
        tab = Tab(api, browser, url, world.hub.tokens.text("admin"), viewport=PHONE)
        for name, path in PAGES.items():
            if OF_ONE_THING.search(path):
                continue
            page = tab.go(path)
            found += serious(page, axe, rules={"color-contrast": {"enabled": False}})
            shoot(page, f"{name}-empty")
            assert page.evaluate(TOO_WIDE) <= 0, path
        with world.store.write() as connection:
            connection.exec_driver_sql("DELETE FROM usecases")
        for path in PAGES.values():
            if not OF_ONE_THING.search(path) and not path.startswith(("/audit", "/settings/")):
                tab.go(path)
                assert "no use case" in tab.page.locator("main").inner_text(), path
        tab.page.context.close()
    assert not found, "\n".join(found)
    assert tab.complaints == []


def test_the_head_leads_to_every_page_by_keyboard_alone(tab: Tab) -> None:
    page = tab.go("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    names = []
    for _ in range(20):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent.trim()"))
    titles = "Use case, Devices, Data, Labelling, Labels, Orders, Releases, Rollouts, App, Cost, Audit, Settings"
    assert [name for name in names if name in titles.split(", ")] == titles.split(", ")
    page.get_by_role("link", name="Rollouts", exact=True).focus()
    page.keyboard.press("Enter")
    tab.api.expect(page.get_by_role("heading", name="Rollouts", level=1)).to_be_visible()
    assert page.get_by_role("link", name="Rollouts", exact=True).get_attribute("aria-current") == "page"
    # Within a page too: whatever a mouse can do has a place in the order of Tab, and shows where one is.
    page = tab.go("/use-case")
    page.get_by_role("link", name=re.compile(r"^Label: ")).first.focus()
    page.keyboard.press("Enter")
    tab.api.expect(page.get_by_role("heading", name="How labelling goes")).to_be_visible()


def test_a_whole_round_of_labelling_by_clicks(tab: Tab, seen: console_world.Seen) -> None:
    page = tab.go("/data?label=none&why=audit")
    before = page.locator(".cards li").count()
    assert before == 6
    page.get_by_role("link", name=re.compile("^label sample")).first.click()
    tab.api.expect(page.locator("#picture")).to_be_visible()
    for at in range(before):
        here = page.locator("#card input[name=sample]").first.input_value()
        name = r"\bcrack$" if at == 0 else r"\bok good$"
        page.locator("#card").get_by_role("button", name=re.compile(name)).click()
        tab.api.expect(page.locator(f"#card input[value='{here}']")).to_have_count(0)
    tab.shows(re.compile("All done|No sample waits"))
    page = tab.go("/labels")
    tab.shows("Labelled and open")
    with seen.world.store.read() as connection:
        left = orders.find(connection, use_case="parts", limit=1)
        assert labels.position(connection, "parts") > left[0].labels_position
    tab.go("/data?label=none&why=audit")
    tab.shows("No sample is like that")


def test_a_whole_rollout_by_clicks_told_by_the_stream(tab: Tab, seen: console_world.Seen) -> None:
    world = seen.world
    tab.go("/rollouts")
    tab.page.get_by_role("link", name="parts@3", exact=True).first.click()
    stands = tab.page.locator(".stands")
    tab.api.expect(stands).to_contain_text("It is on its way", timeout=20_000)
    tab.click("link", "Pause")
    tab.click("button", "Pause")
    tab.api.expect(stands).to_contain_text("It is paused")
    tab.click("link", "Go on")
    tab.click("button", "Go on")
    tab.api.expect(stands).to_contain_text("It is on its way")
    # The page is told by the stream: it would ask by itself every 30 s only.
    tab.page.wait_for_timeout(300)
    tab.click("link", "Take it back")
    tab.page.get_by_label(re.compile("Why")).fill("cracks were missed")
    tab.page.keyboard.press("Enter")
    tab.api.expect(stands).to_contain_text("It is being taken back to parts@2")
    console_world.go(world, 1.5)
    tab.api.expect(stands).to_contain_text("It was taken back to parts@2", timeout=8_000)
    with world.store.read() as connection:
        row = rollouts.get(connection, seen.rollout)
    assert row is not None
    assert row.state == "reverted"


def test_an_order_is_cancelled_a_token_made_and_revoked_and_the_chain_checked_by_clicks(
    tab: Tab, seen: console_world.Seen, api: Any, browser: Any, url: str
) -> None:
    page = tab.go(f"/orders/{seen.order}")
    tab.click("link", "Cancel")
    page.get_by_label(re.compile("Why")).fill("the labels were wrong")
    tab.click("button", "Cancel the order")
    tab.shows("A person ended it before it was answered.")
    page = tab.go("/settings/people")
    page.get_by_label(re.compile("^Whose")).fill("eve")
    page.get_by_label("Role").select_option("viewer")
    page.get_by_label(re.compile("^Sites")).fill("a")
    tab.click("button", "Make it")
    text = page.locator("#token").inner_text().strip()
    eve = Tab(api, browser, url, text)
    assert "eve · viewer · a" in eve.page.locator("header").inner_text()
    tab.go("/settings/people")
    tab.click("link", "revoke the token of eve")
    tab.click("button", "Revoke")
    tab.shows(re.compile("^revoked"))
    eve.page.goto(url + "/")
    eve.shows(re.compile("was revoked"))
    eve.page.context.close()
    page = tab.go("/audit?action=people_token.")
    tab.click("button", "Check the whole chain")
    tab.shows(re.compile(r"^All .* entries hold"))
