"""The gate: what it scores on, what it stores, what it asks for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from edgewise.hub import audit, gate
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import samples, verdicts
from edgewise.measure import judge
from edgewise.wire import NotValid, Scorecard, Verdict, decode, digest

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)
LoopWorld, a_usecase = loop_world.LoopWorld, loop_world.a_usecase


@pytest.fixture
def world() -> Any:
    made = LoopWorld()
    made.label(20)
    return made


def verdict_on(world: Any, bundle: str) -> Any:
    with world.store.read() as connection:
        return verdicts.newest_on(connection, bundle)


def test_a_first_candidate_is_judged_by_the_floor_and_a_signature_is_asked_for(world: Any) -> None:
    good = world.candidate()
    world.tick()
    assert verdict_on(world, good).result == "passed"
    with world.store.read() as connection:
        (request,) = verdicts.requests(connection, states=("waiting",))
    assert (request.bundle, request.asked_by) == (good, "gate")


def test_a_candidate_is_scored_on_the_evaluation_share_and_on_nothing_else(world: Any) -> None:
    good = world.candidate()
    world.tick()
    with world.store.read() as connection:
        row = verdicts.newest_on(connection, good)
        card = decode(Scorecard, verdicts.scorecard_bytes(connection, row.verdict.scorecard))
        evaluation = {item.sample for item in samples.labelled(connection, "parts", "evaluation")}
        train = {item.sample for item in samples.labelled(connection, "parts", "train")}
    assert {item.sample for item in card.predictions} == evaluation
    assert not evaluation & train


def test_a_candidate_that_is_worse_than_the_champion_fails_and_nobody_is_asked_to_sign(world: Any) -> None:
    champion = world.candidate()
    world.tick()
    world.sign(champion)
    world.enrol("d1")
    world.tick()
    world.hear("d1")
    bad = world.candidate(right=False)
    world.tick()
    row = verdict_on(world, bad)
    assert (row.result, row.champion) == ("failed", champion)
    with world.store.read() as connection:
        assert verdicts.requests(connection, bundle=bad) == []


def test_a_verdict_can_be_computed_again_from_what_is_stored(world: Any) -> None:
    """Invariant 9 and 13: the evidence is whole, and its digests are those of its bytes."""
    champion = world.candidate()
    world.tick()
    world.sign(champion)
    world.enrol("d1")
    world.tick()
    world.hear("d1")
    world.candidate(right=False)
    world.tick()
    with world.store.read() as connection:
        for row in verdicts.find(connection):
            assert digest(row.body) == row.digest
            verdict = row.verdict
            bodies = [
                verdicts.scorecard_bytes(connection, name)
                for name in (verdict.scorecard, verdict.champion_scorecard)
                if name
            ]
            cards = [decode(Scorecard, body) for body in bodies if body]
            again = judge(cards[0], cards[1] if len(cards) > 1 else None, use_case=world.usecase, now=verdict.made_at)
            assert again == verdict


def night_world() -> Any:
    """Two sites in two zones; a fifth of the parts were taken at night, and these are small."""
    night = {"name": "night", "conditions": [{"fact": "hour", "op": "in", "value": [22, 23, 0, 1]}]}
    sites = [{"name": "a", "zone": "Europe/Berlin"}, {"name": "b"}]
    world = LoopWorld(usecase=a_usecase(sites=sites, slices=[night], gate={"margin": 0.2, "samples_min": 8}))
    world.label(32)  # 08:00 UTC
    world.clock.advance(14 * 3600)  # 22:00 at b, midnight at a
    world.label(8, size=0.01)
    return world


def test_a_candidate_that_is_worse_at_night_alone_is_refused() -> None:
    """Invariant 9, in the hub: over each whole site the loss is within the margin."""
    world = night_world()
    champion = world.candidate()
    world.tick()
    world.sign(champion)
    world.enrol("d1")
    world.tick()
    world.hear("d1")
    blind = world.candidate(least=0.4)
    world.tick()
    row = verdict_on(world, blind)
    assert row.champion == champion
    assert {item.site: item.result for item in row.verdict.sites} == {
        "a": "passed",
        "b": "passed",
        "slice:night": "failed",
    }
    assert row.result == "failed"
    with world.store.read() as connection:
        card = decode(Scorecard, verdicts.scorecard_bytes(connection, row.verdict.scorecard))
        stored = {item.id: item for item in samples.labelled_rows(connection, "parts", "evaluation")}
    night = {item.sample for item in card.predictions if item.slices == ("night",)}
    assert night == {name for name, item in stored.items() if item.taken_at.hour == 22}
    assert [item.site for item in card.sites] == ["a", "b", "slice:night"]


def test_what_the_slices_ask_goes_to_the_signer_and_never_to_a_worker() -> None:
    world = night_world()
    share = gate.evaluation_samples(world.store, "parts")
    assert {(item.site, item.facts["hour"], item.slices) for item in share} == {
        ("a", 10, ()),
        ("b", 8, ()),
        ("a", 0, ("night",)),
        ("b", 22, ("night",)),
    }
    with world.store.read() as connection:
        assert {item.slices for item in samples.labelled(connection, "parts", "train")} == {None}
        assert {item.facts for item in samples.labelled(connection, "parts", "train")} == {None}


def test_a_fact_of_the_device_makes_a_slice_and_one_that_nobody_asks_stays_in_the_hub() -> None:
    worn = {"name": "worn", "conditions": [{"fact": "lamp_hours", "op": "ge", "value": 2000}]}
    fields = {"fields": ["frame", "group", "taken_at", "lamp_hours", "line"]}
    world = LoopWorld(usecase=a_usecase(slices=[worn], data=fields))
    world.enrol("d1")
    for number in range(24):
        told = {"lamp_hours": 100 * number, "line": 4} if number != 20 else {"line": 4}
        word = {"ours": "ok", "theirs": "ok", "truth": "ok", "candidate": "0" * 64, "champion": "1" * 64}
        world.pair("d1", "0" * 32, **word, why="audit", facts=told)
    share = gate.evaluation_samples(world.store, "parts")
    assert {"lamp_hours"} == {name for item in share for name in item.facts}
    assert {item.slices for item in share} == {(), ("worn",)}
    for item in share:
        assert item.slices == (("worn",) if item.facts.get("lamp_hours", 0) >= 2000 else ())


def test_a_bundle_that_does_not_run_fails_and_is_not_tried_again(world: Any) -> None:
    broken = world.candidate(golden_off=0.5)
    world.tick()
    row = verdict_on(world, broken)
    assert row.result == "failed"
    assert "golden" in row.verdict.reasons[0]
    entries = count(world)
    world.tick()
    assert count(world) == entries


def test_judging_twice_changes_nothing(world: Any) -> None:
    """Invariant 12."""
    world.candidate()
    world.tick()
    entries = count(world)
    for _ in range(3):
        world.tick()
    assert count(world) == entries


def test_a_held_candidate_is_looked_at_again_when_enough_new_labels_are_there() -> None:
    world = LoopWorld()
    world.label(2, sites=("a",))
    held = world.candidate()
    world.tick()
    assert verdict_on(world, held).result == "inconclusive"
    world.label(20)
    world.tick()
    assert verdict_on(world, held).result == "passed"


def test_without_an_automatic_signer_a_person_has_to_sign() -> None:
    world = LoopWorld(usecase=a_usecase(signing={"automatic": False}))
    world.label(20)
    good = world.candidate()
    world.tick()
    assert verdict_on(world, good).result == "passed"
    with world.store.read() as connection:
        assert verdicts.requests(connection) == []


def test_an_operator_can_push_again_and_the_signer_can_refuse_once(world: Any) -> None:
    bad = world.candidate(right=False)
    hub = world.hub
    with pytest.raises(NotValid, match="has not judged"):
        gate.ask_to_sign(world.store, bad, by="ann", why="again", now=hub.now(), chance=hub.chance)
    world.tick()
    first = gate.ask_to_sign(world.store, bad, by="ann", why="again", now=hub.now(), chance=hub.chance)
    second = gate.ask_to_sign(world.store, bad, by="ann", why="again", now=hub.now(), chance=hub.chance)
    assert first == second
    refused = gate.refuse(world.store, first.id, reason="the verdict is failed", by="signer", now=hub.now())
    assert (refused.state, refused.answer) == ("refused", "the verdict is failed")
    assert gate.refuse(world.store, first.id, reason="again", by="signer", now=hub.now()) == refused
    assert audit.verify(world.store).broken is None


def test_every_verdict_is_in_the_audit_log_with_its_digest(world: Any) -> None:
    good = world.candidate()
    world.tick()
    with world.store.read() as connection:
        entries = [entry for entry in audit_rows.newest(connection, limit=50) if entry["action"] == "candidate.judged"]
    assert [entry["subject"] for entry in entries] == [good]
    assert entries[0]["data"]["verdict"] == verdict_on(world, good).digest
    assert isinstance(verdict_on(world, good).verdict, Verdict)


def count(world: Any) -> int:
    with world.store.read() as connection:
        return int(audit_rows.count(connection))
