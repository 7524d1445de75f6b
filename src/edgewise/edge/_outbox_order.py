"""Which records are sealed next: a pure choice, so that its promises can be tested by themselves.

A new alarm is always next. Beside it, of every four segments two go by urgency, one takes the newest record of all and
one the oldest of all. So a backlog of weeks does not hold up what happens now, what happens now does not hold up the
backlog for ever, and no class starves. The segment's number says whose turn it is: the turn survives a power cut, and
costs no state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgewise.wire import CLASSES

TURNS = ("urgent", "newest", "urgent", "oldest")  # of four segments; share of live data and of the backlog: 1/4 each
ALARM = CLASSES.index("alarm")
# Of these the newest says most: what an alarm or an operator said an hour ago is known to be late already.
NEWEST_FIRST = frozenset(CLASSES.index(name) for name in ("alarm", "feedback", "disagreement"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """The records of one class that are not sealed yet. Running numbers grow with every record of any class."""

    rank: int  # of the class, 0 is the most urgent
    oldest: int
    newest: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The class of the next segment, and from which end of it."""

    rank: int
    newest_first: bool


def choose(waiting: Sequence[Waiting], *, number: int, alarm_sealed: int) -> Choice | None:
    """What the segment with this number takes; None when nothing waits.

    Args:
        waiting: classes with at least one record.
        number: the segment's own.
        alarm_sealed: running number of the newest alarm that was ever sealed; one above it is new.

    >>> alarms, samples = Waiting(rank=0, oldest=7, newest=9), Waiting(rank=6, oldest=1, newest=8)
    >>> choose([alarms, samples], number=4, alarm_sealed=8)
    Choice(rank=0, newest_first=True)
    >>> choose([alarms, samples], number=4, alarm_sealed=9)
    Choice(rank=6, newest_first=False)
    """
    if not waiting:
        return None
    first = min(waiting, key=lambda item: item.rank)
    if first.rank == ALARM and first.newest > alarm_sealed:
        return Choice(rank=ALARM, newest_first=True)
    match TURNS[(number - 1) % len(TURNS)]:
        case "newest":
            return Choice(rank=max(waiting, key=lambda item: item.newest).rank, newest_first=True)
        case "oldest":
            return Choice(rank=min(waiting, key=lambda item: item.oldest).rank, newest_first=False)
        case _:
            return Choice(rank=first.rank, newest_first=first.rank in NEWEST_FIRST)
