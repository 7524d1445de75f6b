"""Did it help: the word follows the surest evidence, and is held back where there is too little."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgewise.measure import did_it_help
from edgewise.wire import NotValid

NOTHING: dict[str, Any] = {"audit_old": {}, "audit_new": {}, "overrides_old": {}, "overrides_new": {}}


@pytest.mark.parametrize(
    ("wins", "losses", "word"),
    [
        (0, 0, "cannot tell"),
        (9, 0, "cannot tell"),
        (10, 0, "helped"),
        (0, 10, "hurt"),
        (30, 4, "helped"),
        (4, 30, "hurt"),
        (20, 18, "no difference seen"),
    ],
)
def test_frames_that_both_decided_decide_once_there_are_enough_of_them(wins: int, losses: int, word: str) -> None:
    assert did_it_help(wins=wins, losses=losses, **NOTHING).word == word


def test_audit_samples_decide_only_where_too_few_frames_were_decided_by_both() -> None:
    audit = {"audit_old": {"a": (50, 100)}, "audit_new": {"a": (90, 100)}}
    assert did_it_help(wins=0, losses=0, **(NOTHING | audit)).word == "helped"
    assert did_it_help(wins=2, losses=30, **(NOTHING | audit)).word == "hurt"
    assert did_it_help(wins=0, losses=3, **(NOTHING | audit)).word == "helped"


def test_sites_are_compared_with_themselves() -> None:
    """Both sites got worse; a sum over the sites would say better, as most new labels are of the easy one."""
    old = {"easy": (95, 100), "hard": (50, 400)}
    new = {"easy": (320, 400), "hard": (2, 100)}
    found = did_it_help(wins=0, losses=0, **(NOTHING | {"audit_old": old, "audit_new": new}))
    assert found.word == "hurt"
    assert found.audit is not None
    assert found.audit.value == pytest.approx(0.8 * (0.80 - 0.95) + 0.2 * (0.02 - 0.125))


def test_overrides_are_told_and_never_decide() -> None:
    overrides = {
        "overrides_old": {f"d{number}": (50 + number, 1000) for number in range(6)},
        "overrides_new": {f"d{number}": (5 + number, 1000) for number in range(6)},
    }
    found = did_it_help(wins=0, losses=0, **(NOTHING | overrides))
    assert found.word == "cannot tell"
    assert found.overrides is not None
    assert found.overrides.value == pytest.approx(0.045)
    assert "over 6 devices" in found.text


@pytest.mark.parametrize("seed", range(3))
def test_an_equal_release_is_called_better_or_worse_at_most_as_often_as_the_level_allows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = []
    for _ in range(600):
        right = rng.binomial(60, [0.9, 0.7], size=(2, 2))
        sides = [{name: (int(count), 60) for name, count in zip("ab", row, strict=True)} for row in right]
        audit = {"audit_old": sides[0], "audit_new": sides[1]}
        words.append(did_it_help(wins=0, losses=0, **(NOTHING | audit)).word)
    assert words.count("no difference seen") >= 0.93 * len(words)
    won = rng.binomial(40, 0.5, size=600)
    by_coin = [did_it_help(wins=int(wins), losses=40 - int(wins), **NOTHING).word for wins in won]
    assert by_coin.count("no difference seen") >= 0.93 * len(by_coin)


@pytest.mark.parametrize("bad", [{"wins": -1}, {"audit_new": {"a": (3, 2)}, "audit_old": {"a": (1, 2)}}])
def test_counts_that_cannot_be_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(NotValid):
        did_it_help(**({"wins": 0, "losses": 0} | NOTHING | bad))
