"""The logged inclusion probabilities are exact under budgets: an estimate from audit samples alone is unbiased."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from edgewise.edge.keep import Credit, Seen, select
from edgewise.ports import SeededChance

NOW = datetime(2026, 3, 1, tzinfo=UTC)
# Two-sided normal quantile for one false alarm in about a million seeds: the test is seeded, so it does not flicker.
Z = 5.0


def period(random: np.random.Generator, count: int, *, sizes: str, embeddings: bool) -> tuple[list[Seen], np.ndarray]:
    """Frames whose errors go with small margins and large sizes: what a careless selector would be biased by."""
    margins = random.random(count)
    size_bytes = {
        "equal": np.full(count, 2000),
        "spread": random.integers(200, 6000, count),
        "heavy": np.where(random.random(count) < 0.1, 20_000, 500),
    }[sizes]
    wrong = (random.random(count) < 0.05 + 0.5 * (1 - margins) * (size_bytes > np.median(size_bytes))).astype(float)
    points = random.normal(size=(count, 8)).astype(np.float32) if embeddings else None
    frames = [
        Seen(
            margin=float(margins[index]),
            size_bytes=int(size_bytes[index]),
            embedding=None if points is None else points[index],
            kept=bool(random.random() < 0.05),  # kept already, for a disagreement
        )
        for index in range(count)
    ]
    return frames, wrong


def can_draw(frames: list[Seen], budget: int) -> bool:
    """Whether the budget holds the largest frame. With less no audit sample is drawn, and none is spoken of."""
    return budget >= max(frame.size_bytes for frame in frames)


@pytest.mark.parametrize("sizes", ["equal", "spread", "heavy"])
@pytest.mark.parametrize("budget_share", [0.02, 0.15, 0.6])
def test_the_horvitz_thompson_estimate_of_the_error_count_is_unbiased(sizes, budget_share):
    """Sum of wrong/probability over audit picks estimates the errors of the whole period, whatever the budget.

    Source: Horvitz, Thompson, A generalization of sampling without replacement from a finite universe, 1952.
    """
    random, chance, draws = np.random.default_rng(17), SeededChance(5), 1500
    frames, wrong = period(random, 64, sizes=sizes, embeddings=False)
    budget = int(budget_share * sum(frame.size_bytes for frame in frames))
    estimates = np.zeros(draws)
    for draw in range(draws):
        picks = select(frames, budget, chance, audit_share=0.3)
        estimates[draw] = sum(wrong[one.index] / one.inclusion_probability for one in picks if one.why == "audit")
    if not can_draw(frames, budget):
        assert not estimates.any()
        return
    error = estimates.std(ddof=1) / np.sqrt(draws)
    assert abs(estimates.mean() - wrong.sum()) <= Z * max(error, 1e-12), (estimates.mean(), wrong.sum(), error)


def test_each_frame_is_drawn_as_often_as_is_logged():
    """Not only on the mean: each frame, the large and the certain ones too, has the probability that it logs."""
    random, chance, draws = np.random.default_rng(3), SeededChance(9), 4000
    frames, _ = period(random, 32, sizes="heavy", embeddings=False)
    budget = int(0.8 * sum(frame.size_bytes for frame in frames))
    drawn, logged = np.zeros(len(frames)), set()
    for _ in range(draws):
        for pick in select(frames, budget, chance, audit_share=0.4):
            if pick.why == "audit":
                drawn[pick.index] += 1
                logged.add(pick.inclusion_probability)
    (probability,) = logged
    spread = np.sqrt(draws * probability * (1 - probability))
    assert (np.abs(drawn - draws * probability) <= Z * spread).all()


def test_a_weeks_estimate_over_changing_budgets_lies_in_its_interval():
    """Many periods under one running credit: the audit shrinks and grows with it, and the estimate stays honest."""
    random, inside, runs, misses = np.random.default_rng(23), 0, 60, []
    for run in range(runs):
        chance = SeededChance(run)
        credit = Credit(share_of_bytes=0.2, bytes_per_day=400_000)
        truth = estimate = variance = 0.0
        now = NOW
        for _ in range(40):
            frames, wrong = period(random, 48, sizes="spread", embeddings=False)
            credit = credit.earn(sum(frame.size_bytes for frame in frames))
            if not can_draw(frames, credit.room(now)):
                continue  # before the draw: the period is outside of what the audit speaks of
            truth += wrong.sum()
            picks = select(frames, credit.room(now), chance, audit_share=0.4)
            credit = credit.spend(sum(frames[one.index].size_bytes for one in picks), now)
            audit = [one for one in picks if one.why == "audit"]
            now += timedelta(hours=1)
            values = np.array([wrong[one.index] / one.inclusion_probability for one in audit])
            estimate += values.sum()
            variance += (values**2).sum()  # conservative: draws of different periods are independent
        misses.append(estimate - truth)
        inside += abs(estimate - truth) <= 1.96 * np.sqrt(variance)
    assert inside >= 0.85 * runs, inside  # 0.95, less what a normal interval of few errors misses, less chance
    assert abs(np.mean(misses)) <= Z * np.std(misses, ddof=1) / np.sqrt(runs)


@pytest.mark.parametrize("share_of_bytes", [0.02, 0.1])
def test_disagreements_that_are_thinned_by_the_budget_stand_for_all_that_were_found(share_of_bytes):
    """Large and small ones alike, early and late ones alike: each kept one counts for one over its chance."""
    estimate, found, kept_bytes, seen_bytes, kept = Counter(), Counter(), 0, 0, Counter()
    for seed in range(400):
        dice, now = random.Random(seed), NOW
        credit = Credit(share_of_bytes=share_of_bytes, bytes_per_day=10**9)
        for number in range(600):
            size = 5000 if dice.random() < 0.3 else 500
            credit, seen_bytes = credit.earn(size).owed(), seen_bytes + size
            if dice.random() >= 0.25:
                continue
            kind = ("large" if size == 5000 else "small", "early" if number < 100 else "late")
            found[kind] += 1
            chance = credit.chance(overdraft=64 * 1850 * share_of_bytes)
            if dice.random() < chance:
                credit, kept_bytes = credit.spend(size, now), kept_bytes + size
                estimate[kind] += 1 / chance
                kept[kind] += 1
    assert kept_bytes <= share_of_bytes * seen_bytes + 400 * (2.2 * 64 * 1850 * share_of_bytes + 5000)
    assert sum(kept.values()) < 0.8 * sum(found.values()), "the budget was short"
    covered = {kind: estimate[kind] / count for kind, count in found.items()}
    if share_of_bytes == 0.1:
        assert covered == pytest.approx(dict.fromkeys(found, 1.0), rel=0.08)
        return
    # One large frame costs more than a period of the small budget earns: for a while after it nothing is kept. That
    # hangs on time, not on what a frame is: of what was found at one time large and small are kept alike.
    for when in ("early", "late"):
        assert covered["large", when] == pytest.approx(covered["small", when], rel=0.1), covered
