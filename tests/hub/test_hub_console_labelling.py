"""Labelling by clicks, drags and keys in a real browser."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import loop_world
from conftest import missing
from edgewise.frames import SERIES_TYPE
from edgewise.hub import labelling, labels, people
from edgewise.hub.access import Person
from edgewise.hub.labelling import Wish
from edgewise.hub.samples import ImportedSample, import_samples
from edgewise.hub.store import intake as intake_rows
from edgewise.hub.store import opinions, samples
from edgewise.wire import Annotation, Decision, Feedback, Span, plain

CHROMIUM = Path("/usr/bin/chromium")
USECASE = """
name: press
app: factory
outcome: {goal: find pits, labels: [good, pit, scratch], good_labels: [good], labels_that_matter: [pit]}
people: {owner: ann, approver: bob, oversight: the line's stop button}
sites: [{name: north}, {name: south}]
connectivity: {contact_s: 60}
labelling: {labels_per_day: 40}
data: {data_class: measurement, transforms: []}
"""
BOSS = Person(name="admin", role="admin")
ANN, BOB = Person(name="ann", role="labeller"), Person(name="bob", role="labeller")


def part(number: int, *, pit: bool, at: tuple[int, int] = (60, 30)) -> bytes:
    """A made-up picture of brushed metal, with a dark pit or without."""
    rng = np.random.default_rng(number)
    base = 150 + rng.standard_normal((1, 96)).repeat(96, axis=0) + 2 * rng.standard_normal((96, 96))
    if pit:
        y, x = np.mgrid[:96, :96]
        base -= 95 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 90)
    held = io.BytesIO()
    Image.fromarray(np.clip(base, 0, 255).astype(np.uint8)).save(held, "PNG")
    return held.getvalue()


def window(seed: int) -> bytes:
    """A made-up window of a sensor with a burst."""
    rng = np.random.default_rng(seed)
    values = np.sin(np.arange(400) / 9) + 0.1 * rng.standard_normal(400)
    values[180:230] += 2.5
    return values.astype("<f4").tobytes()


class Bench:
    """A hub with samples to label, and a browser for each person."""

    def __init__(self, yard: Any, url: str, browser: Any, api: Any) -> None:
        self.yard, self.url, self.browser, self.api = yard, url, browser, api
        self.complaints: list[str] = []
        self._acts = 0

    def bring(self, *contents: bytes, media_type: str = "image/png", says: str | None = None) -> list[str]:
        hub = self.yard.hub
        wanted = [
            ImportedSample(
                use_case="press",
                site="north",
                frame=f"frame {at}",
                blob=hub.store.blobs.put(data),
                size_bytes=len(data),
                media_type=media_type,
                taken_at=hub.now(),
            )
            for at, data in enumerate(contents)
        ]
        ids = import_samples(hub.store, wanted, who="test", now=hub.now())
        if says is not None:
            said = plain(Decision(label=says, confidence=0.8, margin=0.6, bundle="0" * 64))
            with hub.store.write() as connection:
                for one in ids:
                    connection.exec_driver_sql(
                        "UPDATE samples SET decision = ?, device = 'cam', why = 'margin' WHERE id = ?",
                        (json.dumps(said), one),
                    )
        return ids

    def say(self, who: Person, kind: str, **said: str) -> None:
        self._acts += 1
        hub = self.yard.hub
        wishes = [Wish(sample=sample, label=label) for sample, label in said.items()]
        about: dict[str, Any] = {"act": f"{self._acts:032x}", "who": who, "now": hub.now(), "limits": hub.limits}
        labelling.act(hub.store, "press", wishes, kind=kind, **about)  # type: ignore[arg-type]

    def label(self, sample: str) -> str | None:
        with self.yard.hub.store.read() as connection:
            row = samples.get(connection, sample)
        assert row is not None
        return row.label

    def marks(self, sample: str) -> Annotation:
        with self.yard.hub.store.read() as connection:
            row = samples.get(connection, sample)
        assert row is not None
        return Annotation.model_validate(row.annotation)

    def tab(self, name: str, *, role: str = "labeller", width: int = 1280, dark: bool = False) -> Any:
        hub = self.yard.hub
        who: dict[str, Any] = {"name": name, "role": role, "sites": None, "expires_at": None, "by": BOSS}
        token, _ = people.make_token(hub.store, now=hub.now(), chance=hub.chance, limits=hub.limits, **who)
        context = self.browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
        )
        tab = context.new_page()
        tab.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.goto(f"{self.url}/?token={token}")
        self.api.expect(tab.get_by_role("heading", name="press", exact=True)).to_be_visible(timeout=20_000)
        return tab

    def open(self, tab: Any, query: str = "") -> None:
        tab.goto(f"{self.url}/label/press{query}")

    def until(self, tab: Any, holds: Callable[[], bool], what: str) -> None:
        for _ in range(800):
            if holds():
                return
            tab.wait_for_timeout(25)
        raise AssertionError(f"not seen within 20 s: {what}; the page says {tab.locator('#card').inner_text()[:400]}")

    def narrow(self, tab: Any) -> None:
        wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{tab.url} is {wide} px wider than the window"


@pytest.fixture
def bench(make_yard: Any) -> Iterator[Bench]:
    api = pytest.importorskip("playwright.sync_api", reason="the extra `dev` brings playwright")
    if not CHROMIUM.exists():
        missing("browser", f"there is no browser at {CHROMIUM}")
    api.expect.set_options(timeout=20_000)
    yard = make_yard(usecase=False)
    yard.apply(USECASE)
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(loop_world.served(yard.hub))
        play = stack.enter_context(api.sync_playwright())
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        stack.callback(browser.close)
        made = Bench(yard, url, browser, api)
        yield made
        assert made.complaints == []


def press(tab: Any, *keys: str) -> None:
    for key in keys:
        tab.keyboard.press(key)


def shows(bench: Bench, tab: Any, sample: str) -> None:
    bench.api.expect(tab.locator(f'#card[data-keep="{sample}"]')).to_be_visible(timeout=20_000)


def test_classes_are_given_and_taken_back_by_keys_alone(bench):
    ids = bench.bring(*[part(at, pit=at % 2 == 0) for at in range(4)], says="pit")
    tab = bench.tab("ann")
    bench.open(tab, "?order=newest")
    order = []
    for key, label in (("Enter", "pit"), ("1", "good"), ("3", "scratch")):
        order.append(tab.locator("#card").get_attribute("data-keep"))
        press(tab, key)
        bench.until(tab, lambda label=label: bench.label(order[-1]) == label, f"{order[-1]} is {label}")
        bench.until(tab, lambda: tab.locator("#card").get_attribute("data-keep") != order[-1], "the next one")
    assert len(set(order)) == 3
    assert set(order) < set(ids)
    for sample in reversed(order):
        press(tab, "u")
        bench.until(tab, lambda sample=sample: bench.label(sample) is None, f"{sample} is open again")
        shows(bench, tab, sample)
    assert "taken back" in tab.locator("[role=status]").first.inner_text()
    press(tab, "n")
    tab.keyboard.type("dent")
    press(tab, "Enter")
    bench.until(tab, lambda: bench.label(order[0]) == "dent", "a new class")
    bench.narrow(tab)


def test_skipping_shows_another_and_at_the_end_says_so(bench):
    bench.bring(part(1, pit=True), part(2, pit=False))
    tab = bench.tab("ann")
    bench.open(tab)
    first = tab.locator("#card").get_attribute("data-keep")
    press(tab, "s")
    bench.until(tab, lambda: tab.locator("#card").get_attribute("data-keep") not in (first, None), "another")
    press(tab, "s")
    bench.api.expect(tab.get_by_text("Only skipped ones are left")).to_be_visible()


def test_boxes_are_drawn_moved_resized_named_and_removed(bench):
    (sample,) = bench.bring(part(1, pit=True))
    tab = bench.tab("ann")
    bench.open(tab)
    press(tab, "m")
    canvas = tab.locator("#boxes")
    bench.api.expect(canvas).to_be_visible()
    bench.api.expect(tab.get_by_text("Nothing there: good")).to_be_visible()
    picture = tab.evaluate(
        """() => { const box = document.getElementById('boxes').getScreenCTM();
                   return [box.e, box.f, box.a * 96, box.d * 96]; }"""
    )

    def at(x: float, y: float) -> tuple[float, float]:
        return picture[0] + x * picture[2], picture[1] + y * picture[3]

    def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
        tab.mouse.move(*at(*start))
        tab.mouse.down()
        tab.mouse.move(*at(*end), steps=4)
        tab.mouse.up()

    def held() -> list[dict[str, Any]]:
        return json.loads(tab.locator("#annotation").input_value())["boxes"]

    drag((0.5, 0.2), (0.75, 0.45))
    (box,) = held()
    assert [box[side] for side in ("x1", "y1", "x2", "y2")] == pytest.approx([0.5, 0.2, 0.75, 0.45], abs=0.02)
    assert box["label"] == "pit"
    drag((0.6, 0.3), (0.7, 0.4))
    assert held()[0]["x1"] == pytest.approx(0.6, abs=0.02), "dragged inside, it moves"
    drag((0.6, 0.3), (0.5, 0.2))
    assert [held()[0][side] for side in ("x1", "x2")] == pytest.approx([0.5, 0.85], abs=0.02), "a corner resizes it"
    press(tab, "ArrowRight", "ArrowRight", "Shift+ArrowDown")
    assert held()[0]["x1"] == pytest.approx(0.52, abs=0.02)
    press(tab, "b", "3", "b", "Delete", "]")
    assert [one["label"] for one in held()] == ["pit", "scratch"]
    tab.mouse.click(*at(0.05, 0.95))
    assert len(held()) == 2, "a click beside draws nothing"
    bench.api.expect(tab.get_by_text("Save 2 boxes")).to_be_visible()
    press(tab, "Enter")
    bench.until(tab, lambda: bench.label(sample) == "pit", "what matters most is the label")
    assert [one.label for one in bench.marks(sample).boxes] == ["pit", "scratch"]
    bench.api.expect(tab.get_by_text("All done")).to_be_visible()
    press(tab, "u")
    bench.until(tab, lambda: bench.label(sample) is None, "taken back")
    bench.narrow(tab)


def test_boxes_that_are_there_are_shown_and_changed(bench):
    (sample,) = bench.bring(part(1, pit=True))
    box = {"label": "scratch", "x1": 0.1, "y1": 0.1, "x2": 0.3, "y2": 0.2}
    said = labels.NewLabel(sample, "scratch", Annotation.model_validate({"boxes": [box]}))
    labels.set_labels(bench.yard.hub.store, [said], who="bob", now=bench.yard.hub.now())
    tab = bench.tab("ann")
    bench.open(tab, f"?sample={sample}")
    bench.api.expect(tab.get_by_text("1 · scratch · 20 × 10 %")).to_be_visible()
    press(tab, "]", "2", "Enter")
    bench.until(tab, lambda: bench.label(sample) == "pit", "the box is named anew")
    assert bench.marks(sample).boxes[0].x2 == 0.3


def test_spans_of_a_series_are_dragged_and_typed(bench):
    first, second = bench.bring(window(1), window(2), media_type=SERIES_TYPE)
    tab = bench.tab("ann")
    bench.open(tab, f"?mode=marks&sample={first}")
    over = tab.locator("#plot .u-over")
    bench.api.expect(over).to_be_visible()
    frame = over.bounding_box()
    for side, act in ((180, tab.mouse.down), (230, tab.mouse.up)):
        tab.mouse.move(frame["x"] + frame["width"] * (side + 0.5) / 400, frame["y"] + 100, steps=5)
        act()
    bench.api.expect(tab.get_by_text("Save 1 span")).to_be_visible()
    press(tab, "3", "Shift+ArrowRight", "Enter")
    bench.until(tab, lambda: bench.label(first) == "scratch", "saved")
    (span,) = bench.marks(first).spans
    assert span.label == "scratch"
    assert abs(span.start - 180) <= 2
    assert abs(span.end - 233) <= 3
    bench.open(tab, f"?mode=marks&sample={second}")
    bench.api.expect(over).to_be_visible()
    press(tab, "b", "ArrowLeft", "Enter")
    bench.until(tab, lambda: bench.label(second) == "pit", "by keys alone")
    assert bench.marks(second).spans == (Span(label="pit", start=178, end=218),)
    bench.narrow(tab)


def test_a_row_is_shown_as_a_table_and_judged(bench):
    (sample,) = bench.bring(b'{"speed": 4.25, "line": "b", "note": "<b>x</b>"}', media_type="application/json")
    tab = bench.tab("ann")
    bench.open(tab)
    bench.api.expect(tab.get_by_role("cell", name="4.25")).to_be_visible()
    bench.api.expect(tab.get_by_role("cell", name="<b>x</b>")).to_be_visible()
    press(tab, "2")
    bench.until(tab, lambda: bench.label(sample) == "pit", "judged")
    bench.api.expect(tab.get_by_text("All done")).to_be_visible()


def test_a_group_is_labelled_by_one_key_and_what_was_taken_out_stays_open(bench):
    pits = [part(at, pit=True) for at in range(5)]
    others = [part(9 + at, pit=True, at=(10 + 19 * (at % 5), 60 + 14 * (at // 5))) for at in range(10)]
    pits = bench.bring(*pits, *others, says="pit")[:5]
    tab = bench.tab("ann")
    bench.open(tab, "?order=cluster")
    tiles = tab.locator(".tile input")
    bench.api.expect(tiles).to_have_count(5)
    out = tiles.nth(1).get_attribute("value")
    press(tab, "ArrowRight", "ArrowRight", "x")
    bench.api.expect(tiles.nth(1)).not_to_be_checked()
    press(tab, "2")
    bench.until(tab, lambda: sum(bench.label(one) == "pit" for one in pits) == 4, "all but one are labelled")
    assert bench.label(out) is None
    bench.api.expect(tab.get_by_text("4 pictures are pit.")).to_be_visible()
    press(tab, "u")
    bench.until(tab, lambda: all(bench.label(one) is None for one in pits), "taken back as one")


def test_two_people_never_see_the_same_open_sample(bench):
    bench.bring(*[part(at, pit=True) for at in range(3)])
    ann, bob = bench.tab("ann"), bench.tab("bob")
    bench.open(ann)
    bench.open(bob)
    first, second = (tab.locator("#card").get_attribute("data-keep") for tab in (ann, bob))
    assert first != second
    press(ann, "1")
    bench.until(ann, lambda: ann.locator("#card").get_attribute("data-keep") not in (first, second), "the third")
    bench.yard.clock.advance(bench.yard.hub.limits.label_claim_s + 1)
    bench.open(ann, f"?sample={second}")
    press(ann, "1")
    bench.until(ann, lambda: bench.label(second) == "good", "bob's claim ran out")
    press(bob, "2")
    bench.api.expect(bob.get_by_role("alert")).to_contain_text("look again")
    assert bench.label(second) == "good"


def test_a_second_opinion_is_blind_and_what_differs_is_settled(bench):
    (sample,) = bench.bring(part(1, pit=True), says="pit")
    bench.say(ANN, "label", **{sample: "pit"})
    bob = bench.tab("bob")
    bench.open(bob, "?order=second")
    text = bob.locator("#card .side").inner_text()
    assert "Somebody else has labelled this" in text
    assert "ann" not in text
    assert bob.locator("[data-key=Enter]").count() == 0
    press(bob, "1")
    bench.api.expect(bob.get_by_text("Nothing here")).to_be_visible()
    bench.open(bob, "?order=adjudicate")
    bench.api.expect(bob.get_by_text("You are one of those who differ here")).to_be_visible()
    bench.open(bob)
    cleo = bench.tab("cleo")
    bench.open(cleo, "?order=adjudicate")
    said = cleo.locator(".opinions").inner_text()
    assert re.findall(r"(pit|good)\s+(ann|bob)", said) == [("pit", "ann"), ("good", "bob")]
    press(cleo, "1")
    bench.until(cleo, lambda: bench.label(sample) == "good", "settled")
    bench.open(cleo, "/progress")
    bench.api.expect(cleo.get_by_text("1 sample has two opinions; 10 or more are needed")).to_be_visible()
    bench.api.expect(cleo.get_by_role("rowheader", name="ann", exact=True)).to_be_visible()
    bench.narrow(cleo)


def test_the_marks_of_one_who_differs_are_taken_over_by_a_click(bench):
    (sample,) = bench.bring(part(1, pit=True))
    hub = bench.yard.hub
    for number, (who, kind, x1) in enumerate([(ANN, "label", 0.1), (BOB, "second", 0.6)]):
        box = {"label": "pit", "x1": x1, "y1": 0.1, "x2": x1 + 0.2, "y2": 0.3}
        wish = Wish(sample=sample, annotation=Annotation.model_validate({"boxes": [box]}))
        about: dict[str, Any] = {"act": f"{number:032x}", "who": who, "now": hub.now(), "limits": hub.limits}
        labelling.act(hub.store, "press", [wish], kind=kind, **about)  # type: ignore[arg-type]
    tab = bench.tab("cleo")
    bench.open(tab, "?order=adjudicate")
    bench.api.expect(tab.locator("#marks-list li")).to_have_count(1)
    tab.get_by_role("button", name="take these").nth(1).click()
    press(tab, "Enter")
    bench.until(tab, lambda: bench.marks(sample).boxes[0].x1 == 0.6, "bob's box is the settled one")
    bench.api.expect(tab.get_by_text("Nobody differs")).to_be_visible()


def test_an_operators_word_is_seen_with_the_frame_and_answered(bench):
    (sample,) = bench.bring(part(1, pit=True), says="good")
    hub = bench.yard.hub
    about: dict[str, Any] = {"site": "north", "given_at": hub.now()}
    words = [
        Feedback(id="1" * 32, frame="frame 0", verdict="wrong", label="pit", note="see the corner", **about),
        Feedback(id="2" * 32, frame="lost", verdict="missed", **about),
    ]
    with hub.store.write() as connection:
        intake_rows.add_feedback(connection, "press", "cam", words, hub.now())
    tab = bench.tab("ann")
    bench.open(tab, "?order=disagreement")
    bench.api.expect(tab.locator(".words")).to_contain_text("it is pit: “see the corner”")
    press(tab, "2")
    bench.until(tab, lambda: bench.label(sample) == "pit", "labelled")
    bench.open(tab, "/words")
    bench.api.expect(tab.get_by_text("right, labelled pit")).to_be_visible()
    tab.get_by_label("Note").fill("not kept")
    tab.get_by_role("button", name="unclear").click()
    bench.api.expect(tab.get_by_text("Every operator has an answer.")).to_be_visible()
    with hub.store.read() as connection:
        assert opinions.open_words(connection, "press", sites=None) == 0
    bench.narrow(tab)


def test_who_may_only_look_sees_the_sample_and_takes_it_from_nobody(bench):
    (sample,) = bench.bring(part(1, pit=True))
    tab = bench.tab("vera", role="viewer")
    bench.open(tab)
    bench.api.expect(tab.get_by_text("may look and not label")).to_be_visible()
    press(tab, "1")
    bench.say(ANN, "label", **{sample: "pit"})
    assert bench.label(sample) == "pit"
