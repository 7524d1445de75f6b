"""The selector: honest probabilities, a budget that holds, and an eye for the odd one."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.edge._clusters import clusters
from edgewise.edge.keep import REMEMBERED_MAX, SITE_SAMPLES_MIN, Credit, Seen, is_cold, remember, select
from edgewise.wire import NotValid

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Dice:
    """The part of ``ports.Chance`` that a selection uses, under one seed."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def random(self) -> float:
        return float(self.generator.random())

    def bytes(self, count: int) -> bytes:
        return self.generator.bytes(count)

    def choice_order(self, count: int) -> list[int]:
        return self.generator.permutation(count).tolist()


def period(seed: int, count: int = 40, size_bytes: int = 1000) -> list[Seen]:
    generator = np.random.default_rng(seed)
    return [
        Seen(margin=float(m), size_bytes=size_bytes, embedding=generator.normal(size=8).astype(np.float32))
        for m in generator.random(count)
    ]


def test_every_frame_is_audited_with_the_probability_that_is_logged():
    frames, dice, repeats = period(0), Dice(1), 3000
    hits, estimates = np.zeros(len(frames)), []
    for _ in range(repeats):
        audit = [pick for pick in select(frames, 6_500, dice, audit_share=0.3) if pick.why == "audit"]
        for pick in audit:
            hits[pick.index] += 1
            assert pick.inclusion_probability == pytest.approx(6.5 * 0.3 / 40)
        # Horvitz-Thompson: the drawn margins, each divided by its probability, estimate the period's sum.
        estimates.append(sum(frames[pick.index].margin / pick.inclusion_probability for pick in audit))
    expected = 6.5 * 0.3 / 40
    assert np.abs(hits / repeats - expected).max() < 5 * np.sqrt(expected / repeats)
    truth = sum(frame.margin for frame in frames)
    assert abs(np.mean(estimates) - truth) < 4 * np.std(estimates) / np.sqrt(repeats)


def test_audit_draws_frames_that_were_kept_for_another_reason_too():
    frames = [Seen(margin=0.5, size_bytes=10, kept=index < 20) for index in range(40)]
    dice, drawn = Dice(2), np.zeros(40)
    for _ in range(1500):
        for pick in select(frames, 100, dice, audit_share=0.5):
            drawn[pick.index] += pick.why == "audit"
            assert pick.why == "audit" or not frames[pick.index].kept
    assert drawn[:20].sum() == pytest.approx(drawn[20:].sum(), rel=0.1)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5000), min_size=0, max_size=40),
    budget=st.integers(0, 40_000),
    share=st.floats(0, 1),
    seed=st.integers(0, 10_000),
    cold=st.booleans(),
    embedded=st.booleans(),
)
def test_the_picks_never_cost_more_than_the_budget_and_never_repeat(sizes, budget, share, seed, cold, embedded):
    generator = np.random.default_rng(seed)
    frames = [
        Seen(
            margin=float(generator.random()),
            size_bytes=size,
            embedding=generator.normal(size=4).astype(np.float32) if embedded else None,
        )
        for size in sizes
    ]
    picks = select(frames, budget, Dice(seed), audit_share=share, cold=cold)
    assert sum(frames[pick.index].size_bytes for pick in picks) <= budget
    assert len({pick.index for pick in picks}) == len(picks)
    assert all(0 < pick.inclusion_probability <= 1 for pick in picks)


@pytest.mark.parametrize("seed", range(10))
def test_the_novelty_slot_finds_the_odd_frame_though_its_margin_is_certain(seed):
    frames = period(seed)
    odd = 17
    frames[odd] = Seen(margin=1.0, size_bytes=1000, embedding=np.full(8, 25, np.float32))
    picks = select(frames, 6_000, Dice(seed), audit_share=0.0)
    assert [pick.index for pick in picks if pick.why == "novelty"] == [odd]


def test_what_was_kept_before_is_no_longer_novel():
    frames = period(3)
    frames[5] = Seen(margin=1.0, size_bytes=1000, embedding=np.full(8, 25, np.float32))
    frames[9] = Seen(margin=1.0, size_bytes=1000, embedding=np.full(8, -9, np.float32))
    known = remember(None, [np.full(8, 25, np.float32), np.zeros(8, np.float32)])
    picks = select(frames, 6_000, Dice(3), audit_share=0.0, remembered=known)
    assert [pick.index for pick in picks if pick.why == "novelty"] == [9]


def test_margin_picks_are_uncertain_and_from_different_clusters():
    generator = np.random.default_rng(0)
    frames = []
    for centre in range(4):  # four clusters, the first holds the least certain frames of all
        for _ in range(10):
            point = np.zeros(4, np.float32)
            point[centre] = 10
            embedding = point + generator.normal(scale=0.1, size=4).astype(np.float32)
            margin = 0.1 * generator.random() if centre == 0 else 0.1 + 0.5 * generator.random()
            frames.append(Seen(margin=float(margin), size_bytes=1, embedding=embedding))
    hit = [
        {pick.index // 10 for pick in select(frames, 5, Dice(seed), audit_share=0.0) if pick.why == "margin"}
        for seed in range(20)
    ]
    # The four least certain frames of all come from one cluster; the picks come from more.
    assert {int(index) // 10 for index in np.argsort([frame.margin for frame in frames])[:4]} == {0}
    assert np.mean([len(groups) for groups in hit]) >= 3


def test_without_a_bundle_typical_frames_are_taken_not_outliers():
    generator = np.random.default_rng(4)
    points = [generator.normal(scale=0.2, size=3).astype(np.float32) + 5 * (index % 3) for index in range(30)]
    points[11] = np.full(3, 60, np.float32)
    frames = [Seen(margin=0.0, size_bytes=1, embedding=point) for point in points]
    picks = select(frames, 3, Dice(0), audit_share=0.0, cold=True)
    assert len(picks) == 3
    assert sum(pick.index == 11 for pick in picks) <= 1
    assert picks[0].index != 11


def test_typical_frames_come_from_clusters_of_which_nothing_was_kept():
    generator = np.random.default_rng(5)
    centres = np.array([[0, 0], [20, 0], [0, 20], [20, 20]], np.float32)
    at = [index % 4 if index < 16 else index % 2 * 3 for index in range(40)]  # most are near what is known already
    points = [centres[place] + generator.normal(scale=0.2, size=2).astype(np.float32) for place in at]
    frames = [Seen(margin=index / 40, size_bytes=1, embedding=point) for index, point in enumerate(points)]
    known = np.stack([centres[0], centres[3]])
    for seed in range(10):
        picks = select(frames, 2, Dice(seed), audit_share=0.0, remembered=known, cold=True)
        assert {at[pick.index] for pick in picks} == {1, 2}


def test_typical_frames_fill_the_budget_where_clusters_are_fewer_or_their_first_is_too_large():
    point = np.zeros(3, np.float32)
    frames = [Seen(margin=0.0, size_bytes=9 if index == 0 else 2, embedding=point) for index in range(12)]
    picks = select(frames, 8, Dice(0), audit_share=0.0, cold=True)
    assert len(picks) == 3  # frames of mean size that eight bytes buy
    assert 0 not in {pick.index for pick in picks}


@pytest.mark.parametrize(
    ("sites", "cold"),
    [
        (None, False),  # a bundle that does not say where it has learned is taken to know the site
        ({}, True),
        ({"south": 400}, True),
        ({"north": SITE_SAMPLES_MIN - 1}, True),
        ({"north": SITE_SAMPLES_MIN}, False),
    ],
)
def test_a_bundle_is_cold_where_it_has_learned_too_little(sites, cold):
    assert is_cold(sites, "north") is cold


def test_a_bundle_without_an_embedding_still_gets_its_least_certain_frames():
    frames = [Seen(margin=index / 10, size_bytes=1) for index in range(10)]
    assert [pick.index for pick in select(frames, 3, Dice(0), audit_share=0.0)] == [0, 1, 2]


def test_embeddings_of_two_lengths_are_refused():
    frames = [Seen(margin=0, size_bytes=1, embedding=np.zeros(length, np.float32)) for length in (2, 3)]
    with pytest.raises(NotValid, match=r"one length, seen \[2, 3\]"):
        select(frames, 2, Dice(0))


def test_an_audit_share_outside_its_range_is_refused():
    with pytest.raises(NotValid, match=r"audit_share is 1\.5"):
        select(period(0), 100, Dice(0), audit_share=1.5)


def test_the_memory_of_earlier_picks_stays_small_and_spread_out():
    known = None
    for seed in range(6):
        known = remember(known, [frame.embedding for frame in period(seed)])
    assert known is not None
    assert known.shape == (REMEMBERED_MAX, 8)
    assert remember(known, []) is known
    # Another bundle's embeddings have no common space with the old ones: the old memory goes.
    assert remember(known, [np.zeros(3, np.float32)]).shape == (1, 3)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 4000)), max_size=60))
def test_credit_never_gives_more_than_the_share_and_the_day_allow(steps):
    credit, decided, kept = Credit(share_of_bytes=0.2, bytes_per_day=5000), 0, 0
    for size, wish in steps:
        credit, decided = credit.earn(size), decided + size
        if wish <= credit.room(NOW):
            credit, kept = credit.spend(wish, NOW), kept + wish
    assert kept <= 0.2 * decided + 1e-6
    assert kept <= 5000
    assert credit.room(NOW + timedelta(days=1)) <= 5000


def test_points_that_coincide_make_fewer_clusters_and_no_error():
    same = np.ones((6, 3), np.float32)
    assert set(clusters(same, 4, np.random.default_rng(0)).tolist()) == {0}
