"""Classes of devices and variants of a release: each gets the most exact variant that fits, or the reasons why not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from edgewise.hub import orders, rollouts
from edgewise.hub.orders import OrderWish
from edgewise.hub.rollout import Event
from edgewise.hub.rollout_status import statuses
from edgewise.hub.situation import Situation
from edgewise.hub.store import bundles, devices
from edgewise.hub.store import rollouts as rows
from edgewise.ports import MemoryRuntime
from edgewise.ports.api import HubApi
from edgewise.signer import Signer

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)
LoopWorld, a_usecase = loop_world.LoopWorld, loop_world.a_usecase

# A large machine, one with little memory, one that is slow, and one for which nothing is small enough.
CLASSES: dict[str, dict[str, Any]] = {
    "large": {"ram_mb": 4000, "speed_ratio": 1.0},
    "narrow": {"ram_mb": 50, "speed_ratio": 1.0},
    "slow": {"ram_mb": 4000, "speed_ratio": 0.25},
    "tiny": {"ram_mb": 5},
}
NEEDS = {"ram_mb": 80, "latency_ms": 10}
VARIANTS: dict[str, dict[str, Any]] = {
    "fp16": {"ram_mb": 40, "latency_ms": 10},
    "int8": {"ram_mb": 20, "latency_ms": 4},
}


@pytest.fixture
def world() -> Any:
    made = LoopWorld(usecase=a_usecase(placement={"latency_ms_max": 20}))
    made.label(20)
    for index, name in enumerate(CLASSES):
        made.enrol(name, site="ab"[index % 2])
        hear(made, name)
    return made


def hear(world: Any, name: str, **facts: Any) -> None:
    world.hear(name, facts={**CLASSES[name], **facts})


def go(world: Any, minutes: int = 6, **facts: Any) -> None:
    """Let time pass; devices stay in contact and obey. By name, facts that differ from the class's."""
    for _ in range(minutes * 4):
        world.tick(15)
        for name in CLASSES:
            hear(world, name, **facts.get(name, {}))
    world.tick()


def release_next(world: Any, variants: dict[str, dict[str, Any]] | None = None) -> tuple[str, dict[str, str]]:
    """A candidate with its variants is judged, and signed by a signer that checks all evidence; id and bundles."""
    good = world.candidate(variants=VARIANTS if variants is None else variants, **NEEDS)
    world.tick()
    with loop_world.served(world.hub) as url, HubApi(url, world.hub.tokens.text("signer")) as api:
        Signer(api, [world.key], runtime=MemoryRuntime(), clock=world.clock).step()
    with world.store.read() as connection:
        newest = rollouts.releases.find(connection, use_case="parts", limit=1)[0]
    assert newest.bundle == good
    return newest.id, dict(newest.body["bundles"])


def wanted(world: Any) -> dict[str, str | None]:
    found = {name: world.row(name).wanted for name in CLASSES}
    return {name: None if item is None else item.bundle for name, item in found.items()}


def status(world: Any, release: str) -> Any:
    with world.store.read() as connection:
        return statuses(connection, rows.find(connection, release=release, limit=1), now=world.hub.now())[0]


def fleet(world: Any, release: str) -> list[Any]:
    """The devices as the release's rollout sees them."""
    with world.store.read() as connection:
        row = rows.find(connection, release=release, limit=1)[0]
        situation = Situation(connection, world.usecase, world.hub.now(), started_at=world.hub.now())
        return situation.fleet(rollouts.as_rollout(connection, row), row.data or {})


def test_three_classes_of_devices_get_three_variants_and_a_fourth_gets_none_with_the_reasons(world: Any) -> None:
    release, made = release_next(world)
    assert set(made) == {"fp32", "fp16", "int8"}
    go(world)
    assert wanted(world) == {"large": made["fp32"], "narrow": made["fp16"], "slow": made["int8"], "tiny": None}
    assert status(world, release).state == "finished"
    with world.store.read() as connection:
        ran = {name: devices.get(connection, name).bundle for name in ("large", "narrow", "slow")}
    assert ran == {"large": made["fp32"], "narrow": made["fp16"], "slow": made["int8"]}
    seen = {device.id: device for device in fleet(world, release)}
    assert {name: device.variant for name, device in seen.items() if not device.misfits} == {
        "large": "fp32",
        "narrow": "fp16",
        "slow": "int8",
    }
    assert [text.partition(" MB")[0] for text in seen["tiny"].misfits] == [
        "fp32: the bundle needs 80",
        "fp16: the bundle needs 40",
        "int8: the bundle needs 20",
    ]


def test_a_variant_that_the_gate_left_out_is_given_to_nobody(world: Any) -> None:
    release, made = release_next(world, {**VARIANTS, "int8": {**VARIANTS["int8"], "right": False}})
    assert set(made) == {"fp32", "fp16"}
    go(world)
    assert wanted(world) == {"large": made["fp32"], "narrow": made["fp16"], "slow": None, "tiny": None}
    assert status(world, release).state == "finished"


def test_a_revert_goes_to_the_very_bundle_that_was_committed_there(world: Any) -> None:
    _, one = release_next(world)
    go(world)
    second, two = release_next(world)
    go(world)
    assert wanted(world) == {"large": two["fp32"], "narrow": two["fp16"], "slow": two["int8"], "tiny": None}
    rollouts.operate(
        world.store, status(world, second).id, Event.REVERT, who="ann", reason="drill", now=world.hub.now()
    )
    go(world, 2)
    assert wanted(world) == {"large": one["fp32"], "narrow": one["fp16"], "slow": one["int8"], "tiny": None}
    assert {world.row(name).wanted.kind for name in ("large", "narrow", "slow")} == {"revert"}
    assert status(world, second).state == "reverted"


def test_a_card_that_changes_later_changes_nothing_for_what_runs_and_counts_from_the_next_release(world: Any) -> None:
    _, one = release_next(world)
    go(world)
    grown = {"narrow": {"ram_mb": 4000}, "slow": {"speed_ratio": 1.0}}
    before = {name: world.row(name).assignment_number for name in CLASSES}
    go(world, 2, **grown)
    assert {name: world.row(name).assignment_number for name in CLASSES} == before
    second, two = release_next(world)
    go(world, 6, **grown)
    assert wanted(world) == {"large": two["fp32"], "narrow": two["fp32"], "slow": two["fp32"], "tiny": None}
    rollouts.operate(
        world.store, status(world, second).id, Event.REVERT, who="ann", reason="drill", now=world.hub.now()
    )
    go(world, 2, **grown)
    assert wanted(world) == {"large": one["fp32"], "narrow": one["fp16"], "slow": one["int8"], "tiny": None}


def test_a_class_that_no_variant_fits_today_takes_part_once_its_card_says_otherwise(world: Any) -> None:
    _, made = release_next(world)
    go(world)
    assert wanted(world)["tiny"] is None
    go(world, 2, tiny={"ram_mb": 30})
    assert wanted(world)["tiny"] == made["int8"]


def test_the_variants_of_an_order_are_bundles_of_its_use_case(world: Any) -> None:
    _, made = release_next(world)
    with world.store.read() as connection:
        found = {name: bundles.get(connection, bundle) for name, bundle in made.items()}
        order = orders.need(connection, found["fp32"].order)
    assert {row.use_case for row in found.values()} == {"parts"}
    assert order.returned.variants == {name: made[name] for name in ("fp16", "int8")}


@pytest.mark.parametrize(("made", "base"), [(("int8",), "champion"), (("fp16",), "champion"), (("int8",), "none")])
def test_an_order_names_the_champions_int8_form_where_another_is_to_be_made(
    world: Any, made: tuple[Any, ...], base: str
) -> None:
    """Its ranges of values are kept where they still fit, which makes the update smaller."""
    _, released = release_next(world)
    go(world)
    world.label(5)
    wish = OrderWish(use_case="parts", variants=made, base=base)
    hub = world.hub
    order = orders.create(world.store, wish, who="admin", now=hub.now(), chance=hub.chance, limits=hub.limits)
    wanted = released["int8"] if (made, base) == (("int8",), "champion") else None
    assert order.base_int8 == wanted
    assert order.base == (released["fp32"] if base == "champion" else None)
