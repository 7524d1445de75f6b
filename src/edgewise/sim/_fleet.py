"""A whole fleet and its hub in one process under one seed: built, run, healed, brought to rest, checked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edgewise.hub import Hub, HubConfig, deltas, usecases
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import devices as device_rows
from edgewise.hub.store import intake, releases, rollouts, verdicts
from edgewise.ports import MemoryBlobs, MemoryClock, MemoryKeys, MemoryRuntime
from edgewise.sim._clockwork import Clockwork
from edgewise.sim._evidence import GONE_WITH_A_WORD, Evidence, broken
from edgewise.sim._faults import Faults, Trouble, chance_of
from edgewise.sim._gather import gather
from edgewise.sim._keeper import Keeper
from edgewise.sim._log import EventLog
from edgewise.sim._machine import Machine
from edgewise.sim._people import Labeller, Operator, begin
from edgewise.sim._signer import Signer
from edgewise.sim._trainer import Worker
from edgewise.sim._world import NAME, SITES, use_case
from edgewise.wire import NotValid

START = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
ENROLMENT_S = 600.0  # devices join within ten minutes, the last ones in the middle of the run
LATE_SHARE = 0.1
BAD_AT_SHARE = 0.45  # of the run: when the operator has the bad idea
REST_S_MAX = 6 * 3600.0  # after this long with healed links a fleet that is not at rest never will be
HUB_TICK_S, WORKER_S, LABELLER_S, SIGNER_S, OPERATOR_S = 90.0, 60.0, 120.0, 60.0, 90.0
MEMORY_FOLDER = Path("/dev/shm")  # a folder in memory: fsync costs nothing there
Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetResult:
    """What a run came to.

    Attributes:
        evidence: what the checks looked at.
        broken: a sentence for each invariant that does not hold; empty when all do.
    """

    counts: dict[str, Any]
    evidence: Evidence
    broken: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Counts of the run, for people and programs; the same seed gives the same."""
        return dict(self.counts)


class Fleet:
    """Devices, links, hub, worker, signer and people in one process.

    Args:
        seed: everything that is drawn follows from it.
        devices: how many.
        hours: simulated hours before the links are healed.
        faults: how often things go wrong.
        folder: for the devices' files.
        log: what happens.
    """

    def __init__(self, *, seed: int, devices: int, hours: float, faults: Faults, folder: Path, log: EventLog) -> None:
        self._seed, self._hours, self._faults, self._log = seed, hours, faults, log
        clock = MemoryClock(START)
        self.work = Clockwork(clock, START)
        self.hub = Hub(
            HubConfig(),
            clock=clock,
            chance=chance_of(seed, "hub"),
            runtime=MemoryRuntime(),
            blobs=MemoryBlobs(),
            keys=MemoryKeys(f"hub {seed}".encode()),
            run=deltas.at_once,
        )
        usecases.apply(self.hub.store, use_case(devices), source="", who="admin", now=START)
        self._truths: dict[str, str] = {}
        trouble = Trouble(faults, chance_of(seed, "worker trouble"))
        self.worker = Worker(self.hub, log, chance_of(seed, "worker"), trouble)
        self._worker_trouble = trouble
        keeper = Keeper(self.hub, f"offline {seed}".encode(), [NAME], now=START)
        self.signer = Signer(self.hub, log, keeper, NAME)
        self.labeller = Labeller(self.hub, log, chance_of(seed, "labeller"), self._truths)
        starts_at = START + timedelta(hours=hours * BAD_AT_SHARE)
        self.operator = Operator(self.hub, log, self.signer, starts_at)
        self.machines = [self._machine(index, devices, folder) for index in range(devices)]
        self._resting = False
        self._audited = 0
        self._plan(devices)

    # -- a run -----------------------------------------------------------------------------------------------------

    def run(self, progress: Progress) -> None:
        """Let the hours pass."""
        end_s = self._hours * 3600
        steps = max(1, round(end_s / 300))
        for step in range(1, steps + 1):
            self.work.run_until(end_s * step / steps)
            progress(f"{self.work.now_s / 3600:.1f} h", 0.9 * step / steps)

    def heal(self) -> None:
        """From now on nothing is lost and nobody starts anything new."""
        for machine in self.machines:
            machine.heal()
        self._worker_trouble.heal()
        self._resting = True
        self._log.write(self.work.now, "sim", "healed")

    def rest(self, progress: Progress) -> list[str]:
        """Drive everything until nothing moves any more; what still does after `REST_S_MAX`."""
        end_s = self.work.now_s + REST_S_MAX
        waits = ["the fleet was not driven"]
        while waits and self.work.now_s < end_s:
            progress("coming to rest", 0.9 + 0.1 * (1 - (end_s - self.work.now_s) / REST_S_MAX))
            self.work.run_until(self.work.now_s + 120)
            waits = self._open_work()
            # Only now do the lines stop: a bad release is found out by frames and labels alone. The last labels may
            # have made one more order: then the lines run again until its rollout is over, and nobody labels any more.
            self.labeller.at_work = self.labeller.at_work and bool(waits)
            for machine in self.machines:
                machine.filming = bool(waits)
            waits = waits or self._restless()
        self._log.write(self.work.now, "sim", "rests", waits=waits)
        return waits

    def result(self, waits: list[str]) -> FleetResult:
        """Gather the evidence and check it."""
        evidence = gather(self.hub, self.machines, self.operator, waits)
        found = broken(evidence)
        for sentence in found:
            self._log.write(self.work.now, "sim", "broken", text=sentence)
        return FleetResult(counts=self._counts(evidence), evidence=evidence, broken=tuple(found))

    def close(self) -> None:
        """Let go of all files."""
        for machine in self.machines:
            machine.close()
        self.hub.close()

    # -- making it -------------------------------------------------------------------------------------------------

    def _machine(self, index: int, devices: int, folder: Path) -> Machine:
        name = f"d{index + 1:0{len(str(devices))}d}"
        return Machine(
            name,
            SITES[index % len(SITES)],
            hub=self.hub,
            folder=folder / name,
            seed=self._seed,
            trouble=Trouble(self._faults, chance_of(self._seed, "trouble", name)),
            log=self._log,
            truths=self._truths,
            slow=index == devices - 1 and devices > 1,
        )

    def _plan(self, devices: int) -> None:
        begin(self.hub, self._log, self._seed, START)
        plans = (
            (HUB_TICK_S, self._tick),
            (WORKER_S, self._work),
            (LABELLER_S, self._label),
            (SIGNER_S, self._sign),
            (OPERATOR_S, self._operate),
        )
        for every_s, turn in plans:
            self.work.plan(every_s, turn)
        chance, end_s = chance_of(self._seed, "enrolment"), self._hours * 3600
        late = round(devices * LATE_SHARE)
        for index, machine in enumerate(self.machines):
            at_s = chance.random() * min(ENROLMENT_S, end_s / 4)
            if index < late:
                at_s = end_s * (0.4 + 0.3 * chance.random())
            self.work.plan(at_s, self._turn_of(machine))

    def _turn_of(self, machine: Machine) -> Callable[[datetime], float | None]:
        return lambda now: machine.turn(now, self.work.now_s)

    # -- turns -----------------------------------------------------------------------------------------------------

    def _tick(self, now: datetime) -> float:
        self.hub.tick(now)
        self._follow_audit(now)
        return HUB_TICK_S

    def _follow_audit(self, now: datetime) -> None:
        """Everything that the hub's audit log says goes into the event log as well."""
        with self.hub.store.read() as connection:
            entries = audit_rows.page(connection, after=self._audited - 1, limit=10_000)
        for entry in entries:
            self._log.write(
                now, "hub", entry["action"], by=entry["actor"], subject=entry["subject"], hash=entry["hash"]
            )
        self._audited += len(entries)

    def _work(self, now: datetime) -> float:
        self.worker.resting = self.operator.holds_the_worker() or (self._resting and not self.operator.busy)
        self.worker.turn(now)
        return WORKER_S

    def _label(self, now: datetime) -> float:
        self.labeller.turn(now)
        return LABELLER_S

    def _sign(self, now: datetime) -> float:
        self.signer.turn(now)
        return SIGNER_S

    def _operate(self, now: datetime) -> float:
        self.operator.turn(now)
        return OPERATOR_S

    # -- at rest? --------------------------------------------------------------------------------------------------

    def _open_work(self) -> list[str]:
        """What the hub, the worker, the signer and the operator still have in hand."""
        with self.hub.store.read() as connection:
            going = [row for row in rollouts.find(connection, use_case=NAME) if row.state in rollouts.UNFINISHED]
            asked = verdicts.requests(connection, states=(verdicts.WAITING,))
        waits = [f"the rollout of {row.release} is {row.state}: {row.why}" for row in going]
        waits += [f"bundle {row.bundle[:12]}… waits to be signed" for row in asked]
        waits += ["the worker is at work"] if self.worker.busy else []
        waits += ["the operator is at work"] if self.operator.busy else []
        return waits

    def _restless(self) -> list[str]:
        with self.hub.store.read() as connection:
            wanted = {row.id: row for row in device_rows.find(connection, use_case=NAME)}
        return [text for machine in self.machines for text in _waits_of(machine, wanted.get(machine.name))]

    # -- sums ------------------------------------------------------------------------------------------------------

    def _counts(self, evidence: Evidence) -> dict[str, Any]:
        fates = [fate for device in evidence.devices for fate in device.made.values()]
        troubles = [machine.trouble.counts for machine in self.machines]
        ids = [name for segment in evidence.segments for name in segment.ids]
        known = set(ids)
        lost = [
            name
            for device in evidence.devices
            for name, fate in device.made.items()
            if name not in known and fate not in GONE_WITH_A_WORD
        ]
        with self.hub.store.read() as connection:
            states = [row.state for row in rollouts.find(connection, use_case=NAME, limit=10_000)]
            signed = releases.find(connection, use_case=NAME, limit=10_000)
            received = intake.received(connection)
        updates = [machine.device.updater.state for machine in self.machines if machine.device is not None]
        return {
            "seed": self._seed,
            "devices": len(self.machines),
            "hours": self._hours,
            "decisions": sum(machine.witness.decisions for machine in self.machines),
            "decisions_offline": sum(device.decided_offline for device in evidence.devices),
            "records_made": len(fates),
            "records_stored": len(known),
            "records_shed": fates.count("shed"),
            "records_lost": len(lost),
            "records_duplicated": len(ids) - len(known) + received["duplicates"],
            "contacts": sum(machine.witness.contacts for machine in self.machines),
            "lost_requests": sum(counts["request"] + counts["offline"] for counts in troubles),
            "lost_replies": sum(counts["reply"] for counts in troubles),
            "power_cuts": sum(counts["cut"] for counts in troubles),
            "bundle_bytes_fetched": sum(state.bytes_fetched for state in updates),
            "bundle_bytes_full": sum(state.bytes_full for state in updates),
            "labels": self.labeller.labelled,
            "releases": len(signed),
            "rollouts_finished": states.count("finished"),
            "rollouts_reverted": states.count("reverted"),
            "bad_release": evidence.bad_release or "none",
            "bad_ended": evidence.bad_stopped_by or "not started",
            "rested_after_h": round(self.work.now_s / 3600 - self._hours, 2),
            "events": sum(self._log.counts.values()),
            "log_sha256": self._log.sha256,
        }


def run_fleet(
    *,
    seed: int,
    devices: int,
    hours: float,
    faults: Faults | None = None,
    log: Path | None = None,
    progress: Progress = lambda _step, _share: None,
) -> FleetResult:
    """Run a fleet with faults, heal its links, bring it to rest and check the invariants.

    Args:
        seed: the same seed gives the same event log, byte for byte.
        devices: 1 to 10,000.
        hours: simulated ones, before the links are healed.
        log: a file for the event log (JSON lines).
        progress: told what is being done, and how far it is from 0 to 1.
    Raises:
        NotValid: a number out of bounds, or the log cannot be written. NotNow: no space.
    """
    if not 1 <= devices <= 10_000 or not 0 < hours <= 10_000:
        raise NotValid(
            f"a fleet of {devices} devices for {hours} hours: needs 1 to 10000 devices, and more than 0 and at most "
            "10000 hours",
            code="fleet_invalid",
        )
    place = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="edgewise-sim-", dir=place) as folder,
        EventLog(log, START) as events,
    ):
        fleet = Fleet(
            seed=seed, devices=devices, hours=hours, faults=faults or Faults(), folder=Path(folder), log=events
        )
        try:
            fleet.run(progress)
            fleet.heal()
            return fleet.result(fleet.rest(progress))
        finally:
            fleet.close()


def _waits_of(machine: Machine, row: device_rows.DeviceRow | None) -> list[str]:
    """What a device still has to do to be where the hub wants it."""
    device = machine.device
    if device is None or row is None:
        return [f"{machine.name} is off or not enrolled"]
    updater, waits = device.updater, []
    if device.backlog or len(machine.camera) or device.pipelines.period_frames:
        waits.append(
            f"{machine.name} has {device.backlog} records to send and {len(machine.camera)} frames to decide on"
        )
    if updater.number != row.assignment_number:
        waits.append(f"{machine.name} knows assignment {updater.number}, the hub has {row.assignment_number}")
    wanted = row.wanted
    bad = updater.state.known_bad
    if wanted is not None and wanted.bundle not in bad:
        running = updater.running.release if updater.running else None
        if running != wanted.release or updater.phase.value not in ("committed", "idle"):
            waits.append(f"{machine.name} runs {running} ({updater.phase}), the hub wants {wanted.release}")
    return waits
