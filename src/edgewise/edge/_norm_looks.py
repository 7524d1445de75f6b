"""Looks at what the normalisations of the network get here, from which a variant for this site is made in the cloud.

A look takes frames that were decided on from the ring, runs the same network on them once more with its inner tensors
as outputs, and keeps sums alone. No decision waits for it: it runs in a thread of its own, a batch at a time, for a
small share of the time. Frames are known by name only until their turn, so what is erased or pushed out is not looked
at.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgewise.edge._period import Period
from edgewise.edge._slots import Running
from edgewise.edge._sums_told import noisy_norm
from edgewise.edge.ring import Ring
from edgewise.frames import prepare
from edgewise.measure import SITE_FRAMES_MIN, norm_sum
from edgewise.ports import Clock, NormWalk, Runtime
from edgewise.wire import Graph, Manifest, NoiseApplied, NotValid, PartNoise, SumsNoise, ToldSums

Why: TypeAlias = Literal["first", "alarm", "asked"]
TOO_FEW = "sums_too_few"
TOLD_MAX = 16  # bundles and questions that are remembered as told


@dataclass(frozen=True, kw_only=True, slots=True)
class NormLimits:
    """Every bound of a look."""

    frames: int = 128  # for each norm
    frames_min: int = SITE_FRAMES_MIN
    every: int = 4  # of the frames decided on one is taken: neighbours often show the same part
    batch: int = 8
    cpu_share: float = 0.1  # of the time, at most
    seconds_max: float = 21_600.0  # of a look; each norm has its even part
    norms_max: int = 64
    channels_max: int = 16_384  # over all norms: about 11 bytes each are told


@dataclass(frozen=True, kw_only=True, slots=True)
class SumsTerms:
    """What a data policy asks of sums."""

    noise: SumsNoise | None = None
    frames_min: int = 1


@dataclass(kw_only=True, slots=True, eq=False)
class _Look:
    """A look that is under way."""

    running: Running
    why: Why
    key: str  # what is told with it: a bundle's first sums, or a question
    noise: SumsNoise | None
    frames_min: int
    evidence: float | None
    norm_began_s: float
    since: datetime | None = None
    until: datetime | None = None
    names: deque[str] = field(default_factory=deque)  # the newest, for the norms to come
    waiting: deque[str] = field(default_factory=deque)  # for the norm at hand
    taken: int = 0  # frames behind the norm at hand
    fewest: int | None = None
    walk: NormWalk | None = None
    parts: list[PartNoise] = field(default_factory=list)


class NormLooks:
    """At most one look at a time. ``offer`` and ``finished`` belong to the thread that records, ``step`` to one other.

    Args:
        ring: the frames' bytes.
        running: the bundle that decides.
        model: the ONNX file of its graph.
        uniform: as the chance port's ``random``, for the noise that a policy asks for.
        before: what `plain` gave when the device stopped.
    """

    def __init__(
        self,
        ring: Ring,
        *,
        running: Callable[[], Running | None],
        model: Callable[[Running], bytes],
        runtime: Runtime,
        clock: Clock,
        uniform: Callable[[], float],
        before: Iterable[str] = (),
        limits: NormLimits | None = None,
    ) -> None:
        self._ring, self._running, self._model = ring, running, model
        self._runtime, self._clock, self._uniform = runtime, clock, uniform
        self._limits = limits or NormLimits()
        self._told: deque[str] = deque(before, maxlen=TOLD_MAX)
        self._turn = threading.Condition()
        self._look: _Look | None = None
        self._done: tuple[str, ToldSums] | None = None
        self._rest_until_s = 0.0
        self._count = 0  # of frames offered
        self.given_up: str | None = None  # why the last look came to nothing
        self._failed: str | None = None  # the same as a code, until it was counted

    def plain(self) -> list[str]:
        """What is durable: whose first sums were told, and which questions were answered."""
        return list(self._told)

    # -- the recording thread's half -----------------------------------------------------------------------------------

    def want(self, why: Why, *, key: str = "", evidence: float | None = None, terms: SumsTerms) -> bool:
        """Begin a look, unless one is under way or this one was told; True when it began.

        Args:
            key: of a question that is to be answered once.
        """
        running = self._running()
        if running is None or not _has_site_norms(running.pipeline.manifest, self._limits):
            return False
        key = key or running.bundle
        with self._turn:
            if self._look is not None and self._look.running.bundle != running.bundle:
                self._look = None  # another bundle decides: its sums are no use any more
            looks = self._look is not None and (self._look.why == "alarm" or why != "alarm")  # an alarm begins anew
            if looks or self._done is not None or (why != "alarm" and key in self._told):
                return False
            self._look = _Look(
                running=running,
                why=why,
                key=key,
                noise=terms.noise,
                frames_min=max(self._limits.frames_min, terms.frames_min),
                evidence=None if terms.noise else evidence,
                norm_began_s=self._clock.monotonic_s(),
            )
        return True

    def offer(self, period: Period) -> None:
        """Tell of frames that were decided on; touches names only."""
        with self._turn:
            look = self._look
            if look is None:
                return
            if period.bundle != look.running.bundle:
                return
            for item in period.items:
                self._count += 1
                if self._count % self._limits.every == 0:
                    look.names.append(item.name)
                    look.waiting.append(item.name)
            most = max(self._limits.frames, look.frames_min)
            for queue in (look.names, look.waiting):
                while len(queue) > most:
                    queue.popleft()
            look.since = look.since or period.opened_at
            look.until = period.last_at
            self._turn.notify()

    def finished(self) -> ToldSums | None:
        """The sums of a look that came to its end, once; they are to be stored in one transaction with `plain`."""
        with self._turn:
            if self._done is None:
                return None
            (key, done), self._done = self._done, None
            # Not before: a power cut between the look's end and this would lose the sums and remember them as told.
            if key not in self._told:
                self._told.append(key)
        return done

    def failed(self) -> str | None:
        """Why a look came to nothing, as a code, once."""
        with self._turn:
            code, self._failed = self._failed, None
        return code

    # -- the other thread's half ---------------------------------------------------------------------------------------

    def step(self, wait_s: float = 0.0) -> bool:
        """Look at one batch; True when a look came to its end. Waits for at most this time."""
        with self._turn:
            look, names = self._next()
            if look is None and wait_s:
                self._turn.wait(wait_s)
                look, names = self._next()
        if look is None:
            return False
        began_s = self._clock.monotonic_s()
        try:
            done = self._work(look, names)
        except Exception as error:  # whatever it raises, nothing acts on it: there are no sums then
            self._drop(look, error)
            return False
        took_s = self._clock.monotonic_s() - began_s
        with self._turn:
            self._rest_until_s = self._clock.monotonic_s() + took_s * (1 / self._limits.cpu_share - 1)
            if done is None or self._look is not look:
                return False
            self._look, self._done, self.given_up = None, (look.key, done), None
        return True

    def _next(self) -> tuple[_Look | None, list[str]]:
        """What to do now, where there is anything."""
        look, now_s = self._look, self._clock.monotonic_s()
        if look is None or now_s < self._rest_until_s:
            return None, []
        running = self._running()
        if running is None or running.bundle != look.running.bundle:
            self._look = None
            return None, []
        names = [look.waiting.popleft() for _ in range(min(self._limits.batch, len(look.waiting)))]
        if not names and not self._is_over(look, now_s):
            return None, []
        return look, names

    def _is_over(self, look: _Look, now_s: float) -> bool:
        """Whether the norm at hand has had its part of the time."""
        norms = len(_graph(look.running.pipeline.manifest).norms or ())
        return now_s - look.norm_began_s > self._limits.seconds_max / norms

    def _work(self, look: _Look, names: Sequence[str]) -> ToldSums | None:
        graph = _graph(look.running.pipeline.manifest)
        norms = len(graph.norms or ())
        if look.walk is None:
            clip = look.noise.clip if look.noise else None
            look.walk = NormWalk(self._runtime, self._model(look.running), graph, clip=clip)
        inputs = self._inputs(names, graph)
        if inputs is not None:
            look.walk.add(inputs)
            look.taken += len(inputs)
        enough = max(self._limits.frames, look.frames_min)
        if look.taken < enough and not self._is_over(look, self._clock.monotonic_s()):
            return None
        if look.taken < look.frames_min:
            raise NotValid(
                f"{look.taken} frames were there for a norm within its time, needs {look.frames_min}",
                code=TOO_FEW,
            )
        sums = look.walk.close()
        if look.noise is not None:
            # The norms behind it are looked at with what is told of this one: exact sums decide on nothing.
            sums, part = noisy_norm(
                sums,
                look.noise,
                values_per_frame=look.walk.values_per_frame,
                norms=norms,
                uniform=self._uniform,
            )
            look.parts.append(part)
        look.walk.go_on(sums)
        look.fewest = look.taken if look.fewest is None else min(look.fewest, look.taken)
        with self._turn:
            look.taken, look.norm_began_s = 0, self._clock.monotonic_s()
            look.waiting = deque(look.names)
        if sum(len(one.total) for one in look.walk.found) > self._limits.channels_max:
            raise NotValid(f"the norms have over {self._limits.channels_max} channels", code="sums_too_many")
        return None if look.walk.norm is not None else _told(look)

    def _inputs(self, names: Sequence[str], graph: Graph) -> NDArray[np.float32] | None:
        made = []
        for name in names:
            frame = self._ring.get(name)
            if frame is None:
                continue
            try:
                made.append(prepare(frame.data, frame.media_type, graph.pre))
            except NotValid:
                continue
        return np.stack(made) if made else None

    def _drop(self, look: _Look, error: Exception) -> None:
        with self._turn:
            if self._look is not look:
                return
            self._look, self.given_up = None, f"{type(error).__name__}: {error}"
            self._failed = getattr(error, "code", "") or type(error).__name__
            # A night without frames passes; whatever else failed once would fail at every period.
            if getattr(error, "code", "") != TOO_FEW and look.key not in self._told:
                self._told.append(look.key)

    def close(self) -> None:
        """Nothing is looked at any more."""
        with self._turn:
            self._look = None
            self._turn.notify_all()


def _graph(manifest: Manifest) -> Graph:
    return manifest.graphs[0]


def _has_site_norms(manifest: Manifest, limits: NormLimits) -> bool:
    """Whether a variant for a site can be made of the bundle; of a variant none can."""
    norms = manifest.graphs[0].norms or ()
    made = manifest.provenance
    return len(manifest.graphs) == 1 and 0 < len(norms) <= limits.norms_max and made.variant_of is None


def _told(look: _Look) -> ToldSums:
    assert look.walk is not None
    assert look.since is not None
    assert look.until is not None
    noise = None
    if look.noise is not None:
        noise = NoiseApplied(epsilon=look.noise.epsilon, delta=look.noise.delta, parts=tuple(look.parts))
    return ToldSums(
        release=look.running.release,
        bundle=look.running.bundle,
        why=look.why,
        frames=look.fewest or 1,
        since=look.since,
        until=look.until,
        norms=tuple(norm_sum(one) for one in look.walk.found),
        evidence=look.evidence if look.evidence is None else float(f"{look.evidence:.4g}"),
        noise=noise,
    )
