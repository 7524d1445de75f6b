"""Labelling on the command line, against a hub that is served on a loopback port."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgewise.cli._app import build
from edgewise.cli._errors import run
from edgewise.cli.label import Order
from edgewise.hub import labelling
from edgewise.hub.access import Person
from edgewise.hub.labelling import Wish
from edgewise.hub.store import opinions, samples
from edgewise.hub.suggestions import ORDERS

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)


@pytest.fixture
def world() -> Any:
    return loop_world.LoopWorld()


@pytest.fixture
def ask(world: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    with loop_world.served(world.hub) as url:

        def edgewise(*arguments: str, code: int = 0) -> str:
            full = ["label", *arguments, "--hub", url, "--token", world.hub.tokens.text("admin")]
            assert run(build(), full) == code
            said = capsys.readouterr()
            return said.err if code else said.out

        yield edgewise


def waiting(world: Any) -> list[str]:
    """Two open samples of a device, and one that somebody labelled."""
    world.label(1, sites=("a",))
    world.enrol("cam")
    about: dict[str, Any] = {"ours": "ok", "theirs": "crack", "candidate": "1" * 64, "champion": "2" * 64}
    return [world.pair("cam", "0" * 32, truth=None, **about) for _ in range(2)]


def test_the_orders_are_those_of_the_hub():
    assert tuple(order.value for order in Order) == ORDERS


def test_the_queue_is_shown_in_the_order_that_was_asked_for(world, ask, tmp_path):
    ids = waiting(world)
    rows = json.loads(ask("next", "--use-case", "parts", "-o", "json", "--save-to", str(tmp_path)))
    assert {row["sample"] for row in rows} == set(ids)
    assert {row["says"] for row in rows} == {"ok"}
    assert len(list(tmp_path.iterdir())) == 2
    assert json.loads(ask("next", "--use-case", "parts", "--order", "adjudicate", "-o", "json")) == []
    assert "there is no use case" in ask("next", "--use-case", "nothing", code=2).replace("\n", " ")


def test_how_it_goes_is_told_in_lines_and_as_json(world, ask):
    waiting(world)
    said = " ".join(ask("stats", "--use-case", "parts").split())
    for words in ("ok 1, crack 1", "a 2 labelled, 2 open", "admin 2", "0 samples have two opinions", "cannot tell:"):
        assert words in said, words
    found = json.loads(ask("stats", "--use-case", "parts", "--target", "0.9", "-o", "json"))
    assert (found["progress"]["labelled"], found["agreement"]["people"], found["enough"]["labels"]) == (2, 0, 0)


def test_the_newest_act_is_taken_back(world, ask):
    sample = waiting(world)[0]
    hub = world.hub
    about: dict[str, Any] = {"act": "1" * 32, "kind": "label", "now": hub.now(), "limits": hub.limits}
    who = Person(name="admin", role="admin")
    labelling.act(hub.store, "parts", [Wish(sample=sample, label="crack")], who=who, **about)
    assert sample in ask("undo", "--use-case", "parts")
    with hub.store.read() as connection:
        assert samples.get(connection, sample).label is None
        assert opinions.of(connection, [sample]) == {}
    assert "nothing of yours to take back" in ask("undo", "--use-case", "parts", code=2).replace("\n", " ")
