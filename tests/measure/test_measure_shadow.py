"""The shadow stage's word: every way to it, and its error bounds under repeated looks at devices that differ."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.measure import (
    E_MAX,
    Pair,
    better_e_value,
    count_apart_ties,
    disagreement_max,
    judge_shadow,
)
from edgewise.wire import NotValid, Shadow

POLICY = Shadow(devices=50, pairs_min=300, tolerance=0.01, margin=0.01, promote_alpha=0.05)
FIVE_PERCENT = [(200, 10)] * 50
devices = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=20).map(
    lambda rows: [(pairs, min(pairs, apart)) for pairs, apart in rows]
)


def word(by_device: list[tuple[int, int]], wins: int, losses: int, ties: int = 0, policy: Shadow = POLICY) -> str:
    return judge_shadow(policy, by_device, wins=wins, losses=losses, ties=ties, revert_alpha=0.01).word


@pytest.mark.parametrize(
    ("by_device", "wins", "losses", "ties", "expected"),
    [
        ([], 0, 0, 0, "hold"),
        ([(200, 0)] * 50, 0, 0, 0, "promote"),  # they agree
        ([(200, 0)], 0, 0, 0, "hold"),  # too few pairs to say so
        (FIVE_PERCENT, 0, 0, 0, "hold"),
        (FIVE_PERCENT, 10, 12, 3, "hold"),
        (FIVE_PERCENT, 0, 10, 0, "reject"),
        (FIVE_PERCENT, 120, 120, 60, "promote"),
        (FIVE_PERCENT, 40, 10, 0, "promote"),
        ([(200, 0)] * 50, 0, 10, 0, "reject"),  # labels that say worse weigh more than agreement
        ([(2, 1)] * 50, 40, 0, 0, "hold"),  # however good: not before pairs_min
        ([(2, 1)] * 50, 0, 10, 0, "reject"),  # the bound of a reject needs no pairs_min
    ],
)
def test_the_word_follows_from_agreement_first_and_labels_then(
    by_device: list[tuple[int, int]], wins: int, losses: int, ties: int, expected: str
) -> None:
    assert word(by_device, wins, losses, ties) == expected


def test_a_margin_above_the_disagreement_needs_no_label() -> None:
    policy = POLICY.model_copy(update={"margin": 0.1})
    verdict = judge_shadow(policy, FIVE_PERCENT, wins=0, losses=0, revert_alpha=0.01)
    assert (verdict.word, verdict.better_e) == ("promote", E_MAX)
    assert "cannot be worse by 10 %" in verdict.text


def test_the_text_says_what_was_seen_and_what_is_needed() -> None:
    verdict = judge_shadow(POLICY, FIVE_PERCENT, wins=10, losses=12, ties=3, revert_alpha=0.01)
    assert verdict.text == (
        "undecided after 10 wins, 12 losses, 3 ties: e-value for worse 0.462 of 100, for not worse by 1 % 0.409 of "
        "22.2; the two differ on at most 5.97 % of frames (500 of 10000), needs less than 1 % or more labels"
    )


@given(by_device=devices, alpha=st.floats(0.001, 0.2))
def test_the_bound_is_above_what_was_seen_and_tighter_when_more_error_is_allowed(
    by_device: list[tuple[int, int]], alpha: float
) -> None:
    pairs, apart = sum(pair for pair, _ in by_device), sum(item for _, item in by_device)
    bound = disagreement_max(by_device, alpha)
    assert (apart / pairs if pairs else 0) <= bound <= 1
    assert disagreement_max(by_device, min(0.5, 2 * alpha)) <= bound + 1e-8
    assert disagreement_max([*by_device, (0, 0)], alpha) == bound


@given(by_device=devices, seed=st.integers(0, 100))
def test_the_order_of_devices_does_not_matter(by_device: list[tuple[int, int]], seed: int) -> None:
    shuffled = [by_device[index] for index in np.random.default_rng(seed).permutation(len(by_device))]
    assert disagreement_max(shuffled, 0.01) == pytest.approx(disagreement_max(by_device, 0.01))


@given(wins=st.integers(0, 100), losses=st.integers(0, 100), ties=st.integers(0, 100))
def test_a_tie_on_a_disagreement_speaks_for_the_candidate(wins: int, losses: int, ties: int) -> None:
    fewer = better_e_value(wins, losses, 0.01, 0.05, ties=ties)
    assert better_e_value(wins, losses, 0.01, 0.05, ties=ties + 1) > fewer


@pytest.mark.parametrize(("win", "loss"), [(0.3, 0.5), (0.0, 0.2), (0.4, 0.6)])
def test_with_ties_every_bet_stays_fair_at_the_margin(win: float, loss: float) -> None:
    # Exact: the mean over all outcomes of n disagreements whose mean value is exactly -margin / disagreement.
    margin, disagreement = 0.2 * 0.05, 0.05
    assert loss - win == pytest.approx(margin / disagreement)
    for n in range(9):
        mean = 0.0
        for wins, losses in product(range(n + 1), repeat=2):
            ties = n - wins - losses
            if ties >= 0:
                ways = math.factorial(n) / (math.factorial(wins) * math.factorial(losses) * math.factorial(ties))
                chance = ways * win**wins * loss**losses * (1 - win - loss) ** ties
                mean += chance * better_e_value(wins, losses, margin, disagreement, ties=ties)
        assert mean == pytest.approx(1)


def test_only_single_frames_with_two_answers_count_as_ties() -> None:
    def pair(group: str, right: bool, apart: bool) -> Pair:
        return Pair(group=group, candidate_right=right, champion_right=right, apart=apart)

    decided = Pair(group="", candidate_right=True, champion_right=False)
    seen = [pair("", False, True), pair("", True, True), pair("", False, False), pair("part", False, True), decided]
    assert count_apart_ties(seen) == 2


def looked_at(share: np.ndarray, *, looks: int, decisions: int, chance: np.random.Generator) -> np.ndarray:
    """Disagreements of each device at each look, int (looks, devices), `decisions` a device between two looks."""
    return np.cumsum(chance.binomial(decisions, share, size=(looks, len(share))), axis=0)


def bounds(counts: np.ndarray, decisions: int, alpha: float, *, pooled: bool = False) -> list[float]:
    result = []
    for look, row in enumerate(counts, 1):
        by_device = [(decisions * look, int(apart)) for apart in row]
        if pooled:
            by_device = [(decisions * look * len(row), int(row.sum()))]
        result.append(disagreement_max(by_device, alpha))
    return result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("true", [0.01, 0.06])
def test_the_bound_holds_at_all_looks_together(seed: int, true: float) -> None:
    runs, alpha, chance = 400, 0.05, np.random.default_rng(seed)
    wrong = 0
    for _ in range(runs):
        counts = looked_at(np.full(20, true), looks=24, decisions=10, chance=chance)
        wrong += min(bounds(counts, 10, alpha)) < true
    assert wrong / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize("seed", range(3))
def test_devices_that_differ_do_not_break_the_bound_but_pooling_them_does(seed: int) -> None:
    runs, alpha, chance = 300, 0.05, np.random.default_rng(seed)
    wrong = pooled_wrong = 0
    for _ in range(runs):
        share = chance.beta(1.0, 99.0, size=50)  # 1 % in the mean over the fleet, from none to several
        counts = looked_at(share, looks=24, decisions=80, chance=chance)
        wrong += min(bounds(counts, 80, alpha)) < 0.01
        pooled_wrong += min(bounds(counts, 80, alpha, pooled=True)) < 0.01
    assert wrong / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
    assert pooled_wrong / runs > 2 * alpha


@pytest.mark.parametrize("seed", range(3))
def test_a_candidate_worse_by_the_margin_is_promoted_at_most_as_often_as_promised(seed: int) -> None:
    # Devices differ in how often the two disagree; one disagreement in a hundred minutes or so gets a label.
    runs, hours, labels_an_hour, chance = 300, 40, 12, np.random.default_rng(seed)
    promoted = 0
    for _ in range(runs):
        share = chance.beta(5.0, 95.0, size=50)
        counts = looked_at(share, looks=hours, decisions=40, chance=chance)
        drawn = chance.choice([1, -1, 0], p=[0.3, 0.5, 0.2], size=(hours, labels_an_hour))  # 1 point worse at 5 %
        for hour in range(hours):
            seen = drawn[: hour + 1]
            by_device = [(40 * (hour + 1), int(apart)) for apart in counts[hour]]
            said = word(by_device, int((seen == 1).sum()), int((seen == -1).sum()), int((seen == 0).sum()))
            promoted += said == "promote"
            if said != "hold":
                break
    alpha = POLICY.promote_alpha
    assert promoted / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize("seed", range(3))
def test_an_equal_candidate_is_mostly_promoted_with_some_hundred_labels(seed: int) -> None:
    chance, needed = np.random.default_rng(seed), []
    for _ in range(60):
        drawn = chance.choice([1, -1, 0], p=[0.4, 0.4, 0.2], size=600)
        for labels in range(10, 601, 10):
            seen = drawn[:labels]
            counts = (int((seen == 1).sum()), int((seen == -1).sum()), int((seen == 0).sum()))
            if word([(500, 25)] * 50, *counts) == "promote":
                needed.append(labels)
                break
    assert len(needed) >= 55
    assert np.median(needed) <= 250


@pytest.mark.parametrize(
    ("by_device", "alpha"), [([(10, 11)], 0.01), ([(10, -1)], 0.01), ([(10, 1)], 1.0), ([(10,)], 0.01)]
)
def test_counts_that_cannot_be_are_refused(by_device: list[tuple[int, int]], alpha: float) -> None:
    with pytest.raises(NotValid):
        disagreement_max(by_device, alpha)
