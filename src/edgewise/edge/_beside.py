"""The bundle that decides beside the acting one: on the same frames, after it, in a thread of its own.

No decision waits for it. It shadows – before it may act, or while the newer one bakes – or says what it thinks of the
frames while the guard doubts the one that acts.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from edgewise.edge._decider import FRAME_FAULTS
from edgewise.edge._period import Item, Paired, Period
from edgewise.edge._slots import Running
from edgewise.edge._time_budget import TimeBudget, full_time
from edgewise.edge._watch import Run
from edgewise.edge.ring import Ring
from edgewise.edge.update import Updater
from edgewise.frames import Decided
from edgewise.ports import Chance, Clock, step_aside

WAITING_MAX = 64  # frames that wait for their turn, by name: their bytes are in the ring
COST_WEIGHT = 0.1  # of the newest run in what one is reckoned to take
LEFT_OUT = (
    "over_share",  # drawn out: the time for it is nearly spent, or spent
    "busy",  # too many waited already
    "ring_passed",  # the frame was gone before its turn
    "replaced",  # so was the bundle
    "failed",  # the bundle did not decide on it
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Task:
    """A frame that was decided on, to be decided on once more."""

    item: Item
    period: Period
    bundle: Running
    latency_ms: float  # of the decision that acted
    pairs: bool  # the two decisions are counted and compared for the hub
    asked: bool  # the guard wants to know
    told: Paired


class Beside:
    """What the second bundle is asked. ``offer`` belongs to the decision loops, ``step`` to one other thread.

    Args:
        updater: whose bundles they are, and whose watch hears of the answers.
        ring: holds the frames' bytes.
        chance: draws the frames, where there is no time for all.
    """

    def __init__(self, updater: Updater, ring: Ring, *, clock: Clock, chance: Chance) -> None:
        self._updater, self._ring, self._clock, self._chance = updater, ring, clock, chance
        self._budget: TimeBudget | None = None
        self._acted_s = 0.0  # since the budget was looked at
        self._cost_s = 0.0  # that one run is reckoned to take
        self._stepped_aside: frozenset[int] = frozenset()
        self._waiting: deque[tuple[Task, float]] = deque()  # with what was reckoned for it
        self._turn = threading.Condition()
        self.left_out = dict.fromkeys(LEFT_OUT, 0)
        self.paired = 0

    # -- the decision loops' half --------------------------------------------------------------------------------------

    def offer(self, item: Item, period: Period, latency_ms: float, told: Paired) -> None:
        """Have a frame that was just decided on decided on once more, if somebody wants that; touches memory only."""
        shadow, second = self._updater.shadow, self._updater.second
        bundle = shadow or second
        if bundle is None:
            return
        with self._turn:
            self._acted_s += latency_ms / 1000
            pairs, asked = shadow is not None and self._is_drawn(), second is not None
            if not pairs and not asked:
                return
            if len(self._waiting) >= WAITING_MAX:
                self.left_out["busy"] += 1
                return
            task = Task(
                item=item,
                period=period,
                bundle=bundle,
                latency_ms=latency_ms,
                pairs=pairs,
                asked=asked,
                told=told,
            )
            reckoned_s = self._cost_s if pairs else 0.0  # what the guard asks for is few, and bounded by itself
            self._spend(reckoned_s)
            self._waiting.append((task, reckoned_s))
            self._turn.notify()

    def _is_drawn(self) -> bool:
        now_s, share = self._clock.monotonic_s(), self._updater.shadow_cpu_share
        if self._budget is None or self._budget.share != share:
            self._budget = full_time(share, now_s)
        self._budget = self._budget.at(now_s, self._acted_s)
        self._acted_s, chance = 0.0, self._budget.chance
        drawn = chance >= 1 or self._chance.random() < chance
        self.left_out["over_share"] += not drawn
        return drawn

    def _spend(self, seconds: float) -> None:
        if self._budget is not None:
            self._budget = self._budget.spent(seconds)

    # -- the other thread's half ---------------------------------------------------------------------------------------

    def step(self, wait_s: float = 0.0) -> bool:
        """Ask about the frame that waits longest; False when none came within this time."""
        with self._turn:
            if not self._waiting and wait_s:
                self._turn.wait(wait_s)
            if not self._waiting:
                return False
            task, reckoned_s = self._waiting.popleft()
        began_s = self._clock.monotonic_s()
        why_not = self._asked(task)
        took_s = self._clock.monotonic_s() - began_s
        with self._turn:
            self._spend((took_s if task.pairs else 0.0) - reckoned_s)
            if why_not in (None, "failed"):
                self._cost_s = self._cost_s + COST_WEIGHT * (took_s - self._cost_s) if self._cost_s else took_s
            if why_not is not None:
                self.left_out[why_not] += 1
            self.paired += why_not is None and task.pairs
        return True

    def _asked(self, task: Task) -> str | None:
        """Why the bundle did not decide on the frame; None when it did."""
        bundle = task.bundle
        if bundle is not self._updater.shadow and bundle is not self._updater.second:
            return "replaced"
        frame = self._ring.get(task.item.name)
        if frame is None:
            return "ring_passed"
        self._step_aside(bundle)
        began_s = self._clock.monotonic_s()
        judge = self._updater.shadow_watch if bundle is self._updater.shadow else None
        try:
            other = self._decide(bundle, frame.data, frame.media_type)
        except Exception as error:  # whatever it raises, nothing acts on it
            if judge is not None and getattr(error, "code", "") not in FRAME_FAULTS:
                judge.failed(error)
            return "failed"
        took_ms = (self._clock.monotonic_s() - began_s) * 1000
        if judge is not None:
            judge.decided(took_ms)
        if task.asked:
            where = task.period.pipeline
            self._updater.watch.compared(
                task.item.decision, other, latency_ms=task.latency_ms, other_ms=took_ms, where=where
            )
        if task.pairs:
            task.told(task.item, task.period, other, self._clock.now())
        return None

    def _decide(self, bundle: Running, data: bytes, media_type: str) -> Decided:
        """A bundle's word on a frame. The watch knows whose run it is, in case it never comes back."""
        if bundle.is_contained:  # then its process is ended, and this one goes on
            return bundle.pipeline.judge(data, media_type, bundle.release).decision
        run = Run(bundle.bundle, bundle.release)
        self._updater.watch.began(run)
        try:
            return bundle.pipeline.judge(data, media_type, bundle.release).decision
        finally:
            self._updater.watch.ended(run)

    def _step_aside(self, bundle: Running) -> None:
        """Its worker, if it has one, runs when nothing else wants to; one that was started again as well."""
        pids = frozenset(bundle.worker_pids)
        for pid in pids - self._stepped_aside:
            step_aside(pid)
        self._stepped_aside = pids

    # -- what others ask -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Nothing is asked any more."""
        with self._turn:
            self._waiting.clear()
            self._turn.notify_all()

    def status(self) -> dict[str, Any]:
        """For people and programs on the device."""
        with self._turn:
            return {
                "waiting": len(self._waiting),
                "paired": self.paired,
                "left_out": dict(self.left_out),
                "share": self._updater.shadow_cpu_share,
                "run_ms": round(self._cost_s * 1000, 3),
            }
