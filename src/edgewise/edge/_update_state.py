"""The table of an update: its phases, what moves them, and what is remembered over a power cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from edgewise.edge._guard import GuardLimits
from edgewise.wire import Assignment, Failure, NotValid, Record, decode
from edgewise.wire._record import Digest, Id, Name, Time

FORMAT = 1
STATE_FILE = "update.json"


class Phase(StrEnum):
    """Where an update stands. Decisions go on in every phase."""

    IDLE = "idle"  # nothing to do
    FETCHING = "fetching"  # the new bundle is on its way into the spare slot
    STAGED = "staged"  # whole and verified in the spare slot
    SHADOW = "shadow"  # decides on the same frames without acting, before it is switched to
    TRIAL = "trial"  # acts, and is watched
    COMMITTED = "committed"  # passed this device's own checks
    REVERTING = "reverting"  # going back to the other slot


class Event(StrEnum):
    """What moves a phase."""

    ASSIGNED = "assigned"
    VERIFIED = "verified"
    REFUSED = "refused"
    SHADOW_WANTED = "shadow_wanted"
    PROMOTED = "promoted"
    SWITCHED = "switched"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    REVERT_ORDERED = "revert_ordered"
    SUPERSEDED = "superseded"


# All moves in one place; docs/edge.md draws them, and a test compares the two.
MOVES: dict[tuple[Phase, Event], Phase] = {
    (Phase.IDLE, Event.ASSIGNED): Phase.FETCHING,
    (Phase.FETCHING, Event.VERIFIED): Phase.STAGED,
    (Phase.FETCHING, Event.REFUSED): Phase.IDLE,
    (Phase.FETCHING, Event.UNHEALTHY): Phase.REVERTING,  # the running bundle, while another waits for its window
    (Phase.STAGED, Event.SHADOW_WANTED): Phase.SHADOW,
    (Phase.STAGED, Event.REFUSED): Phase.IDLE,
    (Phase.SHADOW, Event.PROMOTED): Phase.STAGED,
    (Phase.SHADOW, Event.REFUSED): Phase.IDLE,
    (Phase.STAGED, Event.SWITCHED): Phase.TRIAL,
    (Phase.TRIAL, Event.HEALTHY): Phase.COMMITTED,
    (Phase.TRIAL, Event.UNHEALTHY): Phase.REVERTING,
    (Phase.REVERTING, Event.SWITCHED): Phase.IDLE,
    (Phase.COMMITTED, Event.ASSIGNED): Phase.FETCHING,
    (Phase.COMMITTED, Event.UNHEALTHY): Phase.REVERTING,
    (Phase.COMMITTED, Event.REVERT_ORDERED): Phase.REVERTING,
    (Phase.TRIAL, Event.REVERT_ORDERED): Phase.REVERTING,
    (Phase.TRIAL, Event.SUPERSEDED): Phase.REVERTING,
    **{(phase, Event.SUPERSEDED): Phase.IDLE for phase in (Phase.FETCHING, Phase.STAGED, Phase.SHADOW)},
}


def move(phase: Phase, event: Event) -> Phase:
    """The phase after the event.

    Raises:
        NotValid: the event cannot happen in this phase (code ``illegal_move``).

    >>> move(Phase.STAGED, Event.SWITCHED).value
    'trial'
    """
    if (phase, event) not in MOVES:
        possible = ", ".join(sorted(item.value for origin, item in MOVES if origin is phase))
        raise NotValid(f"'{event}' cannot happen while {phase}; possible are {possible}", code="illegal_move")
    return MOVES[phase, event]


class Proof(Record):
    """The signed documents that vouched for a release when it was installed; they hold for ever."""

    roots: tuple[str, ...]  # those after the pinned one, up to the one that the others stand on
    targets: str
    role: str
    release: str


class Slot(Record):
    """What lies in one of the two slots: a whole, verified bundle and the proof of the release that allows it."""

    release: Name
    bundle: Digest
    proof: Proof
    committed: bool = False  # it passed its trial here at least once


class UpdateState(Record):
    """Everything an update remembers; written whole before each act: a power cut finds one state or the next."""

    format: int = FORMAT
    phase: Phase = Phase.IDLE
    slots: dict[str, Slot] = Field(default_factory=dict)
    assignment: Assignment | None = None  # the newest one accepted
    assignment_digest: Digest | None = None
    earlier_epochs: tuple[Id, ...] = ()  # of hubs that were restored from a backup since
    refused: int = 0  # number of the assignment that was given up: only a newer one is tried
    working: Assignment | None = None  # the assignment that the phases from fetching to trial work for
    back_to: str | None = None  # slot to return to from a trial, None when nothing ran before
    trial_at: Time | None = None
    trial_starts: int = 0  # unplanned starts of the agent within this trial
    stopped: bool = False  # the agent was stopped on purpose: the next start is no crash
    crashes: int = 0  # unplanned starts in a row, while the machine stayed up and no process lived for long
    boot: str = ""  # the start of the machine in which the agent ran last
    moves: int = 0  # made for the assignment worked on
    known_bad: dict[str, str] = Field(default_factory=dict)  # bundle -> why it failed here
    committed_before: tuple[Digest, ...] = ()
    bytes_fetched: int = 0  # that came over the link for the blobs of all bundles that arrived here
    bytes_full: int = 0  # that these bundles have
    failure: Failure | None = None  # the newest one, until a bundle passes its trial
    failed_rollout: Id | None = None
    changed_at: Time | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, values: Any) -> Any:
        """A state of before failures had codes keeps its text nowhere else than in `known_bad`."""
        return {name: value for name, value in values.items() if name != "last_failure"}

    @property
    def last_failure(self) -> str | None:
        """The newest failure for people."""
        return self.failure.text if self.failure else None


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateLimits:
    """Every bound of an update in one place."""

    latency_ms_max: float = 200.0  # decision deadline; a trial above it fails
    latency_count_min: int = 20  # decisions before their latency is judged
    errors_max: int = 5  # failed decisions in a row
    trial_starts_max: int = 1  # unplanned starts within one trial; a power cut may happen once
    moves_max: int = 64  # for one assignment, so that a loop of power cuts ends
    fetch_bytes_per_step: int = 16_000_000  # then the contact has its turn
    delta_bytes_min: int = 64_000  # smaller blobs are fetched whole: asking costs about a kilobyte
    delta_asks_max: int = 8  # times that a hub may be busy building a delta, about four minutes
    remembered_max: int = 100  # known bad and once committed bundles
    guard: GuardLimits = field(default_factory=GuardLimits)


@dataclass(frozen=True, kw_only=True, slots=True)
class Happening:
    """Something worth telling the hub's audit log."""

    what: str
    text: str
    data: dict[str, Any]


def read_state(folder: Path) -> UpdateState:
    """What the folder remembers about updates, also for `edge status` while the agent is off.

    Raises:
        NotValid: written by another version.
    """
    file = folder / STATE_FILE
    if not file.exists():
        return UpdateState()
    try:
        state = decode(UpdateState, file.read_bytes())
    except NotValid:
        # Damaged beyond reading: the device starts empty and fetches again, and the file is kept for a person.
        file.replace(file.with_name(f"{STATE_FILE}.broken"))
        return UpdateState()
    if state.format != FORMAT:
        raise NotValid(
            f"{file} has format {state.format}, this edgewise writes format {FORMAT}; run the version that made it, or "
            "enrol again into an empty folder",
            code="data_dir_version",
        )
    return state
