"""The pure rollout: what it does in each situation, and what it never does whatever devices say."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edgewise.hub.rollout import (
    MOVES,
    Assign,
    Device,
    Event,
    Evidence,
    Move,
    Open,
    OpenWave,
    Pass,
    Rollout,
    State,
    Step,
    Target,
    Want,
    after,
    move,
    next_steps,
    walk,
    waves_of,
)
from edgewise.wire import NotValid, RolloutPolicy, Wave
from rollout_cases import NEW, NOW, OLD, a_device, a_rollout, committed, first_wave, moves


def test_the_first_wave_opens_for_as_many_devices_as_it_names() -> None:
    fleet = [a_device(f"d{index}") for index in range(5)]
    steps = next_steps(a_rollout(), fleet, Evidence(), NOW)
    assert [len(step.devices) for step in steps if isinstance(step, Open)] == [1]


def test_a_wave_takes_sites_in_turn() -> None:
    fleet = [a_device(f"{site}{index}", site=site) for site in "abc" for index in range(4)]
    policy = RolloutPolicy(waves=(Wave(devices=3), Wave(percent=100)))
    (step,) = next_steps(a_rollout(policy=policy), fleet, Evidence(), NOW)
    assert isinstance(step, Open)
    assert sorted(device[0] for device in step.devices) == ["a", "b", "c"]


def test_a_device_that_is_away_is_not_chosen_for_an_early_wave() -> None:
    fleet = [a_device("d1", away=True), a_device("d2"), a_device("d3", away=True)]
    (step,) = next_steps(a_rollout(), fleet, Evidence(), NOW)
    assert step == Open(0, ("d2",))


def test_a_bundle_that_cannot_run_on_a_device_is_never_assigned_to_it() -> None:
    fleet = [a_device("d1", misfits=("opset 22, has 21",)), a_device("d2")]
    rollout = a_rollout(policy=RolloutPolicy(waves=(Wave(percent=100),)))
    (step,) = next_steps(rollout, fleet, Evidence(), NOW)
    assert step == Open(0, ("d2",))


def test_members_of_an_open_wave_are_assigned_with_the_old_bundle_in_shadow() -> None:
    rollout = a_rollout(waves=first_wave("d1"))
    (step,) = next_steps(rollout, [a_device("d1"), a_device("d2")], Evidence(), NOW)
    assert isinstance(step, Assign)
    assert (step.device, step.want.release, step.want.bake) == ("d1", NEW.release, True)
    assert next_steps(rollout, [a_device("d1", want=step.want)], Evidence(), NOW) == []


@pytest.mark.parametrize(
    ("devices", "policy", "seconds", "passes"),
    [
        ([committed()], {"bake_s": 600}, 599, False),
        ([committed()], {"bake_s": 600}, 600, True),
        ([committed(), a_device("d2")], {"bake_s": 0}, 0, False),
        ([committed(), a_device("d2")], {"bake_s": 0, "success_share": 0.5}, 0, True),
        ([committed(), a_device("d2", away=True)], {"bake_s": 0}, 0, True),
        ([a_device("d1", away=True), a_device("d2", away=True)], {"bake_s": 0}, 0, False),
        ([committed(paired=9)], {"bake_s": 0, "bake_decisions_min": 10}, 0, False),
        ([committed(paired=10)], {"bake_s": 0, "bake_decisions_min": 10}, 0, True),
        ([committed("d1", NOW), committed("d2", NOW + timedelta(seconds=60))], {"bake_s": 60}, 119, False),
        ([committed("d1", NOW), committed("d2", NOW + timedelta(seconds=60))], {"bake_s": 60}, 120, True),
        ([committed(running=OLD.release)], {"bake_s": 0}, 0, False),
    ],
)
def test_a_wave_passes_when_enough_have_committed_baked_and_been_compared(
    devices: list[Device], policy: dict[str, float], seconds: float, passes: bool
) -> None:
    rollout = a_rollout(waves=first_wave("d1", "d2"), policy=RolloutPolicy(**policy))  # type: ignore[arg-type]
    steps = next_steps(rollout, devices, Evidence(), NOW + timedelta(seconds=seconds))
    assert (Pass(0) in steps) is passes


def test_a_first_release_has_nothing_to_be_compared_with_and_still_passes() -> None:
    rollout = a_rollout(waves=first_wave("d1"), previous=None, policy=RolloutPolicy(bake_s=0, bake_decisions_min=50))
    assert next_steps(rollout, [committed(known=frozenset({NEW.bundle}))], Evidence(), NOW) == [Pass(0)]


def test_a_dead_device_in_the_last_wave_does_not_hold_the_fleet() -> None:
    waves = (*first_wave("d1", passed_at=NOW), OpenWave(devices=("d2",), opened_at=NOW))
    rollout = a_rollout(waves=waves, policy=RolloutPolicy(bake_s=0))
    assert next_steps(rollout, [committed("d1"), a_device("d2", away=True)], Evidence(), NOW) == [Pass(1)]


def test_a_wave_in_the_middle_waits_for_somebody_to_be_ready_but_not_for_ever() -> None:
    policy = RolloutPolicy(waves=(Wave(devices=1), Wave(devices=2), Wave(percent=100)), bake_s=0)
    rollout = a_rollout(waves=first_wave("d1", passed_at=NOW), policy=policy)
    fleet = [committed("d1"), a_device("d2", away=True), a_device("d3", away=True)]
    assert next_steps(rollout, fleet, Evidence(), NOW + timedelta(seconds=3599)) == []
    assert next_steps(rollout, fleet, Evidence(), NOW + timedelta(seconds=3600)) == [Open(1, ())]


def test_after_the_last_wave_every_device_runs_it_without_a_shadow_late_joiners_too() -> None:
    rollout = a_rollout(state=State.FINISHED, waves=first_wave("d1", passed_at=NOW))
    fleet = [committed("d1"), a_device("late", want=None, running=None, known=frozenset())]
    steps = next_steps(rollout, fleet, Evidence(), NOW)
    assert [(step.device, step.want.bake, step.want.kind) for step in steps if isinstance(step, Assign)] == [
        ("d1", False, "run"), ("late", False, "run"),
    ]  # fmt: skip


def test_a_device_that_joins_during_a_rollout_gets_the_proven_release_first() -> None:
    rollout = a_rollout(waves=first_wave("d1"))
    fresh = a_device("late", want=None, running=None, known=frozenset())
    steps = next_steps(rollout, [committed("d1"), fresh], Evidence(), NOW)
    assert [(step.device, step.want.release) for step in steps if isinstance(step, Assign)] == [("late", OLD.release)]


def test_a_device_with_nothing_to_return_to_is_in_no_wave() -> None:
    fleet = [a_device("d1", known=frozenset()), a_device("d2")]
    assert next_steps(a_rollout(), fleet, Evidence(), NOW) == [Open(0, ("d2",))]
    assert next_steps(a_rollout(), fleet[:1], Evidence(), NOW) == []


def test_a_device_that_was_told_but_never_ran_anything_gets_the_earlier_release_as_its_first() -> None:
    told = committed("d1").want
    rollout = a_rollout(state=State.REVERTING, waves=first_wave("d1"), reason="worse")
    (step,) = next_steps(rollout, [a_device("d1", want=told, running=None, known=frozenset())], Evidence(), NOW)
    assert isinstance(step, Assign)
    assert (step.want.kind, step.want.release) == ("run", OLD.release)


def test_evidence_at_the_bound_reverts_and_names_the_release_to_return_to() -> None:
    """Invariant 10: the bound is 1/alpha."""
    rollout = a_rollout(waves=first_wave("d1"), policy=RolloutPolicy(revert_alpha=0.01))
    below, above = Evidence(labels=8, losses=8), Evidence(labels=9, losses=9)
    assert below.e_value < 100 <= above.e_value
    assert moves(next_steps(rollout, [committed()], below, NOW)) == []
    assert moves(next_steps(rollout, [committed()], above, NOW)) == [Event.REVERT]
    assert moves(next_steps(replace(rollout, state=State.PAUSED), [committed()], above, NOW)) == [Event.REVERT]
    assert moves(next_steps(replace(rollout, state=State.FINISHED), [committed()], above, NOW)) == [Event.REVERT]
    reverting = replace(rollout, state=State.REVERTING, reason="worse")
    (step,) = next_steps(reverting, [committed(), a_device("d2")], above, NOW)
    assert isinstance(step, Assign)
    assert (step.device, step.want.kind, step.want.release) == ("d1", "revert", OLD.release)


def test_a_release_withdrawn_on_its_way_is_taken_back_and_one_that_finished_runs_on() -> None:
    gone = replace(NEW, withdrawn=True)
    running = a_rollout(target=gone, waves=first_wave("d1"))
    (step,) = next_steps(running, [committed("d1"), a_device("d2")], Evidence(), NOW)
    assert step == Move(Event.REVERT, "parts@2 was withdrawn by its signers")
    taken_back = replace(running, state=State.REVERTING, reason=step.reason)
    assert [(item.device, item.want.kind) for item in next_steps(taken_back, [committed("d1")], Evidence(), NOW)] == [
        ("d1", "revert")
    ]
    nowhere = replace(running, previous=replace(OLD, withdrawn=True))
    (step,) = next_steps(nowhere, [committed("d1")], Evidence(), NOW)
    assert step.event is Event.ABORT
    assert "parts@1 was withdrawn" in step.reason
    finished = replace(running, state=State.FINISHED)
    assert not moves(next_steps(finished, [committed("d1")], Evidence(), NOW))


def test_failed_trials_beyond_the_bound_revert_and_within_it_do_not() -> None:
    fleet = [a_device("d1", failed=True), committed("d2")]
    rollout = a_rollout(waves=first_wave("d1", "d2"))
    assert moves(next_steps(rollout, fleet, Evidence(), NOW)) == [Event.REVERT]
    tolerant = replace(rollout, policy=RolloutPolicy(failures_max=1))
    steps = next_steps(tolerant, fleet, Evidence(), NOW)
    assert [(step.device, step.want.release) for step in steps if isinstance(step, Assign)] == [("d1", OLD.release)]


def test_not_now_is_no_failure() -> None:
    """Invariant 8: a device that is away or whose conditions do not hold stops nothing."""
    fleet = [a_device("d1", away=True), a_device("d2", unmet=("battery_percent is 12, needs ge 40",)), committed("d3")]
    rollout = a_rollout(waves=first_wave("d1", "d2", "d3"), policy=RolloutPolicy(bake_s=0))
    assert next_steps(rollout, fleet, Evidence(), NOW) == [Pass(0)]


def test_a_first_release_that_fails_is_aborted_because_there_is_nothing_to_return_to() -> None:
    rollout = a_rollout(waves=first_wave("d1"), previous=None)
    assert moves(next_steps(rollout, [a_device("d1", failed=True)], Evidence(), NOW)) == [Event.ABORT]


def test_a_newer_rollout_supersedes_a_stuck_or_paused_one() -> None:
    """Invariant 8."""
    for state in (State.RUNNING, State.PAUSED):
        rollout = a_rollout(state=state, newer="c" * 32, waves=first_wave("d1"))
        assert moves(next_steps(rollout, [a_device("d1", failed=True)], Evidence(), NOW)) == [Event.SUPERSEDE]


def test_a_device_left_on_a_superseded_release_is_first_in_the_next_rollout() -> None:
    third = Target(release="parts@3", bundle="3" * 64, version=3)
    fleet = [a_device(f"d{index}") for index in range(20)] + [committed("left")]
    assert next_steps(a_rollout(target=third), fleet, Evidence(), NOW) == [Open(0, ("left",))]


def test_a_revert_ends_when_all_in_contact_are_back_and_waits_for_nobody_who_is_away() -> None:
    back = Want(kind="revert", release=OLD.release, bundle=OLD.bundle, rollout="b" * 32, bake=False)
    rollout = a_rollout(state=State.REVERTING, waves=first_wave("d1", "d2"), reason="worse")
    fleet = [committed("d1", want=back), committed("d2", want=back, away=True)]
    assert next_steps(rollout, fleet, Evidence(), NOW) == []
    fleet = [a_device("d1", want=back), committed("d2", want=back, away=True)]
    assert moves(next_steps(rollout, fleet, Evidence(), NOW)) == [Event.RETURNED]


def test_a_device_that_never_ran_the_earlier_release_is_not_sent_back_to_it() -> None:
    """Invariant 5: it stays, and does not hold up the others; a person is told."""
    rollout = a_rollout(state=State.REVERTING, waves=first_wave("d1"), reason="worse")
    joined_late = committed("late", known=frozenset({NEW.bundle}))
    assert moves(next_steps(rollout, [a_device("d1"), joined_late], Evidence(), NOW)) == [Event.RETURNED]


def test_a_policy_without_a_last_wave_over_all_gets_one() -> None:
    assert len(waves_of(RolloutPolicy(waves=(Wave(devices=1), Wave(percent=50))))) == 3
    assert len(waves_of(RolloutPolicy(waves=(Wave(devices=1), Wave(percent=100))))) == 2


def test_illegal_moves_are_refused_with_what_is_possible() -> None:
    with pytest.raises(NotValid, match="possible now: abort, approve, resume, revert, supersede"):
        move(State.PAUSED, Event.PAUSE)
    for state in State:
        for event in Event:
            if (state, event) not in MOVES:
                with pytest.raises(NotValid) as caught:
                    move(state, event)
                assert caught.value.code == "illegal_move"


def test_the_diagram_in_the_docs_is_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "rollout.md").read_text()
    drawn = set(re.findall(r"^\s*(\w+) --> (\w+): (\w+)$", text, re.MULTILINE))
    assert drawn == {(state.value, target.value, event.value) for (state, event), target in MOVES.items()}


def test_steps_are_stored_before_they_are_carried_out() -> None:
    seen: list[tuple[int, int]] = []
    rollout = a_rollout(policy=RolloutPolicy(waves=(Wave(percent=100),)))

    def act(before: Rollout, current: Rollout, steps: list[Step]) -> None:
        seen.append((len(before.waves), len(current.waves)))
        assert current == after(before, steps, NOW)

    walk([rollout], lambda item: ([committed("d1") if item.waves else a_device("d1")], Evidence()), act, NOW)
    assert seen[0] == (0, 1)


def test_a_named_wave_takes_exactly_the_devices_it_names_and_waits_for_them() -> None:
    policy = RolloutPolicy(waves=(Wave(named=("d3", "d2")), Wave(percent=100)))
    rollout = a_rollout(policy=policy)
    (step,) = next_steps(rollout, [a_device("d1"), a_device("d2"), a_device("d3")], Evidence(), NOW)
    assert isinstance(step, Open)
    assert set(step.devices) == {"d2", "d3"}
    assert next_steps(rollout, [a_device("d1"), a_device("d2", away=True)], Evidence(), NOW) == []
