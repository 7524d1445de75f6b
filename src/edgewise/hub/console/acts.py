"""What a person can do to a rollout, and what they are told before they do it."""

from __future__ import annotations

from dataclasses import dataclass

from edgewise.hub.access import Action, Person
from edgewise.hub.rollout import Event, State
from edgewise.hub.rollout_status import RolloutStatus

NEEDS: dict[Event, Action] = {
    Event.APPROVE: Action.APPROVE,
    Event.DENY: Action.APPROVE,
    Event.PAUSE: Action.OPERATE,
    Event.RESUME: Action.OPERATE,
    Event.REVERT: Action.OPERATE,
    Event.ABORT: Action.OPERATE,
}
WITH_REASON = frozenset({Event.DENY, Event.REVERT, Event.ABORT})


@dataclass(frozen=True, slots=True)
class Act:
    """One act in one state: its button, and what it will do, with fields of `_fields` in braces."""

    event: Event
    button: str
    says: str
    style: str = ""  # primary or danger, as the style sheet has them

    @property
    def with_reason(self) -> bool:
        return self.event in WITH_REASON

    def told(self, status: RolloutStatus) -> str:
        """What it will do to this rollout."""
        return self.says.format(**_fields(status))


_ENDED = "The rollout ends before it began. No device was touched, and {release} may be tried again."
_PAUSE = Act(
    Event.PAUSE,
    "Pause",
    "No stage opens or passes and no device is told, until somebody resumes it. What devices were told already they "
    "may still do, and the watch for a worse release goes on.",
)
_RESUME = Act(
    Event.RESUME,
    "Go on",
    "The rollout goes on with {stage} and waits as long again as it may. Devices that have failed so far are accepted: "
    "they count no more.",
    "primary",
)
_PASS = Act(
    Event.APPROVE,
    "Approve",
    "You let {stage} count as passed, by hand. The rollout goes on with {next}. Devices that have failed so far are "
    "accepted.",
)
_ACCEPT = Act(
    Event.RESUME,
    "Accept failures and go on",
    "Devices that have failed so far are accepted, so that late joiners and those left behind get {release} again.",
)
_REVERT = Act(
    Event.REVERT,
    "Take it back",
    "Every device that has {release} goes back to {previous}; {exposed} ever ran it. Devices in contact do so within "
    "two contacts, the others at their next. Windows, conditions and rates do not hold a revert up. {release} cannot "
    "be rolled out again; its bundle can be signed as a new release.",
    "danger",
)
_ABORT = Act(
    Event.ABORT,
    "Give it up",
    "No further device gets {release}. It ever ran on {exposed}: they are told nothing, so they keep what they run "
    "until something newer comes. {release} cannot be rolled out again. This cannot be undone; to get devices back, "
    "take the rollout back instead.",
    "danger",
)
# One entry for each move of `MOVES` that a person makes; a test compares the two.
ACTS: dict[State, tuple[Act, ...]] = {
    State.WAITING: (
        Act(Event.APPROVE, "Approve", "The rollout of {release} begins: it opens {next}.", "primary"),
        Act(Event.DENY, "Deny", _ENDED),
        Act(Event.ABORT, "Give it up", _ENDED),
    ),
    State.RUNNING: (_PAUSE, _REVERT, _ABORT),
    State.PAUSED: (_RESUME, _PASS, _REVERT, _ABORT),
    State.FINISHED: (_ACCEPT, _REVERT),
}


def offered(status: RolloutStatus, who: Person) -> tuple[Act, ...]:
    """What this person can do to this rollout now."""
    return tuple(act for act in ACTS.get(State(status.state), ()) if _may(act, status, who))


def find(status: RolloutStatus, who: Person, event: Event) -> Act | None:
    """The act of this event, where this person can do it now."""
    return next((act for act in offered(status, who) if act.event is event), None)


def made_it(status: RolloutStatus, who: Person) -> bool:
    """Whether somebody else has to approve it, because this person made it."""
    return status.policy.approval == "person" and status.who == who.name


def _may(act: Act, status: RolloutStatus, who: Person) -> bool:
    if act.event is Event.REVERT and status.previous is None:
        return False  # there is nothing to return to
    if act is _PASS and open_stage(status) is None:
        return False  # there is nothing that could count as passed
    if act.event is Event.APPROVE and made_it(status, who):
        return False
    return who.may(NEEDS[act.event])


def open_stage(status: RolloutStatus) -> str | None:
    """The name of the stage that is open; none between two of them."""
    if status.shadow is not None and status.shadow.passed_at is None:
        return "the shadow stage"
    if status.waves and status.waves[-1].passed_at is None:
        return f"wave {status.waves[-1].wave} of {status.waves_total}"
    return None


def next_name(status: RolloutStatus) -> str:
    """The stage that opens next."""
    if status.policy.shadow is not None and status.previous is not None and status.shadow is None and not status.waves:
        return "the shadow stage"
    if status.wave < status.waves_total:
        return f"wave {status.wave + 1} of {status.waves_total}"
    return "the finish"


def _fields(status: RolloutStatus) -> dict[str, str]:
    count = len(status.devices_exposed)
    return {
        "release": status.release,
        "previous": status.previous or "nothing",
        "exposed": f"{count} device{'' if count == 1 else 's'}",
        "stage": open_stage(status) or next_name(status),
        "next": next_name(status),
    }
