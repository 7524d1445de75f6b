"""A release's scorecard in the console: every number with what it was computed from, on a telephone, read aloud."""

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
from edgewise.hub import people
from edgewise.hub.access import Person

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def world() -> Iterator[Any]:
    made = loop_world.scorecard_world()
    yield made
    made.hub.close()


@pytest.fixture(scope="module")
def client(world: Any) -> Iterator[httpx.Client]:
    with loop_world.served(world.hub) as url, httpx.Client(base_url=url, timeout=30, follow_redirects=True) as made:
        made.get("/", params={"token": world.hub.tokens.text("admin")})
        yield made


@pytest.fixture(scope="module")
def found(client: httpx.Client) -> Any:
    return client.get("/api/v1/releases/parts@2/scorecard").json()


class Tables(HTMLParser):
    """The tables of a page: captions, which are paragraphs, rows of cells as text, and where the links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.captions: list[str] = []
        self.rows: list[list[str]] = []
        self.links: list[list[str]] = []
        self.headed = True
        self._into: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        if tag == "p" and about.get("class") == "caption":
            self.captions.append("")
            self._into = self.captions
        elif tag == "tr":
            self.rows.append([])
            self.links.append([])
        elif tag in ("td", "th") and self.rows:
            self.headed &= tag == "td" or about.get("scope") in ("col", "row")
            self.rows[-1].append("")
            self._into = self.rows[-1]
        elif tag == "a" and self._into is not None and self.links:
            self.links[-1].append(about.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "td", "th"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] = " ".join(f"{self._into[-1]} {data}".split())


def block(client: httpx.Client, release: str = "parts@2") -> str:
    text = client.get(f"/releases/{release}").text
    start = text.find('aria-labelledby="card-title"')
    return "" if start < 0 else text[start : text.index('aria-labelledby="where-title"')]


def test_places_measures_and_the_champion_stand_beside_each_other(client: httpx.Client, found: Any) -> None:
    tables = Tables(block(client))
    assert tables.headed, "a cell that heads a row or column says so"
    assert "beside parts@1 on the same samples" in tables.captions[0]
    head = tables.rows[0]
    assert head[:5] == ["where", "measure", "samples", "candidate", "champion"]
    shown = {(row[0], row[1]): row for row in tables.rows[1:] if len(row) == len(head)}
    assert {where for where, _ in shown} == {"a", "b", "slice:old-lamp", "overall"}
    for one in found["scorecard"]["compared"]:
        name = {"good_recall": "recall of good", "recall": "recall of crack"}.get(one["measure"])
        row = shown[one["site"], name or one["measure"].replace("_", " ")]
        assert row[2].endswith(f": {one['n']}")
        assert f"{one['candidate']:.3f}" in row[3]
        assert row[4] == f"{one['champion']:.3f}"
        assert row[5].startswith(f"{one['difference']['value']:+.3f} {one['difference']['low']:+.2f} to")
        assert f"+{one['gained']}" in row[6]
        assert f"−{one['lost']}" in row[6]
        assert row[7] == ("<0.001" if one["p"] < 0.001 else f"{one['p']:.3f}")


def test_each_number_leads_to_as_many_samples_as_it_says(client: httpx.Client, found: Any) -> None:
    compared, seen = found["scorecard"]["compared"], 0
    for links in Tables(block(client)).links:
        for link in (html.unescape(one) for one in links if "/samples?" in one):
            asked = dict(httpx.QueryParams(link.split("?")[1]))
            (row,) = (
                one
                for one in compared
                if (one["site"], one["measure"], one["label"] or None)
                == (asked["where"], asked["measure"], asked.get("label"))
            )
            told = client.get(link)
            assert told.status_code == 200
            count = int(re.search(r"<p>(\d+) samples?", told.text)[1])  # type: ignore[index]
            wanted = {"all": row["n"], "gained": row["gained"], "lost": row["lost"]}.get(asked["only"])
            if wanted is None:
                metric = row["measure"] in ("good_recall", "recall")
                wanted = round(row["n"] * (1 - row["candidate"])) if metric else count
            assert count == wanted, link
            seen += 1
    assert seen > 4 * len(compared) - 8


def test_a_sample_leads_on_to_the_ledger(client: httpx.Client) -> None:
    asked = {"where": "slice:old-lamp", "measure": "good_recall", "only": "gained"}
    text = client.get("/releases/parts@2/samples", params=asked).text
    rows = Tables(text)
    assert rows.rows[0] == ["sample", "site", "group", "is", "candidate said", "champion said"]
    assert {tuple(row[3:]) for row in rows.rows[1:]} == {("ok", "ok", "crack")}
    link = next(link for links in rows.links for link in links if link.startswith("/ledger/"))
    assert "<h1>Sample" in client.get(link).text


def test_variants_calibration_and_worse_pictures_are_shown(client: httpx.Client, found: Any) -> None:
    text = block(client)
    tables = Tables(text)
    named = {row[0]: row for row in tables.rows if row and row[0] in ("as trained", "fp16", "int8")}
    assert [named[name][4:] for name in ("as trained", "fp16", "int8")] == [
        ["passed", "yes"],
        ["passed", "yes"],
        ["failed", "no"],
    ]
    assert named["as trained"][2] == f"{found['scorecard']['latency_ms']:.2f} ms"
    assert f"/ledger/{found['scorecard']['bundle']}" in text
    assert "Its confidence is" in text
    assert "2 of them could not be read" in text
    (blur,) = (row for row in tables.rows if row and row[0] == "blur")
    assert blur[1:3] == ["0.700", "0.200 0.12 to 0.28"]


def test_a_first_release_has_no_champion_and_one_against_the_gate_has_no_scorecard(client: httpx.Client) -> None:
    first = block(client, "parts@1")
    assert "champion" not in first
    assert "McNemar" not in first
    assert block(client, "parts@3") == ""
    assert client.get("/releases/parts@3/samples").status_code == 404


@pytest.mark.parametrize("asked", [{"where": "nowhere"}, {"measure": "beauty"}, {"only": "some"}])
def test_what_no_link_asks_is_not_found(client: httpx.Client, asked: dict[str, str]) -> None:
    answer = client.get("/releases/parts@2/samples", params=asked)
    assert answer.status_code == 404
    assert "follow a link of the release" in html.unescape(answer.text)


def test_somebody_of_one_site_sees_neither(world: Any, client: httpx.Client) -> None:
    hub, admin = world.hub, Person(name="admin", role="admin")
    who = {"name": "half", "role": "viewer", "sites": ["a"], "expires_at": None, "by": admin}
    token, _ = people.make_token(hub.store, now=hub.now(), chance=hub.chance, limits=hub.limits, **who)
    with httpx.Client(base_url=client.base_url, timeout=30, follow_redirects=True) as other:
        other.get("/", params={"token": token})
        assert block(other) == ""
        assert other.get("/releases/parts@2/samples").status_code == 403


def test_it_fits_a_telephone_and_is_read_aloud(world: Any) -> None:
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
        tab.goto(f"{url}/?token={world.hub.tokens.text('admin')}")
        api.expect(tab.get_by_role("heading", name="parts", exact=True)).to_be_visible(timeout=20_000)

        def narrow() -> None:
            wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{tab.url} is {wide} px wider than a telephone"

        tab.goto(f"{url}/releases/parts@2")
        narrow()
        region = tab.get_by_role("region", name=re.compile("Each measure with its 90 % interval"))
        assert region.evaluate("one => one.scrollWidth - one.clientWidth") <= 0, "all numbers are in sight"
        table = region.get_by_role("table")
        api.expect(table.get_by_role("rowheader", name="slice:old-lamp").first).to_be_visible()
        assert table.get_by_role("row").count() == 17  # a list for the eye, a table for whoever has it read aloud
        assert table.get_by_role("columnheader").count() == 9
        link = table.get_by_role("link", name=re.compile("^only the candidate is right, recall of good at overall: "))
        link.focus()
        tab.keyboard.press("Enter")
        api.expect(tab.get_by_role("heading", name="Samples behind a number")).to_be_visible(timeout=10_000)
        api.expect(tab.get_by_role("link", name="only the candidate is right")).to_have_attribute(
            "aria-current", "page"
        )
        narrow()
        assert complaints == []
