"""Field evaluation: honest intervals from clustered, unevenly drawn audit samples; labels asked for where they help."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgewise.measure import Audited, field_result
from edgewise.wire import NotValid

# Two fleets as shares of all frames and the accuracy there: one that is well, and one of which some sites drifted.
WELL = {"a": (0.3, 0.97), "b": (0.25, 0.95), "c": (0.2, 0.93), "d": (0.15, 0.90), "e": (0.1, 0.75)}
DRIFTED = {**{str(site): (0.1, 0.97) for site in range(7)}, "7": (0.1, 0.12), "8": (0.1, 0.05), "9": (0.1, 0.05)}
FLEET = WELL
FRAMES = 200_000
TRUE = sum(share * accuracy for share, accuracy in FLEET.values())


def drawn(
    rng: np.random.Generator,
    counts: dict[str, int],
    *,
    together: int = 1,
    seed_of: str = "",
    fleet: Mapping[str, tuple[float, float]] = FLEET,
) -> list[Audited]:
    """Labelled samples: so many at each site, in clusters whose frames are mostly right or wrong together."""
    found = []
    for site, count in counts.items():
        accuracy = fleet[site][1]
        for number in range(count):
            if number % together == 0:
                # A part's own accuracy, beta with the site's mean: frames of it resemble each other.
                own = rng.beta(2 * accuracy, 2 * (1 - accuracy)) if together > 1 else accuracy
            probability = float(rng.choice([0.04, 0.05]))
            right = bool(rng.random() < own)
            cluster = f"{seed_of}{site}{number // together}"
            found.append(
                Audited(
                    site=site,
                    cluster=cluster,
                    probability=probability,
                    right=right,
                    truth="pit" if number % 5 == 0 else "ok",
                )
            )
    return found


DECISIONS = {site: int(share * FRAMES) for site, (share, _accuracy) in FLEET.items()}


@pytest.mark.parametrize(("together", "allowed"), [(1, 0.925), (3, 0.91)])
def test_the_interval_holds_the_truth_as_often_as_it_says(together: int, allowed: float) -> None:
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(400):
        counts = {site: int(550 * share) for site, (share, _accuracy) in FLEET.items()}
        found = field_result(drawn(rng, counts, together=together), DECISIONS)
        assert found.accuracy.low is not None
        assert found.accuracy.high is not None
        inside += found.accuracy.low <= TRUE <= found.accuracy.high
    assert inside / 400 >= allowed


@pytest.mark.parametrize("fleet", [WELL, DRIFTED], ids=["well", "drifted"])
def test_two_points_are_reached_with_six_hundred_and_fifty_labels(fleet: dict[str, tuple[float, float]]) -> None:
    """First 20 labels at each site, then a day's worth of what is asked for, until the interval is as wanted."""
    rng = np.random.default_rng(6)
    true = sum(share * accuracy for share, accuracy in fleet.values())
    decisions = {site: int(share * FRAMES) for site, (share, _accuracy) in fleet.items()}
    totals, inside = [], 0
    for _ in range(60):
        seen = drawn(rng, dict.fromkeys(fleet, 20), seed_of="first", fleet=fleet)
        for day in range(60):
            found = field_result(seen, decisions)
            assert found.accuracy.low is not None
            assert found.accuracy.high is not None
            if (found.accuracy.high - found.accuracy.low) / 2 <= 0.02:
                break
            wanted = {site: min(count, 15) for site, count in found.wanted.items()}
            seen += drawn(
                rng, wanted if any(wanted.values()) else dict.fromkeys(fleet, 5), seed_of=f"{day}", fleet=fleet
            )
        totals.append(len(seen))
        inside += found.accuracy.low <= true <= found.accuracy.high
    assert np.mean(totals) <= 650
    assert inside / 60 >= 0.88


def test_a_site_counts_by_its_frames_not_by_its_labels() -> None:
    rng = np.random.default_rng(7)
    lopsided = drawn(rng, {"a": 100, "b": 100, "c": 100, "d": 100, "e": 2000})
    assert field_result(lopsided, DECISIONS).accuracy.value == pytest.approx(TRUE, abs=0.03)
    assert np.mean([one.right for one in lopsided]) < TRUE - 0.1, "the plain share would be far off"


def test_a_rarely_drawn_frame_stands_for_more_others() -> None:
    often = [Audited(site="a", cluster=f"o{n}", probability=0.5, right=True, truth="ok") for n in range(50)]
    rarely = [Audited(site="a", cluster=f"r{n}", probability=0.05, right=False, truth="ok") for n in range(5)]
    found = field_result([*often, *rarely], {"a": 1000})
    assert found.accuracy.value == pytest.approx(0.5)


def test_clusters_make_the_interval_wider_and_ask_for_more_labels() -> None:
    alone = [Audited(site="a", cluster=str(n), probability=0.1, right=n % 10 > 0, truth="ok") for n in range(200)]
    parts = [
        Audited(site="a", cluster=str(n // 10), probability=0.1, right=n // 10 % 10 > 0, truth="ok") for n in range(200)
    ]
    one, other = (field_result(rows, {"a": 1000}) for rows in (alone, parts))
    assert one.accuracy.value == other.accuracy.value == 0.9
    assert other.accuracy.high - other.accuracy.low > 2 * (one.accuracy.high - one.accuracy.low)  # type: ignore[operator]
    assert other.wanted["a"] > 5 * one.wanted["a"]


def test_recall_of_a_label_is_over_its_own_frames() -> None:
    rows = [Audited(site="a", cluster=str(n), probability=0.1, right=n % 2 == 0, truth="pit") for n in range(20)]
    rows += [Audited(site="a", cluster=f"k{n}", probability=0.1, right=True, truth="ok") for n in range(80)]
    found = field_result(rows, {"a": 1000}, labels=("pit", "dent"))
    assert (found.recalls["pit"].value, found.recalls["pit"].n) == (0.5, 20)
    assert found.recalls["dent"].value is None


def test_all_right_is_not_known_to_be_perfect() -> None:
    rows = [Audited(site="a", cluster=str(n), probability=0.1, right=True, truth="ok") for n in range(30)]
    found = field_result(rows, {"a": 1000})
    assert found.accuracy.value == 1.0
    assert found.accuracy.low is not None
    assert found.accuracy.low < 0.93
    assert found.wanted["a"] > 0


def test_a_site_without_labels_is_named_and_asked_for() -> None:
    rows = [Audited(site="a", cluster=str(n), probability=0.1, right=n > 2, truth="ok") for n in range(30)]
    found = field_result(rows, {"a": 1000, "b": 9000})
    assert found.missing == ("b",)
    assert found.wanted["b"] > found.wanted["a"]
    assert "b" not in found.sites


def test_nothing_is_known_of_nothing() -> None:
    found = field_result([], {})
    assert (found.accuracy.value, found.wanted, found.missing) == (None, {}, ())


def test_an_impossible_probability_is_refused() -> None:
    with pytest.raises(NotValid, match=r"inclusion probability is 1\.5"):
        field_result([Audited(site="a", cluster="", probability=1.5, right=True, truth="ok")], {})
