"""What the hub knows about a use case's devices, gathered once for all of its rollouts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgewise.hub import evidence
from edgewise.hub.fits import Fits
from edgewise.hub.pins import pin_text
from edgewise.hub.rollout import Assign, Device, Rollout, State, Want, has_it, stranded
from edgewise.hub.rollout_look import shadow_set
from edgewise.hub.store import devices
from edgewise.hub.store.devices import CommitRow, DeviceRow
from edgewise.wire import Assignment, Erasure, Terms, UseCase, plain, unmet

AWAY_CONTACTS = 3  # contact periods without a word until a device counts as away
AWAY_S_MIN = 60.0  # our choice: a link that drops for a moment is no reason to leave a device out


class Situation:
    """One moment of the store, as rollouts need it.

    Args:
        started_at: when this hub process began: until then it heard nobody, which is no device's fault.
        only: this device alone, for a page about it; None for all of the use case.
    """

    def __init__(
        self,
        connection: sa.Connection,
        usecase: UseCase,
        now: datetime,
        *,
        started_at: datetime,
        only: DeviceRow | None = None,
    ) -> None:
        self._connection = connection
        self._usecase = usecase
        self._now = now
        self._started_at = started_at
        found = devices.find(connection, use_case=usecase.name) if only is None else [only]
        device = None if only is None else only.id
        self._devices = {row.id: row for row in found if row.revoked_at is None}
        self._said = {name: _said(row.report) for name, row in self._devices.items() if row.report is not None}
        self._wants = {name: _want(row.assignment) for name, row in self._devices.items()}
        self._commits: dict[str, list[CommitRow]] = {}
        for commit in devices.commits_of(connection, use_case=usecase.name, device=device):
            self._commits.setdefault(commit.device, []).append(commit)
        self._fits = Fits(connection, latency_ms_max=usecase.placement.latency_ms_max)
        self._told: dict[tuple[str, str], datetime] = {}
        self._labels = {site.name: site.labels for site in usecase.sites}

    def row(self, device: str) -> DeviceRow:
        return self._devices[device]

    def pretend(self, steps: Iterable[Assign]) -> None:
        """Take these assignments as made."""
        for step in steps:
            self._wants[step.device] = step.want
            if step.tells:
                self._told[step.want.rollout, step.device] = self._now

    def assigned(self, step: Assign, assignment: Assignment) -> None:
        """This assignment was written: whatever the device is told next has a number above."""
        self.pretend([step])
        row = self._devices[step.device]
        written = replace(row, assignment_number=assignment.number, assignment=plain(assignment))
        self._devices[step.device] = written

    def fleet(self, rollout: Rollout, data: Mapping[str, Any]) -> list[Device]:
        """The devices as this rollout sees them.

        Args:
            data: what was learned about the rollout.
        """
        inside = rollout.members | shadow_set(rollout)
        return [self._device(rollout, row, data, inside=row.id in inside) for row in self._devices.values()]

    def learned(self, rollout: Rollout, data: Mapping[str, Any]) -> dict[str, Any]:
        """What is remembered of the rollout, brought up to date. Equal to `data` where nothing is new.

        A device's failure and its exposure are kept for good: a later report says nothing about them any more.
        """
        if rollout.state is State.REVERTED:
            return dict(data)
        failed, exposed = dict(data.get("failed", {})), dict(data.get("exposed", {}))
        release, members = rollout.target.release, rollout.members
        for name, said in self._said.items():
            if said.failed_rollout == rollout.id and name not in failed:
                failed[name] = said.failure or "its trial failed"
            # A device may have run it between two contacts: then the commits tell.
            ran = [commit.since for commit in self._commits.get(name, []) if commit.release == release]
            runs = said.release == release
            tried = name in failed and name in members  # in its trial; in shadow nobody is exposed
            if name not in exposed and (ran or runs or tried):
                exposed[name] = (ran[-1] if ran else self._now).isoformat()
        fresh: dict[str, Any] = {**data, "failed": failed, "exposed": exposed}
        if rollout.state is State.REVERTING:
            fresh["stranded"] = [item.id for item in self.fleet(rollout, fresh) if stranded(rollout, item)]
        if rollout.policy.stuck_s is not None and rollout.state in (State.RUNNING, State.PAUSED):
            fresh |= self._waited(rollout, fresh)
        if rollout.state in (State.RUNNING, State.PAUSED, State.FINISHED):
            # Afterwards the counts stay those on which the decision was made.
            if rollout.policy.backstop is not None and rollout.state is not State.FINISHED:
                fresh = evidence.with_look(self._connection, rollout, fresh, self.fleet(rollout, fresh), self._now)
            fresh = evidence.with_counts(self._connection, rollout, self._usecase, fresh, self._now)
        return fresh

    def _waited(self, rollout: Rollout, data: Mapping[str, Any]) -> dict[str, Any]:
        """Who waits now of those that were told, and until when others did; it changes only when one begins or ends."""
        told = data.get("told", {})
        waiting = sorted(device.id for device in self.fleet(rollout, data) if device.id in told and device.waits)
        ended = {name: self._now.isoformat() for name in data.get("waiting", []) if name not in waiting}
        return {"waiting": waiting, "waited": {**data.get("waited", {}), **ended}}

    def _device(self, rollout: Rollout, row: DeviceRow, data: Mapping[str, Any], *, inside: bool) -> Device:
        """One device as the rollout sees it.

        Args:
            inside: it is in the shadow stage or in a wave.
        """
        said = self._said.get(row.id, SILENT)
        commits, bad = self._commits.get(row.id, []), said.known_bad
        # What failed here later is no place to return to: the device itself would refuse it.
        known = frozenset(commit.bundle for commit in commits) - bad
        held = self._fits.held(row, commits)
        bundle, reasons = self._bundle(rollout, row, commits, held=held, bad=bad)
        tried = not bad.isdisjoint((bundle, *self._fits.variants(rollout.target.release).values()))
        if bundle in bad and not inside and not reasons:
            reasons = (f"bundle {bundle[:12]}… failed here before",)
        previous = self._previous_bundle(rollout, row, commits, known, held=held, bad=bad)
        labels = {**self._labels.get(row.site, {}), **row.labels}
        seen = {**row.facts, **labels, "site": row.site, "device": row.id}
        device = Device(
            id=row.id,
            site=row.site,
            want=self._wants[row.id],
            running=said.release,
            failed=row.id in data.get("failed", {}) or (tried and inside),
            known=known,
            paired=data.get("paired_by_device", {}).get(row.id, 0),
            away=self._away(row),
            unmet=tuple(unmet(rollout.policy.conditions, row.facts)),
            not_now=_not_now(rollout, row, said),
            misfits=reasons,
            bundle=bundle,
            variant=self._fits.variant_of(rollout.target.release, bundle),
            previous_bundle=previous,
            previous_fits=rollout.previous is None or previous is not None,
            outside=tuple(unmet(rollout.policy.select, seen)),
            labels=labels,
            facts=row.facts,
            told_at=self._told.get((rollout.id, row.id)) or _time(data.get("told", {}).get(row.id)),
            waited_until=_time(data.get("waited", {}).get(row.id)),
            metered=row.facts.get("network_metered") is True,
            predicted_bytes=self._fits.bytes_to_fetch(bundle, held),
            conflict=row.in_conflict,
            pinned=pin_text(row.pin),
        )
        return replace(device, committed_at=_committed_at(rollout, commits, device))

    def _bundle(
        self, rollout: Rollout, row: DeviceRow, commits: Sequence[CommitRow], *, held: set[str], bad: Set[str]
    ) -> tuple[str, tuple[str, ...]]:
        """The variant of the release for this device, and why none can run there.

        Once told it stays the same: what the device has fetched since must not change its mind.
        """
        target, want = rollout.target, self._wants[row.id]
        if want is not None and (want.rollout, want.release) == (rollout.id, target.release):
            return want.bundle, self._fits.misfits(want.bundle, row)
        if commits and commits[-1].release == target.release:
            return commits[-1].bundle, ()
        choice = self._fits.choice(target.release, row, held=held, bad=bad)
        return (choice.bundle, ()) if choice.bundle is not None else (target.bundle, choice.sentences())

    def _previous_bundle(
        self,
        rollout: Rollout,
        row: DeviceRow,
        commits: Sequence[CommitRow],
        known: frozenset[str],
        *,
        held: set[str],
        bad: Set[str],
    ) -> str | None:
        """The variant of the release to return to: the one that last ran there, else the one that fits."""
        if rollout.previous is None:
            return None
        ours = set(self._fits.variants(rollout.previous.release).values())
        once = next((item.bundle for item in reversed(commits) if item.bundle in ours and item.bundle in known), None)
        return once or self._fits.choice(rollout.previous.release, row, held=held, bad=bad).bundle

    def _away(self, row: DeviceRow) -> bool:
        quiet_since = max(row.seen_at or row.enrolled_at, self._started_at)
        allowed_s = max(AWAY_S_MIN, AWAY_CONTACTS * self._usecase.connectivity.contact_s)
        return self._now - quiet_since > timedelta(seconds=allowed_s)


def assignment_of(
    row: DeviceRow,
    step: Assign,
    rollout: Rollout,
    *,
    hub_epoch: str,
    policy_version: int,
    zone: str = "UTC",
    evidence: str | None,
    now: datetime,
    erasures: tuple[Erasure, ...] = (),
) -> Assignment:
    """The device's next assignment; its number is one above the last.

    A revert waits for no window and no condition: what harms is taken back at once.
    """
    policy, waits = rollout.policy, step.want.kind != "revert"
    return Assignment(
        device=row.id,
        number=row.assignment_number + 1,
        hub_epoch=hub_epoch,
        use_case=row.use_case,
        kind=step.want.kind,
        release=step.want.release,
        bundle=step.want.bundle,
        rollout=step.want.rollout,
        trial_s=rollout.policy.trial_s,
        bake=step.want.bake,
        shadow=step.want.shadow,
        shadow_cpu_share=policy.shadow.cpu_share if policy.shadow is not None else 1.0,
        download=policy.download if waits else Terms(),
        activation=policy.activation if waits else Terms(),
        zone=zone,
        bytes_per_s_max=policy.bytes_per_s_max,
        policy_version=policy_version,
        reason=step.reason,
        evidence=evidence,
        issued_at=now,
        erasures=erasures,
    )


def _committed_at(rollout: Rollout, commits: list[CommitRow], device: Device) -> datetime | None:
    """When the release was first seen committed there since this rollout told it to."""
    if not has_it(rollout, device):
        return None
    return next((commit.since for commit in reversed(commits) if commit.release == rollout.target.release), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Said:
    """What rollouts ask of a device's last report. It was checked when it came; for a large fleet once is enough."""

    release: str | None = None
    assignment: int = 0
    failed_rollout: str | None = None
    failure: str | None = None
    known_bad: frozenset[str] = frozenset()
    not_now: tuple[str, ...] = ()


SILENT = _Said()


def _said(report: Mapping[str, Any]) -> _Said:
    return _Said(
        release=report.get("release"),
        assignment=report.get("assignment", 0),
        failed_rollout=report.get("failed_rollout"),
        failure=report.get("last_failure") or report.get("failure", {}).get("text"),
        known_bad=frozenset(report.get("known_bad", ())),
        not_now=tuple(report.get("not_now", ())),
    )


def _want(assignment: Mapping[str, Any] | None) -> Want | None:
    if assignment is None or assignment.get("release") is None or assignment.get("bundle") is None:
        return None
    return Want(
        kind=assignment.get("kind", "run"),
        release=assignment["release"],
        bundle=assignment["bundle"],
        rollout=assignment.get("rollout") or "",
        bake=assignment.get("bake", False),
        shadow=assignment.get("shadow", False),
    )


def _not_now(rollout: Rollout, row: DeviceRow, said: _Said) -> tuple[str, ...]:
    """Why the device puts off this rollout's assignment, in its own words; of another one it says nothing here."""
    if row.assignment is None or row.assignment.get("rollout") != rollout.id:
        return ()
    return said.not_now if said.assignment == row.assignment_number else ()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
