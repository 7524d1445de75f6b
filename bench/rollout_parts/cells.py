"""The cells of the benchmark: each a candidate, a label budget and a stage, run many times, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from rollout_parts import peers
from rollout_parts.ours import POLICY, Labels, Rolled, Shadowed, shadow, waves
from rollout_parts.simulated import Case, draw

from edgewise.measure import wilson

CASES = {
    "equal": Case(name="equal"),
    "one": Case(name="1 point worse", loss=0.01),
    "two": Case(name="2 points worse", loss=0.02),
    "five": Case(name="5 points worse", loss=0.05),
    "some": Case(name="10 points worse on 20 % of devices", loss=0.02, on=0.2),
    "better": Case(name="1 point better", loss=-0.01),
    "one, apart": Case(name="1 point worse, differs on 8 %", loss=0.01, differ=0.08),
    "two, apart": Case(name="2 points worse, differs on 8 %", loss=0.02, differ=0.08),
    "mixed": Case(name="equal in the mean, 2 points up or down by device", moves=0.02),
}
STRICT = ("equal", "one")  # of these errors are counted, so they are run more often


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of runs with its 95 % interval."""

    count: int
    runs: int

    @property
    def value(self) -> float:
        return self.count / self.runs

    def __str__(self) -> str:
        found = wilson(self.count, self.runs)
        return f"{100 * self.value:.3g} % ({100 * (found.low or 0):.3g}–{100 * (found.high or 0):.3g})"


@dataclass(frozen=True, kw_only=True)
class Number:
    """A mean or a median with its 95 % interval; infinite where most runs never got there."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "–" if np.isinf(self.value) else f"{self.value:.3g} ({self.low:.3g}–{self.high:.3g})"


def share(marks: Sequence[bool]) -> Share:
    return Share(count=int(np.sum(marks)), runs=len(marks))


def median(values: Sequence[float]) -> Number:
    """The interval is that between two ordered values, by the binomial distribution of how many are below."""
    ordered, n = np.sort(np.asarray(values, dtype=float)), len(values)
    if not n:
        return Number(value=np.inf, low=np.inf, high=np.inf)
    reach = 0.98 * np.sqrt(n)
    low, high = max(0, int(n / 2 - reach)), min(n - 1, int(np.ceil(n / 2 + reach)))
    middle = ordered[(n - 1) // 2] if n % 2 or np.isinf(ordered[n // 2]) else np.median(ordered)
    return Number(value=float(middle), low=float(ordered[low]), high=float(ordered[high]))


def mean(values: Sequence[float]) -> Number:
    middle, reach = float(np.mean(values)), 1.96 * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return Number(value=middle, low=middle - reach, high=middle + reach)


def chances(seed: int, cell: str, runs: int) -> list[np.random.Generator]:
    """A stream for each run, of its own for each cell."""
    return [np.random.default_rng([seed, crc32(cell.encode()), run]) for run in range(runs)]


def in_shadow(case: str, a_day: int, *, seed: int, runs: int) -> list[Shadowed]:
    return [
        shadow(draw(CASES[case], chance), POLICY, chance, Labels(a_day, chance))
        for chance in chances(seed, f"shadow {case} {a_day}", runs)
    ]


def in_waves(case: str, a_day: int, *, seed: int, runs: int) -> list[Rolled]:
    """Without a shadow stage; with no label at all where `a_day` is 0."""
    return [
        waves(draw(CASES[case], chance), POLICY, chance, Labels(a_day, chance) if a_day else None)
        for chance in chances(seed, f"waves {case} {a_day}", runs)
    ]


def whole(case: str, a_day: int, *, seed: int, runs: int) -> list[tuple[Shadowed, Rolled | None]]:
    """Shadow and then, if it was promoted, the waves, with the same labels and one e-process through both."""
    result: list[tuple[Shadowed, Rolled | None]] = []
    for chance in chances(seed, f"whole {case} {a_day}", runs):
        fleet, labels = draw(CASES[case], chance), Labels(a_day, chance)
        first = shadow(fleet, POLICY, chance, labels)
        result.append((first, waves(fleet, POLICY, chance, labels) if first.word == "promote" else None))
    return result


def by_peers(case: str, *, seed: int, runs: int) -> list[dict[str, peers.Floats]]:
    return [peers.statistics(draw(CASES[case], chance), chance) for chance in chances(seed, f"peers {case}", runs)]


def shadow_row(found: Sequence[Shadowed]) -> dict[str, Share | Number]:
    rejected = [one for one in found if one.word == "reject"]
    promoted = [one for one in found if one.word == "promote"]
    return {
        "rejected": share([one.word == "reject" for one in found]),
        "promoted": share([one.word == "promote" for one in found]),
        "undecided": share([one.word == "hold" for one in found]),
        "labels to reject": median([one.labels for one in rejected]),
        "hours to reject": median([one.hours for one in rejected]),
        "labels to promote": median([one.labels for one in promoted]),
        "hours to promote": median([one.hours for one in promoted]),
    }


def waves_row(found: Sequence[Rolled]) -> dict[str, Share | Number]:
    return {
        "taken back": share([bool(one.reverted) for one in found]),
        "by the backstop": share([one.reverted == "backstop" for one in found]),
        "within 24 h": share([bool(one.reverted) and one.hours <= 24 for one in found]),
        "within 48 h": share([bool(one.reverted) and one.hours <= 48 for one in found]),
        "hours": median([one.hours if one.reverted else np.inf for one in found]),
        "devices exposed": mean([one.exposed for one in found]),
        "hours held": mean([one.held for one in found]),
    }


def whole_row(found: Sequence[tuple[Shadowed, Rolled | None]]) -> dict[str, Share | Number]:
    return {
        "rejected in shadow": share([first.word == "reject" for first, _ in found]),
        "asked a person": share([first.word == "hold" for first, _ in found]),
        "taken back from waves": share([bool(then and then.reverted) for _, then in found]),
        "reached every device": share([then is not None and not then.reverted for _, then in found]),
        "devices exposed": mean([then.exposed if then else 0 for _, then in found]),
    }


def peer_row(found: Sequence[dict[str, peers.Floats]], rule: str, bound: float) -> dict[str, Share | Number]:
    ends = [peers.outcome(run[rule], bound) for run in found]
    return {
        "taken back": share([back for back, _, _ in ends]),
        "hours": median([hours if back else np.inf for back, hours, _ in ends]),
        "devices exposed": mean([devices for *_, devices in ends]),
    }
