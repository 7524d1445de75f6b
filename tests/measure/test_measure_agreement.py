"""Agreement of people against published values, and what cannot be told."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise.measure import agreement, enough


def said(*people: str) -> dict[str, dict[str, str]]:
    """One string a person, one character a sample, `*` where they said nothing."""
    return {
        f"{at:03}": {chr(97 + who): word for who, word in enumerate(words) if word != "*"}
        for at, words in enumerate(zip(*people, strict=True))
    }


# Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011: examples A, B and C, nominal data.
@pytest.mark.parametrize(
    ("people", "alpha"),
    [
        (("0100000010", "1110010000"), 0.095),
        (("aabbdcccedda", "babbbccceddd"), 0.692),
        (("123321412***", "1233224125*3", "*3332342251*", "12332441251*"), 0.743),
    ],
)
def test_alpha_is_what_its_author_works_out(people, alpha):
    assert agreement(said(*people)).alpha.value == pytest.approx(alpha, abs=0.0006)


def test_kappa_is_what_its_formula_gives_by_hand():
    # 20 yes-yes, 15 no-no, 5 yes-no, 10 no-yes: observed 0.7, by chance 0.5 × 0.6 + 0.5 × 0.4 = 0.5.
    found = agreement(said("y" * 25 + "n" * 25, "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15))
    (pair,) = found.pairs
    assert (pair.people, pair.same, pair.kappa.n) == (("a", "b"), 35, 50)
    assert pair.kappa.value == pytest.approx(0.4)
    assert pair.kappa.low < 0.4 < pair.kappa.high


def test_the_label_that_people_confuse_stands_out():
    found = agreement(said("g" * 30 + "p" * 20 + "s" * 20, "g" * 30 + "ps" * 10 + "s" * 20))
    assert found.labels["g"].value == pytest.approx(1)
    assert found.labels["p"].value < found.alpha.value


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(4)
    truth = 1 - 0.3 * 2 / 3 / (2 / 3)  # of three labels, one of two people answers by chance in 30 of 100
    inside = 0
    for _ in range(60):
        ours = rng.integers(0, 3, 80)
        theirs = np.where(rng.random(80) < 0.3, rng.integers(0, 3, 80), ours)
        alpha = agreement(said("".join(map(str, ours)), "".join(map(str, theirs)))).alpha
        inside += alpha.low <= truth <= alpha.high
    assert inside >= 52


def test_what_cannot_be_told_is_said():
    assert agreement({}).alpha.value is None
    few = agreement(said("ab", "ab"))
    assert (few.alpha.value, few.alpha.low) == (1, None)
    assert "10 or more are needed" in few.text
    same = agreement(said("g" * 20, "g" * 20))
    assert same.alpha.value is None
    assert "always used one label" in same.text
    assert same.pairs[0].kappa.value is None


def test_one_persons_word_counts_for_nothing_alone():
    assert agreement(said("gggg", "****")).people == 0


def curve(n: float) -> float:
    return 0.9 - 0.8 * n**-0.5


@pytest.mark.parametrize(
    ("sizes", "margin", "word"),
    [((20, 40, 80, 160), 0.005, "not yet"), ((200, 400, 800, 1600), 0.02, "enough"), ((20, 20, 20, 40), 0.01, None)],
)
def test_whether_it_is_enough_hangs_on_what_twice_as_many_would_bring(sizes, margin, word):
    found = enough(sizes, [curve(n) for n in sizes], margin=margin)
    assert found.word == (word or "cannot tell")
    assert (found.gain is None) == (word is None)


def test_noise_makes_it_impossible_to_tell_and_that_is_said():
    found = enough([20, 40, 80, 160], [0.5, 0.9, 0.6, 0.8], margin=0.02)
    assert found.word == "cannot tell"
    assert found.gain.low <= 0.02 <= found.gain.high
    assert "cannot be told yet" in found.text


def test_a_target_is_told_in_labels_or_said_to_be_out_of_reach():
    sizes = [20, 40, 80, 160, 320]
    scores = [curve(n) for n in sizes]
    assert enough(sizes, scores, margin=0.02, target=0.87).need.middle == pytest.approx(711, rel=0.05)
    assert "cannot be told from these rounds" in enough(sizes, scores, margin=0.02, target=0.95).text
