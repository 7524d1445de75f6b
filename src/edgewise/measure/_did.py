"""The backstop without labels: did the devices that changed get worse, measured against those that have not?

Each device is compared with its own past and each change with that of the others, so that neither a bad device nor a
busy afternoon tells against a release. The device is the unit: its decisions resemble each other, and a test that
counts them singly reverts many good releases however carefully it peeks (three of five in `make bench NAME=rollout`).

Looks are planned: so many in each wave, each with its own share of the error. The shares add up to at most alpha, which
is all the bound needs; nothing is assumed about how looks depend on each other, since each wave brings other devices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgewise.measure._intervals import NORMAL_FROM, student_quantile
from edgewise.wire import Backstop, NotValid, Proxy

Floats: TypeAlias = npt.NDArray[np.float64]
TWO_SIDED: frozenset[Proxy] = frozenset({"alarms"})  # more alarms or fewer may be worse; more overrides are


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Events and decisions by device, before the rollout and since the wave opened; one window for both sides.

    Each is an array (N, 4) of whole numbers: events before, decisions before, events after, decisions after.
    """

    treated: npt.ArrayLike  # devices that run the candidate; after: decisions of the candidate alone
    control: npt.ArrayLike  # devices that have not been told of it yet


@dataclass(frozen=True, kw_only=True, slots=True)
class ProxyResult:
    """What one proxy says at one look."""

    proxy: Proxy
    treated: int  # devices with decisions before and after
    control: int
    alpha: float  # this look's share of the error
    ratio: float | None = None  # events of the treated, over what their past and the others lead one to expect
    ratio_low: float | None = None  # the ratio is surely above, at alpha
    ratio_high: float | None = None  # the ratio is surely below, at alpha; only of a proxy that counts both ways
    t: float | None = None
    bound: float | None = None  # the release goes back when t reaches it; -t, too, of a proxy that counts both ways
    devices_needed: int | None = None  # that changed, to reach the bound at a difference as large as it looks now
    crossed: bool = False
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackstopVerdict:
    """What a look says: the release goes back if any proxy crossed its bound."""

    revert: bool
    wave: int
    look: int
    proxies: tuple[ProxyResult, ...]
    text: str

    @property
    def word(self) -> Literal["reject", "hold"]:
        """The same as the word that rollouts act on."""
        return "reject" if self.revert else "hold"


def judge_backstop(policy: Backstop, counts: Mapping[Proxy, Counts], *, wave: int, look: int) -> BackstopVerdict:
    """Whether the devices of a rollout got worse than those that wait, at one of the planned looks.

    Args:
        counts: by proxy; a proxy of the policy that is missing is read as "no device yet".
        wave: number of the open wave, from 0.
        look: number of the look in this wave, from 1 to `policy.looks`. Each is asked once: asking again with more data
            is another look, for which there is no error left.
    Raises:
        NotValid: a look that is not planned, an array of another shape, or counts that cannot be.
    Source: score of a common rate ratio over strata (Mantel and Haenszel 1959, with person-time Rothman 1986), a
        stratum being a device's before and after; Welch's t over devices, 1947; the error split over looks as in
        group-sequential tests, by Bonferroni's inequality.

    >>> policy, steady = Backstop(devices_min=3), [(30, 1000, 30, 1000), (20, 1000, 22, 1000), (41, 1000, 38, 1000)]
    >>> same = Counts(treated=steady, control=steady)
    >>> judge_backstop(policy, {"overrides": same}, wave=0, look=1).text
    'overrides of 3 devices that changed and 3 that have not: 1.00 times what is expected, t 0.00 of 6.76'
    >>> doubled = [(30, 1000, 61, 1000), (20, 1000, 40, 1000), (41, 1000, 80, 1000), (33, 1000, 68, 1000)] * 3
    >>> worse = Counts(treated=doubled, control=steady * 9)
    >>> judge_backstop(policy, {"overrides": worse}, wave=0, look=1).revert
    True
    """
    alpha = spent(policy, wave=wave, look=look) / len(policy.proxies)
    empty = Counts(treated=np.zeros((0, 4)), control=np.zeros((0, 4)))
    results = tuple(_judge(proxy, counts.get(proxy, empty), alpha, policy.devices_min) for proxy in policy.proxies)
    first = next((result for result in results if result.crossed), None)
    text = first.text if first else "; ".join(result.text for result in results)
    return BackstopVerdict(revert=first is not None, wave=wave, look=look, proxies=results, text=text)


def spent(policy: Backstop, *, wave: int, look: int) -> float:
    """The share of alpha for one look: each wave gets half of what is left, its looks equal parts of that.

    The first waves are small and expose few, so finding it there is worth most; and the number of waves need not be
    known, which it is not where the last one repeats.

    >>> spent(Backstop(alpha=0.01, looks=2), wave=0, look=1), spent(Backstop(alpha=0.01, looks=2), wave=2, look=2)
    (0.0025, 0.000625)
    """
    if wave < 0 or not 1 <= look <= policy.looks:
        raise NotValid(
            f"look {look} of wave {wave} is not planned; needs a wave from 0 and a look from 1 to {policy.looks}",
            code="look_unplanned",
        )
    return float(policy.alpha * 0.5 ** (wave + 1) / policy.looks)


def _judge(proxy: Proxy, counts: Counts, alpha: float, devices_min: int) -> ProxyResult:
    treated, control = _devices(counts.treated), _devices(counts.control)
    result = ProxyResult(proxy=proxy, treated=len(treated), control=len(control), alpha=alpha)
    who = f"{proxy} of {len(treated)} devices that changed and {len(control)} that have not"
    if min(len(treated), len(control)) < devices_min:
        return replace(result, devices_needed=devices_min, text=f"{who}: needs {devices_min} of each")
    (after, before), (others_after, others_before) = _scores(treated), _scores(control)
    if not before.sum() or not others_before.sum() or not others_after.sum():
        return replace(result, text=f"{who}: too rare to compare")
    change = others_after.sum() / others_before.sum()
    expected = change * before.sum()
    own = _variance(treated, change)
    others = _variance(control, change) * float(before.sum() / others_before.sum()) ** 2
    freedom = (own + others) ** 2 / (own**2 / (len(treated) - 1) + others**2 / (len(control) - 1))
    both_ways = proxy in TWO_SIDED
    # From NORMAL_FROM on the normal distribution would stand for t; far out its tail is a fifth too thin.
    bound = student_quantile(1 - alpha / (2 if both_ways else 1), math.floor(min(freedom, NORMAL_FROM)))
    error = math.sqrt(own + others)
    excess = float(after.sum() - expected)
    t = excess / error
    ratio, reach = float(1 + excess / expected), float(bound * error / expected)
    crossed = abs(t) >= bound if both_ways else t >= bound
    harmful = abs(t) if both_ways else t
    result = replace(
        result,
        ratio=ratio,
        ratio_low=max(0.0, ratio - reach),
        ratio_high=ratio + reach if both_ways else None,
        t=t,
        bound=bound,
        crossed=crossed,
        devices_needed=None if crossed or harmful <= 0 else math.ceil(len(treated) * (bound / harmful) ** 2),
    )
    return replace(result, text=_text(who, result))


def _text(who: str, result: ProxyResult) -> str:
    assert result.ratio is not None
    seen = f"{who}: {result.ratio:.2f} times what is expected"
    if not result.crossed:
        needed = result.devices_needed
        more = f"; if that is so, about {needed} devices that changed would show it" if needed else ""
        return f"{seen}, t {result.t:.2f} of {result.bound:.2f}{more}"
    low = f"surely over {result.ratio_low:.2f}" if result.ratio > 1 else f"surely under {result.ratio_high:.2f}"
    return f"{seen}, {low}: t {result.t:.2f} reached {result.bound:.2f}"


def _devices(counts: npt.ArrayLike) -> Floats:
    """The devices that decided both before and after, (N, 4). A device cannot tell of more events than decisions."""
    table = np.asarray(counts, dtype=np.float64)
    if table.size == 0:
        return np.zeros((0, 4))
    if table.ndim != 2 or table.shape[1] != 4 or not np.isfinite(table).all() or (table < 0).any():
        raise NotValid(
            f"counts by device are an array {table.shape}, needs (N, 4) of numbers from 0: events and decisions "
            "before, events and decisions after",
            code="count_invalid",
        )
    table = table[(table[:, 1] > 0) & (table[:, 3] > 0)]
    return np.column_stack([np.minimum(table[:, :2], table[:, 1:2]), np.minimum(table[:, 2:], table[:, 3:])])


def _scores(table: Floats) -> tuple[Floats, Floats]:
    """Each device's events after and before, weighted so that a device with a steady rate has equal means; (N,)."""
    events_before, before, events_after, after = table.T
    return events_after * before / (before + after), events_before * after / (before + after)


def _variance(table: Floats, change: float) -> float:
    """Variance of the sum of excesses over devices; at least what chance alone gives to counts."""
    scored_after, scored_before = _scores(table)
    events_before, before, events_after, after = table.T
    spread = len(table) * float(np.var(scored_after - change * scored_before, ddof=1))
    usual = (events_before + events_after) / (before + change * after)  # events a decision, without a difference
    chance = usual * change * before * after * (before + change * after) / (before + after) ** 2
    return max(spread, float(chance.sum()))
