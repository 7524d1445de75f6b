"""The words of rollouts: the table of states, what a rollout sees of a device, and the steps it can take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeAlias

from edgewise.measure import worse_e_value
from edgewise.wire import NotValid, RolloutPolicy


class State(StrEnum):
    """Where a rollout stands."""

    RUNNING = "running"
    PAUSED = "paused"
    REVERTING = "reverting"
    REVERTED = "reverted"
    FINISHED = "finished"
    SUPERSEDED = "superseded"
    ABORTED = "aborted"


class Event(StrEnum):
    """What moves a rollout from one state to another."""

    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"
    REVERT = "revert"
    RETURNED = "returned"
    SUPERSEDE = "supersede"
    ABORT = "abort"


# All moves in one place; docs/rollout.md draws them and a test compares the two.
MOVES: dict[tuple[State, Event], State] = {
    (State.RUNNING, Event.PAUSE): State.PAUSED,
    (State.PAUSED, Event.RESUME): State.RUNNING,
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
# States in which the rollout still has something to do of its own.
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
    """A wave that was opened. Its devices were chosen then and stay the same, whoever joins the fleet later."""

    devices: tuple[str, ...]
    opened_at: datetime
    passed_at: datetime | None = None


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
    newer: str | None = None  # id of a newer rollout of the same use case

    @property
    def members(self) -> frozenset[str]:
        """The devices of all opened waves."""
        return frozenset(device for wave in self.waves for device in wave.devices)


@dataclass(frozen=True, kw_only=True, slots=True)
class Want:
    """What the hub wants of one device: the part of an assignment that a rollout decides."""

    kind: Literal["run", "revert"]
    release: str
    bundle: str
    rollout: str
    bake: bool


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
    misfits: tuple[str, ...] = ()  # why the bundle can never run here

    @property
    def waits(self) -> bool:
        """True while the device says "not now". That is no failure (invariant 8)."""
        return bool(self.away or self.unmet or self.not_now or self.misfits)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Paired decisions with a label: who was right where exactly one of the two bundles was."""

    labels: int = 0  # labelled pairs, ties included
    wins: int = 0  # the new bundle right, the old one wrong
    losses: int = 0  # the other way round

    @property
    def e_value(self) -> float:
        """Evidence that the new bundle is worse; at 1/alpha or more it is taken back (Ville's inequality)."""
        return worse_e_value(self.wins, self.losses)


@dataclass(frozen=True, slots=True)
class Move:
    """Change the rollout's state."""

    event: Event
    reason: str


@dataclass(frozen=True, slots=True)
class Open:
    """Open the next wave for these devices."""

    wave: int
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


Step: TypeAlias = Move | Open | Pass | Assign
