"""Erasures on this device: one at a time, done only when nothing of it is left in memory or on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from edgewise.edge._keeper import Keeper
from edgewise.edge._outbox_erase import Erased
from edgewise.edge._period import Item
from edgewise.edge._pipelines import Pipelines
from edgewise.edge.outbox import ERASING, Entry, Outbox
from edgewise.edge.ring import Ring
from edgewise.policy import subject_of
from edgewise.ports import Chance, Frame
from edgewise.wire import Assignment, Erasure, Event, NotNow, decode, digest, loads, plain

STATE_KEY = "erasures"
PAUSE_S = 2.0  # after a try that did not come to its end
HOLD_S_MAX = 60.0  # that sealing waits for an erasure
STANDING_MAX = 256  # erasures that are remembered, so that a source which tells of old frames again is not believed

# Whether something about a subject, by the name it has here, of a time is to be forgotten.
Covers: TypeAlias = Callable[[str, datetime], bool]


@dataclass(slots=True)
class _Remembered:
    """What outlives a power cut."""

    epoch: str = ""  # the hub that numbered them
    done: int = 0  # all up to it are carried out
    standing: list[Erasure] = field(default_factory=list)

    def as_bytes(self) -> bytes:
        standing = [plain(erasure) for erasure in self.standing[-STANDING_MAX:]]
        return json.dumps({"epoch": self.epoch, "done": self.done, "standing": standing}).encode()

    @classmethod
    def of(cls, stored: bytes | None) -> _Remembered:
        if stored is None:
            return cls()
        value = loads(stored)
        standing = [decode(Erasure, json.dumps(item).encode()) for item in value["standing"]]
        return cls(epoch=value["epoch"], done=value["done"], standing=standing)


@dataclass(slots=True)
class _Work:
    """The erasure in hand, with what memory held of it."""

    erasure: Erasure
    event: str  # id of the event that will tell of it
    frames: int = 0


class Eraser:
    """Carries out the erasures of the newest assignment, in their order, and those that a person gives here.

    ``step`` belongs to the thread of the record step. Each erasure takes a few steps: first what is in memory, between
    two decisions, then the outbox, then the event that tells of it. A power cut anywhere leads to
    the same erasure from its beginning, which finds less to do (invariant 12).
    """

    def __init__(
        self,
        outbox: Outbox,
        ring: Ring,
        pipelines: Pipelines,
        keeper: Keeper,
        *,
        site: str,
        policy_version: int,
        chance: Chance,
    ) -> None:
        self._outbox = outbox
        self._ring = ring
        self._pipelines = pipelines
        self._keeper = keeper
        self._site = site
        self._policy_version = policy_version
        self._chance = chance
        self._work: _Work | None = None
        self._wishes: list[Erasure] = []
        self._held_since: datetime | None = None
        self.others: list[Callable[[Covers], None]] = []  # whoever else holds something about frames in memory
        self._known = _Remembered.of(outbox.state(STATE_KEY))
        self._again_at: datetime | None = None
        self.error: str | None = None  # why the erasure in hand does not come to its end
        self.last: dict[str, Any] | None = None  # what became of the last one, as told
        keeper.is_erased = self._is_erased

    @property
    def done(self) -> int:
        """All erasures of the hub up to this number are carried out."""
        return self._known.done

    @property
    def epoch(self) -> str | None:
        """The hub epoch that gave the number."""
        return self._known.epoch or None

    def is_open(self, assignment: Assignment | None) -> bool:
        """Whether an erasure is known that is not carried out."""
        return not self.is_idle or self._next(assignment) is not None

    def holds(self, assignment: Assignment | None, now: datetime) -> bool:
        """Whether nothing should be sealed now, because it might be what is about to be forgotten.

        For a minute at most: a disk that fails must not keep alarms back. What leaves then is told and left to the hub.
        """
        if not self.is_open(assignment):
            self._held_since = None
            return False
        if self._held_since is None or now < self._held_since:  # or the clock was set back
            self._held_since = now
        return now - self._held_since < timedelta(seconds=HOLD_S_MAX)

    @property
    def is_idle(self) -> bool:
        return self._work is None and not self._wishes

    def wish(self, erasure: Erasure) -> None:
        """Carry out an erasure that a person gave on this device."""
        self._wishes.append(erasure)

    def step(self, assignment: Assignment | None, now: datetime) -> None:
        """Go on with the erasure in hand, or begin the next one, as far as the disk allows."""
        if self._again_at is not None and self._again_at - timedelta(seconds=PAUSE_S) <= now < self._again_at:
            return
        try:
            if self._work is None:
                self._work = self._begin(assignment, now)
            # Memory twice: a frame that was on its way to its decision at first is found the second time.
            elif self._forget(self._work):
                self._finish(self._work, now)
            self.error, self._again_at = None, None
        except NotNow as error:
            # The disk is full or busy: the same again a little later.
            self.error, self._again_at = str(error), now + timedelta(seconds=PAUSE_S)

    def _begin(self, assignment: Assignment | None, now: datetime) -> _Work | None:
        erasure = self._wishes[0] if self._wishes else self._next(assignment)
        if erasure is None:
            return None
        if erasure.number and assignment is not None and assignment.hub_epoch != self._known.epoch:
            self._known = replace(self._known, epoch=assignment.hub_epoch, done=0)
        # Remembered first: from here on nothing that it covers is kept, whatever a source tells again.
        standing = erasure.model_copy(update={"until": erasure.until or now})
        if standing not in self._known.standing:
            self._known.standing = [*self._known.standing, standing][-STANDING_MAX:]
            self._outbox.put_state(STATE_KEY, self._known.as_bytes())
        numbered = digest(f"erased\n{self._known.epoch}\n{erasure.number}".encode())[:32]
        work = _Work(erasure, numbered if erasure.number else self._chance.id())
        self._forget(work)
        return work

    def _forget(self, work: _Work) -> bool:
        """Forget what memory holds; False while a decision is being made, then the rest is for the next step."""
        erasure = work.erasure

        def covers(subject: str, at: datetime | None) -> bool:
            return self._covers(erasure, subject, at)

        work.frames += self._ring.forget(lambda frame: covers(_of_frame(frame), frame.taken_at))
        self._keeper.forget(lambda entry: entry.about_at is not None and self._covers_entry(erasure, entry))
        for forget in self.others:
            forget(covers)
        forgot = [one.forget(lambda item: covers(item.subject, item.taken_at)) for one in self._pipelines]
        return all(forgot)

    def _next(self, assignment: Assignment | None) -> Erasure | None:
        """The first of the hub's that is not done."""
        if assignment is None or not assignment.erasures:
            return None
        done = self._known.done if assignment.hub_epoch == self._known.epoch else 0
        waiting = [erasure for erasure in assignment.erasures if erasure.number > done]
        return min(waiting, key=lambda erasure: erasure.number, default=None)

    def _finish(self, work: _Work, now: datetime) -> None:
        erasure = work.erasure
        mine = erasure.site in (None, self._site)
        erased = self._outbox.erase(erasure) if mine else Erased(records=0, sealed=(), blobs=0)
        everything = erasure.subject is None and erasure.since is None and erasure.until is None
        aside = self._outbox.set_aside(drop=mine and everything)
        told = _told(erasure, erased, work.frames) | {
            "epoch": self._outbox.epoch,
            "set_aside": aside,
            "set_aside_dropped": mine and everything,
        }
        text = f"an erasure was carried out: {erased.records} records, {work.frames} recent frames forgotten"
        event = Event(id=work.event, at=now, what="erased", text=text, data=told)
        known = replace(self._known, done=max(self._known.done, erasure.number))
        entry = Entry(record=event, record_class="audit", policy_version=self._policy_version)
        self._outbox.add_many([entry], {STATE_KEY: known.as_bytes(), ERASING: b"0"})
        self._outbox.unlink(erasure)
        self._known = known  # only now: it is reported as done when that outlives a power cut
        self._keeper.urgent_waits = True
        self.last, self._work = told, None
        if self._wishes and self._wishes[0] is erasure:
            self._wishes.pop(0)

    def _covers(self, erasure: Erasure, subject: str, taken_at: datetime | None) -> bool:
        hidden = self._keeper.hidden(subject) if erasure.subject else ""
        return taken_at is not None and erasure.covers(subject=hidden, site=self._site, at=taken_at)

    def _covers_entry(self, erasure: Erasure, entry: Entry) -> bool:
        assert entry.about_at is not None, "only what is about a frame falls under an erasure"
        return erasure.covers(subject=entry.subject, site=self._site, at=entry.about_at)

    def _is_erased(self, item: Item) -> bool:
        return any(self._covers(erasure, item.subject, item.taken_at) for erasure in self._known.standing)


def _of_frame(frame: Frame) -> str:
    return subject_of(frame.facts, frame.group)


def _told(erasure: Erasure, erased: Erased, frames: int) -> dict[str, Any]:
    return {
        "erasure": erasure.number or None,
        "reason": erasure.reason,
        "records": erased.records,
        "frames": frames,
        "sealed": list(erased.sealed),
        "segments": list(erased.segments),
        "stored": list(erased.stored),
        "sealed_blobs": erased.blobs,
    }
