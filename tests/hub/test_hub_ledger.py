"""The ledger: from a sample forward to where its release ran, back again, and whether each round helped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import loop_world
from edgewise.cli._app import build
from edgewise.hub import labels
from edgewise.hub.store import orders as order_rows
from edgewise.hub.store import rollouts

API = "/api/v1"
FLEET = ("d1", "d2", "d3", "d4")


@pytest.fixture
def world(store_url: str) -> Iterator[Any]:
    """Two rounds: parts@1 from an order on labelled data, and parts@2 from a later one, bakes beside it."""
    made = loop_world.LoopWorld(url=store_url)
    for index, name in enumerate(FLEET):
        made.enrol(name, site="ab"[index % 2])
        made.hear(name)
    for version in (1, 2):
        made.label(6)
        made.sign(made.candidate(), override="test")
        made.roll_out(f"parts@{version}", waves=[{"percent": 100}])
        for _ in range(8 if version == 1 else 2):
            made.tick(15)
            for name in FLEET:
                made.hear(name)
    yield made
    made.hub.close()


@pytest.fixture
def ask(world: Any) -> Iterator[httpx.Client]:
    who = {"Authorization": f"Bearer {world.hub.tokens.text('admin')}"}
    with loop_world.served(world.hub) as url, httpx.Client(base_url=url, headers=who, timeout=60) as client:
        yield client


def entry(ask: httpx.Client, name: str) -> dict[str, Any]:
    answer = ask.get(f"{API}/ledger/{name}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(found: dict[str, Any], direction: str, kind: str) -> list[str]:
    return [link["id"] for link in found[direction] if link["kind"] == kind]


def test_a_release_is_followed_back_to_its_samples_and_a_sample_forward_to_the_devices(ask: httpx.Client) -> None:
    release = entry(ask, "parts@2")
    bundle = entry(ask, ids(release, "made_of", "bundle")[0])
    order = entry(ask, ids(bundle, "made_of", "order")[0])
    revision = entry(ask, ids(order, "made_of", "revision")[0])
    assert revision["facts"]["samples"] == len(ids(revision, "made_of", "sample"))
    samples = {name: entry(ask, name) for name in ids(revision, "made_of", "sample")}
    first = next(name for name, found in samples.items() if len(ids(found, "led_to", "revision")) == 2)
    assert ids(samples[first], "made_of", "label")

    held = ids(samples[first], "led_to", "revision")
    assert held == [*ids(revision, "made_of", "revision"), revision["id"]], "the older one first"
    onward = [entry(ask, one) for one in held]
    orders = [entry(ask, ids(one, "led_to", "order")[0]) for one in onward]
    bundles = [entry(ask, ids(one, "led_to", "bundle")[0]) for one in orders]
    releases = [ids(one, "led_to", "release")[0] for one in bundles]
    assert releases == ["parts@1", "parts@2"]
    field = next(link for link in entry(ask, "parts@1")["led_to"] if link["kind"] == "field")
    assert field["text"].startswith("ran on 4 devices")


def test_a_sample_that_the_gate_judges_on_leads_to_no_revision(world: Any, ask: httpx.Client) -> None:
    with world.store.read() as connection:
        kept = [row.sample for row in labels.evaluation_share(connection, world.usecase)]
        newest = order_rows.newest(connection, loop_world.NAME)
        assert newest is not None
        revision = order_rows.revision(connection, newest.revision)
    assert revision is not None
    assert kept
    for name in kept:
        found = entry(ask, name)
        assert found["led_to"] == []
        assert "the gate judges on it" in found["text"]


def test_every_round_says_whether_it_helped(world: Any, ask: httpx.Client) -> None:
    (before,) = ask.get(f"{API}/usecases/parts/rounds").json()
    assert (before["release"], before["replaced"], before["helped"]["word"]) == ("parts@2", "parts@1", "cannot tell")
    with world.store.read() as connection:
        rollout = rollouts.find(connection, use_case="parts", release="parts@2")[0].id
    candidate, champion = (world.release_bundle(f"parts@{version}") for version in (2, 1))
    for number in range(12):
        said = {"ours": "ok", "theirs": "crack", "truth": "ok", "group": f"part {number}"}
        world.pair("d1", rollout, candidate=candidate, champion=champion, **said)
    world.tick(15)
    (after,) = ask.get(f"{API}/usecases/parts/rounds").json()
    assert after["helped"]["word"] == "helped"
    assert after["helped"]["same_frames"]["n"] == 12


def test_what_is_not_there_is_said_in_one_sentence(ask: httpx.Client) -> None:
    answer = ask.get(f"{API}/ledger/nothing")
    assert answer.status_code == 404
    assert "nothing in the ledger is called 'nothing'" in answer.text
    assert ask.get(f"{API}/usecases/nothing/rounds").status_code == 404


def test_the_pages_lead_from_a_release_to_a_sample(world: Any) -> None:
    with loop_world.served(world.hub) as url, httpx.Client(base_url=url, timeout=60) as client:
        client.get("/", params={"token": world.hub.tokens.text("admin")})
        page, seen = client.get("/ledger/parts@2"), []
        for kind in ("bundle", "order", "revision", "sample"):
            assert page.status_code == 200, page.text
            seen.append(page.url.path)
            made_of = page.text.split('aria-label="Made of"')[1].split("</section>")[0]
            link = made_of.split(f">{kind} ")[0].rsplit('href="', 1)[1].split('"')[0]
            page = client.get(link)
        assert page.status_code == 200
        assert "said by admin" in page.text
        assert "parts@1" in client.get("/rounds/parts").text


def test_the_command_line_shows_an_entry_within_80_columns(world: Any) -> None:
    with loop_world.served(world.hub) as url:
        who = ["--hub", url, "--token", world.hub.tokens.text("admin")]
        shown = CliRunner().invoke(build("ledger"), ["ledger", "show", "parts@2", *who])
        assert shown.exit_code == 0, shown.output
        assert max(map(len, shown.output.splitlines())) <= 80
        assert "Made of" in shown.output
        rounds = CliRunner().invoke(build("ledger"), ["ledger", "rounds", "parts", *who])
        assert "parts@2 for parts@1" in rounds.output
        raw = CliRunner().invoke(build("ledger"), ["ledger", "show", "parts@2", "-o", "json", *who])
        assert json.loads(raw.output)["kind"] == "release"
