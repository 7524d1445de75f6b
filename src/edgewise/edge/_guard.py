"""What speaks against the bundle that decides: pure rules with stated bounds. The watch feeds them, the updater acts.

Rules about chance are e-detectors (`measure.ShareDetector`): each has a mean count of looks until a false alarm, and
within n looks the chance of one is at most n over that count, whatever the order of the frames. The other rules are
plain bounds. docs/guard.md lists both with what they cost in delay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgewise.frames import Decided
from edgewise.measure import Histogram, ShareDetector

SATURATED = 1 - 1e-6  # a decision's probabilities have six digits
MODES = ("label", "same", "saturated", "late")
OPINION_CODES = {  # of `_failures.CODES`
    "label": "answers_stuck",
    "same": "scores_still",
    "saturated": "scores_saturated",
    "late": "late_alone",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardLimits:
    """Every bound of the guard in one place."""

    run_ms_max: float = 30_000.0  # longer in one run of a bundle is a hang: the process ends, and says why
    crashes_max: int = 3  # unplanned starts in a row, without a reboot between, of which none lived calm_s
    calm_s: float = 600.0
    failing_share_max: float = 0.01  # decisions that fail, or give NaN, infinite or impossible scores
    failing_mean_count: float = 1e10  # decisions
    late_block_s: float = 5.0  # lateness is judged by the block, for one moment of a busy machine delays many frames
    late_block_decisions: int = 20
    late_share_max: float = 0.05  # blocks whose median is over the deadline
    late_mean_count: float = 1e8  # blocks: 15 years of them
    suspect_block: int = 256  # decisions after which one looks whether they were all the same
    suspect_share: float = 0.98  # of a block
    opinion_frames: int = 64  # that the other slot's bundle is asked about when they were
    opinion_more_max: int = 16  # times that it is asked about as many again, while most answers contradict
    opinion_share_max: float = 0.5  # of these frames on which it may say otherwise
    opinion_mean_count: float = 1e9  # frames it was asked about
    limping_every_s: float = 3600.0  # a bundle that limps is told no more often
    memory_every_s: float = 10.0
    memory_looks: int = 3  # in a row over the bound
    memory_factor: float = 2.0  # of what the bundle says it needs, that may come on top once it decides,
    memory_slack_mb: float = 64.0  # and this for everything that is not its fault
    memory_mb_max: float | None = None  # of the whole process; None has no such bound


class Failures:
    """Decisions that failed: too many in a row, or too large a share.

    >>> failures = Failures(GuardLimits(), in_a_row_max=5)
    >>> for number in range(40):
    ...     failures.failed("odd") if number % 4 == 0 else failures.decided()
    >>> failures.complaint()
    '10 of 40 decisions failed, at most 1 in 100 may; the last one: odd'
    """

    def __init__(self, limits: GuardLimits, *, in_a_row_max: int) -> None:
        self._share = ShareDetector(limits.failing_share_max, mean_count=limits.failing_mean_count)
        self._in_a_row_max = in_a_row_max
        self._in_a_row = self._fine = 0
        self._last = ""

    def decided(self, count: int = 1) -> None:
        self._in_a_row = 0
        self._fine += count

    def failed(self, why: str) -> None:
        self._share.add_misses(self._fine)
        self._share.add(True)
        self._fine = 0
        self._in_a_row += 1
        self._last = why

    def complaint(self) -> str | None:
        if self._in_a_row >= self._in_a_row_max:
            return f"{self._in_a_row} decisions in a row failed, the last one: {self._last}"
        if self._share.alarm:
            seen, allowed = self._share.count + self._fine, round(self._share.share * 100)
            most = f"at most {allowed} in 100 may"
            return f"{self._share.hits} of {seen} decisions failed, {most}; the last one: {self._last}"
        return None


class Lateness:
    """Decisions over their deadline: in the trial a bundle must keep it, later lateness alone blames nobody.

    A machine that is busy for a while is late with any bundle. So after the trial it is only remarked on here, by
    blocks of some seconds; `Opinion` asks the other bundle whether it would have been in time.
    """

    def __init__(self, limits: GuardLimits, *, ms_max: float, count_min: int) -> None:
        self._limits, self._ms_max, self._count_min = limits, ms_max, count_min
        self._blocks = ShareDetector(limits.late_share_max, mean_count=limits.late_mean_count)
        self._all = Histogram()
        self._block_at: float | None = None
        self._block_seen = self._block_late = 0

    def decided(self, times_ms: Sequence[float], at_s: Sequence[float]) -> None:
        """How long some decisions took, and when each was made."""
        self._all.add_all(times_ms)
        if self._block_at is None:
            self._block_at = at_s[0]
        if max(at_s) - self._block_at < self._limits.late_block_s:  # the block does not end within these
            self._block_seen += len(times_ms)
            self._block_late += sum([latency_ms > self._ms_max for latency_ms in times_ms])
            return
        for latency_ms, moment_s in zip(times_ms, at_s, strict=True):
            self._block_seen += 1
            self._block_late += latency_ms > self._ms_max
            full = self._block_seen >= self._limits.late_block_decisions
            if full and moment_s - self._block_at >= self._limits.late_block_s:
                self._blocks.add(2 * self._block_late > self._block_seen)
                self._block_at, self._block_seen, self._block_late = moment_s, 0, 0

    def complaint(self) -> str | None:
        """Why the bundle fails its trial."""
        p95 = self._all.quantile(0.95) if self._all.count >= self._count_min else None
        if p95 is None or p95 <= self._ms_max:
            return None
        return f"decisions take {p95:.3g} ms (95th percentile), at most {self._ms_max:g} allowed"

    def remark(self) -> str | None:
        """That decisions are late, whosever fault it is; told once, then it is looked at anew."""
        if not self._blocks.alarm:
            return None
        text = (
            f"most decisions took longer than {self._ms_max:g} ms in {self._blocks.hits} of the last "
            f"{self._blocks.count} stretches of {self._limits.late_block_s:g} s"
        )
        self._blocks.clear()
        return text


class Opinion:
    """Whether a bundle that says the same again and again is dead, or right: the bundle of the other slot is asked.

    A night with nothing to see, a frozen camera and a good day all look the same for hours, and a busy machine is late
    with any bundle; so no count of frames says anything. What says something is a bundle known to be good here that
    contradicts on the same frames. A block of the same only leads to the question, after 1, 2, 4, 8, … such blocks, so
    asking costs little; the answers feed e-detectors: another label, other scores where these stand still, doubt where
    these never have any, and an answer in time where these are late.
    """

    def __init__(self, limits: GuardLimits, *, ms_max: float) -> None:
        self._limits, self._ms_max = limits, ms_max
        self._against = {
            mode: ShareDetector(limits.opinion_share_max, mean_count=limits.opinion_mean_count) for mode in MODES
        }
        self._last: Decided | None = None
        self._last_other: Decided | None = None
        self._last_ms = 0.0
        self._labels: dict[str, int] = {}
        self._block = self._same = self._saturated = self._late = 0
        self._blocks_alike, self._ask_at = 0, 1
        self._suspect: frozenset[str] = frozenset()
        self._label = ""
        self.frames_left = self._more = 0  # frames that the other bundle should be asked about
        self._asked = self._contradicted = 0

    def decided(self, decisions: Sequence[Decided], times_ms: Sequence[float]) -> None:
        """What was decided, and how many ms each decision took."""
        done = 0
        while done < len(decisions):
            part = slice(done, done + self._limits.suspect_block - self._block)
            self._add(decisions[part], times_ms[part])
            done = part.stop
            if self._block >= self._limits.suspect_block:
                self._end_block()

    def _add(self, decisions: Sequence[Decided], times_ms: Sequence[float]) -> None:
        """Count decisions of one block."""
        self._block += len(decisions)
        for one in decisions:
            self._labels[one.label] = self._labels.get(one.label, 0) + 1
        self._saturated += sum([one.confidence >= SATURATED for one in decisions])
        before = decisions[0] if self._last is None else self._last
        pairs = zip(decisions, (before, *decisions), strict=False)
        # Confidence first, and here: it is what mostly differs, and a call for each pair is what costs.
        self._same += sum([one.confidence == other.confidence and _equal(one, other) for one, other in pairs])
        self._same -= self._last is None  # the first of all has none before it
        self._late += sum([latency_ms > self._ms_max for latency_ms in times_ms])
        self._last, self._last_ms = decisions[-1], times_ms[-1]

    def _end_block(self) -> None:
        label, most = max(self._labels.items(), key=lambda item: item[1])
        enough = self._limits.suspect_share * self._block
        counts = {"label": most, "same": self._same, "saturated": self._saturated}
        late = {"late"} if 2 * self._late > self._block else set()
        suspect = frozenset({mode for mode, count in counts.items() if count >= enough} | late)
        self._labels, self._block, self._same, self._saturated, self._late = {}, 0, 0, 0, 0
        if not suspect or (suspect, label) != (self._suspect, self._label):
            self._blocks_alike, self._ask_at = 0, 1
        self._suspect, self._label = suspect, label
        self._blocks_alike += bool(suspect)
        if suspect and self._blocks_alike >= self._ask_at:
            self._ask_at, self._more = 2 * self._ask_at, 0
            self._ask()

    def _ask(self) -> None:
        self.frames_left, self._last_other = self._limits.opinion_frames, None
        self._asked = self._contradicted = 0

    def compared(
        self, decision: Decided, other: Decided, other_ms: float = 0.0, latency_ms: float | None = None
    ) -> None:
        """What the other bundle says of a frame that was decided on, and how long each took; None: as the last one."""
        took_ms = self._last_ms if latency_ms is None else latency_ms
        before, self._last_other = self._last_other, other
        if self.frames_left <= 0:
            return
        self.frames_left -= 1
        self._asked += 1
        contradictions = {
            "label": other.label != decision.label if decision.label == self._label else None,
            "same": not _equal(before, other) if before is not None else None,
            "saturated": other.confidence < SATURATED if decision.confidence >= SATURATED else None,
            "late": other_ms <= self._ms_max if took_ms > self._ms_max else None,
        }
        for mode in self._suspect:
            hit = contradictions[mode]
            if hit is not None:
                self._against[mode].add(hit)
        self._contradicted += any(contradictions[mode] for mode in self._suspect)
        most = self._contradicted > self._limits.opinion_share_max * self._asked
        if self.frames_left == 0 and most and self._more < self._limits.opinion_more_max:
            self._more += 1
            self._ask()

    @property
    def code(self) -> str:
        """Of the complaint, if there is one."""
        return OPINION_CODES[next((mode for mode, detector in self._against.items() if detector.alarm), MODES[0])]

    def complaint(self, other: str) -> str | None:
        said = {
            "label": f"nearly all decisions are {self._label!r}, and {other} says otherwise on {{}} of {{}} frames",
            "same": f"the scores stand still, and those of {other} move on {{}} of {{}} frames",
            "saturated": f"every decision is entirely sure, and {other} is not on {{}} of {{}} frames",
            "late": f"decisions take longer than {self._ms_max:g} ms, and {other} is in time on {{}} of {{}} frames",
        }
        for mode, detector in self._against.items():
            if detector.alarm:
                return said[mode].format(detector.hits, detector.count)
        return None


def _equal(one: Decided, two: Decided) -> bool:
    """Whether two decisions are the same to the last digit."""
    return (
        one.confidence == two.confidence  # first: it is what mostly differs
        and one.label == two.label
        and one.margin == two.margin
        and one.defect == two.defect
        and one.stated == two.stated
    )


class Memory:
    """Memory that grows once the bundle decides, or of the whole process."""

    def __init__(self, limits: GuardLimits) -> None:
        self._limits = limits
        self._first: float | None = None
        self._over = 0
        self._text = ""

    def looked(self, held_mb: float, *, own_mb: float, needs_mb: float) -> None:
        """What the processes hold now.

        Args:
            held_mb: private memory of the agent and its workers.
            own_mb: of it, what the agent's own bounded buffers hold; they fill up, and that is nobody's fault.
            needs_mb: what the bundle says it needs.
        """
        limits = self._limits
        if self._first is None:
            self._first = held_mb - own_mb
        grown, allowed = held_mb - own_mb - self._first, limits.memory_factor * needs_mb + limits.memory_slack_mb
        text = ""
        if grown > allowed:
            text = f"memory grew by {grown:.0f} MB since it decides, at most {allowed:.0f} MB allowed"
        elif limits.memory_mb_max is not None and held_mb > limits.memory_mb_max:
            text = f"the agent holds {held_mb:.0f} MB, at most {limits.memory_mb_max:.0f} MB allowed"
        self._over = self._over + 1 if text else 0
        self._text = text

    def complaint(self) -> str | None:
        return self._text if self._over >= self._limits.memory_looks else None
