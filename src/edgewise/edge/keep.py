"""Which frames of a period are worth sending: a pure choice under a byte credit.

Three kinds of picks, in the order in which they may spend the credit: an audit share drawn at random with a logged
probability (for honest estimates), one frame unlike anything kept before (for new classes), and Cluster-Margin for the
rest (for training). Sources: Citovsky et al., Batch active learning at scale, 2021; our own comparison of selectors in
the project's notes, where this mix got 84 % of the gain of sending everything at 3 % of its bytes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import zip_longest
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise.edge._clusters import NEIGHBOURS, Floats, clusters, squared_distances, typicality
from edgewise.wire import NotValid

Why = Literal["margin", "audit", "novelty"]
PREFILTER = 4  # least certain frames looked at per frame wanted; our choice, between pure margin (1) and pure diversity
NOVELTY_FROM = 3  # a period with room for fewer frames has no slot to give away
# Labelled samples of a site, before a bundle's doubt there chooses: as many as say how much a feature varies at it
# (`learn._linear`). Chosen, against 50 and against doubt from the start, on seeds 0 to 2 of the benchmark's hospitals.
SITE_SAMPLES_MIN = 10
CHANCE_MIN = 0.01  # a frame kept with a smaller one would stand for more than a hundred others
REMEMBERED_MAX = 64  # embeddings of earlier picks: enough to know what was sent, 64 KB at 256 dimensions


class Draw(Protocol):
    """What a selection needs of ``ports.Chance``."""

    def random(self) -> float: ...
    def bytes(self, count: int, /) -> bytes: ...
    def choice_order(self, count: int, /) -> list[int]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One frame of the period, as the selector sees it."""

    margin: float  # best minus second-best probability, 0 to 1
    size_bytes: int
    embedding: Floats | None = None  # float32 (D,), all of one bundle
    kept: bool = False  # already kept for another reason; it is drawn for audit all the same, or audit would be biased


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A pick. Only ``audit`` picks carry a drawn probability; the others were chosen by rule and say 1."""

    index: int  # into the period
    why: Why
    inclusion_probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Credit:
    """Bytes that may still be kept: earned by deciding, spent by keeping, never more than a day's bound.

    >>> credit = Credit(share_of_bytes=0.1, bytes_per_day=1000).earn(500)
    >>> credit.room(datetime(2026, 1, 1)), credit.spend(30, datetime(2026, 1, 1)).room(datetime(2026, 1, 1))
    (50, 20)
    """

    share_of_bytes: float
    bytes_per_day: int
    balance: float = 0.0  # negative after a frame that had to be kept (feedback, an alarm): paid back before the next
    day: str = ""
    spent_today: int = 0

    def earn(self, bytes_decided: int) -> Credit:
        """The credit after deciding on this many bytes."""
        return replace(self, balance=min(self.balance + self.share_of_bytes * bytes_decided, float(self.bytes_per_day)))

    def room(self, now: datetime) -> int:
        """Bytes that may be kept now, never negative."""
        spent = self.spent_today if self.day == now.date().isoformat() else 0
        return max(0, math.floor(min(self.balance, self.bytes_per_day - spent)))

    def owed(self) -> Credit:
        """The credit without what is saved up."""
        return replace(self, balance=min(self.balance, 0.0))

    def has_day(self, size_bytes: int, now: datetime) -> bool:
        """Whether the day's bound leaves room for this many bytes."""
        spent = self.spent_today if self.day == now.date().isoformat() else 0
        return spent + size_bytes <= self.bytes_per_day

    def chance(self, *, overdraft: float) -> float:
        """With which chance a frame that cannot wait is kept, and paid for with what is earned later.

        It is sure up to half of the overdraft and halves with each further quarter; so keeping settles where it costs
        what is earned. It hangs on what was kept before, never on the frame itself, so the frames kept, each with its
        chance, stand for all of their kind.

        Args:
            overdraft: bytes that one period earns; with 2.2 times so many owed nothing more is kept.

        >>> credit = Credit(share_of_bytes=0.1, bytes_per_day=1000)
        >>> [credit.spend(owed, datetime(2026, 1, 1)).chance(overdraft=100) for owed in (0, 50, 100, 250)]
        [1.0, 1.0, 0.25, 0.0]
        """
        if overdraft <= 0:
            return float(self.balance > 0)
        chance = min(1.0, 2.0 ** (2 + 4 * self.balance / overdraft))
        return chance if chance >= CHANCE_MIN else 0.0

    def spend(self, size_bytes: int, now: datetime) -> Credit:
        """The credit after keeping this many bytes."""
        today = now.date().isoformat()
        spent = self.spent_today if self.day == today else 0
        return replace(self, balance=self.balance - size_bytes, day=today, spent_today=spent + size_bytes)


def is_cold(sites: Mapping[str, int] | None, site: str) -> bool:
    """Whether a bundle has learned too little from a site for its doubt there to say anything.

    Args:
        sites: samples of each site that it has learned from (`provenance.sites`); None where it does not say so, which
            counts as knowing the site.

    >>> is_cold({"north": 400, "south": 7}, "north"), is_cold({"north": 400, "south": 7}, "south"), is_cold(None, "x")
    (False, True, False)
    """
    return sites is not None and sites.get(site, 0) < SITE_SAMPLES_MIN


def select(
    frames: Sequence[Seen],
    budget_bytes: int,
    chance: Draw,
    *,
    audit_share: float = 0.2,
    remembered: Floats | None = None,
    cold: bool = False,
) -> list[Kept]:
    """The frames of one period to keep, within the budget.

    Args:
        frames: the period, in any order; embeddings float32 (D,) or None.
        budget_bytes: what may be spent; the picks' sizes never sum to more.
        audit_share: part of the picks drawn at random, 0 to 1.
        remembered: float32 (M, D), embeddings kept in earlier periods, of the same bundle.
        cold: there is no bundle, or none that has learned from this site, so margins mean nothing: typical frames are
            taken instead.
    Returns:
        picks without repetition, audit first.
    Raises:
        NotValid: embeddings of different lengths, or a share outside 0 to 1.
    """
    if not 0 <= audit_share <= 1:
        raise NotValid(f"audit_share is {audit_share}, needs to be from 0 to 1", code="audit_share_wrong")
    wanted = _wanted(frames, budget_bytes)
    if not wanted:
        return []
    audit = _audit(frames, budget_bytes, wanted * audit_share, chance)
    left = budget_bytes - sum(frames[pick.index].size_bytes for pick in audit)
    taken = {pick.index for pick in audit}
    free = [index for index, frame in enumerate(frames) if index not in taken and not frame.kept]
    random = np.random.Generator(np.random.PCG64(int.from_bytes(chance.bytes(8), "big")))
    count = max(0, math.floor(wanted) - len(audit))
    points = _points(frames)
    if cold:
        typical = _typical(points, free, count, sorted(taken), remembered, random)
        ordered: list[tuple[int, Why]] = [(index, "novelty") for index in typical]
    else:
        ordered = _margin_and_novelty(frames, points, free, count, sorted(taken), remembered, random)
    return audit + _within(frames, ordered, left, count)


def remember(remembered: Floats | None, new: Iterable[Floats | None]) -> Floats | None:
    """The embeddings to compare the next period with: a spread-out set of at most ``REMEMBERED_MAX``.

    Returns:
        float32 (M, D), or None when there is nothing to remember.
    """
    fresh = [point for point in new if point is not None]
    if not fresh:
        return remembered
    both = np.stack(fresh).astype(np.float32)
    if remembered is not None and remembered.shape[1] == both.shape[1]:
        both = np.concatenate([remembered, both])
    while len(both) > REMEMBERED_MAX:
        near = squared_distances(both, both)
        np.fill_diagonal(near, np.inf)
        # One of the closest pair says nothing that the other does not.
        both = np.delete(both, int(near.min(axis=1).argmin()), axis=0)
    return both


def _wanted(frames: Sequence[Seen], budget_bytes: int) -> float:
    """How many frames of mean size the budget buys; not rounded, the audit draw needs the fraction."""
    total = sum(frame.size_bytes for frame in frames)
    if not frames or budget_bytes <= 0:
        return 0.0
    return min(len(frames) * 1.0, budget_bytes * len(frames) / total) if total else float(len(frames))


def _audit(frames: Sequence[Seen], budget_bytes: int, share: float, chance: Draw) -> list[Kept]:
    largest = max(frame.size_bytes for frame in frames)
    # Bounded by the largest frame, not by the drawn ones: a draw cut short by size would favour small frames.
    expected = min(share, math.floor(budget_bytes / largest) if largest else share, len(frames))
    if expected <= 0:
        return []
    whole = math.floor(expected)
    count = whole + (chance.random() < expected - whole)
    drawn = sorted(chance.choice_order(len(frames))[:count])
    return [Kept(index=index, why="audit", inclusion_probability=expected / len(frames)) for index in drawn]


def _points(frames: Sequence[Seen]) -> Floats | None:
    embeddings = [frame.embedding for frame in frames]
    if any(item is None for item in embeddings):
        return None
    lengths = {len(item) for item in embeddings if item is not None}
    if len(lengths) != 1:
        raise NotValid(f"embeddings of one period need one length, seen {sorted(lengths)}", code="shape_wrong")
    return np.stack([item for item in embeddings if item is not None]).astype(np.float32)


def _margin_and_novelty(
    frames: Sequence[Seen],
    points: Floats | None,
    free: list[int],
    count: int,
    taken: list[int],
    remembered: Floats | None,
    random: np.random.Generator,
) -> list[tuple[int, Why]]:
    by_margin = sorted(free, key=lambda index: (frames[index].margin, index))
    if points is None:
        return [(index, "margin") for index in by_margin]
    odd = count >= NOVELTY_FROM
    ranked = _round_robin(points, by_margin[: PREFILTER * max(count, 1)], count, random)
    first = ranked[: count - 1] if odd else ranked
    picks: list[tuple[int, Why]] = [(index, "margin") for index in first]
    if odd:
        novel = _farthest(points, [index for index in free if index not in set(first)], taken + first, remembered)
        # Novelty spends before margin: the odd frame is one, and it is the one that cannot be replaced.
        if novel is not None:
            picks.insert(0, (novel, "novelty"))
    rest = [index for index in [*ranked, *by_margin] if index not in {index for index, _ in picks}]
    return picks + [(index, "margin") for index in dict.fromkeys(rest)]


def _round_robin(points: Floats, by_margin: list[int], count: int, random: np.random.Generator) -> list[int]:
    """Least certain first within each cluster, one of each cluster in turn, small clusters first."""
    if not by_margin:
        return []
    member_of = clusters(points[by_margin], max(count, 1), random)
    groups: dict[int, list[int]] = {}
    for index, group in zip(by_margin, member_of.tolist(), strict=True):
        groups.setdefault(group, []).append(index)
    queues = sorted(groups.values(), key=lambda queue: (len(queue), queue[0]))
    ordered: list[int] = []
    for depth in range(max(len(queue) for queue in queues)):
        ordered += [queue[depth] for queue in queues if depth < len(queue)]
    return ordered


def _farthest(points: Floats, free: list[int], taken: list[int], remembered: Floats | None) -> int | None:
    """The free frame farthest from all that was kept, in this period and before."""
    if not free:
        return None
    known: list[NDArray[np.float32]] = [points[taken]] if taken else []
    if remembered is not None and remembered.shape[1] == points.shape[1]:
        known.append(remembered)
    if not known:
        known = [points.mean(axis=0, keepdims=True)]
    near = squared_distances(points[free], np.concatenate(known)).min(axis=1)
    return free[int(near.argmax())]


def _typical(
    points: Floats | None,
    free: list[int],
    count: int,
    taken: list[int],
    remembered: Floats | None,
    random: np.random.Generator,
) -> list[int]:
    """The typical frames of clusters of which least was kept, large clusters first.

    The first labels should show what is usual, and each of them something that the others do not. Source: Hacohen,
    Dekel and Weinshall (TypiClust), 2022. Theirs is a pool of thousands; where a period is small, there are no more
    clusters than give each about as many frames as `typicality` looks at.
    """
    if points is None or not free:
        return free
    known = points[taken]
    if remembered is not None and remembered.shape[1] == points.shape[1]:
        known = np.concatenate([known, remembered])
    both = np.concatenate([points[free], known])
    groups = max(count, min(count + len(known), len(both) // NEIGHBOURS), 1)
    member_of = clusters(both, groups, random).tolist()
    kept_of = Counter(member_of[len(free) :])
    score = typicality(points[free])
    queues: dict[int, list[int]] = {}
    for place in np.argsort(-score, kind="stable").tolist():
        queues.setdefault(member_of[place], []).append(place)
    order = sorted(queues, key=lambda group: (kept_of[group], -len(queues[group]), queues[group][0]))
    return [
        free[place] for turn in zip_longest(*(queues[group] for group in order)) for place in turn if place is not None
    ]


def _within(frames: Sequence[Seen], ordered: Iterable[tuple[int, Why]], left: int, count: int) -> list[Kept]:
    """The first picks that fit. A frame too large for what is left is passed over, a smaller one may still fit."""
    picks: list[Kept] = []
    for index, why in ordered:
        if len(picks) >= count:
            break
        if frames[index].size_bytes <= left:
            left -= frames[index].size_bytes
            picks.append(Kept(index=index, why=why, inclusion_probability=1.0))
    return picks
