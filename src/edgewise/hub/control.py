"""The controllers: read the whole situation, ask the pure functions what to do, do it. One hub of a database at a time.

Everything here is level-triggered (invariant 12): a tick in an unchanged situation writes nothing, and a hub that
restarts in the middle of anything goes on from the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from edgewise.hub import audit, erasures, gate, recorded, rollouts, site_gate, usecases
from edgewise.hub.evidence import evidence_bytes, evidence_of
from edgewise.hub.rollout import (
    Assign,
    Device,
    Evidence,
    Join,
    Move,
    Open,
    OpenShadow,
    Pass,
    PassShadow,
    Rollout,
    State,
    Step,
    walk,
)
from edgewise.hub.situation import Situation, assignment_of
from edgewise.hub.store import devices, leases, releases
from edgewise.hub.store import rollouts as rows
from edgewise.hub.store import usecases as usecase_rows
from edgewise.ports.scoring import Answers
from edgewise.wire import EdgewiseError, NotNow, UseCase

if TYPE_CHECKING:
    from edgewise.hub._hub import Hub

ACTOR = "controller"
LEASE = "controllers"
JUDGED_MAX = 16  # candidates in one tick
log = logging.getLogger(__name__)


@dataclass
class _Memory:
    """What one hub process keeps between ticks; losing it changes nothing but time."""

    started_at: datetime
    answers: Answers = field(default_factory=Answers)


_MEMORIES: WeakKeyDictionary[Hub, _Memory] = WeakKeyDictionary()


def tick(hub: Hub, now: datetime) -> None:
    """Run the gate and the rollouts of every use case once.

    Raises:
        NotNow: another hub took the lease over meanwhile; nothing more is changed here.
    """
    memory = _MEMORIES.setdefault(hub, _Memory(started_at=now))
    check = fence(hub)
    beat = _beat(hub, check)
    with hub.store.read() as connection:
        names = usecase_rows.names(connection)
    for name in names:
        try:
            recorded.label(hub.store, name, now, check=check)
            for judge_next in (gate.judge_next, site_gate.judge_next):
                for _ in range(JUDGED_MAX):
                    judged = judge_next(
                        hub.store,
                        name,
                        now,
                        runtime=hub.runtime,
                        chance=hub.chance,
                        answers=memory.answers,
                        check=check,
                        beat=beat,
                    )
                    if judged is None:
                        break
            start_rollouts(hub, name, now, check)
            run_rollouts(hub, name, now, check, started_at=memory.started_at)
        except NotNow:
            raise
        except EdgewiseError:
            # One use case with a broken record must not stop the others; the next tick looks again.
            log.exception("the controllers could not finish with use case %s", name)


def start_rollouts(hub: Hub, use_case: str, now: datetime, check: Callable[[sa.Connection], None]) -> None:
    """A rollout for the newest release, if it was signed on the gate's word and has none yet."""
    with hub.store.read() as connection:
        release = _to_roll_out(connection, use_case)
        if release is None:
            return
        wrong = rollouts.impossible(connection, release, {}, now)
    with hub.store.write() as connection:
        check(connection)
        if release == _to_roll_out(connection, use_case):
            rollouts.create_in(
                connection,
                release,
                {},
                who=ACTOR,
                why="signed on the gate's word",
                now=now,
                chance=hub.chance,
                wrong=wrong,
            )


def run_rollouts(
    hub: Hub, use_case: str, now: datetime, check: Callable[[sa.Connection], None], *, started_at: datetime
) -> None:
    """Bring the devices of a use case closer to what its rollouts want."""
    with hub.store.read() as connection:
        draft = _Walk(hub, connection, use_case, now, started_at, dry=True)
        if not draft.run():
            return
    with hub.store.write() as connection:
        check(connection)
        _Walk(hub, connection, use_case, now, started_at, dry=False).run()


def _to_roll_out(connection: sa.Connection, use_case: str) -> str | None:
    usecase = usecases.need(connection, use_case)
    newest = releases.find(connection, use_case=use_case, limit=1)
    if not usecase.rollout.automatic or not newest:
        return None
    release = newest[0]
    known = rows.find(connection, release=release.id, limit=1)
    return release.id if release.signed_as == "gate" and release.reverted_at is None and not known else None


def fence(hub: Hub) -> Callable[[sa.Connection], None]:
    """A check for the start of each write: this hub still holds the lease under which it read the situation."""

    def take(connection: sa.Connection) -> int | None:
        now = hub.now()
        until = now + timedelta(seconds=hub.limits.controller_lease_s)
        return leases.take(connection, LEASE, holder=hub.holder, until=until, now=now)

    with hub.store.write() as connection:
        fence = take(connection)
    if fence is None:
        raise NotNow("another hub of this database runs the controllers; this one waits", code="lease_held")

    def check(connection: sa.Connection) -> None:
        # A gate may score for longer than a lease lasts. What was read under an old lease must not be acted on.
        if take(connection) != fence:
            raise NotNow("another hub took the controllers over; this one starts afresh", code="lease_lost")

    return check


class _Walk:
    """One look at all rollouts of a use case, and – unless dry – the acts that follow from it."""

    def __init__(
        self, hub: Hub, connection: sa.Connection, use_case: str, now: datetime, started_at: datetime, *, dry: bool
    ) -> None:
        self._hub = hub
        self._connection = connection
        self._now = now
        self._dry = dry
        self._usecase: UseCase = usecases.need(connection, use_case)
        self._rows = {row.id: row for row in rows.current(connection, use_case)}
        self._situation = Situation(connection, self._usecase, now, started_at=started_at)
        self._changed = False

    def run(self) -> bool:
        """True if there was (or, dry, would be) anything to change."""
        if not self._rows:
            return False
        for row in list(self._rows.values()):
            self._learn(rollouts.as_rollout(self._connection, row))
            if self._changed and self._dry:
                return True
        found = [rollouts.as_rollout(self._connection, row) for row in self._rows.values()]
        walk(found, self._look, self._act, self._now)
        return self._changed

    def _learn(self, rollout: Rollout) -> None:
        """Note what reports, telemetry and labels say about a rollout, where that is new."""
        row = self._rows[rollout.id]
        data = self._situation.learned(rollout, row.data or {})
        if data != (row.data or {}):
            self._changed = True
            self._remember(rollout.id, data)

    def _look(self, rollout: Rollout) -> tuple[Sequence[Device], Evidence]:
        data = self._rows[rollout.id].data or {}
        return self._situation.fleet(rollout, data), evidence_of(data)

    def _act(self, before: Rollout, rollout: Rollout, steps: list[Step]) -> None:
        self._changed = True
        if self._dry:
            self._situation.pretend(step for step in steps if isinstance(step, Assign))
            return
        data = dict(self._rows[rollout.id].data or {}) | rollouts.progress_as_data(rollout)
        told = {step.device: self._now.isoformat() for step in steps if isinstance(step, Assign) and step.tells}
        if told:
            data["told"] = {**data.get("told", {}), **told}
        self._remember(rollout.id, data)
        for step in steps:
            if isinstance(step, Move):
                row = self._rows[rollout.id]
                decided = None if rollout.state is State.FINISHED else self._decided_on(before, step.reason)
                rollouts.set_state(
                    self._connection,
                    row,
                    rollout.state,
                    reason=step.reason,
                    who=ACTOR,
                    now=self._now,
                    evidence=decided,
                )
                self._reload(rollout.id)
            elif isinstance(step, Assign):
                self._assign(before, step)
            else:
                self._note(rollout, step)

    def _decided_on(self, rollout: Rollout, reason: str) -> str:
        """Digest of the document that says on which counts, against which bounds, something was decided."""
        data = self._rows[rollout.id].data or {}
        return self._hub.store.blobs.put(evidence_bytes(rollout, data, reason))

    def _note(self, rollout: Rollout, step: Step) -> None:
        """Tell the audit log what became of a stage."""
        data: dict[str, object] = {"rollout": rollout.id}
        match step:
            case Open():
                action, data = "wave.opened", data | {"wave": step.wave + 1, "devices": list(step.devices)}
            case Join():
                where = {} if step.wave is None else {"wave": step.wave + 1}
                action = "shadow.joined" if step.wave is None else "wave.joined"
                data = data | where | {"devices": list(step.devices)}
            case Pass():
                action, data = "wave.passed", data | {"wave": step.wave + 1}
            case OpenShadow():
                action, data = "shadow.opened", data | {"devices": list(step.devices)}
            case PassShadow():
                decided = self._decided_on(rollout, step.reason)
                action, data = "shadow.passed", data | {"reason": step.reason, "blob": decided}
            case _:
                raise AssertionError(f"{step} is carried out elsewhere")
        target = rollout.target.release
        audit.note(self._connection, actor=ACTOR, action=action, subject=target, data=data, now=self._now)

    def _assign(self, rollout: Rollout, step: Assign) -> None:
        evidence = self._decided_on(rollout, step.reason) if step.want.kind == "revert" else None
        assignment = assignment_of(
            self._situation.row(step.device),
            step,
            rollout,
            hub_epoch=self._hub.hub_epoch,
            policy_version=self._usecase.data.version,
            zone=self._zone(step.device),
            evidence=evidence,
            now=self._now,
            erasures=erasures.open_for(self._connection, self._situation.row(step.device)),
        )
        devices.assign(self._connection, assignment)
        self._situation.assigned(step, assignment)
        data = {
            "number": assignment.number,
            "kind": assignment.kind,
            "release": assignment.release,
            "bake": assignment.bake,
            "shadow": assignment.shadow,
            "rollout": assignment.rollout,
            "reason": step.reason,
            "evidence": evidence,
        }
        audit.note(
            self._connection, actor=ACTOR, action="device.assigned", subject=step.device, data=data, now=self._now
        )

    def _zone(self, device: str) -> str:
        site = self._situation.row(device).site
        return next((item.zone for item in self._usecase.sites if item.name == site), "UTC")

    def _remember(self, rollout: str, data: dict[str, object]) -> None:
        if not self._dry:
            rows.change(self._connection, rollout, now=self._now, data=data)
            self._reload(rollout)

    def _reload(self, rollout: str) -> None:
        self._rows[rollout] = rollouts.need(self._connection, rollout)


def _beat(hub: Hub, check: Callable[[sa.Connection], None]) -> Callable[[], None]:
    """Keeps the lease while a gate scores for longer than it lasts: a write every quarter of it."""
    every, told_at = timedelta(seconds=hub.limits.controller_lease_s / 4), hub.now()

    def beat() -> None:
        nonlocal told_at
        if hub.now() - told_at >= every:
            with hub.store.write() as connection:
                check(connection)
            told_at = hub.now()

    return beat
