"""Which frames a device hands to the large bundle behind it: the hardest ones, within a share and a byte budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["certain", "over_share", "over_bytes", "defer"]

BURST = 16.0  # frames that may be deferred in a row after a quiet time; our choice
STEP = 0.02  # how far one frame moves the threshold; our choice: a few hundred frames after a change it fits again
AIM = 0.95  # of the share allowed, so that the hard bound is seldom what decides; our choice
MEMORY = 1 / 64  # weight of the newest frame in the means
DAY_S = 86_400.0
BUCKET_SHARE = 1 / 24  # of a day's bytes that may go at once


@dataclass(frozen=True, kw_only=True, slots=True)
class DeferRule:
    """The bounds.

    Attributes:
        margin_max: frames with a larger margin are never deferred, 0 to 1.
        share_max: of all frames that may be deferred, 0 to 1.
        bytes_per_day: in any 24 hours.
    """

    margin_max: float
    share_max: float
    bytes_per_day: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DeferState:
    """What the rule remembers between two frames; start with `first_state`."""

    threshold: float  # frames with a margin below it are deferred
    frames_left: float  # that may be deferred now, BURST at most
    bytes_left: float  # that may be sent now; below 0 after a frame that grew when it was made private
    at_s: float | None = None  # of the newest frame, by a clock that never jumps
    bytes_between: float = 0.0  # that one frame's time earns, smoothed
    bytes_mean: float = 0.0  # of a frame, smoothed


def first_state(rule: DeferRule, *, bytes_left: float | None = None) -> DeferState:
    """The state before the first frame.

    Args:
        bytes_left: what was left when the device stopped; the whole bucket where it never ran.
    """
    bucket = rule.bytes_per_day * BUCKET_SHARE
    left = bucket if bytes_left is None else min(bytes_left, bucket)
    return DeferState(threshold=min(rule.margin_max, rule.share_max), frames_left=BURST, bytes_left=left)


def consider(
    rule: DeferRule, state: DeferState, *, margin: float, size_bytes: int, at_s: float
) -> tuple[DeferState, Verdict]:
    """The state after this frame, and whether it is deferred.

    The threshold follows the quantile of the margins that the share and the bytes allow: up a little after a frame
    above it, down after one below, so that the hardest frames are deferred rather than the first ones. Two buckets make
    the bounds hard whatever the margins are: never more than ``share_max`` of n frames plus ``BURST``, never more than
    ``bytes_per_day`` in any 24 hours (a bucket of 1/24 of them, refilled by the rest over a day).

    Args:
        margin: of the decision: best minus second-best probability, or 1 minus the network's own doubt; 0 to 1.
        size_bytes: of the frame as it would be sent.
        at_s: seconds by a clock that never jumps.
    Source: a quantile by stochastic approximation, Robbins and Monro, A stochastic approximation method, 1951.

    >>> rule = DeferRule(margin_max=0.5, share_max=0.1, bytes_per_day=24_000_000)
    >>> state, verdict = consider(rule, first_state(rule), margin=0.05, size_bytes=2000, at_s=0.0)
    >>> verdict
    'defer'
    >>> consider(rule, state, margin=0.9, size_bytes=2000, at_s=0.1)[1]
    'certain'
    """
    state = _earned(rule, state, size_bytes, at_s)
    hard = margin < state.threshold
    share = min(rule.share_max, _share_of_bytes(rule, state))
    aim = AIM * share if share < 1 else 1.0
    moved = state.threshold + STEP * (aim - hard)
    state = replace(state, threshold=min(max(moved, 0.0), rule.margin_max))
    if not hard:
        return state, "certain"
    if state.frames_left < 1:
        return state, "over_share"
    if state.bytes_left < size_bytes:
        return state, "over_bytes"
    return replace(state, frames_left=state.frames_left - 1, bytes_left=state.bytes_left - size_bytes), "defer"


def settle(state: DeferState, *, reckoned_bytes: int, sent_bytes: int) -> DeferState:
    """The state once it is known how many bytes a deferral really took."""
    return replace(state, bytes_left=state.bytes_left + reckoned_bytes - sent_bytes)


def give_back(state: DeferState, *, reckoned_bytes: int) -> DeferState:
    """The state when a frame that `consider` deferred was not sent after all."""
    return replace(state, bytes_left=state.bytes_left + reckoned_bytes, frames_left=min(BURST, state.frames_left + 1))


def _earned(rule: DeferRule, state: DeferState, size_bytes: int, at_s: float) -> DeferState:
    bucket = rule.bytes_per_day * BUCKET_SHARE
    passed_s = 0.0 if state.at_s is None else max(0.0, at_s - state.at_s)
    earned = passed_s * (rule.bytes_per_day - bucket) / DAY_S
    first = state.bytes_mean == 0
    return replace(
        state,
        at_s=at_s,
        frames_left=min(BURST, state.frames_left + rule.share_max),
        bytes_left=min(bucket, state.bytes_left + earned),
        bytes_between=earned if first else state.bytes_between + MEMORY * (earned - state.bytes_between),
        bytes_mean=size_bytes if first else state.bytes_mean + MEMORY * (size_bytes - state.bytes_mean),
    )


def _share_of_bytes(rule: DeferRule, state: DeferState) -> float:
    """The share of frames that the bytes allow, by what a frame's time earns; all of it while the bucket is half full.

    Without that a device which sees a frame now and then would not use what it has saved.
    """
    if not state.bytes_mean or state.bytes_left > rule.bytes_per_day * BUCKET_SHARE / 2:
        return 1.0
    return state.bytes_between / state.bytes_mean
