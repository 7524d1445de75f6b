"""The pipelines of one device: each its own source, period, cursor and counts, none waiting for another."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from edgewise.edge._decider import SILENT_S, Decider
from edgewise.edge._period import MAIN, Act, Item
from edgewise.frames import Decided
from edgewise.measure import Histogram
from edgewise.ports import Clock, Frame, Source, await_frame
from edgewise.wire import NotValid

PIPELINES_MAX = 16
OPEN_PAUSE_S = 1.0  # between two tries to open a source, doubled after each failure
OPEN_PAUSE_S_MAX = 60.0

OpenSource = Callable[[str | None], Source]


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelinePart:
    """What one pipeline is made of.

    Attributes:
        name: unique on the device; no slash in it.
        open_source: the frames after the one with this name, None for all.
        act: the app's pure function; a text it returns raises an alarm.
        sinks: names of the use case's sinks that hear its decisions; None for all.
        patient: the source is opened when it is first asked and again after a failure, so that a camera which is not
            there does not keep the others from starting. False opens it at once and raises what that raises.
    """

    name: str = MAIN
    open_source: OpenSource
    act: Act | None = None
    sinks: tuple[str, ...] | None = None
    patient: bool = True


class LateSource:
    """A source that is opened by whoever asks for its first frame, and opened again after it failed to open.

    Args:
        open_source: opens it after a frame; may raise anything, and may take its time.
        after: the last frame that was recorded.
        clock: for the pause between two tries: a second, doubled up to a minute.
    """

    def __init__(self, open_source: OpenSource, after: str | None, clock: Clock) -> None:
        self._open_source = open_source
        self._after = after
        self._clock = clock
        self.skipped, self.last_skip = 0, ""
        self._source: Source | None = None
        self._tries = 0
        self._again_at = 0.0
        self._error: Exception | None = None

    def next(self) -> Frame | None:
        if self._source is None:
            self._source = self._opened()
        source = self._source
        try:
            return source.next()
        finally:
            self.skipped, self.last_skip = source.skipped, source.last_skip

    def wait(self, seconds_max: float) -> bool:
        return self._source is not None and await_frame(self._source, seconds_max)

    def close(self) -> None:
        if self._source is not None:
            self._source.close()

    def _opened(self) -> Source:
        if self._error is not None and self._clock.monotonic_s() < self._again_at:
            raise self._error
        try:
            return self._open_source(self._after)
        except Exception as error:
            pause_s = min(OPEN_PAUSE_S * 2.0 ** min(self._tries, 10), OPEN_PAUSE_S_MAX)
            self._tries += 1
            self._error, self._again_at = error, self._clock.monotonic_s() + pause_s
            raise


def unique_name(pipeline: str, frame: str, pipelines: Sequence[str]) -> str:
    """A frame's name that is unique on the device, given that it is unique at its source.

    The frames of the pipeline ``main`` keep their names, as on a device with one pipeline – unless such a name looks
    like that of another pipeline's frame.

    >>> unique_name("door", "7.jpg", ["main", "door"]), unique_name("main", "7.jpg", ["main", "door"])
    ('door/7.jpg', '7.jpg')
    >>> unique_name("main", "door/7.jpg", ["main", "door"])
    'main/door/7.jpg'
    """
    head, slash, _ = frame.partition("/")
    if pipeline == MAIN and not (slash and head in pipelines):
        return frame
    return f"{pipeline}/{frame}"


class Pipelines:
    """The deciders of a device by name, in the order given; the first is the one that a plain ``step`` starts with.

    Args:
        deciders: at least one, with different names.
    """

    def __init__(self, deciders: Sequence[Decider]) -> None:
        self.by_name = {decider.name: decider for decider in deciders}
        self._order = list(deciders)
        self._next = 0

    def __iter__(self) -> Iterator[Decider]:
        return iter(self._order)

    @property
    def names(self) -> list[str]:
        return list(self.by_name)

    @property
    def first(self) -> Decider:
        return self._order[0]

    def step(self, now: datetime, name: str | None = None) -> Decided | None:
        """One frame's decision, of the named pipeline or of the next in turn that has one; None when none has."""
        if name is not None:
            return self.by_name[name].step(now)
        for turn in range(len(self._order)):
            decision = self._order[(self._next + turn) % len(self._order)].step(now)
            if decision is not None:
                self._next = (self._next + turn + 1) % len(self._order)
                return decision
        return None

    def close_periods(self) -> None:
        for decider in self._order:
            decider.close_period()

    def close_sources(self) -> None:
        for decider in self._order:
            decider.close_source()

    @property
    def decided(self) -> int:
        """Decisions in this process."""
        return sum(decider.decided for decider in self._order)

    @property
    def taken(self) -> int:
        """Frames taken in this process, decided on or not."""
        return sum(decider.taken for decider in self._order)

    def latency(self) -> Histogram:
        """Of all decisions in this process."""
        return functools.reduce(operator.add, (decider.latency for decider in self._order))

    @property
    def period_frames(self) -> int:
        return sum(decider.period_frames for decider in self._order)

    @property
    def urgent_waiting(self) -> int:
        return sum(len(decider.urgent) for decider in self._order)

    def find(self, frame: str) -> Item | None:
        """What was decided on a frame, None when that is not remembered."""
        return next((item for one in self._order if (item := one.find(frame)) is not None), None)

    def complaints(self, *, names: bool = True) -> list[str]:
        """What is wrong with sources and apps, each a sentence; a device with one pipeline does not name it.

        Args:
            names: whether names of frames may be told, which errors may hold.
        """
        alone = len(self._order) == 1
        found = []
        for one in self._order:
            of = "" if alone else f" of pipeline {one.name}"
            if one.source_error:
                found.append(f"the source{of}: {told(one.source_error, names=names)}")
            if one.silent_s >= SILENT_S:
                found.append(f"the source{of}: it has not answered for {one.silent_s:.0f} s")
            if one.act_error:
                error = told(one.act_error, names=names)
                found.append(f"the app{of} failed {one.act_failures} times, the last time: {error}")
        return found


def told(error: str | None, *, names: bool) -> str | None:
    """An error's text as far as it may be told: it may name a frame."""
    hidden = "it cannot be read; the policy lets no names of frames leave"
    return error if names or error is None else hidden


def check_parts(parts: Sequence[PipelinePart]) -> None:
    """Nothing, when these can be the pipelines of one device.

    Raises:
        NotValid: none, more than ``PIPELINES_MAX``, a name with a slash, or one name twice.
    """
    names = [part.name for part in parts]
    if not 1 <= len(names) <= PIPELINES_MAX:
        raise NotValid(f"{len(names)} pipelines, needs 1 to {PIPELINES_MAX}", code="pipelines_wrong")
    if len(set(names)) != len(names) or any(not name or "/" in name for name in names):
        raise NotValid(
            f"the pipelines are named {', '.join(names)}; needs different names without a slash", code="pipelines_wrong"
        )
