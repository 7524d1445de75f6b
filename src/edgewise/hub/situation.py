"""What the hub knows about a use case's devices, gathered once for all of its rollouts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgewise.hub.pins import pin_text
from edgewise.hub.rollout import Assign, Device, Evidence, Rollout, State, Want, has_it, stranded
from edgewise.hub.store import bundles, devices, intake, samples
from edgewise.hub.store import rollouts as rows
from edgewise.hub.store.devices import CommitRow, DeviceRow
from edgewise.measure import Pair, count_pairs
from edgewise.plan import misfits
from edgewise.wire import Assignment, Erasure, Report, Terms, UseCase, canonical, unmet

AWAY_CONTACTS = 3  # contact periods without a word until a device counts as away
AWAY_S_MIN = 60.0  # our choice: a link that drops for a moment is no reason to leave a device out
HISTORY_MAX = 1000  # points of a rollout's evidence; over it every second one is dropped


class Situation:
    """One moment of the store, as rollouts need it.

    Args:
        started_at: when this hub process began: until then it heard nobody, which is no device's fault.
    """

    def __init__(self, connection: sa.Connection, usecase: UseCase, now: datetime, *, started_at: datetime) -> None:
        self._connection = connection
        self._usecase = usecase
        self._now = now
        self._started_at = started_at
        found = devices.find(connection, use_case=usecase.name)
        self._devices = {row.id: row for row in found if row.revoked_at is None}
        self._reports = {name: row.last_report for name, row in self._devices.items()}
        self._wants = {name: _want(row.wanted) for name, row in self._devices.items()}
        self._commits: dict[str, list[CommitRow]] = {}
        for commit in devices.commits_of(connection, use_case=usecase.name):
            self._commits.setdefault(commit.device, []).append(commit)
        self._misfits: dict[tuple[str, str], tuple[str, ...]] = {}
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

    def fleet(self, rollout: Rollout, data: Mapping[str, Any]) -> list[Device]:
        """The devices as this rollout sees them.

        Args:
            data: what was learned about the rollout.
        """
        return [self._device(rollout, row, data) for row in self._devices.values()]

    def learned(self, rollout: Rollout, data: Mapping[str, Any]) -> dict[str, Any]:
        """What is remembered of the rollout, brought up to date. Equal to `data` where nothing is new.

        A device's failure and its exposure are kept for good: a later report says nothing about them any more.
        """
        fresh: dict[str, Any] = {"started_at": self._now.isoformat(), **data}
        failed, exposed = dict(fresh.get("failed", {})), dict(fresh.get("exposed", {}))
        release = rollout.target.release
        for name, report in self._reports.items():
            if report is not None and report.failed_rollout == rollout.id and name not in failed:
                failed[name] = report.last_failure or "its trial failed"
            # A device may have run it between two contacts: then the commits tell.
            ran = [commit.since for commit in self._commits.get(name, []) if commit.release == release]
            runs = report is not None and report.release == release
            if name not in exposed and (ran or runs or name in failed):
                exposed[name] = (ran[-1] if ran else self._now).isoformat()
        fresh |= {"failed": failed, "exposed": exposed}
        if rollout.state is State.REVERTING:
            fresh["stranded"] = [item.id for item in self.fleet(rollout, fresh) if stranded(rollout, item)]
        if rollout.state in (State.RUNNING, State.PAUSED, State.FINISHED):
            # Afterwards the counts stay those on which the decision was made.
            self._count(rollout, fresh)
        return fresh

    def evidence_bytes(self, rollout: Rollout, data: Mapping[str, Any], reason: str) -> bytes:
        """The document whose digest a revert names: why, on which counts, against which bound."""
        return canonical(
            {
                "rollout": rollout.id,
                "release": rollout.target.release,
                "returned_to": rollout.previous.release if rollout.previous else rollout.target.release,
                "reason": reason,
                "bound": 1 / rollout.policy.revert_alpha,
                **data.get("evidence", {}),
            }
        )

    def _count(self, rollout: Rollout, fresh: dict[str, Any]) -> None:
        counted = intake.paired_of(self._connection, rollout.id)
        labelled = samples.pairs(self._connection, rollout.id)
        wins, losses, ties = count_pairs(_pair(row, rollout, self._usecase) for row in labelled)
        evidence = Evidence(labels=len(labelled), wins=wins, losses=losses)
        paired = max(sum(pair for pair, _ in counted.values()), rows.pairs_received(self._connection, rollout.id))
        now = {
            # Telemetry may be behind the samples that a device sends first; a pair that we hold was made.
            "paired": paired,
            "disagreed": sum(apart for _, apart in counted.values()),
            "labels": len(labelled),
            "wins": wins,
            "losses": losses,
            "ties": ties,
            "e_value": evidence.e_value,
        }
        fresh["paired_by_device"] = {name: pair for name, (pair, _) in sorted(counted.items())}
        if now != fresh.get("evidence"):
            fresh["evidence"] = now
            point = [self._now.isoformat(), paired, len(labelled), evidence.e_value]
            fresh["history"] = _thinned([*fresh.get("history", []), point])

    def _device(self, rollout: Rollout, row: DeviceRow, data: Mapping[str, Any]) -> Device:
        report = self._reports[row.id]
        commits = self._commits.get(row.id, [])
        known = {commit.bundle for commit in commits}
        known_bad = set(report.known_bad) if report is not None else set()
        bad_here = rollout.target.bundle in known_bad
        member = row.id in rollout.members
        reasons = list(self._misfit(rollout.target.bundle, row))
        if bad_here and not member:
            reasons.append(f"bundle {rollout.target.bundle[:12]}… failed here before")
        told = data.get("told", {}).get(row.id)
        labels = {**self._labels.get(row.site, {}), **row.labels}
        seen = {**row.facts, **labels, "site": row.site, "device": row.id}
        device = Device(
            id=row.id,
            site=row.site,
            want=self._wants[row.id],
            running=None if report is None else report.release,
            failed=row.id in data.get("failed", {}) or (bad_here and member),
            # What failed here later is no place to return to: the device itself would refuse it.
            known=frozenset(known - known_bad),
            paired=data.get("paired_by_device", {}).get(row.id, 0),
            away=self._away(row),
            unmet=tuple(unmet(rollout.policy.conditions, row.facts)),
            not_now=_not_now(rollout, row, report),
            misfits=tuple(reasons),
            outside=tuple(unmet(rollout.policy.select, seen)),
            labels=labels,
            facts=row.facts,
            conflict=row.in_conflict,
            pinned=pin_text(row.pin),
            told_at=self._told.get((rollout.id, row.id)) or (None if told is None else datetime.fromisoformat(told)),
        )
        return replace(device, committed_at=_committed_at(rollout, commits, device))

    def _away(self, row: DeviceRow) -> bool:
        quiet_since = max(row.seen_at or row.enrolled_at, self._started_at)
        allowed_s = max(AWAY_S_MIN, AWAY_CONTACTS * self._usecase.connectivity.contact_s)
        return self._now - quiet_since > timedelta(seconds=allowed_s)

    def _misfit(self, bundle: str, row: DeviceRow) -> tuple[str, ...]:
        key = (bundle, row.id)
        if key not in self._misfits:
            manifest = bundles.manifest(self._connection, bundle)
            deadline_ms = self._usecase.placement.latency_ms_max
            found = [] if manifest is None else misfits(manifest.needs, row.facts, latency_ms_max=deadline_ms)
            self._misfits[key] = tuple(found)
        return self._misfits[key]


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


def right(label: str | None, truth: str, usecase: UseCase) -> bool:
    """Whether a decision says what the label says; all labels of good parts mean the same."""
    good = usecase.outcome.good_labels
    return label == truth or (label in good and truth in good)


def _pair(row: samples.SampleRow, rollout: Rollout, usecase: UseCase) -> Pair:
    decision, shadow = row.decision or {}, row.shadow or {}
    # The bundle tells whose word it is; which of the two acted on the device does not.
    ours, theirs = (decision, shadow) if decision.get("bundle") == rollout.target.bundle else (shadow, decision)
    truth = row.label or ""
    return Pair(
        group="" if row.group == row.id else f"{row.site}/{row.group}",
        candidate_right=right(ours.get("label"), truth, usecase),
        champion_right=right(theirs.get("label"), truth, usecase),
    )


def _committed_at(rollout: Rollout, commits: list[CommitRow], device: Device) -> datetime | None:
    """When the release was first seen committed there since this rollout told it to."""
    if not has_it(rollout, device):
        return None
    return next((commit.since for commit in reversed(commits) if commit.release == rollout.target.release), None)


def _want(assignment: Assignment | None) -> Want | None:
    if assignment is None or assignment.release is None or assignment.bundle is None:
        return None
    return Want(
        kind=assignment.kind,
        release=assignment.release,
        bundle=assignment.bundle,
        rollout=assignment.rollout or "",
        bake=assignment.bake,
        shadow=assignment.shadow,
    )


def _not_now(rollout: Rollout, row: DeviceRow, report: Report | None) -> tuple[str, ...]:
    """Why the device puts off this rollout's assignment, in its own words; of another one it says nothing here."""
    if report is None or row.wanted is None or row.wanted.rollout != rollout.id:
        return ()
    return report.not_now if report.assignment == row.assignment_number else ()


def _thinned(history: list[list[Any]]) -> list[list[Any]]:
    return history if len(history) <= HISTORY_MAX else [*history[:-1:2], history[-1]]
