"""Hard frames handed to a large bundle, beside the decision loop, which never waits for any of it (invariant 1)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.edge._period import Corrected, Item
from edgewise.edge.private import private_content
from edgewise.edge.ring import Ring
from edgewise.frames import Decided, differ
from edgewise.measure import Histogram
from edgewise.plan import DeferRule, consider, first_state, give_back, settle
from edgewise.policy import may_leave
from edgewise.ports import Clock, Frame, Large, LinkDown
from edgewise.wire import Cascade as Terms
from edgewise.wire import DataPolicy, EdgewiseError, NotValid

PAUSE_S = 1.0  # after a failed call nothing is deferred for this long, doubled with each further one
PAUSE_S_MAX = 60.0
FATES = (
    "sent",  # handed over; each of these ends as one of the next four
    "answered",
    "late",  # no answer in time
    "refused",  # the other side says no
    "failed",  # no link
    "agreed",  # of the answered: the same label
    "disagreed",
    "expired",  # waited here for so long that an answer could not be in time
    "busy",  # too many waited already
    "link_down",  # hard frames while the link pauses
    "over_share",
    "over_bytes",
    "forbidden",  # by the policy
    "not_private",  # could not be made private
    "ring_passed",  # the frame was gone before its turn
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Deferral:
    item: Item
    reckoned_bytes: int
    began_s: float
    corrected: Corrected


class Cascade:
    """What is deferred, and what became of it. ``offer`` belongs to the decision loops, ``step`` to one other thread.

    Frames wait in the ring, so that what waits here is a few names; a frame is made private only when its turn comes.

    Args:
        terms: the bounds, from the use case.
        policy: asked before anything leaves.
        policy_known: False while the hub's policy is newer than this one: nothing leaves then.
        large: the large bundle.
        ring: holds the frames' bytes.
        stored: what ``plain`` gave before the device stopped.
        key: of keyed hashes, where the policy's transforms make some.
    """

    def __init__(
        self,
        terms: Terms,
        *,
        policy: DataPolicy,
        large: Large,
        ring: Ring,
        clock: Clock,
        policy_known: Callable[[], bool] = lambda: True,
        stored: Mapping[str, Any] | None = None,
        key: bytes = b"",
    ) -> None:
        stored = stored or {}
        self._terms, self._policy, self._large = terms, policy, large
        self._ring, self._clock, self._policy_known = ring, clock, policy_known
        self._key = key
        self._rule = DeferRule(
            margin_max=terms.margin_max, share_max=terms.share_max, bytes_per_day=terms.bytes_per_day
        )
        self._state = first_state(self._rule, bytes_left=stored.get("bytes_left"))
        self.counts = dict.fromkeys(FATES, 0) | {k: v for k, v in stored.get("counts", {}).items() if k in FATES}
        self.bytes_sent = int(stored.get("bytes_sent", 0))
        self.latency = Histogram()  # from decision to corrected decision, of the answered
        self.error: str | None = None  # why the last call failed
        self._failures = 0  # in a row
        self._again_s = 0.0
        self._waiting: deque[_Deferral] = deque()
        self._turn = threading.Condition()

    # -- the decision loops' half --------------------------------------------------------------------------------------

    def offer(self, item: Item, margin: float, corrected: Corrected) -> bool:
        """Defer a frame if it is hard and everything allows it; touches memory only. True when it waits for its turn.

        Args:
            item: its decision; the frame itself is in the ring.
            margin: of the decision, 0 to 1.
            corrected: told the large bundle's decision, should one come in time.
        """
        now_s = self._clock.monotonic_s()
        with self._turn:
            self._state, verdict = consider(
                self._rule, self._state, margin=margin, size_bytes=item.size_bytes, at_s=now_s
            )
            if verdict == "certain":
                return False
            why_not = verdict if verdict != "defer" else self._why_not(now_s)
            if why_not is not None:
                self.counts[why_not] += 1
                if verdict == "defer":
                    self._state = give_back(self._state, reckoned_bytes=item.size_bytes)
                return False
            self._waiting.append(
                _Deferral(item=item, reckoned_bytes=item.size_bytes, began_s=now_s, corrected=corrected)
            )
            self._turn.notify()
        return True

    def _why_not(self, now_s: float) -> str | None:
        if self.forbidden() is not None:
            return "forbidden"
        if now_s < self._again_s:
            return "link_down"
        return "busy" if len(self._waiting) >= self._terms.waiting_max else None

    def forbidden(self) -> str | None:
        """Why the policy lets nothing be deferred; None when it does."""
        if not self._policy_known():
            return "the policy in force is not known here"
        try:
            may_leave(self._policy, "deferral")
        except NotValid as error:
            return str(error)
        return None

    # -- the other thread's half ---------------------------------------------------------------------------------------

    def step(self, wait_s: float = 0.0) -> bool:
        """Hand over the frame that waits longest; False when none came within this time."""
        with self._turn:
            if not self._waiting and wait_s:
                self._turn.wait(wait_s)
            if not self._waiting:
                return False
            deferral = self._waiting.popleft()
        fate, sent_bytes = self._hand_over(deferral)
        with self._turn:
            self.counts[fate] += 1
            if sent_bytes:
                self._state = settle(self._state, reckoned_bytes=deferral.reckoned_bytes, sent_bytes=sent_bytes)
                self.counts["sent"] += 1
                self.bytes_sent += sent_bytes
            else:
                self._state = give_back(self._state, reckoned_bytes=deferral.reckoned_bytes)
        return True

    def _hand_over(self, deferral: _Deferral) -> tuple[str, int]:
        """The fate of a deferral, and the bytes that went out for it."""
        now_s = self._clock.monotonic_s()
        left_s = self._terms.latency_ms_max / 1000 - (now_s - deferral.began_s)
        if now_s < self._again_s:
            return "link_down", 0
        if left_s <= 0:
            return "expired", 0
        frame = self._ring.get(deferral.item.name)
        if frame is None:
            return "ring_passed", 0
        if self.forbidden() is not None:  # asked again: this is the moment in which it would leave
            return "forbidden", 0
        try:
            data, media_type, _ = private_content(frame, self._policy, key=self._key)
        except NotValid:
            return "not_private", 0
        if not self._affords(len(data), deferral.reckoned_bytes):
            return "over_bytes", 0
        return self._asked(deferral, frame, data, media_type, left_s), len(data)

    def _affords(self, size_bytes: int, reckoned_bytes: int) -> bool:
        """Making private can make a frame larger than was reckoned with."""
        return self._state.bytes_left >= size_bytes - reckoned_bytes

    def _asked(self, deferral: _Deferral, frame: Frame, data: bytes, media_type: str, left_s: float) -> str:
        try:
            decision = self._large.decide(data, media_type, timeout_s=left_s)
        except LinkDown as error:
            self._pause(str(error))
            return "late" if error.code == "timeout" else "failed"
        except EdgewiseError as error:
            self._pause(str(error))
            return "refused"
        self._failures, self.error = 0, None
        took_s = self._clock.monotonic_s() - deferral.began_s
        if took_s * 1000 > self._terms.latency_ms_max:
            return "late"
        self.latency.add(took_s * 1000)
        larger = Decided.of(decision)
        agreed = not differ(deferral.item.decision, larger)
        self.counts["agreed" if agreed else "disagreed"] += 1
        deferral.corrected(deferral.item, frame, larger, self._clock.now())
        return "answered"

    def _pause(self, error: str) -> None:
        pause_s = min(PAUSE_S * 2.0 ** min(self._failures, 10), PAUSE_S_MAX)
        self._failures += 1
        self.error, self._again_s = error, self._clock.monotonic_s() + pause_s

    def close(self) -> None:
        """Nothing is handed over any more; what waits keeps the edge's own answer."""
        with self._turn:
            self._waiting.clear()
            self._turn.notify_all()
        self._large.close()

    # -- what others ask -----------------------------------------------------------------------------------------------

    def plain(self) -> dict[str, Any]:
        """What outlives a stop, as JSON values."""
        with self._turn:
            return {
                "bytes_left": self._state.bytes_left,
                "counts": dict(self.counts),
                "bytes_sent": self.bytes_sent,
            }

    def totals(self) -> dict[str, int]:
        """The counts by fate, those of them that are not zero, and the bytes; since the device was made."""
        return {name: count for name, count in self.counts.items() if count} | {"bytes_sent": self.bytes_sent}

    @property
    def threshold(self) -> float:
        """Frames with a margin below it are deferred now."""
        return self._state.threshold

    def complaints(self) -> list[str]:
        """Why nothing is deferred, as sentences."""
        forbidden, paused = self.forbidden(), self._clock.monotonic_s() < self._again_s
        told = [f"nothing is deferred: {forbidden}"] if forbidden else []
        return told + ([f"the large bundle: {self.error}"] if self.error and paused else [])

    def status(self) -> dict[str, Any]:
        """For people and programs on the device."""
        return {
            "bundle": self._terms.bundle,
            "url": self._terms.url,
            "threshold": round(self.threshold, 4),
            "waiting": len(self._waiting),
            "bytes_left": max(0, round(self._state.bytes_left)),
            "forbidden": self.forbidden(),
            "error": self.error,
            "counts": dict(self.counts),
            "bytes_sent": self.bytes_sent,
            "latency_ms": {name: self.latency.quantile(share) for name, share in (("p50", 0.5), ("p99", 0.99))},
        }
