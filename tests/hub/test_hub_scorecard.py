"""A release's scorecard for people: beside the champion, calibrated or not, variants and worse pictures, 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import loop_world
from edgewise.cli._app import build
from edgewise.cli._scorecard import lines
from edgewise.hub import orders
from edgewise.measure import compare
from edgewise.wire import Scorecard


@pytest.fixture(scope="module")
def world() -> Iterator[Any]:
    """parts@1 and parts@2, both on the gate's word, the second one with variants, and parts@3 against it.

    Parts with a small `x` are under an old lamp. parts@1 takes good ones there for cracks.
    """
    made = loop_world.scorecard_world()
    yield made
    made.hub.close()


@pytest.fixture(scope="module")
def url(world: Any) -> Iterator[str]:
    with loop_world.served(world.hub) as where:
        yield where


@pytest.fixture(scope="module")
def found(world: Any, url: str) -> Any:
    return ask(world, url, "parts@2").json()


def ask(world: Any, url: str, release: str, role: str = "admin") -> httpx.Response:
    who = {"Authorization": f"Bearer {world.hub.tokens.text(role)}"}
    return httpx.get(f"{url}/api/v1/releases/{release}/scorecard", headers=who, timeout=60)


def test_a_worker_never_sees_what_the_evaluation_samples_are(world: Any, url: str) -> None:
    assert ask(world, url, "parts@2", "worker").status_code == 403


def row(found: Any, site: str, measure: str) -> Any:
    (one,) = (item for item in found["scorecard"]["compared"] if (item["site"], item["measure"]) == (site, measure))
    return one


def test_a_release_is_shown_beside_the_champion_that_it_was_judged_against(found: Any, world: Any, url: str) -> None:
    assert found["verdict"]["result"] == "passed"
    assert found["champion_release"] == "parts@1"
    assert found["labels_that_matter"] == ["crack"]
    overall = found["scorecard"]["overall"]
    assert overall["balanced_accuracy"]["value"] == overall["good_recall"]["value"] == 1.0
    assert overall["calibration"]["ece"]["n"] == overall["n"] == len(found["scorecard"]["predictions"])
    assert found["scorecard"]["gap_sites"]["value"] == 0.0
    none = ask(world, url, "parts@3")
    assert none.status_code == 404
    assert "signed without the gate's word, so it has no scorecard; its reason: drill" in none.text
    assert ask(world, url, "parts@1").json()["scorecard"]["compared"] is None


def test_the_gate_keeps_what_changed_beside_the_champion_with_the_scorecard(found: Any, world: Any) -> None:
    ours, theirs = (Scorecard.model_validate(found[name]) for name in ("scorecard", "champion"))
    assert ours.compared == compare(ours, theirs, use_case=world.usecase)
    good = row(found, "slice:old-lamp", "good_recall")
    assert good["gained"] == good["n"] > 5
    assert (good["champion"], good["candidate"], good["lost"]) == (0.0, 1.0, 0)
    assert good["p"] < 0.05
    crack = row(found, "overall", "recall")
    assert (crack["label"], crack["gained"], crack["lost"], crack["p"]) == ("crack", 0, 0, 1.0)


def test_each_variant_has_its_own_scorecard_and_what_the_worker_told_stands_in_it(found: Any) -> None:
    assert {name: one["in_release"] for name, one in found["variants"].items()} == {"fp16": True, "int8": False}
    assert found["variants"]["int8"]["verdict"]["result"] == "failed"
    for one in found["variants"].values():
        assert one["scorecard"]["predictions"] == []
        assert one["scorecard"]["compared"]
    assert found["scorecard"]["robustness"]["unreadable"] == 2
    told = found["variants"]["fp16"]["scorecard"]["robustness"]["harms"]
    assert [(one["harm"], one["macro_recall"]["value"]) for one in told] == [("none", 0.9), ("blur", 0.7)]


def test_what_the_worker_told_of_worse_pictures_changes_no_word_of_the_gate(found: Any) -> None:
    assert "robustness" not in str(found["verdict"]["reasons"])
    assert found["variants"]["fp16"]["verdict"]["result"] == "passed"


def test_it_is_printed_within_80_columns(world: Any, url: str) -> None:
    words = ["--hub", url, "--token", world.hub.tokens.text("admin")]
    shown = CliRunner().invoke(build("release"), ["release", "scorecard", "parts@2", *words])
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.output.splitlines())) <= 80, shown.output
    flat = " ".join(shown.output.split())
    for part in (
        "passed on",
        "Confidence is",
        "Largest difference between sites",
        "Recall: crack 1.000",
        "Beside parts@1 on the same samples",
        "recall of crack 1.000 → 1.000 +0.000",
        "2 of them could not be read",
    ):
        assert part in flat


def test_the_example_in_the_docs_is_what_is_printed(found: Any) -> None:
    shown = list(lines(found))
    example = (Path(__file__).parents[2] / "docs" / "gate.md").read_text().split("```text\n")[1].split("```")[0]
    assert [line for line in example.splitlines() if line not in shown] == []


def test_a_value_of_zero_is_a_value(found: Any) -> None:
    """`or` would take a balanced accuracy of 0.0 for none and show the macro recall in its place."""
    zero, half = ({"value": value, "low": None, "high": None, "n": 9} for value in (0.0, 0.5))
    worst = {"balanced_accuracy": zero, "macro_recall": half}
    champion = {**found["champion"], "overall": {**found["champion"]["overall"], **worst}}
    shown = list(lines({**found, "metric": "balanced_accuracy", "champion": champion}))
    (line,) = (one for one in shown if one.startswith("overall ") and "0.000" in one)
    assert "0.500" not in line
    one_kind = {**found["scorecard"]["sites"][0], "balanced_accuracy": {**half, "value": None}}
    shown = list(lines({**found, "scorecard": {**found["scorecard"], "sites": [one_kind]}}))
    assert "* macro recall, where there are not both good and defective samples" in shown


def test_long_names_stay_within_80_columns(found: Any) -> None:
    site = "plant-with-a-very-long-name.north-hall:line-17@building-4"
    label = "crack-along-the-welding-seam-of-the-outer-ring"
    card = found["scorecard"]
    first = card["sites"][0]
    longer = {
        **card,
        "sites": [{**first, "site": site, "recall": {label: first["recall"]["crack"]}}],
        "compared": [
            {**card["compared"][-1], "site": site, "label": label, "gained": 1234, "lost": 4567, "p": 1.2e-31}
        ],
    }
    shown = list(lines({**found, "scorecard": longer, "labels_that_matter": [label]}))
    assert [line for line in shown if len(line) > 80] == []


def test_the_order_asks_for_worse_pictures_where_the_use_case_does() -> None:
    for word, asks in (("report", True), ("off", None)):
        made = loop_world.LoopWorld(usecase=loop_world.a_usecase(gate={"robustness": word}))
        made.label(2)
        wish = orders.OrderWish(use_case="parts", why="test")
        about = {"who": "admin", "now": made.hub.now(), "chance": made.hub.chance, "limits": made.hub.limits}
        assert orders.create(made.store, wish, **about).robustness is asks
        made.hub.close()
