"""How a bundle does: tried on its golden inputs, then told by the decision loop and judged by the updater."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from edgewise.edge._guard import Failures, Lateness, Memory, Opinion
from edgewise.edge._slots import Running
from edgewise.edge._update_state import UpdateLimits
from edgewise.frames import Decided
from edgewise.policy import error_words
from edgewise.ports import Clock
from edgewise.wire import EdgewiseError, NotValid

HEARD_MAX = 256  # decisions that are not looked at yet
Heard: TypeAlias = tuple[str, Decided | None, float, float]  # where, what, latency in ms, when


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run of a bundle's network that has begun and not ended."""

    bundle: str
    release: str | None


class Complaint(NamedTuple):
    """What speaks against a bundle."""

    code: str  # of `_failures.CODES`
    text: str


class Watch:
    """What speaks against the bundle that runs. The decision loop writes, the updater reads.

    Args:
        limits: the bounds.
    """

    def __init__(self, limits: UpdateLimits | None = None) -> None:
        self._limits = limits or UpdateLimits()
        self._lock = threading.Lock()
        self._runs: dict[int, Run] = {}  # of all decision loops, in the order in which they began
        self._heard: deque[Heard] = deque()
        self.clear()

    def clear(self) -> None:
        """Start again, for another bundle."""
        limits, guard = self._limits, self._limits.guard
        with self._lock:
            self._heard.clear()
            self._failures = Failures(guard, in_a_row_max=limits.errors_max)
            self._lateness = Lateness(guard, ms_max=limits.latency_ms_max, count_min=limits.latency_count_min)
            self._opinions: dict[str, Opinion] = {}  # by decision loop: each looks at something else
            self._memory = Memory(guard)

    def began(self, run: Run) -> None:
        """A decision loop asks a bundle."""
        self._runs[id(run)] = run

    def ended(self, run: Run) -> None:
        """It answered, or failed."""
        self._runs.pop(id(run), None)

    @property
    def busy(self) -> Run | None:
        """The run that began first of those that have not ended; later ones may only wait for it."""
        runs = list(self._runs.values())
        return runs[0] if runs else None

    def decided(
        self, latency_ms: float, decision: Decided | None = None, *, at_s: float = 0.0, where: str = ""
    ) -> None:
        """One decision was made. It is looked at with the next ones, or as soon as somebody asks.

        Args:
            at_s: when, by the monotonic clock.
            where: the decision loop.
        """
        heard = self._heard
        heard.append((where, decision, latency_ms, at_s))
        if len(heard) >= HEARD_MAX:
            with self._lock:
                self._listen()

    def _listen(self) -> None:
        """Look at the decisions that were only heard of so far; one thread at a time."""
        heard = [self._heard.popleft() for _ in range(len(self._heard))]
        if not heard:
            return
        loops, _, times_ms, moments_s = zip(*heard, strict=True)
        self._failures.decided(len(heard))
        self._lateness.decided(times_ms, moments_s)
        for where in set(loops):
            told = [one for one in heard if one[0] == where and one[1] is not None]
            if told:
                _, decisions, times_ms, _ = zip(*told, strict=True)
                self._opinion(where).decided(decisions, times_ms)

    def compared(
        self,
        decision: Decided,
        other: Decided,
        *,
        other_ms: float = 0.0,
        latency_ms: float | None = None,
        where: str = "",
    ) -> None:
        """The other slot's bundle decided on the same frame, in so many milliseconds; and how long the first took."""
        with self._lock:
            self._listen()
            self._opinion(where).compared(decision, other, other_ms, latency_ms)

    def _opinion(self, where: str) -> Opinion:
        if where not in self._opinions:
            self._opinions[where] = Opinion(self._limits.guard, ms_max=self._limits.latency_ms_max)
        return self._opinions[where]

    def failed(self, error: Exception) -> None:
        """The bundle could not decide on a frame that is in order."""
        with self._lock:
            self._listen()
            self._failures.failed(error_text(error))

    def weighed(self, held_mb: float, *, own_mb: float, needs_mb: float) -> None:
        """The memory held now; see `Memory.looked`."""
        with self._lock:
            self._memory.looked(held_mb, own_mb=own_mb, needs_mb=needs_mb)

    @property
    def wants_opinion(self) -> bool:
        """Whether the other slot's bundle should be asked about the next frames."""
        with self._lock:
            self._listen()
            return any(opinion.frames_left > 0 for opinion in self._opinions.values())

    def complaint(self, *, trial: bool = True, other: str = "the former bundle") -> Complaint | None:
        """Why the bundle should not go on; None when there is nothing against it.

        Args:
            trial: it is on trial, so that its latency is judged from the first decisions on.
            other: how to call the bundle of the other slot.
        """
        with self._lock:
            self._listen()
            found: list[tuple[str, str | None]] = [
                ("decisions_failed", self._failures.complaint()),
                ("latency_over_deadline", self._lateness.complaint() if trial else None),
                ("memory_over", self._memory.complaint()),
                *((one.code, one.complaint(other)) for one in self._opinions.values()),
            ]
        return next((Complaint(code, text) for code, text in found if text is not None), None)

    def remark(self) -> str | None:
        """Something that a person should hear of, and that is no reason to go back."""
        with self._lock:
            self._listen()
            return self._lateness.remark()


def error_text(error: Exception) -> str:
    """What a bundle raised, as it may be told: ours say what it did wrong, others may quote a row's value."""
    return str(error) if isinstance(error, EdgewiseError) else error_words(error, names=False)


def try_out(opened: Running, clock: Clock, limits: UpdateLimits) -> Running:
    """The bundle, once it gave the right answers to its golden inputs in time.

    Raises:
        NotValid: another answer, or too slow (code ``too_slow``).
    """
    opened.pipeline.check_golden()  # also warms it up: the first run of a network is no measure of it
    began = clock.monotonic_s()
    opened.pipeline.check_golden(paths=False)  # every graph once for each input: the longest way there is
    latency_ms = (clock.monotonic_s() - began) * 1000 / opened.pipeline.manifest.golden.count
    if latency_ms > limits.latency_ms_max:
        raise NotValid(
            f"{opened.release} takes {latency_ms:.3g} ms for a golden input, at most "
            f"{limits.latency_ms_max:g} ms are allowed here",
            code="too_slow",
        )
    return opened
