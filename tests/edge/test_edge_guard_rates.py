"""How often the guard is wrong, over many seeds: the figures of docs/guard.md. Slow, so run by `make campaign` only."""

from __future__ import annotations

import math
import random
import sys

import pytest

from edgewise.edge._guard import Failures, GuardLimits, Lateness, Opinion
from edgewise.wire import Decision

LIMITS = GuardLimits()
SEEDS = 200
pytestmark = [pytest.mark.campaign, pytest.mark.timeout(1800)]


def gap(dice: random.Random, share: float) -> int:
    """Misses before the next hit."""
    return int(math.log(1 - dice.random()) / math.log(1 - share))


@pytest.mark.parametrize("share", [0.005, 0.01])
def test_failing_share_within_its_bound_is_never_a_reason_in_a_million_decisions(share):
    false = 0
    for seed in range(SEEDS):
        dice, failures, seen = random.Random(seed), Failures(LIMITS, in_a_row_max=10**9), 0
        while seen < 1_000_000:
            fine = gap(dice, share)
            failures._fine += fine
            failures.failed("odd")
            seen += fine + 1
            if failures.complaint():
                false += 1
                break
    assert false <= SEEDS * 1_000_000 / LIMITS.failing_mean_count + 1


def test_a_failing_share_of_a_tenth_is_found_within_hundreds_of_decisions():
    delays = []
    for seed in range(SEEDS):
        dice, failures, seen = random.Random(seed), Failures(LIMITS, in_a_row_max=10**9), 0
        failures._fine = 1_000_000
        while not failures.complaint():
            fine = gap(dice, 0.1)
            failures._fine += fine
            failures.failed("odd")
            seen += fine + 1
        delays.append(seen)
    delays.sort()
    sys.stdout.write(f"failing share 0.1: median {delays[SEEDS // 2]}, p95 {delays[SEEDS * 95 // 100]} decisions\n")
    assert delays[SEEDS * 95 // 100] < 600


def test_late_blocks_at_their_bound_are_not_remarked_on_in_a_month():
    false = 0
    for seed in range(20):
        dice, late = random.Random(seed), Lateness(LIMITS, ms_max=100, count_min=20)
        blocks = late._blocks
        for _ in range(30 * 86_400 // 5):
            blocks.add(dice.random() < LIMITS.late_share_max)
            if blocks.alarm:
                false += 1
                break
    assert false == 0


def stream(opinion: Opinion, dice: random.Random, frames: int, says_otherwise: float) -> int | None:
    """Frames until a complaint, of a bundle that always says one label while the other contradicts so often."""
    for number in range(frames):
        mine = Decision(label="good", confidence=round(dice.random(), 6), margin=0.5, bundle="b" * 64)
        opinion.decided([mine], [0.0])
        if opinion.frames_left > 0:
            other = "other" if dice.random() < says_otherwise else "good"
            opinion.compared(mine, mine.model_copy(update={"label": other, "confidence": round(dice.random(), 6)}))
            if opinion.complaint("x"):
                return number + 1
    return None


@pytest.mark.parametrize("says_otherwise", [0.0, 0.03, 0.34, 0.45])
def test_a_bundle_that_the_former_contradicts_on_less_than_half_stays(says_otherwise):
    false = sum(
        stream(Opinion(LIMITS, ms_max=100), random.Random(seed), 20_000, says_otherwise) is not None
        for seed in range(SEEDS // 2)
    )
    assert false == 0


@pytest.mark.parametrize(("says_otherwise", "most"), [(0.67, 4200), (0.9, 700), (1.0, 400)])
def test_a_collapsed_bundle_is_found(says_otherwise, most):
    delays = sorted(
        stream(Opinion(LIMITS, ms_max=100), random.Random(seed), 100_000, says_otherwise) or 100_000
        for seed in range(SEEDS // 2)
    )
    sys.stdout.write(
        f"contradicted on {says_otherwise}: median {delays[len(delays) // 2]}, p95 {delays[len(delays) * 95 // 100]}\n"
    )
    assert delays[len(delays) * 95 // 100] <= most
