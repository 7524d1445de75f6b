"""What the decision loop leaves for the thread that records: frames without their bytes, gathered into periods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from edgewise.edge._clusters import Floats
from edgewise.edge._counts import Key, Windows
from edgewise.edge._readings import Reading
from edgewise.frames import Decided
from edgewise.policy import subject_of
from edgewise.ports import Frame

MAIN = "main"  # the pipeline of a device that declares none
Act: TypeAlias = Callable[[Frame, Decided], str | None]


@dataclass(kw_only=True, slots=True)
class Item:
    """One frame of a period, without its bytes: those are in the ring."""

    name: str
    size_bytes: int
    decision: Decided
    shadow: Decided | None = None
    rollout: str | None = None
    embedding: Floats | None = None
    kept: bool = False
    subject: str = ""  # whom or what the frame is about, by the name it has here
    taken_at: datetime | None = None
    doubt: float | None = None  # the network's own, that a larger one would say something else
    counted: Key | None = None  # among which counts its decision is
    overridden: bool = False  # an operator called it wrong or missed
    pair_told: bool = False  # with both decisions, in a sample

    @property
    def ease(self) -> float:
        """How sure it is that a larger network would say the same, 0 to 1."""
        return self.decision.margin if self.doubt is None else 1 - self.doubt


@dataclass(kw_only=True, slots=True)
class Urgent:
    """A frame that does not wait for its period's end."""

    item: Item
    why: str  # "disagreement" or "alarm"
    text: str
    at: datetime


@dataclass(kw_only=True, slots=True)
class Period:
    """Frames among which one selection is made, and what was counted over them."""

    opened_at: datetime
    last_at: datetime
    pipeline: str = MAIN
    bundle: str | None = None
    sites: Mapping[str, int] | None = None  # samples of each site that the bundle has learned from, where it says so
    items: list[Item] = field(default_factory=list)
    windows: Windows = field(default_factory=Windows)
    bytes_seen: int = 0
    undecided: int = 0
    frames: int = 0
    cursor: str | None = None  # the last frame taken from the source, by its name there
    readings: list[Reading] = field(default_factory=list)
    not_selected: int = 0  # frames of periods that were given up because the disk was stuck
    is_sealed: bool = False  # it is being recorded: what comes later is counted by itself


Corrected: TypeAlias = Callable[[Item, Frame, Decided, datetime], None]
Paired: TypeAlias = Callable[[Item, Period, Decided, datetime], None]
Beside: TypeAlias = Callable[[Item, Period, float, Paired], None]


def item_of(
    frame: Frame, decision: Decided, embedding: Floats | None, doubt: float | None = None, counted: Key | None = None
) -> Item:
    """The frame without its bytes."""
    return Item(
        name=frame.name,
        size_bytes=len(frame.data),
        decision=decision,
        embedding=embedding,
        subject=subject_of(frame.facts, frame.group) if frame.facts else frame.group,
        taken_at=frame.taken_at,
        doubt=doubt,
        counted=counted,
    )
