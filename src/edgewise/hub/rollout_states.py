"""The words of rollouts: the table of states, what a rollout sees of a device, and the steps it can take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeAlias

from edgewise.measure import worse_e_value
from edgewise.wire import NotValid, RolloutPolicy


class State(StrEnum):
    """Where a rollout stands."""

    WAITING = "waiting"  # for somebody else than who made it to approve it
    RUNNING = "running"
    PAUSED = "paused"
    REVERTING = "reverting"
    REVERTED = "reverted"
    FINISHED = "finished"
    SUPERSEDED = "superseded"
    ABORTED = "aborted"


class Event(StrEnum):
    """What moves a rollout from one state to another."""

    APPROVE = "approve"
    DENY = "deny"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"
    REVERT = "revert"
    RETURNED = "returned"
    SUPERSEDE = "supersede"
    ABORT = "abort"


# All moves in one place; docs/rollout.md draws them and a test compares the two.
MOVES: dict[tuple[State, Event], State] = {
    (State.WAITING, Event.APPROVE): State.RUNNING,
    (State.WAITING, Event.DENY): State.ABORTED,
    (State.WAITING, Event.SUPERSEDE): State.SUPERSEDED,
    (State.WAITING, Event.ABORT): State.ABORTED,
    (State.RUNNING, Event.PAUSE): State.PAUSED,
    (State.PAUSED, Event.RESUME): State.RUNNING,
    (State.PAUSED, Event.APPROVE): State.RUNNING,
    (State.FINISHED, Event.RESUME): State.FINISHED,
    (State.RUNNING, Event.FINISH): State.FINISHED,
    (State.RUNNING, Event.REVERT): State.REVERTING,
    (State.PAUSED, Event.REVERT): State.REVERTING,
    (State.FINISHED, Event.REVERT): State.REVERTING,
    (State.REVERTING, Event.RETURNED): State.REVERTED,
    (State.RUNNING, Event.SUPERSEDE): State.SUPERSEDED,
    (State.PAUSED, Event.SUPERSEDE): State.SUPERSEDED,
    (State.RUNNING, Event.ABORT): State.ABORTED,
    (State.PAUSED, Event.ABORT): State.ABORTED,
}
# States in which a rollout acts on devices and is not yet done. One that waits for approval touches nobody.
OPEN = frozenset({State.RUNNING, State.PAUSED, State.REVERTING})


def move(state: State, event: Event) -> State:
    """The state after the event.

    Raises:
        NotValid: the event cannot happen in this state (code ``illegal_move``).

    >>> move(State.RUNNING, Event.PAUSE).value
    'paused'
    """
    if (state, event) not in MOVES:
        allowed = sorted(item.value for origin, item in MOVES if origin is state)
        raise NotValid(
            f"'{event}' cannot happen to a rollout that is {state}; "
            + (f"possible now: {', '.join(allowed)}" if allowed else "nothing can: it is over"),
            code="illegal_move",
        )
    return MOVES[state, event]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A release and the bundle that a device gets of it."""

    release: str
    bundle: str
    version: int
    withdrawn: bool = False  # its signers vouch for it no longer: no device takes it, or goes back to it


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenWave:
    """A wave that was opened, or the shadow stage. It waits for the devices that were chosen when it opened."""

    devices: tuple[str, ...]
    opened_at: datetime
    passed_at: datetime | None = None
    joined: tuple[str, ...] = ()  # took a free place later: they follow its rules, and it does not wait for them
    by_hand: bool = False  # a person let it pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One release on its way to the fleet of its use case."""

    id: str
    target: Target
    previous: Target | None  # the release to return to, named when the rollout was made (invariant 10)
    policy: RolloutPolicy
    state: State
    waves: tuple[OpenWave, ...] = ()
    reason: str = ""
    newer: str | None = None  # id of a newer rollout that may reach the same devices
    shadow: OpenWave | None = None  # the stage before the first wave: its devices decide beside, nobody is exposed
    started_at: datetime | None = None  # when it first ran
    resumed_at: datetime | None = None  # when a person last let it go on: all patience counts from there again
    asks: bool = False  # it paused by itself and waits for a person's word
    tolerated: frozenset[str] = frozenset()  # failed devices that a person has seen when letting it go on
    metered_bytes: int = 0  # predicted when metered devices were told, of all of them together

    @property
    def members(self) -> frozenset[str]:
        """The devices of all opened waves; those of the shadow stage are none yet."""
        return frozenset(device for wave in self.waves for device in (*wave.devices, *wave.joined))


@dataclass(frozen=True, kw_only=True, slots=True)
class Want:
    """What the hub wants of one device: the part of an assignment that a rollout decides."""

    kind: Literal["run", "revert"]
    release: str
    bundle: str
    rollout: str
    bake: bool
    shadow: bool = False  # beside what runs there, without acting


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """One device as a rollout sees it: what it was told, what it says, what keeps it waiting."""

    id: str
    site: str
    want: Want | None = None  # its newest assignment, whether or not the device knows of it already
    running: str | None = None  # release id, as last reported
    committed_at: datetime | None = None  # when the hub first saw this rollout's release committed here
    failed: bool = False  # this rollout's release failed its trial or was taken back by the device's own guard
    known: frozenset[str] = frozenset()  # bundles that were once committed here: the only ones to revert to
    paired: int = 0  # decisions made by both bundles on the same frames, in this rollout
    away: bool = False  # no contact for longer than expected
    unmet: tuple[str, ...] = ()  # conditions of the policy that do not hold now
    not_now: tuple[str, ...] = ()  # windows and conditions of its assignment that it says it waits for
    misfits: tuple[str, ...] = ()  # why no variant of the release can run here
    bundle: str | None = None  # the variant chosen for it; None: the target's own
    variant: str | None = None  # its name, such as int8
    previous_bundle: str | None = None  # of the release to return to: committed here, or fit; None: that one's own
    previous_fits: bool = True  # some variant of the release to return to can run here
    outside: tuple[str, ...] = ()  # conditions of the policy's selector that it does not meet
    labels: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str | float | int | bool] = field(default_factory=dict)  # as last reported
    told_at: datetime | None = None  # when this rollout last told it to take its release, in shadow or to run
    waited_until: datetime | None = None  # when it was last seen away or saying "not now", since then
    metered: bool = False  # its link costs money
    predicted_bytes: int = 0  # that it would fetch for the release
    conflict: str = ""  # it reports what this hub does not know, so it is left alone
    pinned: str = ""  # an operator pinned it to a release, so it is left alone

    @property
    def left_alone(self) -> bool:
        """True for a device that no rollout may touch."""
        return bool(self.conflict or self.pinned)

    @property
    def waits(self) -> bool:
        """True while the device says "not now". That is no failure (invariant 8)."""
        return bool(self.away or self.unmet or self.not_now or self.misfits or self.conflict or self.pinned)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a statistical rule says of the evidence so far; the hub asks `measure` and hands the answer in."""

    word: Literal["promote", "reject", "hold"]
    text: str  # what was seen, and which bound it met or still needs


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Paired decisions with a label, of shadow and waves together: who was right where exactly one of the two was."""

    labels: int = 0  # labelled pairs, ties included
    wins: int = 0  # the new bundle right, the old one wrong
    losses: int = 0  # the other way round
    shadow: Finding | None = None  # whether the candidate may leave the shadow stage
    backstop: Finding | None = None  # without labels, on counts by device; "reject" takes the release back

    @property
    def e_value(self) -> float:
        """Evidence that the new bundle is worse; at 1/alpha or more it is taken back (Ville's inequality)."""
        return worse_e_value(self.wins, self.losses)


@dataclass(frozen=True, slots=True)
class Move:
    """Change the rollout's state."""

    event: Event
    reason: str
    asks: bool = False  # a pause that waits for a person's word


@dataclass(frozen=True, slots=True)
class OpenShadow:
    """Let these devices run the candidate beside what they run."""

    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PassShadow:
    """Note that the shadow stage has passed; the first wave may open."""

    reason: str


@dataclass(frozen=True, slots=True)
class Open:
    """Open the next wave for these devices."""

    wave: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """Give free places of the open wave, or of the shadow stage, to devices that came too late to be chosen."""

    wave: int | None  # None for the shadow stage
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pass:
    """Note that the wave has passed; the next may open."""

    wave: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Give the device a new assignment."""

    device: str
    want: Want
    reason: str
    tells: bool = False  # it is told to take the release, now: the hub notes it as the device's `told_at`
    metered_bytes: int = 0  # predicted for it, if its link costs money


Step: TypeAlias = Move | OpenShadow | PassShadow | Open | Join | Pass | Assign
