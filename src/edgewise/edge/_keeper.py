"""What becomes of decided frames: chosen, made private, queued; counts, cursor and credit in the same transaction."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from edgewise.edge import _outbox_sql as sql
from edgewise.edge._cascade import Cascade
from edgewise.edge._counts import Windows
from edgewise.edge._day_sketch import DAY_SKETCH, DaySketches
from edgewise.edge._decider import Decider
from edgewise.edge._drift_watch import DriftWatch
from edgewise.edge._norm_looks import NormLooks, SumsTerms
from edgewise.edge._notes import Notes
from edgewise.edge._period import MAIN, Item, Period, Urgent
from edgewise.edge._private_counts import private_counts, told_and_left
from edgewise.edge._private_records import PrivateRecords
from edgewise.edge._readings import Block, Reading
from edgewise.edge._recorded import RecordedPipelines
from edgewise.edge._selection import Selection
from edgewise.edge._spans import is_over
from edgewise.edge._sums_told import SumsTold
from edgewise.edge.keep import Credit
from edgewise.edge.outbox import Entry, Outbox
from edgewise.edge.ring import Ring
from edgewise.measure import BudgetSpent
from edgewise.policy import CHANNEL_SUMS, error_words, may_name_frames
from edgewise.ports import Chance
from edgewise.wire import DataPolicy, Event, NotNow, NotValid, UseCase, plain

STATE_KEY = "keeper"
NAME_KEY = "name_key"
READINGS_KEY = "readings"
RESERVED_CLASSES = ("alarm", "audit")
OVERRIDES = ("wrong", "missed")  # verdicts that say that a decision was not right


class Keeper:
    """Everything between a decision and the outbox. It belongs to one thread; ``note`` and ``feedback`` to any.

    Args:
        outbox: where records become durable, and where the keeper's own state lives with them.
        ring: the frames' bytes.
        use_case: budgets and the data policy.
        metered: bytes that went over metered links, by day; they are stored with the counts.
        subject_key: hides subjects; the site's, so that all its devices hide one alike, or else this device's own.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        ring: Ring,
        chance: Chance,
        device: str,
        site: str,
        use_case: UseCase,
        subject_key: bytes | None = None,
        metered: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._metered = metered
        self._outbox = outbox
        self._chance = chance
        self._site = site
        self._use_case = use_case
        self.policy_known = True  # False while the hub's policy is newer than the one here: nothing is kept then
        self.recorded = RecordedPipelines()
        self.cascade: Cascade | None = None  # whose counts are durable with everything else
        self.cascade_before: dict[str, Any] = {}  # what it remembered when the device stopped
        self.not_kept: dict[str, int] = {}  # why frames that were chosen, or should have been, were not kept
        self.shed_here: dict[str, int] = {}  # by class, while the disk was full
        self.credit = Credit(share_of_bytes=use_case.upload.share_of_bytes, bytes_per_day=use_case.upload.bytes_per_day)
        self.apart = self.credit  # of disagreements alone: what operators and alarms cost must not keep them out
        self.windows = Windows()
        self._told_at: datetime | None = None  # when counts were told last
        self.urgent_waits = False  # something was queued that the hub should hear of soon
        self._mean_bytes = 0.0  # of a frame, over the newest period
        self._largest_bytes = 0  # of a frame, in this process
        self._selection = Selection(chance, audit_share=use_case.upload.audit_share, site=site)
        self._notes = Notes(outbox)
        self.drift: DriftWatch | None = None  # looks at what is recorded, where the device has one
        self.norms: NormLooks | None = None  # at what a site's variant is made from, where the device has them
        self.asked: Callable[[], str | None] = lambda: None  # for which question of the hub sums are wanted
        self.norms_before: list[str] = []  # what they were when the device stopped
        self.sketches: DaySketches | None = None  # of days, where the device makes them
        self.sketches_before: list[Any] = []  # what they were when the device stopped
        self.heard: Callable[[str, str], None] | None = None  # also hears each note: the device's own log
        self._sums = SumsTold(use_case.data.private.sums_noise)  # its budget is durable with everything else
        self._turn = threading.RLock()  # feedback comes from the local API's thread
        self._block = Block.from_state(outbox.state(READINGS_KEY), use_case.telemetry)
        self._load()
        self._name_key = self._load_name_key()
        self._records = PrivateRecords(
            ring,
            device=device,
            site=site,
            policy=use_case.data,
            name_key=self._name_key,
            subject_key=subject_key or self._name_key,
        )
        self.is_erased: Callable[[Item], bool] = lambda _: False  # what an erasure covers is not kept again

    @property
    def policy(self) -> DataPolicy:
        return self._use_case.data

    @property
    def cursor(self) -> str | None:
        """The cursor of the pipeline named main."""
        return self.recorded.of(MAIN).cursor

    @property
    def decisions(self) -> int:
        return self.recorded.decisions

    @property
    def undecided(self) -> int:
        return self.recorded.undecided

    @property
    def name_key(self) -> bytes:
        """The key of names and values that may not travel; it never leaves the device."""
        return self._name_key

    # -- what others hand in -----------------------------------------------------------------------------------------

    def note(self, what: str, text: str, now: datetime, data: dict[str, Any], *, alarm: bool = False) -> None:
        """An event for the hub's audit log, durable with the next record step."""
        record = Event(id=self._chance.id(), at=now, what=what, text=text[:500], data=data)
        self._queue(self._records.plain("alarm" if alarm else "audit", record))
        if self.heard is not None:
            self.heard(what, record.text)

    def forget(self, match: Callable[[Entry], bool]) -> None:
        """Forget what waits in memory and matches."""
        with self._turn:
            self._notes.forget(match)

    def _queue(self, entry: Entry) -> None:
        if not self._notes.add(entry):
            self._count_shed(entry)

    def _count_shed(self, entry: Entry) -> None:
        self.shed_here[entry.record_class] = self.shed_here.get(entry.record_class, 0) + 1

    def feedback(
        self, item: Item | None, frame: str, now: datetime, *, verdict: str, label: str | None, note: str
    ) -> bool:
        """An operator's word; True when the frame itself could be kept with it.

        Raises:
            NotValid: the policy lets no feedback leave, or the verdict is not one. NotNow: the disk is full.
        """
        name = self._chance.id()
        entries = [self._records.feedback(item, frame, now, name, verdict=verdict, label=label, note=note)]
        with self._turn:
            if item is not None:
                entries += self._private(item, "feedback", 1.0, now)
            before = self.windows, self.credit
            self.windows = self._with_override(item, verdict, now)
            self.credit = self.credit.spend(_content_bytes(entries), now)
            try:
                held = self._outbox.add_many(entries, self._states())
            except NotNow:
                self.windows, self.credit = before
                raise
            if item is not None and verdict in OVERRIDES:
                item.overridden = True
            self.urgent_waits = True
        return len(entries) == 2 and held[1]

    def _with_override(self, item: Item | None, verdict: str, now: datetime) -> Windows:
        """The counts once this word is counted against the release that decided; once for a frame."""
        if verdict not in OVERRIDES or (item is not None and item.overridden):
            return self.windows
        if item is None or item.counted is None:
            self._count_not_kept("override_of_unknown_decision")
            return self.windows
        windows = Windows.from_plain(self.windows.plain())
        windows.override(item.counted, now)
        return windows

    # -- the record step -----------------------------------------------------------------------------------------------

    def record(self, deciders: Iterable[Decider], now: datetime) -> None:
        """Make durable what the decision loops left, as far as the disk allows. Never raises for a full disk."""
        with self._turn:
            for decider in deciders:
                decider.tend(now)
                self._record_urgent(decider, now)
                while decider.closed:
                    period = decider.closed[0]
                    decider.seal(period)
                    self._record_period(period, now)
                    decider.closed.popleft()  # only now: until here it counts as not recorded
                self.windows.merge(decider.take_late())
            self._record_telemetry(now)
            self._record_readings(now)
            self.urgent_waits = self._notes.store() or self.urgent_waits

    def _record_urgent(self, decider: Decider, now: datetime) -> None:
        while decider.urgent:
            urgent = decider.urgent[0]
            self._store(self._urgent_entries(urgent, now), now)
            decider.urgent.popleft()

    def _urgent_entries(self, urgent: Urgent, now: datetime) -> list[Entry]:
        item, entries, chance = urgent.item, [], 1.0
        if self.is_erased(item):
            return []
        if urgent.why == "alarm":
            entries.append(self._records.alarm(urgent))
        else:
            chance = self._chance_to_keep(item, now)
            if chance < 1 and self._chance.random() >= chance:
                self._count_not_kept("disagreement_over_budget")
                item.kept = False
                return []
        made = self._private(item, urgent.why, chance, now)
        if urgent.why == "disagreement":
            self.apart = self.apart.spend(_content_bytes(made), now)
        return entries + made

    def _chance_to_keep(self, item: Item, now: datetime) -> float:
        """With which chance a disagreement is kept: drawn, so that those kept stand for all that were found."""
        # Its own size counts only where it is larger than any before, which alone could break the day's bound.
        self._largest_bytes = max(self._largest_bytes, item.size_bytes)
        has_day = self.credit.has_day(self._largest_bytes, now)
        return self.apart.chance(overdraft=self._overdraft()) if has_day else 0.0

    def _overdraft(self) -> float:
        """What a disagreement may spend before it is earned: what one period earns.

        A bad bundle must be found out quickly, so its disagreements go first and the next selections pay for them.
        """
        upload = self._use_case.upload
        return upload.period_frames * self._mean_bytes * upload.share_of_bytes

    def _record_period(self, period: Period, now: datetime) -> None:
        if self.windows.is_apart(period.windows):
            self._send_windows(now)  # the clock was set: no window shall span ten years
        self.credit = self.credit.earn(period.bytes_seen)
        self.apart = self.apart.earn(period.bytes_seen).owed()
        self._mean_bytes = period.bytes_seen / period.frames
        blocks = self._gather(period.readings, now)
        self.windows.merge(period.windows)
        self.recorded.take(period)
        if period.not_selected:
            self._count_not_kept("disk_stuck", period.not_selected)
        sums = [*self._look_at_norms(period, now), *self._sketch(period, now)]
        try:
            entries = self._selected(period, now)
        except Exception as error:
            # A period that cannot be selected from must not come back for ever; its counts are kept.
            self._count_not_kept("selection_failed", len(period.items))
            text = error_words(error, names=may_name_frames(self.policy, "audit"))
            self.note("selection_failed", text, now, {"frames": len(period.items)})
            entries = []
        self._store([*entries, *blocks, *sums], now)

    def _gather(self, readings: Iterable[Reading], now: datetime) -> list[Entry]:
        """Add to the open block of readings; comes back with the blocks that are full."""
        if not self.policy_known:
            self._count_not_kept("readings_policy_unknown", len(list(readings)))
            return []
        full: list[Entry] = []
        for reading in readings:
            if not self._block.has_room(reading):
                full.append(self._closed_block())
            self._block.take(reading, now)
        return full

    def _closed_block(self) -> Entry:
        block, self._block = self._block, Block(self._use_case.telemetry)
        return self._records.plain("telemetry", block.record(self._chance.id(), self._site))

    def _record_readings(self, now: datetime) -> None:
        if self._block.is_due(now):
            self._store([self._closed_block()], now)

    def _look_at_norms(self, period: Period, now: datetime) -> list[Entry]:
        """Sums by channel go to the hub where a look has ended; one that fails harms nothing.

        A look begins with the first frames of a bundle where the use case adapts to sites, or when what the network
        sees has changed. Sums are stored in one transaction with their noise's budget: no power cut gives a second one.
        """
        if self.norms is None or not self._records.may_leave("telemetry"):
            return []
        private = self.policy.private
        terms = SumsTerms(noise=private.sums_noise, frames_min=private.counts_min)
        try:
            evidence = None if self.drift is None else self.drift.take(period)
            if evidence is not None:
                self.norms.want("alarm", evidence=evidence, terms=terms)
            else:
                question = self.asked()
                begun = question is not None and self.norms.want("asked", key=question, terms=terms)
                if self._use_case.retrain.adapt and not begun:
                    self.norms.want("first", terms=terms)
            self.norms.offer(period)
            if (failed := self.norms.failed()) is not None:
                self._count_not_kept(f"look_{failed}")
            told = self.norms.finished()
            if told is None:
                return []
            self._sums.spend(now)
        except BudgetSpent as error:
            self._count_not_kept(error.code)
            if self._sums.is_first_refusal:
                self.note(error.code, f"sums by channel are not sent: {error}", now, {})
            return []
        except Exception as error:
            self._count_not_kept(f"drift_{type(error).__name__}")
            return []
        text = f"what the channels of {told.release} get here, as sums over {told.frames} frames"
        record = Event(id=self._chance.id(), at=now, what=CHANNEL_SUMS, text=text, data=plain(told))
        return [self._records.plain("telemetry", record)]

    def _sketch(self, period: Period, now: datetime) -> list[Entry]:
        """Add to the day's sketch; comes back with those of days that are over, stored in one transaction with it."""
        if self.sketches is None or not self._records.may_leave("telemetry"):
            return []
        try:
            self.sketches.take(period)
        except Exception as error:
            self._count_not_kept(f"sketch_{type(error).__name__}")
        return [
            self._records.plain(
                "telemetry",
                Event(id=self._chance.id(), at=now, what=DAY_SKETCH, text=f"sketch of {data['day']}", data=data),
            )
            for data in self.sketches.told(period.opened_at.date(), self.policy)
        ]

    def _selected(self, period: Period, now: datetime) -> list[Entry]:
        room = self.credit.room(now)
        picks = self._selection.picks(period, room)
        entries: list[Entry] = []
        for pick in picks:
            item = period.items[pick.index]
            made = self._private(item, pick.why, pick.inclusion_probability, now)
            # Making private can make a frame larger. An audit sample stays all the same, or the audit would be biased.
            if pick.why != "audit" and _content_bytes(entries) + _content_bytes(made) > room:
                self._count_not_kept("larger_once_private")
                continue
            entries += made
        self._selection.remember(period, picks)
        return entries

    def _record_telemetry(self, now: datetime) -> None:
        started, pause_s = self.windows.started_at, self._use_case.connectivity.contact_s
        # What waits since long must not make each look send what came a moment ago.
        told = self._told_at is None or is_over(self._told_at, pause_s, now)
        if started is not None and told and is_over(started, pause_s, now):
            self._send_windows(now)

    def _send_windows(self, now: datetime) -> None:
        windows, self.windows, self._told_at = self.windows, Windows(), now
        if not self._records.may_leave("telemetry"):
            return
        minimum = self.policy.private.counts_min
        told, left = told_and_left(windows, minimum)
        ids = [self._chance.id() for _ in told.by_key]
        deferrals = self.cascade.totals() if self.cascade is not None else None
        records = told.telemetry(ids=ids, site=self._site, shed=self.shed(), deferrals=deferrals)
        entries = [self._records.plain("telemetry", private_counts(record, minimum)) for record in records]
        # Counts are additive: what is too small to be told, or is not stored, goes with the next window.
        self.windows = left
        if not entries or not self._store(entries, now):
            self.windows = windows

    # -- small parts -------------------------------------------------------------------------------------------------

    def _store(self, entries: Sequence[Entry], now: datetime) -> bool:
        """Entries and state in one transaction; when the disk is full, the state alone, and what is shed is counted."""
        reserved = [entry for entry in entries if entry.record_class in RESERVED_CLASSES]
        others = [entry for entry in entries if entry.record_class not in RESERVED_CLASSES]
        for entry in reserved:  # they go by themselves, where they may use the reserve and are tried again
            self._queue(entry)
        before = self.credit
        if entries:
            self.credit = self.credit.spend(_content_bytes(entries), now)
        try:
            held = self._outbox.add_many(others, self._states())
        except NotNow:
            self.credit = before
            for entry in others:
                self._count_shed(entry)
            return False
        urgent = ("feedback", "disagreement")
        stored = [entry for entry, is_held in zip(others, held, strict=True) if is_held]
        self.urgent_waits = self.urgent_waits or any(entry.record_class in urgent for entry in stored)
        return True

    def _private(self, item: Item, why: str, probability: float, now: datetime) -> list[Entry]:
        if not self.policy_known:
            self._count_not_kept("policy_unknown")
            return []
        if self.is_erased(item):
            self._count_not_kept("erased")
            return []
        try:
            return [self._records.sample(item, why, probability, now)]
        except NotValid as error:
            self._count_not_kept(error.code)
            return []

    def hidden(self, subject: str) -> str:
        """The keyed hash of a subject's id, as it stands in erasures."""
        return self._records.hidden(subject)

    def _count_not_kept(self, why: str, count: int = 1) -> None:
        self.not_kept[why] = self.not_kept.get(why, 0) + count

    def shed(self) -> dict[str, int]:
        """Records shed by class since the outbox was made, also those that never reached it."""
        total = dict(self._outbox.backlog().shed)
        for name, count in self.shed_here.items():
            total[name] = total.get(name, 0) + count
        return total

    @property
    def notes_waiting(self) -> int:
        return len(self._notes)

    def _states(self) -> dict[str, bytes]:
        # The counts once more by themselves: they are told without the key, the rest is not.
        counts = json.dumps({"decisions": self.decisions, "metered": dict(self._metered())}).encode()
        return {STATE_KEY: self._state(), READINGS_KEY: self._block.state(), sql.COUNTS: counts}

    def _state(self) -> bytes:
        value = {
            **self.recorded.plain(),
            "cascade": self.cascade.plain() if self.cascade is not None else self.cascade_before,
            "not_kept": self.not_kept,
            "shed_here": self.shed_here,
            "credit": asdict(self.credit),
            "apart": asdict(self.apart),
            "windows": self.windows.plain(),
            "sums": self._sums.plain(),
            "norms": self.norms_before if self.norms is None else self.norms.plain(),
            "sketches": self.sketches_before if self.sketches is None else self.sketches.plain(),
        }
        return json.dumps(value).encode()

    def _load(self) -> None:
        stored = self._outbox.state(STATE_KEY)
        if stored is None:
            return
        value = json.loads(stored)
        self.cascade_before = value.get("cascade", {})
        self.recorded = RecordedPipelines.from_plain(value)
        self.not_kept, self.shed_here = value["not_kept"], value["shed_here"]
        upload = self._use_case.upload
        bounds = {"share_of_bytes": upload.share_of_bytes, "bytes_per_day": upload.bytes_per_day}
        self.credit = Credit(**{**value["credit"], **bounds})
        self.apart = Credit(**{**value.get("apart", value["credit"]), **bounds}).owed()
        self.windows = Windows.from_plain(value["windows"])
        self._sums = SumsTold(self.policy.private.sums_noise, value.get("sums"))
        self.sketches_before = value.get("sketches", [])
        self.norms_before = [str(one) for one in value.get("norms", [])]

    def _load_name_key(self) -> bytes:
        """The key under which names that may not travel are hashed; it never leaves the device."""
        stored = self._outbox.state(NAME_KEY)
        if stored is None:
            stored = self._chance.bytes(32)
            self._outbox.put_state(NAME_KEY, stored)
        return stored


def _content_bytes(entries: Iterable[Entry]) -> int:
    return sum(len(entry.content or b"") for entry in entries)
