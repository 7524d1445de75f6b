"""Calibration: a fair confidence is not accused, a bold one is found, and too little is not judged."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise.measure import calibration, largest_gap, score_sites
from edgewise.wire import NotValid, Prediction


def drawn(count: int, seed: int, *, bold: float = 0.0) -> tuple[list[float], list[bool], list[str]]:
    rng = np.random.default_rng(seed)
    said = rng.uniform(0.5, 1.0, count)
    right = rng.random(count) < said - bold
    return said.tolist(), right.tolist(), [""] * count


@pytest.mark.parametrize("seed", range(3))
def test_a_calibrated_bundle_is_accused_as_seldom_as_the_level_says(seed: int) -> None:
    found = [calibration(*drawn(200, 1000 * seed + number)) for number in range(150)]
    assert np.mean([one.p <= 0.05 for one in found if one is not None]) <= 0.10
    assert all(one is not None and one.ece.value is not None and one.ece.value > 0 for one in found)
    assert np.mean([one.ece.value - one.expected for one in found if one is not None]) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_a_bold_one_is_found(seed: int) -> None:
    found = calibration(*drawn(400, seed, bold=0.15))
    assert found is not None
    assert found.p <= 0.01
    assert found.ece.value == pytest.approx(0.15, abs=0.06)
    assert found.ece.low is not None
    assert found.ece.low > found.expected / 2
    assert sum(count for _, _, count in found.bins) == 400
    assert all(said >= right for said, right, _ in found.bins if said > 0.7) or found.brier > 0


def test_too_few_decisions_say_nothing_and_no_confidence_is_refused() -> None:
    assert calibration(*drawn(49, 0)) is None
    with pytest.raises(NotValid, match="not from 0 to 1"):
        calibration([1.2] * 60, [True] * 60, [""] * 60)
    with pytest.raises(NotValid):
        calibration([0.5], [True, False], [""])


def test_copies_of_one_part_widen_the_interval() -> None:
    said, right, _ = drawn(60, 5, bold=0.1)
    alone = calibration(said * 5, right * 5, [""] * 300)
    together = calibration(said * 5, right * 5, [f"g{number}" for number in range(60)] * 5)
    assert alone is not None
    assert together is not None
    assert together.ece.high - together.ece.low > 1.5 * (alone.ece.high - alone.ece.low)


def predictions(*sites: tuple[str, float]) -> list[Prediction]:
    found = []
    for site, share in sites:
        for number in range(100):
            truth = ("ok", "pit")[number % 2]
            label = truth if number < 100 * share else ("pit", "ok")[number % 2]
            name = f"{hash((site, number)) & (2**128 - 1):032x}"
            found.append(Prediction(sample=name, site=site, group="", truth=truth, label=label, confidence=0.9))
    return found


def test_a_scorecard_has_calibration_where_confidences_came_and_the_gap_of_its_sites() -> None:
    sites, overall = score_sites(predictions(("a", 0.95), ("b", 0.7), ("c", 0.9)), good_labels=["ok"])
    assert overall.calibration is not None
    assert overall.calibration.ece.value == pytest.approx(0.05, abs=0.03)
    gap = largest_gap(sites)
    assert gap is not None
    assert (gap.best, gap.worst) == ("a", "b")
    assert gap.low < 0.25 < gap.high
    bare = [item.model_copy(update={"confidence": None}) for item in predictions(("a", 0.9))]
    assert score_sites(bare, good_labels=["ok"])[1].calibration is None
    assert largest_gap(sites[:1]) is None
