"""The hot path of one pipeline: source → decision → period. It touches memory only; no link, no disk, no lock that is
held for long."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from edgewise.edge._clusters import Floats
from edgewise.edge._cold import UNDECIDED, plain_embedding
from edgewise.edge._counts import Key, Windows
from edgewise.edge._readings import Reading, Sampler
from edgewise.edge._slots import Running
from edgewise.edge._spans import is_over
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
MAIN = "main"  # the pipeline of a device that declares none
FORGET_S_MAX = 0.05  # that an erasure waits for a decision to be made, before it asks again
SILENT_S = 1.0  # a source that has not answered for this long is silent
Act: TypeAlias = Callable[[Frame, Decision], str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopLimits:
    """Every bound of the decision loop in one place."""

    ring_bytes: int = 64_000_000
    recent_max: int = 4096  # decisions that feedback can still be given on
    periods_waiting_max: int = 4  # closed and not recorded: more means that the disk is stuck
    urgent_waiting_max: int = 256
    readings_waiting_max: int = 4096  # moments in a period that the stuck disk does not let end
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
    doubt: float | None = None  # the network's own, that a larger one would say something else
    counted: Key | None = None  # among which counts its decision is
    overridden: bool = False  # an operator called it wrong or missed

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
    items: list[Item] = field(default_factory=list)
    windows: Windows = field(default_factory=Windows)
    bytes_seen: int = 0
    undecided: int = 0
    frames: int = 0
    cursor: str | None = None  # the last frame taken from the source, by its name there
    readings: list[Reading] = field(default_factory=list)
    not_selected: int = 0  # frames of periods that were given up because the disk was stuck
    is_sealed: bool = False  # it is being recorded: what comes later is counted by itself


Corrected: TypeAlias = Callable[[Item, Frame, Decision, datetime], None]
Paired: TypeAlias = Callable[[Item, Period, Decision, datetime], None]
Beside: TypeAlias = Callable[[Item, Period, float, Paired], None]


class Decider:
    """Takes one frame at a time and decides on it. One thread calls ``step``; another takes away what it left.

    While the source is asked nothing is held: one that never answers stops this pipeline, and nothing else.

    Args:
        source: frames, after the last one that was recorded.
        updater: whose bundles decide.
        ring: remembers the frames' bytes.
        clock: for latencies.
        upload: when a period ends.
        act: the app's pure function; a text it returns raises an alarm. None raises none.
        name: of the pipeline.
        unique: makes a frame's name at this source one that is unique on the device.
        pipelines: how many share the ring.
        sampler: takes numbers out of frames; None where no reading may leave.
        defer: offered each decided frame and its margin, for a cascade; touches memory only.
        beside: offered each decided frame, how long that took, and whom to tell what another bundle says of it; touches
            memory only.
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
        name: str = MAIN,
        unique: Callable[[str], str] = str,
        pipelines: int = 1,
        sampler: Sampler | None = None,
        defer: Callable[[Item, float, Corrected], object] | None = None,
        beside: Beside | None = None,
    ) -> None:
        self.name = name
        self._unique = unique
        self._period_bytes_max = limits.ring_bytes // (2 * pipelines)
        self._source = source
        self._updater = updater
        self._ring = ring
        self._clock = clock
        self._upload = upload
        self._limits = limits
        self._act = act
        self._defer = defer
        self._beside = beside
        self._late = Windows()  # pairs whose period is recorded already
        self._telemetry_s = telemetry_s
        self._sampler = sampler
        self._open: Period | None = None
        self._turn = threading.Lock()  # of the open period
        self._asked_at: float | None = None  # when the source was asked, while it has not answered
        self.closed: deque[Period] = deque()
        self.urgent: deque[Urgent] = deque()
        self.recent: OrderedDict[str, Item] = OrderedDict()
        self.shed_urgent: dict[str, int] = {}
        self.source_error: str | None = None
        self.source_failures = 0
        self.act_error: str | None = None
        self.act_failures = 0
        self.taken = 0  # frames, in this process
        self.decided = 0  # in this process
        self.latency = Histogram()  # of all of them

    def step(self, now: datetime) -> Decision | None:
        """Decide on the next frame; None when there is none, or none could be decided on."""
        running = self._updater.running
        with self._turn:
            self._close_if_over(now)
        if running is None and not self._limits.collect:
            return None
        frame = self._next()
        if frame is None:
            return None
        with self._turn:
            # A source may have taken its time: what runs now decides.
            return self._take(frame, self._updater.running or running, now)

    def _take(self, frame: Frame, running: Running | None, now: datetime) -> Decision | None:
        if self._open is not None and self._open.bundle != (running.bundle if running else None):
            self.close_period()  # embeddings of two bundles cannot be compared, so a period belongs to one
        period = self._period(now)
        period.bundle = running.bundle if running else None
        period.frames += 1
        period.last_at, period.cursor = now, frame.name
        self.taken += 1
        if self._sampler is not None and (reading := self._sampler.take(frame)) is not None:
            period.readings.append(reading)
        name = self._unique(frame.name)
        frame = frame if name == frame.name else replace(frame, name=name)
        latency_ms = None
        if running is None:
            self._look(period, frame)
        else:
            latency_ms = self._decide(period, frame, running, self._updater.shadow, now)
        self._ring.put(frame, self.name)
        decision = None if latency_ms is None else period.items[-1].decision
        if latency_ms is not None:
            self._hand_over(period, period.items[-1], latency_ms)
        self._close_if_full(period)
        return decision

    def _hand_over(self, period: Period, item: Item, latency_ms: float) -> None:
        """The frame is in the ring and acted on: others may look at it now."""
        if self._defer is not None:
            self._defer(item, item.ease, self.corrected)
        if self._beside is not None:
            self._beside(item, period, latency_ms, self.paired)

    def tend(self, now: datetime) -> None:
        """End a period that is over although the source does not answer; for the thread that records."""
        if self.silent_s < SILENT_S or not self._turn.acquire(blocking=False):
            return  # the pipeline's own thread looks after it
        try:
            self._close_if_over(now)
        finally:
            self._turn.release()

    @property
    def silent_s(self) -> float:
        """How long the source has not answered; 0 while it is not asked."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else self._clock.monotonic_s() - asked_at

    def forget(self, match: Callable[[Item], bool]) -> bool:
        """Forget the frames that match; False, and nothing is done, while a decision is being made: ask again.

        For the thread that takes away what `step` left.
        """
        if not self._turn.acquire(timeout=FORGET_S_MAX):
            return False
        try:
            for name in [name for name, item in self.recent.items() if match(item)]:
                del self.recent[name]
            for period in (*self.closed, *((self._open,) if self._open else ())):
                period.items = [item for item in period.items if not match(item)]
            for _ in range(len(self.urgent)):
                urgent = self.urgent.popleft()
                if not match(urgent.item):
                    self.urgent.append(urgent)
        finally:
            self._turn.release()
        return True

    def close_period(self) -> None:
        """End the open period now."""
        period = self._open
        if period is None:
            return
        if len(self.closed) >= self._limits.periods_waiting_max:
            # The disk is stuck. Decisions go on and are counted; the frames of this period are given up.
            period.not_selected += len(period.items)
            period.items.clear()
            del period.readings[: -self._limits.readings_waiting_max]
            return
        self._open = None
        self.closed.append(period)

    def close_source(self) -> None:
        """Let go of the source, unless it still keeps the decision thread waiting."""
        if self._asked_at is not None:
            return
        with contextlib.suppress(Exception):  # a driver may raise anything, also at its end
            self._source.close()

    @property
    def period_frames(self) -> int:
        """Frames that were taken from the source and are not recorded yet."""
        open_ = self._open
        return (open_.frames if open_ else 0) + sum(period.frames for period in list(self.closed))

    def _next(self) -> Frame | None:
        self._asked_at = self._clock.monotonic_s()
        try:
            frame = self._source.next()
            self.source_error = None
        except Exception as error:  # a camera's driver may raise anything; the loop asks again
            self.source_error = str(error)
            self.source_failures += 1
            return None
        finally:
            self._asked_at = None
        return frame

    def _decide(
        self, period: Period, frame: Frame, running: Running, shadow: Running | None, now: datetime
    ) -> float | None:
        """How many milliseconds the decision took, None where there is none."""
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
        watch.decided(latency_ms, decision, at_s=ended, where=self.name)
        self.decided += 1
        self.latency.add(latency_ms)
        item = _item(frame, decision, answer.embedding)
        item.doubt = answer.doubt
        text = self._acted(frame, decision)
        rollout = self._updater.rollout if shadow else None
        pipeline = None if self.name == MAIN else self.name
        item.counted = (running.release, running.bundle, rollout, pipeline)
        counts = period.windows.of(item.counted)
        counts.add(decision, len(frame.data), latency_ms, now)
        counts.alarms += is_alarm(decision, running.pipeline.manifest)
        period.items.append(item)
        period.bytes_seen += len(frame.data)
        self._remember(item)
        if text is not None:
            self._hurry(Urgent(item=item, why="alarm", text=text, at=now))
        return latency_ms

    def paired(self, item: Item, period: Period, other: Decision, now: datetime) -> None:
        """What the bundle beside this one says of a frame; for the thread that asked it.

        It is counted with its decision, or by itself once that is recorded: never before it, so that a frame that is
        decided again after a power cut is no second pair.
        """
        assert item.counted is not None, "a pair has a decision"
        differs = other.label != item.decision.label
        with self._turn:
            counts = (self._late if period.is_sealed else period.windows).of(item.counted)
            counts.touch(now)
            counts.paired += 1
            counts.disagreed += differs
        item.shadow, item.rollout = other, item.counted[2]
        if differs:
            self._hurry(Urgent(item=item, why="disagreement", text="", at=now))

    def seal(self, period: Period) -> None:
        """The period is recorded now; for the thread that takes away what `step` left."""
        with self._turn:
            period.is_sealed = True

    def take_late(self) -> Windows:
        """Counts of pairs that came after their period was recorded; once."""
        with self._turn:
            late, self._late = self._late, Windows()
        return late

    def corrected(self, item: Item, frame: Frame, decision: Decision, now: datetime) -> None:
        """The large bundle's word on a frame that this one has decided on; for the thread that hands frames over.

        Where the two disagree the app hears of it, by a second call with a decision marked as deferred, and the frame
        is kept as a disagreement.
        """
        if decision.label == item.decision.label:
            return
        with self._turn:  # the app hears one decision at a time
            text = self._acted(frame, decision)
        pair = replace(item, shadow=decision, rollout=None)
        if text is not None:
            self._hurry(Urgent(item=replace(item, decision=decision, shadow=None), why="alarm", text=text, at=now))
        self._hurry(Urgent(item=pair, why="disagreement", text="", at=now))
        item.kept = item.kept or pair.kept

    def _acted(self, frame: Frame, decision: Decision) -> str | None:
        """What the app says to the decision, which stands whatever the app raises."""
        if self._act is None:
            return None
        try:
            return self._act(frame, decision)
        except Exception as error:
            self.act_failures += 1
            self.act_error = f"{type(error).__name__}: {error}"
            return None

    def _ask(self, bundle: Running, frame: Frame) -> tuple[Answer, Decision]:
        """A bundle's word on a frame. The watch knows whose run it is, in case it never comes back."""
        run = Run(bundle.bundle, bundle.release)
        self._updater.watch.began(run)
        try:
            answer = bundle.pipeline.answer(frame.data, frame.media_type)
            return answer, bundle.pipeline.decide(answer, bundle.release)
        finally:
            self._updater.watch.ended(run)

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
            self._open = Period(opened_at=now, last_at=now, pipeline=self.name)
        return self._open

    def _close_if_over(self, now: datetime) -> None:
        period, running = self._open, self._updater.running
        if period is None:
            return
        idle = is_over(period.last_at, self._upload.period_s, now)
        # While two bundles are compared, the hub waits for the counts.
        due = self._updater.shadow is not None and is_over(period.opened_at, self._telemetry_s, now)
        if idle or due or period.bundle != (running.bundle if running else None):
            self.close_period()

    def _close_if_full(self, period: Period) -> None:
        # At half of its lane of the ring the period's oldest frame is sure to be still there for the selection.
        if period.frames >= self._upload.period_frames or period.bytes_seen >= self._period_bytes_max:
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
