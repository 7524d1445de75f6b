"""What can never work is said before the start, each with its remedy; what may work is let through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgewise.hub.rollout import Device, Evidence, OpenWave, Pass, Rollout, next_steps, problems
from edgewise.wire import Condition, Disruption, Rate, RolloutPolicy, Terms, Wave
from rollout_cases import NEW, NOW, OLD, a_device, a_rollout, committed

IDLE = Condition(fact="idle", op="eq", value=True)
LINE = (Condition(fact="line", op="eq", value="a"),)
OUT = ("line is b, needs eq a",)


def a_draft(**policy: Any) -> Rollout:
    return a_rollout(policy=RolloutPolicy(**policy))


FLEET = [a_device(f"d{index}", labels={"pair": f"p{index // 2}"}, facts={"battery": 80}) for index in range(4)]


@pytest.mark.parametrize(
    ("rollout", "fleet", "says"),
    [
        (
            a_draft(select=LINE),
            [replace(device, outside=OUT) for device in FLEET],
            "select matches none of 4 devices (d0: line is b, needs eq a; d1: line is b, needs eq a; d2: line is b, "
            "needs eq a); change select, or the labels of the devices",
        ),
        (
            a_draft(select=LINE, waves=(Wave(named=("d0", "d1")),)),
            [replace(FLEET[0], outside=OUT), *FLEET[1:]],
            "a wave names d0, which select leaves out (line is b, needs eq a); change one of the two",
        ),
        (
            a_draft(),
            [replace(device, misfits=("opset 22, has 21",)) for device in FLEET],
            "parts@2 fits none of 4 devices, such as d0: opset 22, has 21; add a variant that does",
        ),
        (
            a_draft(return_to="parts@1"),
            [replace(device, known=frozenset()) for device in FLEET],
            "parts@1 was never committed on any of 4 devices, so none could be taken back to it; name as return_to a "
            "release that ran there",
        ),
        (
            a_rollout(target=replace(NEW, withdrawn=True)),
            FLEET,
            "parts@2 was withdrawn by its signers; roll out another release",
        ),
        (
            a_rollout(previous=replace(OLD, withdrawn=True)),
            FLEET,
            "parts@1, the release to return to, was withdrawn; name another as return_to",
        ),
        (
            a_draft(activation=Terms(conditions=(IDLE,))),
            FLEET,
            "activation asks for idle, which none of 4 devices reports, so that it would wait for ever; report the "
            "fact, or take the condition out",
        ),
        (
            a_draft(
                conditions=(
                    Condition(fact="battery", op="ge", value=80),
                    Condition(fact="battery", op="lt", value=20),
                )
            ),
            FLEET,
            "conditions can never hold: battery would have to be ge 80 and lt 20; change one of them",
        ),
        (a_draft(success_min=5), FLEET, "success_min is 5, but there are only 4 devices; lower it"),
        (
            a_draft(bake_s=7200, wave_s_max=3600),
            FLEET,
            "bake_s of 7200 is not below wave_s_max of 3600, so no wave could pass in time; lower the first or raise "
            "the second",
        ),
        (
            a_draft(stuck_s=60, trial_s=60),
            FLEET,
            "stuck_s of 60 is not above trial_s of 60, so every device would fail in its trial; raise the first or "
            "lower the second",
        ),
        (
            a_draft(disruption=(Disruption(group_by=("site",), available_min=4),)),
            FLEET,
            "available_min of 4 keeps all 4 devices of site plant-a as they are (d0, d1, d2, d3); lower it, or leave "
            "them out with select",
        ),
        (
            a_draft(metered_bytes_max=250),
            [replace(device, metered=True, predicted_bytes=100) for device in FLEET],
            "400 bytes over metered links are predicted, metered_bytes_max is 250; raise it, select fewer devices, or "
            "let them fetch over another link",
        ),
        (
            a_draft(rate=Rate(per_minute=0.01), wave_s_max=7200),
            FLEET,
            "at 0.01 devices a minute, 4 devices take longer than wave_s_max of 2 hours; raise rate.per_minute or "
            "wave_s_max, or make the waves smaller",
        ),
    ],
)
def test_what_can_never_work_is_said_with_its_remedy(rollout: Rollout, fleet: list[Device], says: str) -> None:
    assert problems(rollout, fleet) == [says]


@pytest.mark.parametrize(
    ("rollout", "fleet"),
    [
        (a_draft(), FLEET),
        (a_draft(), []),
        (a_draft(return_to="parts@1"), [a_device("new", want=None, running=None, known=frozenset())]),
        (a_draft(activation=Terms(conditions=(IDLE,))), [replace(device, facts={}) for device in FLEET]),
        (a_draft(activation=Terms(conditions=(IDLE,))), [*FLEET, a_device("d9", facts={"idle": False})]),
        (a_draft(disruption=(Disruption(group_by=("pair",), available_min=1),)), FLEET),
        (a_draft(rate=Rate(per_minute=1), success_min=4, stuck_s=600, metered_bytes_max=0), FLEET),
        (
            a_draft(
                conditions=(Condition(fact="battery", op="gt", value=1), Condition(fact="battery", op="lt", value=2))
            ),
            FLEET,
        ),
    ],
)
def test_what_may_work_is_let_through(rollout: Rollout, fleet: list[Device]) -> None:
    assert problems(rollout, fleet) == []


def test_paired_decisions_are_not_asked_for_where_none_can_come() -> None:
    rules = RolloutPolicy(waves=(Wave(percent=100),), bake_s=0, bake_decisions_min=10)
    wave = (OpenWave(devices=("d0",), opened_at=NOW),)
    first = a_rollout(policy=rules, previous=None, waves=wave)
    assert next_steps(first, [committed("d0")], Evidence(), NOW) == [Pass(0)]
    nothing_else = a_rollout(policy=rules, waves=wave)
    fresh = committed("d0", known=frozenset({NEW.bundle}))
    assert next_steps(nothing_else, [fresh], Evidence(), NOW) == [Pass(0)]
