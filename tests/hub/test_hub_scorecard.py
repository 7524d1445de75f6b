"""A release's scorecard for people: beside the champion, calibrated or not, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import loop_world
from edgewise.cli._app import build


@pytest.fixture
def world() -> Iterator[Any]:
    """parts@1 and parts@2, both on the gate's word, and parts@3 against it."""
    made = loop_world.LoopWorld()
    for _ in range(2):
        made.label(40)
        made.candidate()
        made.tick()
        with made.store.read() as connection:
            bundle = loop_world.verdicts.find(connection, use_case="parts", limit=1)[0].candidate
        made.sign(bundle)
        made.tick()
    made.sign(made.bundle(name="other"), override="drill")
    yield made
    made.hub.close()


def test_a_release_is_shown_beside_the_champion_that_it_was_judged_against(world: Any) -> None:
    with loop_world.served(world.hub) as url:
        who = {"Authorization": f"Bearer {world.hub.tokens.text('admin')}"}
        found = httpx.get(f"{url}/api/v1/releases/parts@2/scorecard", headers=who, timeout=60).json()
        assert found["verdict"]["result"] == "passed"
        assert len(found["scorecard"]["predictions"]) >= 50
        overall = found["scorecard"]["overall"]
        assert overall["balanced_accuracy"]["value"] == 1.0
        assert overall["calibration"]["ece"]["n"] == overall["n"]
        assert found["scorecard"]["gap_sites"]["value"] == 0.0
        none = httpx.get(f"{url}/api/v1/releases/parts@3/scorecard", headers=who, timeout=60)
        assert none.status_code == 404
        assert "signed without the gate's word, so it has no scorecard; its reason: drill" in none.text
        words = ["--hub", url, "--token", world.hub.tokens.text("admin")]
        shown = CliRunner().invoke(build("release"), ["release", "scorecard", "parts@2", *words])
        assert shown.exit_code == 0, shown.output
        assert max(map(len, shown.output.splitlines())) <= 80
        for part in ("passed on", "Confidence is", "Largest difference between sites", "Recall: crack 1.000"):
            assert part in shown.output
