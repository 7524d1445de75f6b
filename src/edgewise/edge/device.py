"""The whole device: decide, record, update, make contact; four steps without sleeps, for agent and simulator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewise.edge import _outbox_sql as sql
from edgewise.edge._bandwidth import smallest
from edgewise.edge._beside import Beside
from edgewise.edge._cascade import Cascade
from edgewise.edge._contacts import Contacts
from edgewise.edge._data_key import device_safe
from edgewise.edge._day_sketch import restored
from edgewise.edge._decider import Decider, LoopLimits
from edgewise.edge._device_status import DeviceStatus
from edgewise.edge._drift_watch import DriftWatch
from edgewise.edge._erasing import Eraser
from edgewise.edge._facts import RatedFacts
from edgewise.edge._identity import Identity
from edgewise.edge._keeper import Keeper
from edgewise.edge._metered import Meter, MeteredLink, days_of
from edgewise.edge._norm_looks import NormLimits, NormLooks
from edgewise.edge._outbox_records import nothing
from edgewise.edge._outbox_tidy import Tidying
from edgewise.edge._period import MAIN, Act
from edgewise.edge._pipelines import LateSource, PipelinePart, Pipelines, check_parts, unique_name
from edgewise.edge._readings import Sampler
from edgewise.edge._start_notes import start_notes
from edgewise.edge._update_pace import UpdatePace
from edgewise.edge._update_state import Phase
from edgewise.edge.outbox import Outbox, OutboxLimits
from edgewise.edge.ring import KEY_BYTES, Ring
from edgewise.edge.update import UpdateLimits, Updater
from edgewise.edge.uplink import Uplink
from edgewise.frames import Decided
from edgewise.policy import may_name_frames
from edgewise.ports import Chance, Clock, Fact, Facts, Footprint, Large, Link, MemoryFacts, OpenedSafe, Runtime, Source
from edgewise.wire import (
    CapabilityCard,
    DataPolicy,
    Envelope,
    Erasure,
    NotNow,
    NotValid,
    Report,
    UseCase,
)

__all__ = ["Device", "DeviceLimits", "Identity"]

RESTING = (Phase.IDLE, Phase.COMMITTED, Phase.SHADOW)  # only an assignment or a decision leads out of these
ERASE_STEPS_MAX = 200  # of the hub's erasures that come first, and this one


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceLimits:
    """Every bound of a device, by part."""

    loop: LoopLimits = field(default_factory=LoopLimits)
    outbox: OutboxLimits | None = None  # from the use case where not given
    update: UpdateLimits | None = None  # with the use case's deadline where not given
    norms: NormLimits = field(default_factory=NormLimits)
    facts_every_s: float = 10.0  # the machine is asked for its facts no more often
    bytes_per_s_max: float | None = None  # of downloads; the use case and an assignment may ask for less


class Device:
    """One device of a fleet.

    ``decide_step`` belongs to one thread a pipeline and waits for nothing but that pipeline's source (invariant 1);
    ``record_step`` to a second; ``update_step`` and ``contact_step`` to a third. ``step`` is all of them in one thread,
    for the simulator.

    Args:
        folder: everything the device remembers.
        identity: from enrolment.
        open_source: the frames after the one with this name, None for all; the source of the only pipeline, main.
        pipelines: instead of ``open_source`` and ``act``, where a device has several.
        link: the way to the hub.
        large: the large bundle, where the use case has a cascade.
        runtime: runs bundles.
        clock, chance: time and dice.
        act: the app's pure function; a text it returns raises an alarm.
        subject_key: the site's key that hides subjects; a key of this device unless given.
        facts: the device's capability card.
        live: tells what is true of the machine now, for conditions; it wins over the card.
        boot, footprint: the machine's boot id, and what memory is held; for the guard.
        opened: the data key under which everything at rest lies; one of this folder, locked by a file in it, unless
            given.
        checkpoint: called by name where a power cut would matter.
    Raises:
        NotValid: the folder is of another version, or cannot be written. NotNow: the disk is full or fails.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: Identity,
        link: Link,
        runtime: Runtime,
        clock: Clock,
        chance: Chance,
        open_source: Callable[[str | None], Source] | None = None,
        act: Act | None = None,
        pipelines: Sequence[PipelinePart] = (),
        large: Large | None = None,
        subject_key: bytes | None = None,
        facts: Mapping[str, str | float | int | bool] | None = None,
        live: Facts | None = None,
        limits: DeviceLimits | None = None,
        boot: str = "",
        footprint: Footprint | None = None,
        opened: OpenedSafe | None = None,
        checkpoint: Callable[[str], None] = nothing,
    ) -> None:
        self.identity = identity
        self.runtime = runtime
        self._card: Envelope | None = None  # until the hub has heard it
        self.news: Callable[[], None] = lambda: None  # told when another thread left something to record or send
        self.folder = folder
        opened = opened or device_safe(folder)
        self._clock = clock
        self._facts = dict(facts or {})
        limits = limits or DeviceLimits()
        usecase = identity.usecase
        parts = tuple(pipelines)
        if open_source is not None:
            parts = (PipelinePart(open_source=open_source, act=act, patient=False), *parts)
        check_parts(parts)
        self._live = RatedFacts(live or MemoryFacts(), clock, every_s=limits.facts_every_s)
        self.outbox = Outbox(
            folder / "outbox",
            chance=chance,
            limits=limits.outbox or OutboxLimits(bytes_max=usecase.upload.outbox_bytes),
            safe=opened.safe,
            checkpoint=checkpoint,
        )
        self.tidying = Tidying(self.outbox, clock)
        self.meter = Meter(self._is_metered, clock.now, days_of(self.outbox.state(sql.COUNTS)))
        self._link: Link = MeteredLink(link, self.meter.count)
        ring = Ring(bytes_max=limits.loop.ring_bytes, key=chance.bytes(KEY_BYTES))
        try:
            self.updater = Updater(
                folder,
                device=identity.device,
                use_case=identity.use_case,
                site=identity.site,
                root=identity.root,
                runtime=runtime,
                clock=clock,
                facts=self._facts,
                reported=self._reported,
                bytes_per_s_max=smallest(limits.bytes_per_s_max, usecase.connectivity.bytes_per_s_max),
                limits=limits.update or UpdateLimits(latency_ms_max=usecase.placement.latency_ms_max),
                boot=boot,
                footprint=footprint,
                own_mb=lambda: ring.bytes_held / 1e6,
                checkpoint=checkpoint,
            )
            self.keeper = Keeper(
                self.outbox,
                ring=ring,
                chance=chance,
                device=identity.device,
                site=identity.site,
                use_case=usecase,
                subject_key=subject_key,
                metered=self.meter.plain,
            )
            self.keeper.drift = DriftWatch(lambda: self.updater.running)
            self.keeper.asked = self._asked_for_sums
            self.norms = self.keeper.norms = NormLooks(
                ring,
                running=lambda: self.updater.running,
                model=self.updater.model_of,
                runtime=runtime,
                clock=clock,
                uniform=chance.random,
                before=self.keeper.norms_before,
                limits=limits.norms,
            )
            self.keeper.sketches = restored(ring, lambda: self.updater.running, self.keeper.sketches_before)
            self._pace = UpdatePace()
            contact_s = usecase.connectivity.contact_s
            self.keeper.recorded.remember_only([part.name for part in parts])
            self.keeper.cascade = self.cascade = self._cascade(large, ring)
            self.beside = Beside(self.updater, ring, clock=clock, chance=chance)
            self.pipelines = Pipelines([self._decider(part, parts, ring, limits.loop) for part in parts])
            self.decider = self.pipelines.first
            self.ring = ring
            self.eraser = Eraser(
                self.outbox,
                ring,
                self.pipelines,
                self.keeper,
                site=identity.site,
                policy_version=usecase.data.version,
                chance=chance,
            )
            uplink = Uplink(
                self.outbox,
                identity.device,
                usecase.data,
                may_seal=lambda now: not self.eraser.holds(self.updater.assignment, now),
            )
            self.contacts = Contacts(
                uplink,
                self.outbox,
                self.updater,
                self.keeper,
                chance=chance,
                contact_s=contact_s,
                report=self.report,
                may=lambda now, more: self.meter.may_send(usecase.connectivity.metered, now, more),
            )
            self._status = DeviceStatus(
                folder,
                identity,
                outbox=self.outbox,
                updater=self.updater,
                keeper=self.keeper,
                pipelines=self.pipelines,
                eraser=self.eraser,
                contacts=self.contacts,
                meter=self.meter,
                cascade=self.cascade,
                beside=self.beside,
                runtime=runtime,
                clock=clock,
                facts=self._reported,
            )
            now = clock.now()
            for item in start_notes(self.updater, self.outbox, opened):
                self.keeper.note(item.what, item.text, now, item.data, alarm=item.alarm)
        except BaseException:
            self.outbox.close()  # nobody gets this device, so nobody else can
            raise

    def _cascade(self, large: Large | None, ring: Ring) -> Cascade | None:
        terms = self.identity.usecase.placement.cascade
        if terms is None or large is None:
            return None
        return Cascade(
            terms,
            policy=self.policy,
            policy_known=lambda: self.keeper.policy_known,
            large=large,
            ring=ring,
            clock=self._clock,
            stored=self.keeper.cascade_before,
            key=self.keeper.name_key,
        )

    def _decider(self, part: PipelinePart, parts: Sequence[PipelinePart], ring: Ring, limits: LoopLimits) -> Decider:
        names, cursor = [one.name for one in parts], self.keeper.recorded.of(part.name).cursor
        source: Source = LateSource(part.open_source, cursor, self._clock) if part.patient else part.open_source(cursor)
        return Decider(
            source,
            self.updater,
            ring,
            clock=self._clock,
            upload=self.identity.usecase.upload,
            limits=limits,
            act=part.act,
            telemetry_s=self.identity.usecase.connectivity.contact_s,
            name=part.name,
            unique=lambda frame: unique_name(part.name, frame, names),
            pipelines=len(parts),
            sampler=_sampler(self.identity.usecase, part.name),
            defer=self.cascade.offer if self.cascade is not None else None,
            beside=self.beside.offer,
        )

    # -- the four steps ------------------------------------------------------------------------------------------------

    def decide_step(self, now: datetime, pipeline: str | None = None) -> Decided | None:
        """Decide on the next frame of this pipeline, or of the next in turn; None when there is none now."""
        return self.pipelines.step(now, pipeline)

    def record_step(self, now: datetime) -> None:
        """Make durable what was decided and chosen, as far as the disk allows."""
        self.eraser.step(self.updater.assignment, now)
        self.keeper.record(self.pipelines, now)
        self.tidying.step()

    def update_step(self, now: datetime, link: Link | None = None) -> bool:
        """Work towards the newest assignment; True when something happened that the hub should hear of soon.

        Args:
            link: another one than the device's own, such as a courier's stick.
        """
        if not self._pace.is_due(self.updater.number, now):
            return False
        happened = self.updater.step(link or self._link, now)
        self._pace.tried(self.updater, now)
        for item in happened:
            self.keeper.note(item.what, item.text, now, item.data)
        assignment = self.updater.assignment
        self.keeper.policy_known = assignment is None or assignment.policy_version <= self.identity.usecase.data.version
        if happened:
            self.contacts.hurry(now)
        return bool(happened)

    def defer_step(self, wait_s: float = 0.0) -> bool:
        """Hand the hardest frame that waits to the large bundle; False when none waits within this time."""
        return self.cascade is not None and self.cascade.step(wait_s)

    def beside_step(self, wait_s: float = 0.0) -> bool:
        """Ask the bundle beside the acting one about the frame that waits; False when none waits within this time."""
        return self.beside.step(wait_s)

    def norms_step(self, wait_s: float = 0.0) -> bool:
        """Look at a batch of frames for a site's variant; True when there is something to tell."""
        return self.norms.step(wait_s)

    def contact_step(self, now: datetime) -> bool:
        """Make contact if it is time; True when the hub answered."""
        card = self._card
        heard = self.contacts.step(self._link, now)
        if heard and self._card is card:
            self._card = None
        return heard

    def step(self, now: datetime) -> Decided | None:
        """All of them, once; the decision made, if any."""
        decision = self.decide_step(now)
        self.defer_step()
        self.beside_step()
        self.norms_step()
        self.record_step(now)
        self.contact_step(now)
        self.update_step(now)
        return decision

    @property
    def is_erasing(self) -> bool:
        """Whether an erasure waits for record steps."""
        return self.eraser.is_open(self.updater.assignment)

    def wants_in_s(self, now: datetime) -> float:
        """Seconds until the next contact is planned or work on an update goes on; it may be longer than is true."""
        update_s = math.inf if self.updater.phase in RESTING else self._pace.left_s(now)
        return min(update_s, self.contacts.left_s(now))

    def take_card(self, card: CapabilityCard, envelope: Envelope) -> None:
        """Report what the card says, and the card itself until the hub has heard it. Any thread may call."""
        self._facts = {**self._facts, **card.facts()}
        self.updater.take_facts(card.facts())
        self._card = envelope

    def _asked_for_sums(self) -> str | None:
        assignment = self.updater.assignment
        return None if assignment is None else assignment.sums

    def _is_metered(self) -> bool:
        return self._reported().get("network_metered") is True

    def _reported(self) -> dict[str, Fact]:
        """The capability card and what is true now."""
        return {**self._facts, **self._live.read()}

    # -- from outside ------------------------------------------------------------------------------------------------

    def feedback(
        self, now: datetime, *, verdict: str, frame: str | None = None, label: str | None = None, note: str = ""
    ) -> dict[str, Any]:
        """An operator's word on a frame, by default the newest one.

        Returns:
            the frame it was taken for, and whether the frame itself is kept for learning.
        Raises:
            NotValid: not a verdict, no frame was seen yet, or no feedback may leave. NotNow: the disk is full.
        """
        if verdict not in ("wrong", "missed", "unknown"):
            raise NotValid(f"the verdict is {verdict!r}, needs wrong, missed or unknown", code="verdict_wrong")
        name = frame or self.ring.newest()
        if name is None:
            raise NotValid("no frame was seen since the agent started; name one with `frame`", code="frame_unknown")
        item = self.pipelines.find(name)
        kept = self.keeper.feedback(item, name, now, verdict=verdict, label=label, note=note)
        self.news()
        return {"frame": name if may_name_frames(self.policy, "local-api") else None, "kept": kept}

    def settle(self, now: datetime) -> None:
        """Record what is left, and carry out every erasure that is known; only where nothing else steps this device."""
        for _ in range(ERASE_STEPS_MAX):
            self.record_step(now)
            if self.eraser.error or not self.is_erasing:
                return

    def erase(self, erasure: Erasure, now: datetime) -> dict[str, Any]:
        """Forget what an erasure covers, at once; only where nothing else steps this device meanwhile.

        Returns:
            what was forgotten, and the ids of what is on its way to the hub, which is told.
        Raises:
            NotNow: the disk is full, or somebody reads the outbox just now.
        """
        self.eraser.wish(erasure)
        for _ in range(ERASE_STEPS_MAX):
            self.eraser.step(self.updater.assignment, now)
            if self.eraser.error:
                break
            if self.eraser.is_idle and self.eraser.last is not None:
                return self.eraser.last
        raise NotNow(f"the erasure is not finished: {self.eraser.error}; ask again", code="erasure_unfinished")

    def close(self, now: datetime) -> None:
        """A planned stop: what is decided is recorded, and the next start is no crash."""
        self.pipelines.close_periods()
        self.keeper.record(self.pipelines, now)
        self.pipelines.close_sources()
        if self.cascade is not None:
            self.cascade.close()
        self.beside.close()
        self.norms.close()
        self.updater.close()
        self.outbox.close()

    @property
    def policy(self) -> DataPolicy:
        """What may leave this device, and after which transform."""
        return self.identity.usecase.data

    @property
    def decisions(self) -> int:
        """Decisions since the device was made; after a power cut, those of the last unfinished period count again."""
        return self._status.decisions

    def decisions_of(self, pipeline: str) -> int:
        """Those of one pipeline."""
        return self._status.decisions_of(pipeline)

    @property
    def backlog(self) -> int:
        """Records that the hub does not have yet."""
        return self._status.backlog

    def waits_for(self, way: str = "local-api") -> tuple[str, ...]:
        """What keeps the device from where it should be, as sentences.

        Args:
            way: by which way out they are told; a source's error may name a frame.
        """
        return self._status.waits_for(way)

    def report(self, now: datetime) -> Report:
        """The device's actual state, for the hub."""
        return self._status.report(now, self._card)

    def status(self, now: datetime) -> dict[str, Any]:
        """What runs, why, what it waits for and what happens next, for people and programs on the device."""
        return self._status.status(now)

    def made_ids(self) -> list[str]:
        """Records that were offered and neither shed nor lost, as far as the ledger goes back.

        None where the policy lets nothing about frames out by the local API.
        """
        if not may_name_frames(self.policy, "local-api"):
            return []
        return [item.id for item in self.outbox.made(100_000) if item.fate in ("waiting", "sealed", "stored")]


def _sampler(usecase: UseCase, pipeline: str) -> Sampler | None:
    if not usecase.data.telemetry or "telemetry" not in usecase.data.leave:
        return None
    prefix = "" if pipeline == MAIN else f"{pipeline}/"
    return Sampler(usecase.data.telemetry, every_s=usecase.telemetry.every_s, prefix=prefix)
