"""The e-process (invariant 10): its false-alarm bound holds under any peeking, and it is strong enough to be useful."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.measure import E_MAX, Pair, better_e_value, count_pairs, worse_e_value
from edgewise.wire import NotValid

LENGTH = 300  # informative pairs a run
counts = st.integers(0, 200)


@cache
def worse_table() -> np.ndarray:
    """E at every (wins, losses) with at most LENGTH pairs, float64 (LENGTH + 1, LENGTH + 1)."""
    table = np.zeros((LENGTH + 1, LENGTH + 1))
    for wins in range(LENGTH + 1):
        for losses in range(LENGTH + 1 - wins):
            table[wins, losses] = worse_e_value(wins, losses)
    return table


def highest_e(win_share: float, *, runs: int, seed: int) -> np.ndarray:
    """The highest E of each run, looked at after every single pair; float64 (runs,)."""
    won = np.random.default_rng(seed).random((runs, LENGTH)) < win_share
    wins = np.cumsum(won, axis=1)
    losses = np.arange(1, LENGTH + 1) - wins
    return np.asarray(worse_table()[wins, losses].max(axis=1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.01])
def test_an_equal_candidate_is_reverted_at_most_as_often_as_promised_however_often_one_looks(
    seed: int, alpha: float
) -> None:
    runs = 4000
    false = (highest_e(0.5, runs=runs, seed=seed) >= 1 / alpha).mean()
    assert false <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
    assert false > 0  # the test looks often enough to see an error at all


@pytest.mark.parametrize("seed", range(4))
def test_a_better_candidate_is_never_reverted(seed: int) -> None:
    assert (highest_e(0.7, runs=2000, seed=seed) < 100).all()


def test_every_bet_is_fair_so_the_mean_of_e_stays_one() -> None:
    # Exact: the mean of E over all outcomes of n fair coins, for every n up to 40.
    for n in range(41):
        mean = sum(math.comb(n, wins) * 0.5**n * worse_e_value(wins, n - wins) for wins in range(n + 1))
        assert mean == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_a_candidate_two_points_worse_is_found_with_about_a_hundred_labels(seed: int) -> None:
    # Disagreement 6 %, two points worse: two in three informative pairs are losses; a fifth of the labels are ties.
    disagreement, loss, ties = 0.06, 0.02, 0.2
    win_share = (1 - loss / disagreement) / 2
    chance = np.random.default_rng(seed)
    labels = []
    for _ in range(200):
        informative = chance.random(LENGTH) >= ties
        won = chance.random(LENGTH) < win_share
        wins, losses = np.cumsum(informative & won), np.cumsum(informative & ~won)
        found = np.flatnonzero(worse_table()[wins, losses] >= 100)
        labels.append(int(found[0]) + 1 if len(found) else LENGTH + 1)
    assert 83 <= np.median(labels) <= 150
    assert np.mean(np.array(labels) <= LENGTH) >= 0.9


def test_a_confidently_wrong_candidate_is_found_within_ten_pairs() -> None:
    assert worse_e_value(0, 9) >= 100 > worse_e_value(0, 8)


@given(won=st.lists(st.booleans(), max_size=60), seed=st.integers(0, 1000))
def test_the_order_in_which_labels_come_in_does_not_matter(won: list[bool], seed: int) -> None:
    pairs = [Pair(group="", candidate_right=item, champion_right=not item) for item in won]
    shuffled = [pairs[index] for index in np.random.default_rng(seed).permutation(len(pairs))]
    assert count_pairs(pairs) == count_pairs(shuffled) == (sum(won), len(won) - sum(won), 0)


@given(wins=counts, losses=counts)
def test_each_loss_speaks_against_the_candidate_unless_it_is_far_ahead(wins: int, losses: int) -> None:
    if wins <= losses:
        assert worse_e_value(wins, losses + 1) > worse_e_value(wins, losses)
    assert worse_e_value(wins + 1, losses) < worse_e_value(wins, losses)


@given(wins=counts, losses=counts)
def test_without_a_margin_the_promotion_test_is_the_mirror(wins: int, losses: int) -> None:
    mirrored = better_e_value(wins, losses, margin=0.0, disagreement=0.1)
    assert mirrored == pytest.approx(worse_e_value(losses, wins))


@pytest.mark.parametrize("seed", range(3))
def test_a_candidate_worse_by_the_margin_is_promoted_at_most_as_often_as_promised(seed: int) -> None:
    margin, disagreement, alpha, runs, length = 0.01, 0.06, 0.05, 1000, 100
    win_share = 0.5 - margin / (2 * disagreement)
    table = {
        (wins, n - wins): better_e_value(wins, n - wins, margin, disagreement)
        for n in range(1, length + 1)
        for wins in range(n + 1)
    }
    wins = np.cumsum(np.random.default_rng(seed).random((runs, length)) < win_share, axis=1)
    promoted = [any(table[int(w), n - int(w)] >= 1 / alpha for n, w in enumerate(row, 1)) for row in wins]
    assert np.mean(promoted) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


def test_a_clearly_better_candidate_is_promoted() -> None:
    assert better_e_value(40, 10, margin=0.01, disagreement=0.06) > 100


def test_less_disagreement_than_margin_needs_no_label() -> None:
    assert better_e_value(0, 0, margin=0.02, disagreement=0.01) == E_MAX
    assert better_e_value(0, 5, margin=0.02, disagreement=0.02) == 1.0
    assert better_e_value(1, 5, margin=0.02, disagreement=0.02) == E_MAX
    assert better_e_value(0, 0, margin=0.0, disagreement=0.0) == 1.0


def test_huge_counts_stay_finite() -> None:
    assert worse_e_value(0, 1_000_000) == E_MAX
    assert 0 <= worse_e_value(1_000_000, 0) < 1e-3
    assert math.isfinite(worse_e_value(500_000, 500_000))


@pytest.mark.parametrize(
    "call",
    [
        lambda: worse_e_value(-1, 0),
        lambda: better_e_value(0, -1, 0.01, 0.1),
        lambda: better_e_value(0, 0, 1.5, 0.1),
        lambda: better_e_value(0, 0, 0.1, -0.1),
    ],
)
def test_counts_and_shares_out_of_range_are_refused(call: object) -> None:
    with pytest.raises(NotValid):
        call()  # type: ignore[operator]


def test_a_group_counts_once_and_its_first_word_stands() -> None:
    def pair(group: str, ours: bool, theirs: bool) -> Pair:
        return Pair(group=group, candidate_right=ours, champion_right=theirs)

    seen = [pair("a", True, True), pair("a", False, True), pair("a", True, False), pair("a", True, False)]
    assert count_pairs(seen) == (0, 1, 0)
    assert count_pairs([*seen, pair("b", True, True), pair("b", False, False), pair("", True, True)]) == (0, 1, 2)


@pytest.mark.parametrize("seed", range(3))
def test_repeated_frames_of_one_part_do_not_break_the_bound(seed: int) -> None:
    # Every part is seen five times with the same outcome: counting frames would err far over alpha, counting parts not.
    runs, parts, alpha = 2000, 60, 0.05
    won = np.random.default_rng(seed).random((runs, parts)) < 0.5
    by_part, by_frame = [], []
    for row in won:
        frames = [
            Pair(group=str(part), candidate_right=w, champion_right=not w)
            for part, w in enumerate(row.tolist())
            for _ in range(5)
        ]
        wins, losses, _ = count_pairs(frames)
        assert (wins, losses) == (row.sum(), parts - row.sum())
        tally = np.cumsum(row)
        n = np.arange(1, parts + 1)
        by_part.append(worse_table()[tally, n - tally].max() >= 1 / alpha)
        by_frame.append(worse_table()[5 * tally, 5 * (n - tally)].max() >= 1 / alpha)
    assert np.mean(by_part) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
    assert np.mean(by_frame) > 2 * alpha
