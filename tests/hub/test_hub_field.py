"""Field results: only frames drawn at random count, each site by its frames, and what to label next is by lot."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

import loop_world
from edgewise.cli._app import build
from edgewise.hub.store import tables

PATH = "/api/v1/usecases/parts/field"


@pytest.fixture
def world(store_url: str) -> Iterator[Any]:
    made = loop_world.LoopWorld(url=store_url)
    for index, name in enumerate(("d1", "d2")):
        made.enrol(name, site="ab"[index])
        made.hear(name)
    made.label(6)
    made.sign(made.candidate(), override="test")
    made.roll_out("parts@1", waves=[{"percent": 100}])
    for _ in range(8):
        made.tick(15)
        for name in ("d1", "d2"):
            made.hear(name)
    yield made
    made.hub.close()


@pytest.fixture
def ask(world: Any) -> Iterator[httpx.Client]:
    who = {"Authorization": f"Bearer {world.hub.tokens.text('admin')}"}
    with loop_world.served(world.hub) as url, httpx.Client(base_url=url, headers=who, timeout=60) as client:
        yield client


def kept(world: Any, count: int, *, site: str, wrong: int = 0, label: bool = True, **more: Any) -> None:
    """Samples that the release decided as good; `wrong` of them show a crack."""
    now = world.hub.now()
    with world.store.write() as connection:
        held = connection.execute(sa.select(sa.func.count()).select_from(tables.samples)).scalar_one()
        start = int(held)
        for number in range(start, start + count):
            row = {
                "id": f"{number + 1_000_000:032x}",
                "use_case": "parts",
                "site": site,
                "device": "d1" if site == "a" else "d2",
                "frame": f"f{number}",
                "group": f"part {number}",
                "taken_at": now - timedelta(hours=1),
                "kept_at": now,
                "received_at": now,
                "why": "audit",
                "inclusion_probability": 0.1,
                "blob": f"{number:064x}",
                "size_bytes": 10,
                "media_type": "image/png",
                "decision": {"release": "parts@1", "label": "ok"},
                "priority": 5,
                "label": ("crack" if number - start < wrong else "ok") if label else None,
            }
            connection.execute(sa.insert(tables.samples).values(**{**row, **more}))


def decided(world: Any, **counts: int) -> None:
    """So many decisions of the release at each site."""
    with world.store.write() as connection:
        for number, (site, count) in enumerate(counts.items()):
            row = {
                "id": f"{number:032x}",
                "use_case": "parts",
                "site": site,
                "device": f"d{number}",
                "start": world.hub.now() - timedelta(hours=1),
                "end": world.hub.now(),
                "received_at": world.hub.now(),
                "release": "parts@1",
                "decisions": count,
            }
            none = {column.name: 0 for column in tables.telemetry.c if column.name not in row and not column.nullable}
            empty = {"labels": {}, "latency_ms": {}, "shed": {}, "alarms_told": True}
            held = {name: value for name, value in {**none, **empty, **row}.items() if name in tables.telemetry.c}
            connection.execute(sa.insert(tables.telemetry).values(**held))


def status(ask: httpx.Client, **query: Any) -> dict[str, Any]:
    answer = ask.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_each_site_counts_by_what_it_decides(world: Any, ask: httpx.Client) -> None:
    kept(world, 40, site="a", wrong=4)
    kept(world, 40, site="b", wrong=20)
    decided(world, a=900, b=100)
    expected = 0.9 * 0.9 + 0.1 * 0.5
    found = status(ask)
    assert found["release"] == "parts@1"
    assert found["labelled"] == 80
    assert found["accuracy"]["value"] == pytest.approx(expected)
    assert found["sites"]["a"]["value"] == pytest.approx(0.9)
    assert found["accuracy"]["low"] < expected < found["accuracy"]["high"]
    assert found["recalls"]["crack"]["value"] == 0.0, "all cracks were called ok"


def test_what_was_kept_for_another_reason_and_what_another_release_said_do_not_count(
    world: Any, ask: httpx.Client
) -> None:
    kept(world, 30, site="a", wrong=3)
    kept(world, 30, site="b", wrong=3)
    before = status(ask)
    kept(world, 50, site="a", wrong=50, why="margin")
    kept(world, 50, site="a", wrong=50, why="feedback", inclusion_probability=1.0)
    kept(world, 50, site="a", wrong=50, decision={"release": "parts@0", "label": "ok"})
    kept(world, 50, site="a", wrong=50, taken_at=world.hub.now() - timedelta(days=40))
    after = status(ask)
    assert {**after, "since": 0} == {**before, "since": 0}


def test_what_to_label_next_is_by_lot_and_where_it_helps(world: Any, ask: httpx.Client) -> None:
    kept(world, 30, site="a")
    kept(world, 30, site="b", wrong=15)
    kept(world, 60, site="a", label=False)
    kept(world, 60, site="b", label=False)
    found = status(ask, half_width=0.05)
    assert found["waiting"] == {"a": 60, "b": 60}
    assert found["wanted"]["b"] > found["wanted"]["a"]
    with world.store.read() as connection:
        rows = connection.execute(sa.select(tables.samples.c.id, tables.samples.c.site, tables.samples.c.label)).all()
    sites, labels = {row[0]: row[1] for row in rows}, {row[0]: row[2] for row in rows}
    named = [sites[name] for name in found["next"]]
    assert all(labels[name] is None for name in found["next"])
    assert named.count("b") == min(60, found["wanted"]["b"])
    assert named.count("a") == min(60, found["wanted"]["a"])
    order = [name for name in found["next"] if sites[name] == "b"]
    assert order != sorted(order), "by lot, not as they came"
    assert status(ask, half_width=0.05)["next"] == found["next"]


def test_the_command_says_it_in_words(world: Any) -> None:
    kept(world, 30, site="a", wrong=3)
    kept(world, 30, site="b", wrong=9)
    kept(world, 10, site="b", label=False)
    with loop_world.served(world.hub) as url:
        who = ["--hub", url, "--token", world.hub.tokens.text("admin")]
        found = CliRunner().invoke(build("field"), ["field", "status", "parts", *who], catch_exceptions=False)
    assert found.exit_code == 0
    assert found.output.startswith("parts@1 in the field: ")
    assert "labels wanted" in found.output
    assert "more labels for ±2 points\nnext: edgewise label set" in found.output
    assert max(map(len, found.output.splitlines())) <= 80


def test_a_wrong_wish_is_one_sentence_and_nothing_is_known_of_nothing(ask: httpx.Client) -> None:
    assert ask.get("/api/v1/usecases/nothing/field").status_code == 404
    assert ask.get(PATH, params={"half_width": 2}).status_code == 422
    assert status(ask)["accuracy"]["value"] is None
