"""The hot path of one pipeline: source → decision → period. It touches memory only; no link, no disk, no lock that is
held for long."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from edgewise.edge._cold import UNDECIDED, plain_embedding
from edgewise.edge._counts import Windows
from edgewise.edge._period import MAIN, Act, Beside, Corrected, Item, Period, Urgent, item_of
from edgewise.edge._readings import Sampler
from edgewise.edge._slots import Running
from edgewise.edge._spans import has_passed, is_over
from edgewise.edge._tally import Tally
from edgewise.edge._watch import Run
from edgewise.edge.ring import Ring
from edgewise.edge.update import Updater
from edgewise.frames import Decided, differ
from edgewise.measure import Histogram
from edgewise.ports import Clock, Frame, Judged, Source, await_frame
from edgewise.wire import Upload

# An unreadable frame says nothing about the bundle; everything else that it raises does.
FRAME_FAULTS = frozenset({"bad_picture", "bad_row", "not_json"})
FORGET_S_MAX = 0.05  # that an erasure waits for a decision to be made, before it asks again
SILENT_S = 1.0  # a source that has not answered for this long is silent


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopLimits:
    """Every bound of the decision loop in one place."""

    ring_bytes: int = 64_000_000
    recent_max: int = 4096  # decisions that feedback can still be given on
    periods_waiting_max: int = 4  # closed and not recorded: more means that the disk is stuck
    urgent_waiting_max: int = 256
    readings_waiting_max: int = 4096  # moments in a period that the stuck disk does not let end
    collect: bool = False  # without any bundle: False leaves frames at the source, True looks at them and keeps some


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
        self._idle_max = timedelta(seconds=upload.period_s)
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
        self._tally = Tally()  # of the open period's last decisions
        self._run: Run | None = None  # the last one
        self._turn = threading.Lock()  # of the open period and the tally
        self._asked_at: float | None = None  # when the source was asked, while it has not answered
        self.closed: deque[Period] = deque()
        self.urgent: deque[Urgent] = deque()
        # By age, not by name: that is quicker to fill, and feedback, which looks for a name, is rare.
        self.recent: deque[Item] = deque(maxlen=limits.recent_max)
        self.shed_urgent: dict[str, int] = {}
        self.source_error: str | None = None
        self.source_failures = 0
        self.act_error: str | None = None
        self.act_failures = 0
        self.taken = 0  # frames, in this process
        self.decided = 0  # in this process

    def step(self, now: datetime) -> Decided | None:
        """Decide on the next frame; None when there is none, or none could be decided on."""
        running = self._updater.running
        if self._is_over(now):
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

    def _take(self, frame: Frame, running: Running | None, now: datetime) -> Decided | None:
        bundle = running.bundle if running is not None else None
        if self._open is not None and self._open.bundle != bundle:
            self.close_period()  # embeddings of two bundles cannot be compared, so a period belongs to one
        period = self._open
        if period is None:
            period = self._open = Period(opened_at=now, last_at=now, pipeline=self.name)
        period.frames += 1
        period.last_at, period.cursor = now, frame.name
        if period.bundle != bundle:
            period.bundle = bundle
            period.sites = running.pipeline.manifest.provenance.sites if running is not None else None
        self.taken += 1
        if self._sampler is not None and (reading := self._sampler.take(frame)) is not None:
            period.readings.append(reading)
        name = self._unique(frame.name)
        if name != frame.name:
            frame = frame._replace(name=name)
        latency_ms = None
        if running is None:
            self._look(period, frame)
        else:
            latency_ms = self._decide(period, frame, running, now)
        self._ring.put(frame, self.name)
        decision = None
        if latency_ms is not None:
            item = period.items[-1]
            decision = item.decision
            # The frame is in the ring and acted on: others may look at it now.
            if self._defer is not None:
                self._defer(item, item.ease, self.corrected)
            if self._beside is not None:
                self._beside(item, period, latency_ms, self.paired)
        # At half of its lane of the ring the period's oldest frame is sure to be still there for the selection.
        if period.frames >= self._upload.period_frames or period.bytes_seen >= self._period_bytes_max:
            self.close_period()
        return decision

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
            self.recent = deque((item for item in self.recent if not match(item)), self._limits.recent_max)
            for period in (*self.closed, *((self._open,) if self._open else ())):
                period.items = [item for item in period.items if not match(item)]
            for _ in range(len(self.urgent)):
                urgent = self.urgent.popleft()
                if not match(urgent.item):
                    self.urgent.append(urgent)
        finally:
            self._turn.release()
        return True

    def find(self, name: str) -> Item | None:
        """The last decision on a frame of this name, None when it is not remembered."""
        return next((item for item in reversed(list(self.recent)) if item.name == name), None)

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
        self._count(period)
        self._open = None
        self.closed.append(period)

    def wait(self, seconds_max: float) -> bool:
        """Wait until the source may have a frame, at most so long; False at once where it cannot tell."""
        return await_frame(self._source, seconds_max)

    def close_source(self) -> None:
        """Let go of the source, unless it still keeps the decision thread waiting."""
        if self._asked_at is not None:
            return
        with contextlib.suppress(Exception):  # a driver may raise anything, also at its end
            self._source.close()

    @property
    def latency(self) -> Histogram:
        """How long the decisions of this process took; while one is being made, some of the last are not in it."""
        if self._turn.acquire(blocking=False):
            try:
                if self._open is not None:
                    self._count(self._open)
            finally:
                self._turn.release()
        return self._tally.latency

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

    def _decide(self, period: Period, frame: Frame, running: Running, now: datetime) -> float | None:
        """How many milliseconds the decision took, None where there is none."""
        updater, began_s = self._updater, self._clock.monotonic_s()
        try:
            decision, embedding, doubt = self._ask(running, frame)
        except Exception as error:  # whatever a bundle raises, the loop goes on and the updater judges it
            period.undecided += 1
            if getattr(error, "code", "") not in FRAME_FAULTS:
                updater.watch.failed(error)
            return None
        ended_s = self._clock.monotonic_s()
        latency_ms = (ended_s - began_s) * 1000
        updater.watch.decided(latency_ms, decision, at_s=ended_s, where=self.name)
        self.decided += 1
        text = self._acted(frame, decision) if self._act is not None else None
        rollout = updater.rollout if updater.shadow is not None else None
        if not self._tally.is_of(running, rollout):
            self._count(period)
            self._tally.begin(running, rollout, None if self.name == MAIN else self.name)
        item = item_of(frame, decision, embedding, doubt, self._tally.key)
        if self._tally.add(decision, item.size_bytes, latency_ms, now):
            self._count(period)
        period.items.append(item)
        period.bytes_seen += item.size_bytes
        self.recent.append(item)
        if text is not None:
            self._hurry(Urgent(item=item, why="alarm", text=text, at=now))
        return latency_ms

    def _count(self, period: Period) -> None:
        """Bring the period's counts up to date."""
        self._tally.count_into(period.windows)

    def paired(self, item: Item, period: Period, other: Decided, now: datetime) -> None:
        """What the bundle beside this one says of a frame; for the thread that asked it.

        It is counted with its decision, or by itself once that is recorded: never before it, so that a frame that is
        decided again after a power cut is no second pair.
        """
        assert item.counted is not None, "a pair has a decision"
        differs = differ(item.decision, other)
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

    def corrected(self, item: Item, frame: Frame, decision: Decided, now: datetime) -> None:
        """The large bundle's word on a frame that this one has decided on; for the thread that hands frames over.

        Where the two disagree the app hears of it, by a second call with a decision marked as deferred, and the frame
        is kept as a disagreement.
        """
        if not differ(item.decision, decision):
            return
        with self._turn:  # the app hears one decision at a time
            text = self._acted(frame, decision)
        pair = replace(item, shadow=decision, rollout=None)
        if text is not None:
            self._hurry(Urgent(item=replace(item, decision=decision, shadow=None), why="alarm", text=text, at=now))
        self._hurry(Urgent(item=pair, why="disagreement", text="", at=now))
        item.kept = item.kept or pair.kept

    def _acted(self, frame: Frame, decision: Decided) -> str | None:
        """What the app says to the decision, which stands whatever the app raises."""
        try:
            return None if self._act is None else self._act(frame, decision)
        except Exception as error:
            self.act_failures += 1
            self.act_error = f"{type(error).__name__}: {error}"
            return None

    def _ask(self, bundle: Running, frame: Frame) -> Judged:
        """A bundle's word on a frame. The watch knows whose run it is, in case it never comes back."""
        run, watch = self._run, self._updater.watch
        if run is None or run.bundle != bundle.bundle or run.release != bundle.release:
            run = self._run = Run(bundle.bundle, bundle.release)
        watch.began(run)
        try:
            return bundle.pipeline.judge(frame.data, frame.media_type, bundle.release)
        finally:
            watch.ended(run)

    def _look(self, period: Period, frame: Frame) -> None:
        """Without any bundle: only see what the frame is like, so that typical ones can be kept."""
        item = item_of(frame, UNDECIDED, plain_embedding(frame))
        period.items.append(item)
        period.bytes_seen += item.size_bytes

    def _hurry(self, urgent: Urgent) -> None:
        if len(self.urgent) >= self._limits.urgent_waiting_max:
            self.shed_urgent[urgent.why] = self.shed_urgent.get(urgent.why, 0) + 1
            return
        urgent.item.kept = True
        self.urgent.append(urgent)

    def _is_over(self, now: datetime) -> bool:
        """Whether the open period has to end before the next frame."""
        period, updater = self._open, self._updater
        if period is None:
            return False
        running = updater.running
        if has_passed(period.last_at, self._idle_max, now):
            return True
        if period.bundle != (running.bundle if running is not None else None):
            return True
        # While two bundles are compared, the hub waits for the counts.
        return updater.shadow is not None and is_over(period.opened_at, self._telemetry_s, now)

    def _close_if_over(self, now: datetime) -> None:
        if self._is_over(now):
            self.close_period()
