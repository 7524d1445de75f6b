"""Variants at the gate: each by itself, the candidate first, and no release with one that did not pass."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from edgewise.hub import gate, orders
from edgewise.hub.orders import OrderWish
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import bundles, verdicts
from edgewise.measure import judge_variant
from edgewise.wire import Candidate, NotValid, Scorecard, decode, encode

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


def variants_of(world: Any, bundle: str) -> dict[str, str]:
    """The variants that came with a candidate."""
    with world.store.read() as connection:
        order = bundles.get(connection, bundle).order
        return dict(orders.rows.get(connection, order).returned.variants)


def run_champion(world: Any) -> str:
    bundle = str(world.candidate())
    world.tick()
    world.sign(bundle)
    world.enrol("d1")
    world.tick()
    world.hear("d1")
    return bundle


def test_each_variant_has_a_verdict_of_its_own_that_the_candidates_names(world: Any) -> None:
    good = world.candidate(variants={"fp16": {}, "int8": {"right": False}})
    world.tick()
    made = variants_of(world, good)
    word = verdict_on(world, good)
    assert word.result == "passed"
    assert word.verdict.variants == {name: verdict_on(world, bundle).digest for name, bundle in made.items()}
    assert {name: verdict_on(world, bundle).result for name, bundle in made.items()} == {
        "fp16": "passed",
        "int8": "failed",
    }
    assert verdict_on(world, made["int8"]).verdict.variant == "int8"


def test_why_a_variant_is_left_out_is_in_the_audit_log(world: Any) -> None:
    good = world.candidate(variants={"int8": {"right": False}, "fp16": {"golden_off": 0.5}})
    world.tick()
    with world.store.read() as connection:
        notes = [item for item in audit_rows.newest(connection) if item["action"] == "variant.judged"]
    seen = {item["data"]["variant"]: item["data"] for item in notes}
    assert {name: data["result"] for name, data in seen.items()} == {"int8": "failed", "fp16": "failed"}
    assert "floor" in seen["int8"]["reason"]
    assert "golden" in seen["fp16"]["reason"]
    assert all(data["of"] == good for data in seen.values())


def test_only_the_candidate_asks_for_a_signature_and_is_listed(world: Any) -> None:
    good = world.candidate(variants={"fp16": {}})
    world.tick()
    with world.store.read() as connection:
        (request,) = verdicts.requests(connection)
        listed = verdicts.find(connection, use_case="parts")
        whole = verdicts.find(connection, use_case="parts", variants=True)
    assert request.bundle == good
    assert [row.candidate for row in listed] == [good]
    assert {row.candidate for row in whole} == {good, *variants_of(world, good).values()}


def test_variants_of_a_candidate_that_does_not_pass_are_not_looked_at(world: Any) -> None:
    run_champion(world)
    bad = world.candidate(right=False, variants={"int8": {}})
    world.tick()
    assert verdict_on(world, bad).result == "failed"
    assert verdict_on(world, bad).verdict.variants == {}
    assert verdict_on(world, variants_of(world, bad)["int8"]) is None


def test_a_held_candidates_variants_are_judged_when_it_is_looked_at_again() -> None:
    world = LoopWorld()
    world.label(2, sites=("a",))
    held = world.candidate(variants={"fp16": {}})
    world.tick()
    assert verdict_on(world, held).result == "inconclusive"
    world.label(20)
    world.tick()
    assert verdict_on(world, held).result == "passed"
    assert verdict_on(world, variants_of(world, held)["fp16"]).result == "passed"


def test_variants_are_compared_with_the_champion_on_the_same_samples_and_the_word_can_be_computed_again(
    world: Any,
) -> None:
    champion = run_champion(world)
    good = world.candidate(variants={"fp16": {}, "int8": {"right": False}})
    world.tick()
    with world.store.read() as connection:

        def card(digest: str) -> Scorecard:
            return decode(Scorecard, verdicts.scorecard_bytes(connection, digest))

        word = verdicts.newest_on(connection, good).verdict
        ours, theirs = card(word.scorecard), card(word.champion_scorecard)
        for name, digest in word.variants.items():
            stored = verdicts.get(connection, digest).verdict
            assert stored.champion == champion
            own = card(stored.scorecard)
            assert [item.sample for item in own.predictions] == [item.sample for item in ours.predictions]
            again = judge_variant(
                own, name, candidate=ours, champion=theirs, use_case=world.usecase, now=stored.made_at
            )
            assert again == stored
    assert world.tick() is None


def test_judging_twice_changes_nothing(world: Any) -> None:
    """Invariant 12."""
    world.candidate(variants={"fp16": {}, "int8": {"right": False}})
    world.tick()

    def entries() -> int:
        with world.store.read() as connection:
            return len(audit_rows.newest(connection, limit=1000))

    before = entries()
    world.tick()
    assert entries() == before


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"variant": "int8"}, "variant_of|was made of"),
        ({"variant_of": "same"}, "says that it is variant None"),
        ({"variant": "fp16", "variant_of": "same"}, "says that it is variant fp16"),
        ({"variant": "int8", "variant_of": "same", "name": "other"}, "differs in name"),
    ],
)
def test_a_bundle_that_is_no_variant_of_the_candidate_is_refused(world: Any, about: dict[str, Any], words: str) -> None:
    hub = world.hub
    wish = OrderWish(use_case="parts", why="test")
    order = orders.create(world.store, wish, who="admin", now=hub.now(), chance=hub.chance, limits=hub.limits)
    orders.claim(world.store, "worker", ["train"], now=hub.now(), limits=hub.limits)
    made = world.bundle(order=order)
    given = {**about, "variant_of": made} if about.get("variant_of") == "same" else about
    other = world.bundle(order=order, right=False, **given)
    answer = Candidate(order=order.id, bundle=made, variants={"int8": other})
    with pytest.raises(NotValid, match=words) as refused:
        orders.take_candidate(world.store, order.id, "worker", answer, now=hub.now())
    assert refused.value.code == "variant_wrong"


def test_a_variant_that_is_not_stored_is_refused(world: Any) -> None:
    hub = world.hub
    wish = OrderWish(use_case="parts", why="test")
    order = orders.create(world.store, wish, who="admin", now=hub.now(), chance=hub.chance, limits=hub.limits)
    orders.claim(world.store, "worker", ["train"], now=hub.now(), limits=hub.limits)
    answer = Candidate(order=order.id, bundle=world.bundle(order=order), variants={"int8": "0" * 64})
    with pytest.raises(NotValid, match="is not stored"):
        orders.take_candidate(world.store, order.id, "worker", answer, now=hub.now())


def test_nobody_can_ask_for_a_signature_on_a_variant_alone(world: Any) -> None:
    good = world.candidate(variants={"int8": {}})
    world.tick()
    small = variants_of(world, good)["int8"]
    with pytest.raises(NotValid, match="variants that passed are signed with it"):
        gate.ask_to_sign(world.store, small, by="ann", why="small", now=world.hub.now(), chance=world.hub.chance)


@pytest.mark.parametrize("right", [True, False])
def test_a_release_with_a_variant_that_did_not_pass_is_not_kept(world: Any, right: bool) -> None:
    good = world.candidate(variants={"int8": {"right": right}})
    world.tick()
    made = variants_of(world, good)
    if right:
        release = world.sign(good, variants=made)
        assert release.bundles == {"fp32": good, **made}
        return
    with pytest.raises(NotValid, match="which needs a passed verdict"):
        world.sign(good, variants=made)


def test_a_release_with_a_bundle_that_the_gate_never_saw_is_not_kept(world: Any) -> None:
    good = world.candidate()
    other = world.candidate(right=True)
    world.tick()
    world.tick()
    with pytest.raises(NotValid, match="the gate has none"):
        world.sign(good, variants={"int8": other})


def test_a_release_of_a_variant_alone_is_not_kept_on_the_gates_word(world: Any) -> None:
    good = world.candidate(variants={"int8": {}})
    world.tick()
    with pytest.raises(NotValid, match="its candidate has to be in it"):
        world.sign(variants_of(world, good)["int8"])


def test_the_wishes_of_the_use_case_reach_the_worker_and_an_order_by_hand_may_have_its_own() -> None:
    world = LoopWorld(usecase=a_usecase(retrain={"labels_min": 100_000, "variants": ["fp16", "int8"]}))
    world.label(4)
    hub = world.hub
    made = []
    for wish in (OrderWish(use_case="parts"), OrderWish(use_case="parts", variants=())):
        order = orders.create(world.store, wish, who="admin", now=hub.now(), chance=hub.chance, limits=hub.limits)
        orders.claim(world.store, "worker", ["train"], now=hub.now(), limits=hub.limits)
        answer = Candidate(order=order.id, bundle=world.bundle(order=order, name=order.id[:8]))
        orders.take_candidate(world.store, order.id, "worker", answer, now=hub.now())
        made.append(order)
    assert [order.variants for order in made] == [("fp16", "int8"), ()]
    assert b'"variants":["fp16","int8"]' in encode(made[0])
