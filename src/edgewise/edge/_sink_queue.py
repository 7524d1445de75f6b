"""One sink's queue, and the thread that drains it: nobody who decides waits for it (invariant 1)."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from edgewise.edge._rarely import Rarely
from edgewise.frames import Decided
from edgewise.ports import Clock, Sink
from edgewise.wire import EdgewiseError, NotNow, SinkEvent, SinkSpec, unmet
from edgewise.wire.sinks import SinkKind

IDLE_S = 0.25
CLOSE_S_MAX = 2.0  # for what still waits when the agent stops
CONFIRMED_AT_ONCE = 20  # looks into the outbox in one turn
UNCONFIRMED_MAX = 1000  # alarms that were delivered and are not durable yet


@dataclass(kw_only=True, slots=True)  # not frozen: it is made in the decision loop, where that would cost a microsecond
class Offer:
    """A decision or an alarm as the decision loop hands it over; the event is made from it by the sink's thread."""

    event: SinkKind
    frame: str
    group: str
    facts: Mapping[str, Any]
    decision: Decided
    text: str
    at: datetime
    at_s: float  # monotonic


@dataclass(kw_only=True, slots=True)
class SinkCounts:
    """What became of events, by kind: shed found no room, late was over its age, forbidden is the policy's word."""

    sent: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    shed: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    forbidden: Counter[str] = field(default_factory=Counter)

    def plain(self) -> dict[str, dict[str, int]]:
        """Counts by outcome and kind of event."""
        return {name: dict(getattr(self, name)) for name in self.__slots__}


class SinkQueue:
    """Events on their way to one sink. Any thread offers; one thread calls ``turn``.

    Alarms go first and are shed last. An alarm is delivered as soon as it can be, and counted as sent when it is
    durable in the outbox as well: the two do not wait for each other, and neither is reported without the other.

    Args:
        spec: what is sent, and every bound.
        open_sink: makes the sink; may raise, and is tried again.
        make: an event from an offer.
        may_send: raises when the policy lets nothing leave by a sink; asked before anything is opened or sent.
        is_durable: whether the outbox holds, or held, the record of this id.
        rarely: says what goes wrong.
    """

    def __init__(
        self,
        spec: SinkSpec,
        *,
        open_sink: Callable[[], Sink],
        make: Callable[[Offer], SinkEvent],
        may_send: Callable[[], None],
        is_durable: Callable[[str], bool],
        clock: Clock,
        rarely: Rarely,
    ) -> None:
        self.spec = spec
        self.counts = SinkCounts()
        self.error: str | None = None
        self._open_sink, self._make, self._may_send, self._is_durable = open_sink, make, may_send, is_durable
        self._clock = clock
        self._rarely = rarely
        self._labels, self._events = frozenset(spec.labels), frozenset(spec.events)
        self._when, self._queue_max = spec.when, spec.queue_max
        self._alarms: deque[Offer] = deque()
        self._decisions: deque[Offer] = deque()
        self._turn = threading.Lock()
        self._wake = threading.Event()
        self._sink: Sink | None = None
        self._current: Offer | None = None
        self._tries = 0
        self._again_s = 0.0
        self._unconfirmed: deque[str] = deque()

    # -- the decision loop's side --------------------------------------------------------------------------------------

    def wants(self, event: SinkKind, label: str) -> bool:
        """Whether the sink is meant for events like this one."""
        return event in self._events and (not self._labels or label in self._labels)

    def offer(self, offer: Offer) -> None:
        """Take this, if the sink is meant for it; what finds no room pushes out what matters less."""
        if not self.wants(offer.event, offer.decision.label):
            return
        if self._when and unmet(self._when, _facts_of(offer)):
            return
        with self._turn:
            (self._alarms if offer.event == "alarm" else self._decisions).append(offer)
            while len(self._alarms) + len(self._decisions) > self._queue_max:
                pushed_out = (self._decisions or self._alarms).popleft()
                self.counts.shed[pushed_out.event] += 1
        if not self._wake.is_set():
            self._wake.set()

    def forget(self, match: Callable[[Offer], bool]) -> None:
        """Drop what waits and matches an erasure."""
        with self._turn:
            for queue in (self._alarms, self._decisions):
                kept = [offer for offer in queue if not match(offer)]
                queue.clear()
                queue.extend(kept)

    @property
    def waiting(self) -> int:
        """Events that wait or are being sent."""
        return len(self._alarms) + len(self._decisions) + (self._current is not None)

    @property
    def unconfirmed(self) -> int:
        """Alarms that were delivered and are not durable yet."""
        return len(self._unconfirmed)

    # -- the sink's side -----------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Drain until told to stop, then for a moment longer."""
        while not stop.is_set():
            self._wake.clear()
            pause_s = self.turn()
            if pause_s > 0:
                self._wake.wait(min(pause_s, IDLE_S))
        self.close()

    def turn(self) -> float:
        """One step of work; seconds after which the next one is of use, 0 for at once. Raises nothing."""
        self._confirm()
        if (left_s := self._again_s - self._clock.monotonic_s()) > 0:
            return left_s
        try:
            self._may_send()
        except EdgewiseError as error:
            return self._forbid(error)
        try:
            return self._step()
        except EdgewiseError as error:
            return self._failed(error)
        except Exception as error:  # a library may raise anything, and nothing of it may end this thread
            return self._failed(NotNow(f"{type(error).__name__}: {error}", code="sink_failed"))

    def close(self) -> None:
        """Send what waits, once each and for a bounded time; count the rest as shed; let go of the sink."""
        end_s = self._clock.monotonic_s() + CLOSE_S_MAX
        while self.waiting and self._clock.monotonic_s() < end_s and self.turn() == 0:
            continue
        with self._turn:
            left = [*self._alarms, *self._decisions, *([self._current] if self._current else [])]
            self._alarms.clear()
            self._decisions.clear()
            self._current = None
        for offer in left:
            self.counts.shed[offer.event] += 1
        self._confirm()
        self._let_go()

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _step(self) -> float:
        if self._sink is None:
            self._sink = self._open_sink()
        if self._current is None:
            self._current = self._next()
            self._tries = 0 if self._current is not None else self._tries
        if self._current is None:
            self._sink.idle()
            self._is_well()
            return IDLE_S
        offer = self._current
        if self.spec.age_s_max is not None and self._clock.monotonic_s() - offer.at_s > self.spec.age_s_max:
            self._done(self.counts.late)
            return 0.0
        event = self._make(offer)
        self._sink.send(event)
        if offer.event == "alarm" and not self._is_durable(event.id):
            self._hold(event.id)
            self._current, self._tries = None, 0
        else:
            self._done(self.counts.sent)
        self._is_well()
        return 0.0

    def _next(self) -> Offer | None:
        with self._turn:
            queue = self._alarms or self._decisions
            return queue.popleft() if queue else None

    def _done(self, outcome: Counter[str]) -> None:
        assert self._current is not None, "something was being sent"
        outcome[self._current.event] += 1
        self._current, self._tries = None, 0

    def _failed(self, error: EdgewiseError) -> float:
        """Count a failure; an event that cannot be taken, or was tried often enough, is given up."""
        self.error = str(error)
        self._rarely.say("does not take events", error)
        self._tries += 1
        if self._current is not None and self._sink is not None:
            refused = not isinstance(error, NotNow)
            if refused or self._tries >= self.spec.attempts_max:
                self._done(self.counts.failed)
                if refused:
                    return 0.0  # the next event may be one that it takes
        pause_s = min(self.spec.retry_s_min * 2.0 ** min(max(self._tries, 1) - 1, 30), self.spec.retry_s_max)
        self._again_s = self._clock.monotonic_s() + pause_s
        return pause_s

    def _forbid(self, error: EdgewiseError) -> float:
        self.error = str(error)
        while (offer := self._current or self._next()) is not None:
            self._current = None
            self.counts.forbidden[offer.event] += 1
            self._rarely.say("may send nothing", error)
        self._let_go()
        return IDLE_S

    def _let_go(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            with contextlib.suppress(Exception):  # what a library says at its end helps nobody
                sink.close()

    def _is_well(self) -> None:
        self.error = None
        if self._current is None:
            self._tries = 0

    def _hold(self, record_id: str) -> None:
        if len(self._unconfirmed) >= UNCONFIRMED_MAX:
            self._unconfirmed.popleft()
            self.counts.failed["alarm"] += 1
        self._unconfirmed.append(record_id)

    def _confirm(self) -> None:
        """Count as sent what was delivered and has become durable since."""
        for _ in range(min(len(self._unconfirmed), CONFIRMED_AT_ONCE)):
            record_id = self._unconfirmed.popleft()
            if self._is_durable(record_id):
                self.counts.sent["alarm"] += 1
            else:
                self._unconfirmed.append(record_id)


def _facts_of(offer: Offer) -> dict[str, Any]:
    decision = offer.decision
    known = {"label": decision.label, "confidence": decision.confidence, "margin": decision.margin}
    if decision.defect is not None:
        known["defect"] = decision.defect
    if decision.stated is not None:
        known |= dict(zip(("low", "value", "high"), decision.stated, strict=True))
    return {**offer.facts, **known}
