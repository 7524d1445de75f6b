"""Whatever devices and people do, no step of a rollout is wrong: many small fleets, and a campaign of large ones."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from edgewise.hub.rollout import Event, Finding, State
from edgewise.wire import RolloutPolicy, Wave
from rollout_world import World, a_policy

BY_HAND = [Event.PAUSE, Event.RESUME, Event.APPROVE, Event.DENY, Event.REVERT, Event.ABORT]
WORDS = ["promote", "hold", "reject"]
NUMBERS = st.lists(st.integers(0, 5), min_size=20, max_size=20)


def settled(devices: int, *, sites: int = 2) -> World:
    """A fleet on which a first release has finished, so that later ones have something to return to."""
    world = World(devices, sites=sites)
    world.create(RolloutPolicy(waves=(Wave(percent=100),), bake_s=0))
    for _ in range(4):
        world.tick()
        for name in list(world.devices):
            world.contact(name)
    world.tick()
    assert world.rollouts[0].state is State.FINISHED
    return world


class Fleet(RuleBasedStateMachine):
    """A few devices and every kind of trouble, in any order."""

    devices = st.integers(0, 11).map(lambda index: f"d{index:03d}")

    @initialize(numbers=NUMBERS, first=st.booleans())
    def begin(self, numbers: list[int], first: bool) -> None:
        self.world = World(8) if first else settled(8)
        self.create(numbers, approval=False, return_to=0)

    @rule(numbers=NUMBERS, approval=st.booleans(), return_to=st.integers(0, 2))
    def create(self, numbers: list[int], approval: bool, return_to: int) -> None:
        if len(self.world.rollouts) < 8:
            drawn = iter(numbers)
            self.world.create(
                a_policy(lambda choices: choices[next(drawn, 0) % len(choices)]), approval=approval, return_to=return_to
            )

    @rule(seconds=st.sampled_from([1, 61, 400, 4001]))
    def wait(self, seconds: int) -> None:
        self.world.wait(seconds)

    @rule(name=devices, late=st.booleans())
    def contact(self, name: str, late: bool) -> None:
        self.world.contact(name, late=late)

    @rule()
    def contact_all(self) -> None:
        for name in list(self.world.devices):
            self.world.contact(name)

    @rule(name=devices, number=st.integers(1, 8))
    def contradict(self, name: str, number: int) -> None:
        self.world.contradict(name, number)

    @rule(name=devices)
    def fail(self, name: str) -> None:
        self.world.fail(name)

    @rule(name=devices, what=st.sampled_from(["pinned", "conflict", "battery", "line", "puts_off"]))
    def change(self, name: str, what: str) -> None:
        self.world.toggle(name, what)

    @rule(name=devices)
    def leave(self, name: str) -> None:
        self.world.leave(name)

    @rule()
    def join(self) -> None:
        self.world.join()

    @rule(wins=st.integers(0, 4), losses=st.integers(0, 4))
    def label(self, wins: int, losses: int) -> None:
        self.world.label(wins, losses)

    @rule(shadow=st.sampled_from(WORDS), backstop=st.sampled_from(["hold", "hold", "reject"]))
    def find(self, shadow: Any, backstop: Any) -> None:
        self.world.find(shadow=Finding(word=shadow, text="seen"), backstop=Finding(word=backstop, text="seen"))

    @rule(which=st.integers(0, 2))
    def withdraw(self, which: int) -> None:
        self.world.withdraw(which)

    @rule(event=st.sampled_from(BY_HAND), which=st.integers(0, 1))
    def operate(self, event: Event, which: int) -> None:
        self.world.operate(event, which)

    @rule()
    def tick(self) -> None:
        self.world.tick()


TestWhateverHappens = Fleet.TestCase
TestWhateverHappens.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def a_story(seed: int, *, devices: int, rollouts: int) -> World:
    """A fleet through many rollouts, one seed: mostly devices obey, and everything else happens now and then."""
    rng = random.Random(seed)
    world = settled(devices, sites=5)
    for _ in range(rollouts):
        world.create(a_policy(rng.choice), approval=rng.random() < 0.1, return_to=rng.choice([0, 0, 0, 1]))
        good = rng.random() < 0.7
        for _ in range(rng.randint(5, 20 + devices)):
            _one_hour(world, rng, good=good)
            if world.rollouts[0].state in (State.FINISHED, State.REVERTED, State.ABORTED) and rng.random() < 0.5:
                break
    return world


def _one_hour(world: World, rng: random.Random, *, good: bool) -> None:
    names = list(world.devices)
    fails = (0.02 if good else 0.5) / len(names)
    for name in names:
        chance = rng.random()
        if chance < 0.85:
            world.contact(name, late=chance < 0.05)
        elif chance < 0.86:
            world.contradict(name, rng.randint(1, len(world.rollouts)))
        elif chance < 0.86 + fails:
            world.fail(name)
        elif chance > 1 - 0.1 / len(names):
            world.toggle(name, rng.choice(["pinned", "conflict", "battery", "line", "puts_off"]))
    if rng.random() < 0.1:
        world.leave(rng.choice(names))
        world.join()
    if rng.random() < 0.3:
        world.label(rng.randint(0, 3), rng.randint(0, 2 if good else 6))
    if rng.random() < 0.3:
        word = rng.choice(["promote", "hold", "promote" if good else "reject"])
        world.find(shadow=Finding(word=word, text="seen"))  # type: ignore[arg-type]
    if rng.random() < 0.002:
        world.find(backstop=Finding(word="reject", text="seen"))
    if rng.random() < 0.004:
        world.withdraw(rng.choice([0, 0, 1, 2]))
    if rng.random() < 0.02:
        world.operate(rng.choice(BY_HAND), rng.choice([0, 0, 1]))
    if world.rollouts[0].asks and rng.random() < 0.5:
        world.operate(rng.choice([Event.RESUME, Event.APPROVE]))
    world.tick()
    world.wait(rng.choice([30, 61, 61, 400, 3600]))


@pytest.mark.parametrize("seed", range(4))
def test_a_fleet_goes_through_many_rollouts_without_a_wrong_step(seed: int) -> None:
    world = a_story(seed, devices=24, rollouts=12)
    assert world.steps_taken > 100


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_a_thousand_rollouts_of_two_hundred_devices() -> None:
    ends: dict[State, int] = {}
    steps = 0
    for seed in range(50):
        world = a_story(seed, devices=200, rollouts=20)
        steps += world.steps_taken
        for rollout in world.rollouts:
            ends[rollout.state] = ends.get(rollout.state, 0) + 1
    print(f"{sum(ends.values())} rollouts, {steps} steps, ends {ends}")  # noqa: T201
    assert sum(ends.values()) >= 1000
    assert set(ends) >= {State.FINISHED, State.REVERTED, State.SUPERSEDED, State.ABORTED}
