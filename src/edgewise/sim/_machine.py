"""One simulated machine with a device in it: it loses its power, comes back, and is watched from outside."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from edgewise.edge import Device
from edgewise.edge.device import DeviceLimits, Identity
from edgewise.edge.outbox import OutboxLimits
from edgewise.edge.update import UpdateLimits
from edgewise.frames import Decided
from edgewise.hub import Hub, LocalDoor, enrol
from edgewise.ports import Frame, MemoryClock, MemoryLink, MemoryRuntime, read_bundle
from edgewise.sim._faults import PowerCut, Trouble, chance_of
from edgewise.sim._log import EventLog
from edgewise.sim._world import NAME, Camera, Line
from edgewise.trust import CertificateKey
from edgewise.wire import CLASSES, EdgewiseError, NotNow, decode

TURN_S = 90.0
FRAME_S = 45.0
SKEW_S = 90.0  # a device's clock is wrong by up to this much, either way
LOOKED_BACK = 40  # lines of the ledger that are read after a turn, unless all of them are new
FEEDBACK = 0.3  # how often a wrong decision is noticed on the spot
# Small enough that a long spell without a link sheds something.
UPDATE = UpdateLimits(delta_bytes_min=0)  # a simulated network is small, and deltas shall be used
OUTBOX = OutboxLimits(bytes_max=20_000, reserve_bytes=4_000, ledger_max=1_000_000)
FACTS = {"opset_max": 21, "ram_mb": 512, "speed_ratio": 1.0}


@dataclass(kw_only=True)
class Witness:
    """What was seen of the device from outside; a power cut does not erase it."""

    made: dict[str, str]  # record id -> its last known fate
    acked: set[str]
    numbers: list[int]
    ran: list[tuple[str | None, str]]  # (release, phase) whenever the release changed
    torn: list[str]
    decisions: int = 0
    offered_offline: int = 0
    decided_offline: int = 0
    contacts: int = 0


class Machine:
    """A device with its camera, its link, its clock and its faults.

    Args:
        folder: of the device; it survives power cuts.
        truths: what each frame shows, filled here for the labelling person.
        slow: always late, by as much as the faults allow.
    """

    def __init__(
        self,
        name: str,
        site: str,
        *,
        hub: Hub,
        folder: Path,
        seed: int,
        trouble: Trouble,
        log: EventLog,
        truths: MutableMapping[str, str],
        slow: bool = False,
    ) -> None:
        self.name, self.site, self.trouble, self.slow = name, site, trouble, slow
        self.folder = folder
        self.camera = Camera()
        self.device: Device | None = None
        self.identity: Identity | None = None
        self.filming = True
        self.witness = Witness(made={}, acked=set(), numbers=[], ran=[], torn=[])
        self._hub, self._log, self._truths = hub, log, truths
        self._chance = chance_of(seed, "device", name)  # the device's own
        self._fate = chance_of(seed, "machine", name)  # of everything around it
        skew = timedelta(seconds=SKEW_S * (2 * self._fate.random() - 1))
        self._skew = self._true_skew = skew
        self._clock = MemoryClock(hub.now() + skew)
        self._line = Line(seed, name, site, hub.now())
        self._next_frame_at = hub.now()
        self._door = LocalDoor(hub)
        self._begun = False

    # -- turns -----------------------------------------------------------------------------------------------------

    def turn(self, now: datetime, now_s: float) -> float:
        """One turn of the device; comes back with the seconds until its next one."""
        self._set_clock()
        self._clock.advance(max(0.0, (now + self._skew - self._clock.now()).total_seconds()))
        self.trouble.begin_turn(now_s)
        self._film(now)
        try:
            self._work(now)
            self.trouble.end_turn()
        except PowerCut:
            self._go_dark(now)
            return self.trouble.dark_s()
        return TURN_S + self.trouble.late_s(slow=self.slow)

    def _set_clock(self) -> None:
        """Somebody sets the device's clock, or sets it right again once nothing goes wrong any more."""
        change = timedelta(seconds=self.trouble.clock_change_s())
        if not self.trouble.faults.clock_set:
            change = self._true_skew - self._skew
        if change:
            self._skew += change
            self._clock.set_by(change)

    def _work(self, now: datetime) -> None:
        if self.identity is None and not self._enrol(now):
            return
        if self.device is None:
            self.device = self._open()
            self._came_back(now)
        device, local = self.device, self._clock.now()
        before = device.contacts.last_at
        decided = 0
        # `step` decides on one frame; a slow machine has several to catch up with.
        while True:
            decision = device.step(local)
            if decision is not None:
                decided += 1
                self._notice(device, decision, local)
            if not len(self.camera) or device.updater.running is None:
                break
        self.camera.forget(device.keeper.cursor)
        self.witness.decisions += decided
        contact = device.contacts.last_at != before
        self.witness.contacts += contact
        if self.trouble.offline and device.updater.running is not None:
            self.witness.offered_offline += decided + len(self.camera)
            self.witness.decided_offline += decided
        self._watch(device, now, decided=decided, contact=contact)

    def _film(self, now: datetime) -> None:
        while self.filming and self._next_frame_at <= now:
            part = self._line.make(self._next_frame_at)
            self._truths[part.frame.name] = part.truth
            self.camera.add(part.frame)
            self._next_frame_at += timedelta(seconds=round(FRAME_S * (0.8 + 0.4 * self._fate.random()), 3))

    def _notice(self, device: Device, decision: Decided, local: datetime) -> None:
        """Somebody at the line sees a wrong decision, now and then."""
        frame = self.camera.after
        if frame is None or decision.label == self._truths[frame] or self._fate.random() >= FEEDBACK:
            return
        try:
            device.feedback(local, verdict="wrong", frame=frame, label=self._truths[frame])
        except NotNow:
            return

    # -- life and death --------------------------------------------------------------------------------------------

    def _enrol(self, now: datetime) -> bool:
        """Exchange a token for a name, over the same bad link; the answer may get lost and is asked for again."""
        if not self._begun:
            self._token, _ = enrol.make_token(
                self._hub.store,
                site=self.site,
                use_case=NAME,
                device=self.name,
                who="admin",
                now=now,
                chance=self._hub.chance,
                limits=self._hub.limits,
            )
            self._begun = True
        key = CertificateKey.generate(seed=f"key of {self.name}".encode())
        wish = enrol.Enrolment(token=self._token, device=self.name, public=key.public, facts=FACTS)
        if self.trouble.lose("request"):
            return False
        reply = self._door.enrol(wish)
        if self.trouble.lose("reply"):
            return False
        answer = decode(Identity, reply)
        self.identity = answer
        self._log.write(now, self.name, "enrolled", site=self.site, key=key.public.keyid[:16])
        return True

    def _open(self) -> Device:
        assert self.identity is not None
        return Device(
            self.folder,
            identity=self.identity,
            open_source=self.camera.open,
            link=MemoryLink(self._door, self.name, self.trouble.lose),
            runtime=MemoryRuntime(),
            clock=self._clock,
            chance=self._chance,
            act=_act,
            facts=FACTS,
            limits=DeviceLimits(outbox=OUTBOX, update=UPDATE),
            checkpoint=self.trouble.checkpoint,
        )

    def _came_back(self, now: datetime) -> None:
        """Look at what the device is after a start: whole, and deciding if it ever did."""
        assert self.device is not None
        updater = self.device.updater
        running = updater.running
        self._log.write(now, self.name, "started", release=running.release if running else None, phase=updater.phase)
        problem = self.slot_problem()
        if problem:
            self.witness.torn.append(f"{problem} at {now.isoformat()}")
        if running is None and updater.state.committed_before:
            self.witness.torn.append(f"no bundle at {now.isoformat()}, although it had committed one")

    def _go_dark(self, now: datetime) -> None:
        self._log.write(now, self.name, "power_cut", at=self.trouble.cut_at)
        if self.device is not None:
            # Only the file is let go, so that the next start can open it; nothing is said to the device.
            self.device.outbox.close()
        self.device = None

    def heal(self) -> None:
        """Nothing goes wrong here any more."""
        self.trouble.heal()

    def close(self) -> None:
        """The run is over."""
        if self.device is not None:
            self.device.outbox.close()

    # -- what is seen from outside ---------------------------------------------------------------------------------

    def slot_problem(self) -> str:
        """Why the slot that should run does not hold a whole bundle; empty when it does, or when nothing should."""
        if self.device is None:
            return "a device that is off"
        pointer = self.folder / "current"
        running = self.device.updater.running
        if running is None:
            return ""
        try:
            slot = pointer.read_text().strip()
            stored = read_bundle(self.folder / "slots" / slot)
        except (EdgewiseError, OSError) as error:
            return f"a slot that cannot be read ({error})"
        if stored.digest != running.bundle:
            return f"bundle {running.bundle[:12]}… in memory and {stored.digest[:12]}… in slot {slot}"
        return ""

    def look_at_ledger(self, device: Device, limit: int = LOOKED_BACK) -> list[str]:
        """Note every record in the newest part of the ledger; comes back with those not seen before, oldest first."""
        fresh: list[str] = []
        lines = device.outbox.made(limit)
        if len(lines) == limit and lines[-1].id not in self.witness.made:
            return self.look_at_ledger(device, 8 * limit)
        for line in lines:
            if line.id not in self.witness.made:
                fresh.append(f"{CLASSES.index(line.record_class)}:{line.id}")
            self.witness.made[line.id] = line.fate
            if line.fate == "stored":
                self.witness.acked.add(line.id)
        return fresh[::-1]

    def _watch(self, device: Device, now: datetime, *, decided: int, contact: bool) -> None:
        updater = device.updater
        release = updater.running.release if updater.running else None
        fresh = self.look_at_ledger(device)
        if not self.witness.numbers or self.witness.numbers[-1] != updater.number:
            self.witness.numbers.append(updater.number)
        if not self.witness.ran or self.witness.ran[-1][0] != release:
            self.witness.ran.append((release, updater.phase.value))
            self._log.write(now, self.name, "runs", release=release, phase=updater.phase, number=updater.number)
        if decided or fresh or contact:
            self._log.write(
                now,
                self.name,
                "turn",
                decided=decided,
                made=fresh,
                contact=contact,
                acked=device.outbox.acked,
                error=device.contacts.error,
                offline=self.trouble.offline or None,
            )


def _act(frame: Frame, decision: Decided) -> str | None:
    """The app's pure function: a deep pit on the last line stops it."""
    if decision.label == "pit" and frame.facts.get("line") == 3:
        return f"a pit on line 3 ({decision.confidence:.2f})"
    return None
