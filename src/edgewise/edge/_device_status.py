"""What a device says of itself: a report to the hub, a status to people and programs beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewise import __version__
from edgewise.edge._beside import Beside
from edgewise.edge._cascade import Cascade
from edgewise.edge._contacts import Contacts
from edgewise.edge._decider import Decider
from edgewise.edge._erasing import Eraser
from edgewise.edge._explain import explain
from edgewise.edge._identity import Identity
from edgewise.edge._keeper import Keeper
from edgewise.edge._metered import Meter, why_waiting
from edgewise.edge._offline import known_here
from edgewise.edge._pipelines import Pipelines, told
from edgewise.edge._story import Situation, story_values
from edgewise.edge._troubles import troubles
from edgewise.edge.outbox import Outbox
from edgewise.edge.runtime import runtime_status
from edgewise.edge.update import Updater
from edgewise.measure import Histogram
from edgewise.policy import may_name_frames
from edgewise.ports import Clock, Fact, Runtime
from edgewise.wire import DataPolicy, Envelope, Report, plain


class DeviceStatus:
    """Reads the parts of a device and changes none of them. Any thread may ask.

    Args:
        folder: everything the device remembers.
        cascade: None without one.
        facts: the capability card and what is true now.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        *,
        outbox: Outbox,
        updater: Updater,
        keeper: Keeper,
        pipelines: Pipelines,
        eraser: Eraser,
        contacts: Contacts,
        meter: Meter,
        cascade: Cascade | None,
        beside: Beside,
        runtime: Runtime,
        clock: Clock,
        facts: Callable[[], Mapping[str, Fact]],
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._outbox = outbox
        self._updater = updater
        self._keeper = keeper
        self._pipelines = pipelines
        self._eraser = eraser
        self._contacts = contacts
        self._meter = meter
        self._cascade = cascade
        self._beside = beside
        self._runtime = runtime
        self._clock = clock
        self._facts = facts
        self._decisions_before = {name: one.decisions for name, one in keeper.recorded.by_name.items()}

    @property
    def _policy(self) -> DataPolicy:
        return self._identity.usecase.data

    @property
    def decisions(self) -> int:
        """Decisions since the device was made; after a power cut, those of the last unfinished period count again."""
        return sum(self._decisions_before.values()) + self._pipelines.decided

    def decisions_of(self, pipeline: str) -> int:
        """Those of one pipeline."""
        return self._decisions_before.get(pipeline, 0) + self._pipelines.by_name[pipeline].decided

    @property
    def backlog(self) -> int:
        """Records that the hub does not have yet."""
        return self._outbox.backlog().records + self._pipelines.urgent_waiting + self._keeper.notes_waiting

    def waits_for(self, way: str = "local-api") -> tuple[str, ...]:
        """What keeps the device from where it should be, as sentences.

        Args:
            way: by which way out they are told; a source's error may name a frame.
        """
        assignment = self._updater.assignment
        reasons = [self._updater.waits_for] if self._updater.waits_for else []
        if self._updater.running is None:
            reasons.append("a first release")
        if self._eraser.error:
            reasons.append(f"an erasure: {self._eraser.error}")
        if self._contacts.error:
            reasons.append(f"the hub: {self._contacts.error}")
        reasons += self._pipelines.complaints(names=may_name_frames(self._policy, way))
        if self._cascade is not None:
            reasons += self._cascade.complaints()
        told = self._meter.cost(self._outbox.totals(), self._identity.usecase.connectivity, self._clock.now())
        reasons += filter(None, [why_waiting(told)])
        if not self._keeper.policy_known and assignment is not None:
            reasons.append(f"policy {assignment.policy_version}; nothing is kept until this device is enrolled again")
        return (*reasons, *self._updater.warnings(self._clock.now()))

    def report(self, now: datetime, card: Envelope | None) -> Report:
        """The device's actual state, for the hub.

        Args:
            card: the signed capability card, until the hub has heard it.
        """
        return Report(
            at=now,
            waits_for=self.waits_for("report"),
            backlog=self.backlog,
            decisions=self.decisions,
            facts=self._facts(),
            version=__version__,
            card=card,
            erased=self._eraser.done,
            erased_of=self._eraser.epoch,
            **self._updater.report_fields(),
        )

    def status(self, now: datetime) -> dict[str, Any]:
        """What runs, why, what it waits for and what happens next, for people and programs on the device."""
        backlog = self._outbox.backlog()
        about = {
            "device": self._identity.device,
            "site": self._identity.site,
            "use_case": self._identity.use_case,
            "version": __version__,
            **self._updater.report_fields(),
            "failure": plain(failure) if (failure := self._updater.state.failure) else None,
            "metadata_expires_at": _text(self._updater.trusted.expires_at),
            "slot": self._updater.running.slot if self._updater.running else None,
            "shadow": self._updater.shadow.release if self._updater.shadow else None,
            "rollout": self._updater.rollout,
            "decisions": self.decisions,
            "undecided": self._keeper.undecided,
            "period_frames": self._pipelines.period_frames,
            "latency_ms": _quantiles(self._pipelines.latency()),
            "pipelines": {one.name: self._pipeline_status(one) for one in self._pipelines},
            "backlog": self.backlog,
            "outbox": {
                "waiting": backlog.waiting,
                "sealed": backlog.sealed,
                "stored": backlog.stored,
                "refused": backlog.refused,
                "erased": backlog.erased,
                "shed": self._keeper.shed(),
                "held_bytes": backlog.held_bytes,
                "bytes_max": self._outbox.limits.bytes_max,
                "epoch": self._outbox.epoch,
                "acked": self._outbox.acked,
            },
            "beside": self._beside.status(),
            "cascade": self._cascade.status() if self._cascade is not None else None,
            "keep": {"room_bytes": self._keeper.credit.room(now), "not_kept": dict(self._keeper.not_kept)},
            "cost": self._meter.cost(self._outbox.totals(), self._identity.usecase.connectivity, now),
            "contact": {
                "last_at": _text(self._contacts.last_at),
                "next_at": _text(self._contacts.next_at),
                "failures": self._contacts.failures,
                "error": self._contacts.error,
            },
            "runtime": runtime_status(self._runtime),
            "waits_for": list(self.waits_for()),
        }
        return about | {
            "why": explain(
                self._updater.state, running=self._updater.running is not None, not_now=self._updater.not_now
            ),
            "story": story_values(self._situation(now)),
        }

    def _situation(self, now: datetime) -> Situation:
        updater = self._updater
        known = known_here(self._folder, updater.state, updater.trusted.expires_at)
        return Situation(
            now=now,
            state=updater.state,
            slot=updater.running.slot if updater.running else None,
            not_now=updater.not_now,
            troubles=troubles(now, known, self._facts()),
            policy_version=self._policy.version,
            decisions=self.decisions,
            backlog=self.backlog,
            next_contact_at=self._contacts.next_at,
        )

    def _pipeline_status(self, decider: Decider) -> dict[str, Any]:
        recorded, names = self._keeper.recorded.of(decider.name), may_name_frames(self._policy, "local-api")
        return {
            "decisions": self.decisions_of(decider.name),
            "undecided": recorded.undecided,
            "period_frames": decider.period_frames,
            "cursor": recorded.cursor if names else None,
            "latency_ms": _quantiles(decider.latency),
            "source": told(decider.source_error, names=names),
            "source_failures": decider.source_failures,
            "source_silent_s": round(decider.silent_s, 1),
            "act": told(decider.act_error, names=names),
            "act_failures": decider.act_failures,
        }


def _quantiles(latency: Histogram) -> dict[str, float | None]:
    return {name: latency.quantile(share) for name, share in (("p50", 0.5), ("p99", 0.99))}


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
