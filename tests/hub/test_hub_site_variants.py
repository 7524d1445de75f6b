"""A site's variant, from the sums that its devices told to the devices of that site alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgewise.hub import adapt_orders, ledger, rollouts, site_gate, site_sums
from edgewise.hub.rollout_states import Event as Act
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import channel_sums as sums_rows
from edgewise.hub.store import orders as order_rows
from edgewise.hub.store import releases as release_rows
from edgewise.hub.store import rollouts as rollout_rows
from edgewise.hub.store import verdicts
from edgewise.hub.weighed import weigh
from edgewise.measure import ChannelSums, norm_sum
from edgewise.ports.scoring import Answers
from edgewise.wire import NotValid, SiteSums, decode, plain
from loop_world import NAME, LoopWorld, a_usecase
from site_world import (
    actions,
    answer,
    ask,
    champion_of,
    run_champion,
    settle,
    sign_for,
    tell,
    told_of,
    verdict_on,
)

HOUR = 3600


@pytest.fixture
def world() -> Any:
    """A champion that is wrong about some good parts, on two devices at each of two sites."""
    made = LoopWorld(a_usecase(signing={"automatic": False}))
    made.label(20)
    run_champion(made)
    return made


@pytest.fixture(scope="module")
def calm() -> Any:
    """The same, for what changes nothing that others ask of it."""
    made = LoopWorld(a_usecase(signing={"automatic": False}))
    made.label(20)
    run_champion(made)
    return made


# -- sums in -----------------------------------------------------------------------------------------------------------


def test_the_sums_of_a_sites_devices_are_added_up_and_the_same_sums_have_the_same_digest(world: Any) -> None:
    base = champion_of(world)
    tell(world, "a1", told_of(world, base, frames=64))
    tell(world, "a2", told_of(world, base, frames=32))
    tell(world, "b1", told_of(world, base, frames=99))
    order = ask(world)
    sums = decode(SiteSums, world.store.blobs.get(order.revision))
    assert (sums.site, sums.bundle, sums.frames, sums.devices) == ("a", base, 96, 2)
    assert [one.count for one in sums.norms] == [96, 96]
    with world.store.read() as connection:
        assert site_sums.pool(connection, NAME, "a", base) == sums


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"norms": []}, "cannot be read"),
        ({"norms": [{"count": 1, "total": "AACAPw==", "square": "AACAPw=="}]}, "sums of 1 norms, bundle"),
        ({"norms": [{"count": 1, "total": "AADAfw==", "square": "AACAPw=="}] * 2}, "no number"),
        ({"norms": [{"count": 1, "total": "AACAPw==", "square": "AACAPwAAgD8="}] * 2}, "1 totals and 2 squares"),
        ({"norms": [{"count": 1, "total": "AAAgQQ==", "square": "AACAPw=="}] * 2}, "larger than its squares"),
        ({"norms": [{"count": 0, "total": "AACAPw==", "square": "AACAPw=="}] * 2}, "cannot be read"),
        ({"norms": [{"count": 1, "total": "?", "square": "AACAPw=="}] * 2}, "no base64"),
        ({"bundle": "f" * 64}, "not stored here"),
        ({"frames": 0}, "cannot be read"),
    ],
)
def test_sums_that_are_of_no_use_are_audited_with_the_reason_and_kept_out(
    calm: Any, change: dict[str, Any], words: str
) -> None:
    tell(calm, "a1", told_of(calm, champion_of(calm)) | change)
    with calm.store.read() as connection:
        assert sums_rows.find(connection, NAME) == []
        refused = [row for row in audit_rows.newest(connection, limit=1000) if row["action"] == "sums.refused"]
    assert words in refused[0]["data"]["reason"]


def test_only_the_newest_word_of_a_device_on_a_bundle_counts_and_few_bundles_are_kept(world: Any) -> None:
    base = champion_of(world)
    others = [str(world.bundle(name=f"net{number}", norms=True)) for number in range(6)]
    for bundle in [*others, base, base]:
        world.clock.advance(1)
        tell(world, "a1", told_of(world, bundle, frames=20 + others.index(bundle) if bundle in others else 30))
    with world.store.read() as connection:
        found = sums_rows.find(connection, NAME)
    assert [row.bundle for row in found] == [base, *reversed(others[-3:])]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda world, base: tell(world, "a1", told_of(world, base, frames=10)), "10 frames are behind the sums of a"),
        (lambda *_: None, "no device of a has told sums"),
        (
            lambda world, _: tell(world, "a1", told_of(world, str(world.bundle(name="older", norms=True)))),
            "those of another bundle do not fit",
        ),
        (
            lambda world, base: tell(
                world,
                "a1",
                told_of(
                    world,
                    base,
                    noise={
                        "epsilon": 0.5,
                        "delta": 1e-6,
                        "parts": [
                            {"clip": 3.0, "values_per_frame": 1, "total_deviation": 90.0, "square_deviation": 200.0}
                        ]
                        * 2,
                    },
                ),
            ),
            "the noise on the sums of a has a deviation of 1.4",
        ),
    ],
)
def test_no_order_is_made_of_sums_that_are_too_few_too_old_or_too_noisy(world: Any, prepare: Any, words: str) -> None:
    prepare(world, champion_of(world))
    with pytest.raises(NotValid, match=words):
        ask(world)
    with world.store.read() as connection:
        assert order_rows.find(connection, use_case=NAME, kind="adapt") == []


def test_devices_whose_sums_have_other_channels_are_named(world: Any) -> None:
    base = champion_of(world)
    tell(world, "a1", told_of(world, base))
    narrow = [plain(norm_sum(ChannelSums.of(np.ones((64, 2)))))] * 2
    tell(world, "a2", told_of(world, base) | {"norms": narrow})
    with pytest.raises(NotValid, match=r"a[12] told .* channels, a[12]"):
        ask(world)


def test_an_unknown_site_a_second_order_and_a_fleet_without_a_champion_are_refused(world: Any) -> None:
    with pytest.raises(NotValid, match="no site 'nowhere'"):
        ask(world, "nowhere")
    tell(world, "a1", told_of(world, champion_of(world)))
    ask(world)
    with pytest.raises(NotValid, match="one at a time"):
        ask(world)
    with pytest.raises(NotValid, match="no release of parts has finished"):
        ask(LoopWorld())


# -- the trigger -------------------------------------------------------------------------------------------------------


def adapting() -> Any:
    made = LoopWorld(a_usecase(signing={"automatic": False}, retrain={"labels_min": 100_000, "adapt": True}))
    made.label(20)
    run_champion(made)
    return made


def adapt_rows(world: Any) -> list[Any]:
    with world.store.read() as connection:
        return order_rows.find(connection, use_case=NAME, kind="adapt")


def test_an_order_is_made_when_all_devices_of_a_site_have_told_and_once_for_a_champion() -> None:
    world = adapting()
    base = champion_of(world)
    tell(world, "a1", told_of(world, base))
    world.tick()
    assert adapt_rows(world) == []
    tell(world, "a2", told_of(world, base))
    world.tick()
    (row,) = adapt_rows(world)
    assert (row.order.site, row.order.base) == ("a", base)
    answer(world, row.order)
    settle(world, 5)
    assert len(adapt_rows(world)) == 1


def test_after_an_hour_the_silent_ones_are_not_waited_for_and_an_alarm_asks_again() -> None:
    world = adapting()
    base = champion_of(world)
    tell(world, "a1", told_of(world, base))
    world.tick(HOUR + 1)
    (row,) = adapt_rows(world)
    answer(world, row.order)
    world.tick()
    tell(world, "a2", told_of(world, base))
    world.tick()
    assert len(adapt_rows(world)) == 1, "first sums that come late are no reason"
    tell(world, "a2", told_of(world, base, why="alarm"))
    world.tick()
    assert adapt_rows(world)[0].order.why == "a2 told of a again: alarm"


def test_without_adapt_no_order_is_made_and_too_few_frames_make_none(world: Any) -> None:
    base = champion_of(world)
    for device in ("a1", "a2"):
        tell(world, device, told_of(world, base))
    world.tick()
    assert adapt_rows(world) == []
    eager = adapting()
    for device in ("a1", "a2"):
        tell(eager, device, told_of(eager, champion_of(eager), frames=7))
    eager.tick()
    assert adapt_rows(eager) == []


def test_the_devices_of_a_site_that_run_the_champion_can_be_asked_and_nothing_else_changes_for_them(world: Any) -> None:
    hub = world.hub
    before = {name: world.row(name).wanted for name in ("a1", "a2", "b1")}
    asked = adapt_orders.ask(world.store, NAME, "a", who="ann", now=hub.now(), chance=hub.chance)
    assert sorted(asked) == ["a1", "a2"]
    assert world.row("b1").wanted == before["b1"]
    for name in asked:
        wanted = world.row(name).wanted
        assert wanted.sums is not None
        same = {"number": before[name].number, "sums": None, "issued_at": before[name].issued_at}
        assert wanted.model_copy(update=same) == before[name]
    settle(world, 3)
    assert world.row("a1").wanted.sums is not None, "the controllers leave it alone"
    with pytest.raises(NotValid, match="no site 'x'"):
        adapt_orders.ask(world.store, NAME, "x", who="ann", now=hub.now(), chance=hub.chance)
    empty = LoopWorld(a_usecase(sites=[{"name": "a"}, {"name": "b"}, {"name": "c"}]))
    empty.label(20)
    run_champion(empty)
    with pytest.raises(NotValid, match="no device of c runs bundle"):
        adapt_orders.ask(empty.store, NAME, "c", who="ann", now=hub.now(), chance=hub.chance)


# -- the worker's answer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"site": "b"}, "the variant of site b, not site:a"),
        ({"site": None, "variant": "fp16"}, "variant fp16, not site:a"),
        ({"sums": "e" * 64}, "it was made from sums eeeeeeeeeeee"),
        ({"variant_of": "e" * 64}, "it was made of eeeeeeeeeeee"),
        ({"name": "another"}, "it differs in name"),
    ],
)
def test_an_answer_that_is_not_the_orders_variant_is_refused(world: Any, options: Any, words: str) -> None:
    tell(world, "a1", told_of(world, champion_of(world)))
    with pytest.raises(NotValid, match=words):
        answer(world, ask(world), **options)


# -- the gate ----------------------------------------------------------------------------------------------------------


def test_the_gate_judges_at_that_site_alone_beside_the_base(world: Any) -> None:
    tell(world, "a1", told_of(world, champion_of(world)))
    made = answer(world, ask(world))
    world.tick()
    word = verdict_on(world, made)
    assert (word.result, word.site, word.champion) == ("passed", "a", champion_of(world))
    assert [item.site for item in word.sites] == ["a"]
    assert word.sites[0].candidate == 1.0
    assert word.sites[0].champion < 1.0
    with world.store.read() as connection:
        card = json.loads(verdicts.scorecard_bytes(connection, word.scorecard))
    assert {item["site"] for item in card["predictions"]} == {"a"}


@pytest.mark.parametrize(
    ("options", "result", "words"),
    [
        ({"right": False}, "failed", "got worse at a"),
        ({"least": 0.66}, "inconclusive", "it wins nothing at a"),
        ({"golden_off": 0.5}, "failed", "it does not run here"),
    ],
)
def test_what_is_worse_or_wins_nothing_or_does_not_run_leaves_the_champion(
    world: Any, options: Any, result: str, words: str
) -> None:
    base = champion_of(world)
    tell(world, "a1", told_of(world, base))
    made = answer(world, ask(world), **options)
    settle(world, 3)
    word = verdict_on(world, made)
    assert (word.result, words in word.reasons[0]) == (result, True), word.reasons
    assert champion_of(world) == base
    assert world.row("a1").bundle == base


def test_with_too_few_labels_it_waits_and_is_judged_again_when_there_are_more() -> None:
    world = LoopWorld(a_usecase(signing={"automatic": False}))
    world.label(20, sites=("b",))
    run_champion(world, least=0.56)
    tell(world, "a1", told_of(world, champion_of(world)))
    made = answer(world, ask(world))
    world.tick()
    assert verdict_on(world, made).result == "inconclusive"
    world.tick()
    world.label(20, sites=("a",), size=0.2)
    world.tick()
    assert verdict_on(world, made).result == "passed"


def test_a_variant_of_what_runs_no_more_fails(world: Any) -> None:
    tell(world, "a1", told_of(world, champion_of(world)))
    order = ask(world)
    run_champion(world, least=0.0)
    made = answer(world, order)
    settle(world, 2)
    word = verdict_on(world, made)
    assert word.result == "failed"
    assert "runs now; order another one" in word.reasons[0]


def test_a_variant_that_waits_does_not_hold_up_a_training_and_has_no_second_look_of_it(world: Any) -> None:
    tell(world, "a1", told_of(world, champion_of(world)))
    held = answer(world, ask(world), least=0.66)
    better = str(world.candidate(norms=True, least=0.0))
    world.tick()
    assert verdict_on(world, better).result == "passed"
    assert (verdict_on(world, better).site, verdict_on(world, held).site) == (None, "a")
    hub = world.hub
    assert (
        site_gate.judge_next(world.store, NAME, hub.now(), runtime=hub.runtime, chance=hub.chance, answers=Answers(),
                             check=lambda _: None) is None
    )  # fmt: skip


# -- the release and its devices ---------------------------------------------------------------------------------------


def test_it_runs_at_its_site_alone_and_the_champion_stays_the_champion(world: Any) -> None:
    base = champion_of(world)
    tell(world, "a1", told_of(world, base))
    made = answer(world, ask(world))
    world.tick()
    before = {device: world.row(device).assignment_number for device in ("b1", "b2")}
    release = sign_for(world, "a", made)
    settle(world)
    with world.store.read() as connection:
        (rollout,) = rollout_rows.find(connection, release=release.id)
    assert rollout.state == "finished", rollout.why
    assert [one["value"] for one in rollout.policy["select"]] == ["a"]
    assert {device: world.row(device).bundle for device in ("a1", "a2", "b1", "b2")} == {
        "a1": made, "a2": made, "b1": base, "b2": base,
    }  # fmt: skip
    assert {device: world.row(device).assignment_number for device in ("b1", "b2")} == before, (
        "no other site is touched"
    )
    assert champion_of(world) == base
    # Taken back, it goes to the base.
    rollouts.operate(world.store, rollout.id, Act.REVERT, who="ann", reason="drill", now=world.hub.now())
    settle(world)
    assert {world.row(device).bundle for device in ("a1", "a2", "b1", "b2")} == {base}
    # And the next trained release reaches everybody again.
    better = run_champion(world, least=0.0)
    assert {world.row(device).bundle for device in ("a1", "a2", "b1", "b2")} == {better}


def test_a_later_device_of_the_site_gets_the_variant_and_one_of_another_the_base(world: Any) -> None:
    base = champion_of(world)
    tell(world, "a1", told_of(world, base))
    made = answer(world, ask(world))
    world.tick()
    sign_for(world, "a", made)
    settle(world)
    for device, site in (("a3", "a"), ("b3", "b")):
        world.enrol(device, site)
    for _ in range(30):
        world.tick(60)
        for device in ("a1", "a2", "a3", "b1", "b2", "b3"):
            world.hear(device)
    assert (world.row("a3").bundle, world.row("b3").bundle) == (made, base)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda world, made: sign_for(world, "b", made), "released as site:NAME"),
        (
            lambda world, made: sign_for(world, "a", made, fp32=str(world.bundle(name="x"))),
            "beside the one that it was",
        ),
        (lambda world, made: sign_for(world, "a", made, int8=str(world.bundle(name="x"))), "and nothing else"),
        (lambda world, made: world.sign(made), "released as site:NAME"),
        (lambda world, made: world.sign(made, override="I say so"), "released as site:NAME"),
    ],
)
def test_a_release_that_would_bring_a_variant_elsewhere_is_refused(world: Any, make: Any, words: str) -> None:
    tell(world, "a1", told_of(world, champion_of(world)))
    made = answer(world, ask(world))
    world.tick()
    with pytest.raises(NotValid, match=words):
        make(world, made)


def test_the_audit_log_and_the_ledger_tell_where_it_came_from(world: Any) -> None:
    base = champion_of(world)
    tell(world, "a1", told_of(world, base))
    order = ask(world)
    made = answer(world, order)
    world.tick()
    release = sign_for(world, "a", made)
    settle(world, 2)
    assert {"order.made", "order.returned", "candidate.judged", "release.signed"} <= set(actions(world))
    with world.store.read() as connection:
        entry = ledger.look(connection, "bundle", made)
        weighed = weigh(connection, release.id)
        of_base = [row.id for row in release_rows.of_bundle(connection, base)]
        of_made = [row.id for row in release_rows.of_bundle(connection, made)]
    assert of_made == [release.id]
    assert weighed.verdict.site == "a"
    assert weighed.scorecard.compared is not None
    assert {row.site for row in weighed.scorecard.compared} == {"a", "overall"}
    assert release.id not in of_base
    assert {(link.kind, link.id) for link in entry.made_of} >= {("order", order.id), ("bundle", base)}
    assert ("release", release.id) in {(link.kind, link.id) for link in entry.led_to}
