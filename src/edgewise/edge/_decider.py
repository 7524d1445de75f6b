"""The hot path: source → decision → period. It touches memory only; no link, no disk, no lock that is held for long."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from edgewise.edge._clusters import Floats
from edgewise.edge._cold import UNDECIDED, plain_embedding
from edgewise.edge._counts import Windows
from edgewise.edge._slots import Running
from edgewise.edge._watch import Run
from edgewise.edge.ring import Ring
from edgewise.edge.update import Updater
from edgewise.frames import is_alarm
from edgewise.measure import Histogram
from edgewise.policy import subject_of
from edgewise.ports import Answer, Clock, Frame, Source
from edgewise.wire import Decision, Upload

# An unreadable frame says nothing about the bundle; everything else that it raises does.
FRAME_FAULTS = frozenset({"bad_picture", "bad_row", "not_json"})
Act: TypeAlias = Callable[[Frame, Decision], str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopLimits:
    """Every bound of the decision loop in one place."""

    ring_bytes: int = 64_000_000
    recent_max: int = 4096  # decisions that feedback can still be given on
    periods_waiting_max: int = 4  # closed and not recorded: more means that the disk is stuck
    urgent_waiting_max: int = 256
    collect: bool = False  # without any bundle: False leaves frames at the source, True looks at them and keeps some


@dataclass(kw_only=True, slots=True)
class Item:
    """One frame of a period, without its bytes: those are in the ring."""

    name: str
    size_bytes: int
    decision: Decision
    shadow: Decision | None = None
    rollout: str | None = None
    embedding: Floats | None = None
    kept: bool = False
    subject: str = ""  # whom or what the frame is about, by the name it has here
    taken_at: datetime | None = None


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
    bundle: str | None = None
    items: list[Item] = field(default_factory=list)
    windows: Windows = field(default_factory=Windows)
    bytes_seen: int = 0
    undecided: int = 0
    frames: int = 0
    cursor: str | None = None  # the last frame taken from the source
    not_selected: int = 0  # frames of periods that were given up because the disk was stuck


class Decider:
    """Takes one frame at a time and decides on it. One thread calls ``step``; another takes away what it left.

    Args:
        source: frames, after the last one that was recorded.
        updater: whose bundles decide.
        ring: remembers the frames' bytes.
        clock: for latencies.
        upload: when a period ends.
        act: the app's pure function; a text it returns raises an alarm. None raises none.
    """

    def __init__(
        self,
        source: Source,
        updater: Updater,
        ring: Ring,
        *,
        clock: Clock,
        upload: Upload,
        limits: LoopLimits,
        act: Act | None = None,
        telemetry_s: float = 60.0,
    ) -> None:
        self._source = source
        self._updater = updater
        self._ring = ring
        self._clock = clock
        self._upload = upload
        self._limits = limits
        self._act = act
        self._telemetry_s = telemetry_s
        self._open: Period | None = None
        self.closed: deque[Period] = deque()
        self.urgent: deque[Urgent] = deque()
        self.recent: OrderedDict[str, Item] = OrderedDict()
        self.shed_urgent: dict[str, int] = {}
        self._to_forget: deque[Callable[[Item], bool]] = deque()
        self.source_error: str | None = None
        self.decided = 0  # in this process
        self.latency = Histogram()  # of all of them

    def step(self, now: datetime) -> Decision | None:
        """Decide on the next frame; None when there is none, or none could be decided on."""
        if self._to_forget:
            self.forget_now()
        running, shadow = self._updater.running, self._updater.shadow
        self._close_if_over(now, running.bundle if running else None)
        if running is None and not self._limits.collect:
            return None
        frame = self._next()
        if frame is None:
            return None
        period = self._period(now)
        period.bundle = running.bundle if running else None
        period.frames += 1
        period.last_at, period.cursor = now, frame.name
        decision = None
        if running is None:
            self._look(period, frame)
        else:
            decision = self._decide(period, frame, running, shadow, now)
        self._ring.put(frame)
        self._close_if_full(period)
        return decision

    def forget(self, match: Callable[[Item], bool]) -> None:
        """Forget the frames that match: what waits for the record step at once, the rest in this thread's next step.

        Called by the thread that takes away what `step` left.
        """
        for period in list(self.closed):
            period.items = [item for item in period.items if not match(item)]
        for _ in range(len(self.urgent)):
            urgent = self.urgent.popleft()
            if not match(urgent.item):
                self.urgent.append(urgent)
        self._to_forget.append(match)

    @property
    def is_forgetting(self) -> bool:
        """Whether a step has still to come for `forget` to be done."""
        return bool(self._to_forget)

    def forget_now(self) -> None:
        """Do what `forget` left to the thread of `step`."""
        while self._to_forget:
            match = self._to_forget[0]
            for name in [name for name, item in self.recent.items() if match(item)]:
                del self.recent[name]
            if self._open is not None:
                self._open.items = [item for item in self._open.items if not match(item)]
            self._to_forget.popleft()  # only now: until here it counts as not done

    def close_period(self) -> None:
        """End the open period now."""
        period = self._open
        if period is None:
            return
        if len(self.closed) >= self._limits.periods_waiting_max:
            # The disk is stuck. Decisions go on and are counted; the frames of this period are given up.
            period.not_selected += len(period.items)
            period.items.clear()
            return
        self._open = None
        self.closed.append(period)

    @property
    def period_frames(self) -> int:
        """Frames that were taken from the source and are not recorded yet."""
        open_ = self._open
        return (open_.frames if open_ else 0) + sum(period.frames for period in list(self.closed))

    def _next(self) -> Frame | None:
        try:
            frame = self._source.next()
            self.source_error = None
        except Exception as error:  # a camera's driver may raise anything; the loop asks again
            self.source_error = str(error)
            return None
        return frame

    def _decide(
        self, period: Period, frame: Frame, running: Running, shadow: Running | None, now: datetime
    ) -> Decision | None:
        watch, began = self._updater.watch, self._clock.monotonic_s()
        try:
            answer, decision = self._ask(running, frame)
        except Exception as error:  # whatever a bundle raises, the loop goes on and the updater judges it
            period.undecided += 1
            if getattr(error, "code", "") not in FRAME_FAULTS:
                watch.failed(error)
            return None
        ended = self._clock.monotonic_s()
        latency_ms = (ended - began) * 1000
        watch.decided(latency_ms, decision, at_s=ended)
        self.decided += 1
        self.latency.add(latency_ms)
        item = _item(frame, decision, answer.embedding)
        text = self._act(frame, decision) if self._act else None
        rollout = self._updater.rollout if shadow else None
        counts = period.windows.of((running.release, running.bundle, rollout))
        counts.add(decision, len(frame.data), latency_ms, now)
        counts.alarms += is_alarm(decision, running.pipeline.manifest)
        if shadow is not None:
            self._pair(item, frame, shadow, rollout)
            counts.paired += item.shadow is not None
            counts.disagreed += item.shadow is not None and item.shadow.label != decision.label
        self._second_opinion(item, frame, shadow)
        period.items.append(item)
        period.bytes_seen += len(frame.data)
        self._remember(item)
        if text is not None:
            self._hurry(Urgent(item=item, why="alarm", text=text, at=now))
        if item.shadow is not None and item.shadow.label != decision.label:
            self._hurry(Urgent(item=item, why="disagreement", text="", at=now))
        return decision

    def _pair(self, item: Item, frame: Frame, shadow: Running, rollout: str | None) -> None:
        """The other bundle's word on the same frame. What it raises is its own affair: nothing acts on it."""
        try:
            item.shadow = self._ask(shadow, frame)[1]
            item.rollout = rollout
        except Exception:
            item.shadow = None

    def _second_opinion(self, item: Item, frame: Frame, shadow: Running | None) -> None:
        """The word of a bundle known to be good here, while the guard doubts the one that decides."""
        second = self._updater.second
        if second is None:
            return
        other = item.shadow
        if second is not shadow:
            try:
                other = self._ask(second, frame)[1]
            except Exception:
                return
        if other is not None:
            self._updater.watch.compared(item.decision, other)

    def _ask(self, bundle: Running, frame: Frame) -> tuple[Answer, Decision]:
        """A bundle's word on a frame. The watch knows whose run it is, in case it never comes back."""
        self._updater.watch.busy = Run(bundle.bundle, bundle.release)
        try:
            answer = bundle.pipeline.answer(frame.data, frame.media_type)
            return answer, bundle.pipeline.decide(answer, bundle.release)
        finally:
            self._updater.watch.busy = None

    def _look(self, period: Period, frame: Frame) -> None:
        """Without any bundle: only see what the frame is like, so that typical ones can be kept."""
        item = _item(frame, UNDECIDED, plain_embedding(frame))
        period.items.append(item)
        period.bytes_seen += len(frame.data)

    def _remember(self, item: Item) -> None:
        self.recent[item.name] = item
        if len(self.recent) > self._limits.recent_max:
            self.recent.popitem(last=False)

    def _hurry(self, urgent: Urgent) -> None:
        if len(self.urgent) >= self._limits.urgent_waiting_max:
            self.shed_urgent[urgent.why] = self.shed_urgent.get(urgent.why, 0) + 1
            return
        urgent.item.kept = True
        self.urgent.append(urgent)

    def _period(self, now: datetime) -> Period:
        if self._open is None:
            self._open = Period(opened_at=now, last_at=now)
        return self._open

    def _close_if_over(self, now: datetime, bundle: str | None) -> None:
        period = self._open
        if period is None:
            return
        idle = now - period.last_at >= timedelta(seconds=self._upload.period_s)
        # While two bundles are compared, the hub waits for the counts.
        due = self._updater.shadow is not None and now - period.opened_at >= timedelta(seconds=self._telemetry_s)
        # Embeddings of two bundles cannot be compared, so a period belongs to one.
        if idle or due or period.bundle != bundle:
            self.close_period()

    def _close_if_full(self, period: Period) -> None:
        # At half the ring the oldest frame of the period is sure to be still there when the selection is made.
        if period.frames >= self._upload.period_frames or period.bytes_seen >= self._limits.ring_bytes // 2:
            self.close_period()


def _item(frame: Frame, decision: Decision, embedding: Floats | None) -> Item:
    return Item(
        name=frame.name,
        size_bytes=len(frame.data),
        decision=decision,
        embedding=embedding,
        subject=subject_of(frame.facts, frame.group),
        taken_at=frame.taken_at,
    )
