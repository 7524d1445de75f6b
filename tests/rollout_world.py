"""A hub's memory and a fleet in one process for the pure engine of rollouts, with a judge that checks every step.

The hub knows only what devices said, which may be late, repeated or wrong. The judge shares no code with the engine's
rules: it counts for itself who is told, who may be, and what the limits are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from math import ceil
from typing import Any

from edgewise.hub.rollout import (
    MOVES,
    OPEN,
    Assign,
    Device,
    Event,
    Evidence,
    Finding,
    Join,
    Move,
    Open,
    OpenShadow,
    Pass,
    PassShadow,
    Rollout,
    State,
    Step,
    Target,
    Want,
    answer,
    walk,
)
from edgewise.wire import Backstop, Condition, Disruption, Rate, RolloutPolicy, Shadow, Wave, unmet

NOW = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
AWAY_S = 300
Pick = Callable[[Sequence[Any]], Any]


@dataclass
class Truth:
    """A device as it really is, and the last things that the hub heard from it."""

    site: str
    labels: dict[str, str]
    variant: str = "fp32"
    metered: bool = False
    running: str | None = None
    ever: set[str] = field(default_factory=set)  # releases that it has committed
    facts: dict[str, Any] = field(default_factory=lambda: {"battery": 80})
    puts_off: bool = False  # its window is closed
    on_trial: str | None = None
    want: Want | None = None
    heard_running: str | None = None
    heard_facts: dict[str, Any] = field(default_factory=lambda: {"battery": 80})
    heard_puts_off: bool = False
    known: set[str] = field(default_factory=set)  # bundles that the hub has seen committed
    commits: dict[str, datetime] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)  # rollouts
    told_at: dict[str, datetime] = field(default_factory=dict)
    waited_until: dict[str, datetime] = field(default_factory=dict)
    seen_at: datetime = NOW
    conflict: str = ""
    pinned: str = ""
    misfits: tuple[str, ...] = ()


@cache
def bundle_of(release: str, variant: str = "fp32") -> str:
    return f"{int(release.split('@')[1]):060x}{variant}"


def a_policy(pick: Pick) -> RolloutPolicy:
    """Some policy: each part is there or not, and small enough that its limits bite."""
    waves = pick(
        [
            (Wave(devices=1), Wave(percent=100)),
            (Wave(devices=2), Wave(percent=50), Wave(percent=100)),
            (Wave(devices=1),),
            (Wave(devices=1, growth=2),),
            (Wave(percent=20, growth=3),),
            (Wave(named=("d001", "d003")), Wave(percent=100)),
        ]
    )
    return RolloutPolicy(
        select=pick([(), (), (), (Condition(fact="line", op="eq", value="a"),)]),
        conditions=pick([(), (Condition(fact="battery", op="ge", value=40),)]),
        waves=waves,
        rate=pick([None, None, Rate(per_minute=1), Rate(per_minute=3, growth=2, every=2, per_minute_max=10)]),
        disruption=pick(
            [
                (),
                (Disruption(group_by=("site",), unavailable_max=2),),
                (Disruption(group_by=("pair",), available_min=1),),
                (
                    Disruption(group_by=("site", "line"), unavailable_max=1),
                    Disruption(group_by=("site",), available_min=1),
                ),
            ]
        ),
        metered_bytes_max=pick([None, None, 250]),
        shadow=pick([None, None, Shadow(devices=2, wait_s=3000), Shadow(percent=30, wait_s=3000)]),
        backstop=pick([None, Backstop()]),
        bake_s=pick([0, 60, 300]),
        bake_decisions_min=pick([0, 0, 5]),
        success_share=pick([1.0, 0.5]),
        success_min=pick([1, 2]),
        wave_s_max=pick([4000, 20_000]),
        failures_max=pick([0, 1, 100]),
        failures_share_max=pick([None, 0.3]),
        failures_sample_min=3,
        failures_then=pick(["revert", "pause"]),
        stuck_s=pick([None, 900]),
        trial_s=5,
    )


class World:
    """Everything that a hub keeps over a restart, and the fleet.

    Args:
        devices: how many at first; each of them may leave, and others join.
    """

    def __init__(self, devices: int, *, sites: int = 2) -> None:
        self.sites = sites
        self.now = NOW
        self.devices: dict[str, Truth] = {}
        self.rollouts: list[Rollout] = []  # newest first
        self.evidence: dict[str, Evidence] = {}
        self.over: dict[str, State] = {}
        self.steps_taken = 0
        self.withdrawn: set[str] = set()
        self.joined = 0
        for _ in range(devices):
            self.join()

    # ---- What happens ------------------------------------------------------------------------------------------------

    def join(self) -> None:
        index, self.joined = self.joined, self.joined + 1
        self.devices[f"d{index:03d}"] = Truth(
            site=f"s{index % self.sites}",
            labels={"line": "ab"[index // 2 % 2], "pair": f"p{index // 2}"},
            variant="int8" if index % 4 == 3 else "fp32",
            metered=index % 3 == 0,
            seen_at=self.now,
            misfits=("ram_mb is 64, needs 512",) if index % 13 == 12 else (),
        )

    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    def toggle(self, name: str, what: str) -> None:
        """An operator's pin, a conflict, a fact or a label changes, and changes back the next time."""
        device = self.devices.get(name)
        if device is None:
            return
        match what:
            case "pinned":
                device.pinned = "" if device.pinned else "pinned by ann"
            case "conflict":
                device.conflict = "" if device.conflict else "it reports parts@99, which is not known here"
            case "battery":
                device.facts = {"battery": 12 if device.facts["battery"] == 80 else 80}
            case "line":
                device.labels = {**device.labels, "line": "b" if device.labels["line"] == "a" else "a"}
            case _:
                device.puts_off = not device.puts_off

    def leave(self, name: str) -> None:
        self.devices.pop(name, None)

    def create(self, policy: RolloutPolicy, *, approval: bool = False, return_to: int = 0) -> None:
        """A rollout of a new release, back to what the fleet runs, or to an older one that finished."""
        number = len(self.rollouts) + 1
        finished = [item.target for item in self.rollouts if item.state is State.FINISHED]
        finished = [target for target in finished if not target.withdrawn]
        previous = finished[min(return_to, len(finished) - 1)] if finished else None
        release = f"parts@{number}"
        rollout = Rollout(
            id=f"{number:032x}",
            target=Target(release=release, bundle=bundle_of(release), version=number),
            previous=previous,
            policy=policy,
            state=State.WAITING if approval else State.RUNNING,
            started_at=None if approval else self.now,
        )
        self.rollouts.insert(0, rollout)
        self.evidence[rollout.id] = Evidence()

    def contact(self, name: str, *, late: bool = False) -> None:
        """A device hears its assignment, does as it is told as far as it can, and reports.

        Args:
            late: what it reports is how it was before it heard the assignment.
        """
        device = self.devices.get(name)
        if device is None:
            return
        before = device.running
        want = device.want
        if want is not None and want.kind == "revert":
            assert want.release in device.ever, f"{name} was told to go back to {want.release}, which never ran there"
        held_off = device.puts_off and want is not None and want.kind == "run"
        if want is None or want.shadow or held_off or want.rollout in device.failed or device.conflict:
            pass
        elif device.running != want.release:
            device.running, device.on_trial = want.release, want.release
        elif device.on_trial == want.release:
            device.on_trial = None
        self._hear(name, before if late else device.running, committed=late or device.on_trial is None)

    def contradict(self, name: str, number: int) -> None:
        """A report that comes late, again, or out of order: of something that once ran there."""
        device = self.devices.get(name)
        if device is not None and f"parts@{number}" in device.ever:
            self._hear(name, f"parts@{number}", committed=True)

    def _hear(self, name: str, running: str | None, *, committed: bool) -> None:
        device = self.devices[name]
        device.seen_at = self.now
        device.heard_running = running
        device.heard_facts = dict(device.facts)
        device.heard_puts_off = device.puts_off
        if running is not None and committed:
            device.ever.add(running)
            device.known.add(bundle_of(running, device.variant))
            device.commits.setdefault(running, self.now)

    def fail(self, name: str) -> None:
        """The trial fails: the device goes back to what it had and says so for good."""
        device = self.devices.get(name)
        if device is None or device.want is None or device.want.kind != "run":
            return
        want = device.want
        device.failed.add(want.rollout)
        if device.running == want.release and not want.shadow:
            earlier = [release for release in device.ever if release != want.release]
            device.running = max(earlier, default=None)
            device.on_trial = None
        self._hear(name, device.running, committed=device.running in device.ever)

    def label(self, wins: int, losses: int) -> None:
        newest = self.rollouts[0]
        seen = self.evidence[newest.id]
        self.evidence[newest.id] = replace(
            seen, labels=seen.labels + wins + losses, wins=seen.wins + wins, losses=seen.losses + losses
        )

    def find(self, *, shadow: Finding | None = None, backstop: Finding | None = None) -> None:
        newest = self.rollouts[0]
        seen = self.evidence[newest.id]
        self.evidence[newest.id] = replace(seen, shadow=shadow or seen.shadow, backstop=backstop or seen.backstop)

    def withdraw(self, which: int = 0) -> None:
        """The signers take a release back: the newest, or one that a rollout may have to return to."""
        if which >= len(self.rollouts):
            return
        self.withdrawn.add(self.rollouts[which].target.release)
        gone = self.withdrawn
        self.rollouts = [
            replace(
                item,
                target=replace(item.target, withdrawn=item.target.release in gone),
                previous=None
                if item.previous is None
                else replace(item.previous, withdrawn=item.previous.release in gone),
            )
            for item in self.rollouts
        ]

    def operate(self, event: Event, which: int = 0) -> None:
        """A person's word, as far as the hub would take it."""
        if which >= len(self.rollouts):
            return
        rollout = self.rollouts[which]
        if (rollout.state, event) not in MOVES or event in (Event.FINISH, Event.RETURNED, Event.SUPERSEDE):
            return
        if event is Event.REVERT and (rollout.previous is None or rollout.previous.withdrawn or which):
            return
        self.rollouts[which] = answer(rollout, event, self.look(rollout)[0], f"{event.value} by hand", self.now)

    # ---- What the hub knows ------------------------------------------------------------------------------------------

    def look(self, rollout: Rollout) -> tuple[list[Device], Evidence]:
        return [self.device(rollout, name) for name in self.devices], self.evidence[rollout.id]

    def device(self, rollout: Rollout, name: str) -> Device:
        device = self.devices[name]
        policy, heard = rollout.policy, device.heard_facts
        seen = {**heard, **device.labels, "site": device.site, "device": name} if policy.select else {}
        release = rollout.target.release
        running = device.heard_running
        told = device.want is not None and device.want.rollout == rollout.id
        away = self.now - device.seen_at > timedelta(seconds=AWAY_S)
        if told and (away or device.heard_puts_off):
            device.waited_until[rollout.id] = self.now
        return Device(
            id=name,
            site=device.site,
            want=device.want,
            running=running,
            committed_at=device.commits.get(release) if running == release or told else None,
            failed=rollout.id in device.failed,
            known=frozenset(device.known),
            paired=6 if device.heard_running == release else 0,
            away=away,
            unmet=tuple(unmet(policy.conditions, heard)) if policy.conditions else (),
            not_now=("the window opens at 22:00",) if told and device.heard_puts_off else (),
            misfits=device.misfits,
            bundle=bundle_of(release, device.variant),
            variant=device.variant,
            previous_bundle=bundle_of(rollout.previous.release, device.variant) if rollout.previous else None,
            outside=tuple(unmet(policy.select, seen)) if policy.select else (),
            labels=device.labels,
            facts=device.heard_facts,
            told_at=device.told_at.get(rollout.id),
            waited_until=device.waited_until.get(rollout.id),
            metered=device.metered,
            predicted_bytes=100,
            conflict=device.conflict,
            pinned=device.pinned,
        )

    # ---- What the engine does, and what it must never do -------------------------------------------------------------

    def current(self) -> list[Rollout]:
        """What the hub hands to the engine: as `walk` asks for it, and one that finished more.

        The newest may be taken back in this very look, and then the one before it is what the others run.
        """
        found, ended = [], 0
        under_way = OPEN | {State.WAITING}
        last = max((place for place, one in enumerate(self.rollouts) if one.state in under_way), default=-1)
        for place, rollout in enumerate(self.rollouts):
            if rollout.state in under_way or (rollout.state is State.REVERTED and place < last):
                found.append(rollout)
            elif ended < 2 and rollout.state in (State.FINISHED, State.REVERTED):
                found.append(rollout)
                ended += rollout.state is State.FINISHED and not rollout.policy.select
        return found

    def tick(self) -> list[Step]:
        record: list[Step] = []
        self._walk(record)
        # An older rollout that settles a device may free a place of a budget for a newer one; so the last look counts.
        for _ in range(3 if any(item.policy.disruption for item in self.rollouts) else 1):
            again: list[Step] = []
            self._walk(again)
            if not again:
                break
        assert again == [], f"another look at the same situation wants {again[:3]} after {record[-3:]}"
        self._check_after()
        self.steps_taken += len(record)
        return record

    def _walk(self, record: list[Step]) -> None:
        judge = Judge(self)

        def act(before: Rollout, rollout: Rollout, steps: list[Step]) -> None:
            self.rollouts = [rollout if item.id == rollout.id else item for item in self.rollouts]
            for step in steps:
                record.append(step)
                judge.check(before, rollout, step)
                if isinstance(step, Assign):
                    device = self.devices[step.device]
                    device.want = step.want
                    if step.tells:
                        device.told_at[before.id] = self.now

        done = {rollout.id: rollout for rollout in walk(self.current(), self.look, act, self.now)}
        self.rollouts = [replace(done.get(item.id, item), newer=None) for item in self.rollouts]

    def _check_after(self) -> None:
        for rollout in self.rollouts:
            if rollout.id in self.over:
                assert rollout.state is self.over[rollout.id], "a rollout that is over does not come back"
            elif rollout.state in (State.REVERTED, State.SUPERSEDED, State.ABORTED):
                self.over[rollout.id] = rollout.state
        open_ = [item for item in self.rollouts if item.state in (State.RUNNING, State.PAUSED)]
        for index, newer in enumerate(open_):
            for older in open_[index + 1 :]:
                mine, theirs = ({item.id for item in self.look(one)[0] if not item.outside} for one in (newer, older))
                assert not mine & theirs, f"{older.id} goes on beside the newer {newer.id}"
        for rollout in self.rollouts:
            if rollout.state in (State.RUNNING, State.PAUSED):
                assert self.evidence[rollout.id].e_value < 1 / rollout.policy.revert_alpha
            if rollout.state is State.RUNNING:
                self._check_told(rollout)
                assert self.failures(rollout, late=False) <= rollout.policy.failures_max

    def failures(self, rollout: Rollout, *, late: bool) -> int:
        """Devices whose trial failed in a stage, or late ones, but for those that a person has accepted."""
        stage = rollout.shadow
        involved = rollout.members.union((*stage.devices, *stage.joined) if stage else ())
        if not late:
            counted = involved & set(self.devices)
        else:  # as far as no other rollout has told them anything since, or taken them into a stage
            mine = {name for name, item in self.devices.items() if item.want and item.want.rollout == rollout.id}
            for other in self.rollouts[: self.rollouts.index(self._as_stored(rollout))]:
                mine -= other.members.union(other.shadow.devices + other.shadow.joined if other.shadow else ())
            counted = {name for name in mine - rollout.members if not self.device(rollout, name).outside}
        return sum(rollout.id in self.devices[name].failed for name in counted - rollout.tolerated)

    def _as_stored(self, rollout: Rollout) -> Rollout:
        return next(item for item in self.rollouts if item.id == rollout.id)

    def _check_told(self, rollout: Rollout) -> None:
        """Nobody has the release but those in a stage of it."""
        for name, device in self.devices.items():
            want = device.want
            if want is not None and (want.rollout, want.release) == (rollout.id, rollout.target.release):
                stage = rollout.shadow
                beside = (*stage.devices, *stage.joined) if stage else ()
                assert name in beside if want.shadow else name in rollout.members


class Judge:
    """Checks each step of one walk at the moment at which it is carried out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.masters: dict[str, str] = {}

    def check(self, before: Rollout, after: Rollout, step: Step) -> None:
        match step:
            case Assign():
                self._assign(before, step)
            case Move():
                self._move(before, after, step)
            case Pass() | PassShadow() | Open() | Join() | OpenShadow():
                assert before.state is State.RUNNING, "a stage moves only while the rollout runs"
                e_value = self.world.evidence[before.id].e_value
                assert e_value < before.policy.hold_e, f"a stage moved while held: {step}"
                if isinstance(step, Open | Join) and step.wave is not None:
                    self._size(before, after, step.wave)
                if isinstance(step, Pass):
                    self._passes(before, step.wave)

    def _assign(self, before: Rollout, step: Assign) -> None:
        world, device = self.world, self.world.device(before, step.device)
        master = self.masters.setdefault(step.device, before.id)
        assert master == before.id, f"{step.device} has two masters in one look"
        assert not device.conflict, "a device in conflict is left alone"
        assert not device.pinned, "a pinned device is left alone"
        for rollout in world.rollouts:
            if device.want is not None and rollout.state is State.REVERTED and device.want.rollout == rollout.id:
                assert (
                    before.target.version > rollout.target.version
                    or rollout.previous is None
                    or (before.target.release == rollout.previous.release)
                ), "moved on from where it was sent back"
        if step.want.kind == "revert":
            assert step.want.bundle in device.known, "sent back to what was never committed there"
        if step.want.release != before.target.release:
            assert before.previous is not None
            assert step.want.release == before.previous.release
            assert not step.want.shadow
            assert not step.want.bake
            return
        assert step.want.bundle == bundle_of(before.target.release, world.devices[step.device].variant)
        had = device.running == before.target.release or (
            device.want is not None and not device.want.shadow and device.want.release == before.target.release
        )
        assert step.tells or had, "the release is given without being counted"
        if not step.tells:
            assert before.state is State.FINISHED
            return
        self._told(before, step, device)

    def _told(self, before: Rollout, step: Assign, device: Device) -> None:
        world = self.world
        assert not before.target.withdrawn
        refusals = [device.failed, device.misfits, device.unmet]
        assert not any(refusals), "told what it cannot or may not take"
        assert self.world.evidence[before.id].e_value < before.policy.hold_e, "exposure grew while held"
        if before.state is State.RUNNING:
            assert (
                before.previous is None
                or bundle_of(before.previous.release, self.world.devices[step.device].variant) in device.known
            ), "told without a way back"
            assert before.previous is None or not before.previous.withdrawn
        else:
            assert before.state is State.FINISHED, f"exposure grew while {before.state}"
            assert world.failures(before, late=True) <= before.policy.failures_max
            assert not device.outside
        self._rate(before, step)
        self._bytes(before, step)
        if not step.want.shadow:
            self._budgets(before, device)

    def _rate(self, before: Rollout, step: Assign) -> None:
        rate = before.policy.rate
        if rate is None:
            return
        world, release = self.world, before.target.release
        committed = sum(
            truth.heard_running == release and release in truth.commits and before.id not in truth.failed
            for truth in world.devices.values()
        )
        per_minute = min(rate.per_minute_max, rate.per_minute * rate.growth ** (committed // rate.every))
        most = max(1, int(per_minute + 1e-9))
        since = world.now - timedelta(seconds=most * 60 / per_minute)
        told = {
            name
            for name, truth in world.devices.items()
            if (at := truth.told_at.get(before.id)) is not None and at > since
        }
        assert len(told | {step.device}) <= most, f"{told} told since {since}, at most {most}, then {step.device}"

    def _bytes(self, before: Rollout, step: Assign) -> None:
        most = before.policy.metered_bytes_max
        if most is not None and step.metered_bytes:
            assert before.metered_bytes + step.metered_bytes <= most

    def _budgets(self, before: Rollout, device: Device) -> None:
        def unavailable(item: Device) -> bool:
            want = item.want
            changing = want is not None and not want.shadow and not item.failed and item.running != want.release
            trial = (
                want is not None
                and (want.rollout, want.release) == (before.id, before.target.release)
                and not (want.shadow or item.failed)
                and item.committed_at is None
            )
            return item.away or item.running is None or changing or trial

        if unavailable(device):
            return  # it counts already
        for budget in before.policy.disruption:

            def key(item: Device, budget: Disruption = budget) -> list[str]:
                return [item.site if name == "site" else item.labels[name] for name in budget.group_by]

            group = [item for item in self.world.look(before)[0] if key(item) == key(device)]
            gone = sum(map(unavailable, group)) + 1
            if budget.unavailable_max is not None:
                assert gone <= budget.unavailable_max
            else:
                assert len(group) - gone >= (budget.available_min or 0)

    def _size(self, before: Rollout, after: Rollout, index: int) -> None:
        """No wave is larger than its policy says, of the devices that could take part."""
        waves = before.policy.waves
        wave = waves[min(index, len(waves) - 1)]
        if index >= len(waves) or wave.growth is not None:
            return
        fit = [item for item in self.world.look(before)[0] if not (item.misfits or item.conflict or item.pinned)]
        new = after.members - before.members
        inside = sum(item.id in after.members for item in fit)
        if wave.named:
            assert new <= set(wave.named)
        elif new:
            assert inside <= (wave.devices or ceil((wave.percent or 0) / 100 * len(fit)))

    def _passes(self, before: Rollout, index: int) -> None:
        wave, world = before.waves[index], self.world
        there = [world.device(before, name) for name in (*wave.devices, *wave.joined) if name in world.devices]
        good = [item for item in there if item.running == before.target.release and not item.failed]
        everywhere = [name for name, truth in world.devices.items() if truth.heard_running == before.target.release]
        assert good or everywhere or not wave.devices, "a wave passed though nobody runs the release"

    def _move(self, before: Rollout, after: Rollout, step: Move) -> None:
        assert (before.state, step.event) in MOVES
        assert after.reason
        if step.event is Event.PAUSE:
            assert after.asks
            assert any(word in step.reason for word in ("revert", "abort")), f"no remedy: {step.reason}"
        if step.event is Event.REVERT:
            assert before.previous is not None
            assert not before.previous.withdrawn
        if step.event is Event.FINISH:
            assert self.world.evidence[before.id].e_value < before.policy.hold_e
        if step.event is Event.RETURNED:
            self._all_are_back(before)

    def _all_are_back(self, before: Rollout) -> None:
        """Everybody who has it was told to leave it, and who is in contact has; pins and what cannot return stay."""
        release = before.target.release
        for name in self.world.devices:
            device = self.world.device(before, name)
            if device.pinned or device.outside or self.masters.get(name, before.id) != before.id:
                continue
            want = device.want
            mine = want is not None and want.rollout == before.id
            assert not (mine and want is not None and want.release == release and device.running != release)
            can_return = (
                before.previous is None
                or bundle_of(before.previous.release, self.world.devices[name].variant) in device.known
            )
            if mine and can_return and not device.away:
                assert device.running != release, f"{name} still runs {release}"
