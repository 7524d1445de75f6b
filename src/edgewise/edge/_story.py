"""What a device does and why, as paragraphs for a person; pure, and the same text whether the agent runs or not."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from edgewise.edge._slots import other_slot
from edgewise.edge._update_choices import good_slot
from edgewise.edge._update_state import Phase, UpdateState
from edgewise.wire import Assignment, Wait

COLUMNS = 80
MARGIN = 9  # of a paragraph, under its topic


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """Everything that the story is told from."""

    now: datetime
    state: UpdateState
    slot: str | None = None  # that runs
    not_now: Wait | None = None
    troubles: tuple[str, ...] = ()  # what else stands in the way, as sentences without a full stop
    policy_version: int = 1  # known here
    decisions: int = 0
    backlog: int = 0
    next_contact_at: datetime | None = None
    details: dict[str, str] = field(default_factory=dict)  # further topics


def story(seen: Situation) -> list[tuple[str, str]]:
    """Topic and text of each paragraph, in the order in which a person asks."""
    paragraphs = [
        ("Runs", _runs(seen)),
        ("Why", _why(seen.state)),
        ("Wants", _wants(seen)),
        ("Blocked", _blocked(seen)),
        ("Next", _next(seen)),
        ("Failed", _failed(seen.state)),
        ("Holds", f"{_count(seen.decisions, 'decision')} made, {_count(seen.backlog, 'record')} not at the hub yet."),
        *seen.details.items(),
    ]
    return [(topic, text) for topic, text in paragraphs if text]


def story_values(seen: Situation) -> list[dict[str, str]]:
    """The story as plain values."""
    return [{"topic": topic, "text": text} for topic, text in story(seen)]


def lines(paragraphs: Sequence[tuple[str, str]]) -> list[str]:
    """The paragraphs in lines of at most 80 columns, the topics in front.

    >>> lines([("Runs", "parts@3.")])
    ['Runs     parts@3.']
    """
    wrapped = []
    for topic, text in paragraphs:
        head = f"{topic:<{MARGIN - 1}} "
        wrapped += textwrap.wrap(text, COLUMNS, initial_indent=head, subsequent_indent=" " * MARGIN)
    return wrapped


def moment(at: datetime) -> str:
    """A time for people.

    >>> from datetime import UTC
    >>> moment(datetime(2026, 3, 1, 12, 5, 9, tzinfo=UTC))
    '2026-03-01 12:05 UTC'
    """
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _runs(seen: Situation) -> str:
    slot = seen.state.slots.get(seen.slot or "")
    if slot is None:
        return "Nothing yet: frames wait at their source until a first release is here."
    beside = seen.state.slots.get(other_slot(seen.slot or ""))
    text = f"{slot.release} (bundle {slot.bundle[:12]}) in slot {seen.slot}."
    working = seen.state.assignment
    if seen.state.phase is Phase.SHADOW and beside is not None:
        return f"{text} {beside.release} decides on the same frames without acting."
    if seen.state.phase is Phase.COMMITTED and working is not None and working.bake and beside is not None:
        return f"{text} {beside.release}, the former one, decides beside it while the hub watches."
    return text


def _why(state: UpdateState) -> str:
    wanted = state.assignment
    if wanted is None:
        return "The hub has assigned nothing yet."
    text = f"Assignment {wanted.number} of the hub"
    text += f", for rollout {wanted.rollout[:8]}" if wanted.rollout else ""
    text += f", issued {moment(wanted.issued_at)}, under policy {wanted.policy_version}"
    return f"{text}: {wanted.reason.rstrip('.')}." if wanted.reason else f"{text}."


def _wants(seen: Situation) -> str:
    wanted, slot = seen.state.assignment, seen.state.slots.get(seen.slot or "")
    if wanted is None or wanted.release is None:
        return "Nothing: no release is assigned."
    what = f"to go back to {wanted.release}" if wanted.kind == "revert" else f"to run {wanted.release}"
    if slot is not None and (slot.release, slot.bundle) == (wanted.release, wanted.bundle):
        return f"{what[0].upper()}{what[1:]}, which it does."
    if wanted.shadow:
        what = f"to shadow {wanted.release} before it acts"
    return f"{what[0].upper()}{what[1:]}."


def _blocked(seen: Situation) -> str:
    reasons = []
    if seen.not_now is not None:
        what = "The download" if seen.state.phase is Phase.FETCHING else "The activation"
        reasons.append(f"{what} waits: {'; '.join(seen.not_now.reasons)}")
    wanted = seen.state.assignment
    if wanted is not None and wanted.number == seen.state.refused:
        reasons.append(f"{wanted.release} is refused here: {seen.state.last_failure}")
    if wanted is not None and wanted.policy_version > seen.policy_version:
        reasons.append(
            f"The hub's policy is version {wanted.policy_version}, known here is {seen.policy_version}: nothing is "
            "kept until this device is enrolled again"
        )
    return " ".join(f"{reason.rstrip('.')}." for reason in (*reasons, *seen.troubles)) or "Nothing."


def _next(seen: Situation) -> str:
    state, working = seen.state, seen.state.working
    release = working.release if working is not None else "the bundle"
    match state.phase:
        case Phase.FETCHING:
            text = f"{_when(seen)}{release} is downloaded into the spare slot, verified, then tried."
        case Phase.STAGED:
            text = f"{_when(seen)}{release} is switched to, and tried for {_span(working)}."
        case Phase.SHADOW:
            text = f"{release} goes on shadowing until the hub says otherwise."
        case Phase.TRIAL:
            text = f"{release} is on trial{_until(seen)}: committed if all is well, else {_back(state)}."
        case Phase.REVERTING:
            text = f"At once {_back(state)}."
        case Phase.COMMITTED:
            text = f"Nothing until the hub assigns another release. If {release} stops working, {_fallback(seen)}."
        case _:
            text = "Nothing until the hub assigns another release."
    if seen.next_contact_at is not None:
        text += f" The next contact is at {moment(seen.next_contact_at)}."
    return text


def _when(seen: Situation) -> str:
    if seen.not_now is None:
        return ""
    if seen.not_now.until is None:
        return "As soon as nothing blocks it, "
    return f"From {moment(seen.not_now.until)} on, "


def _span(working: Assignment | None) -> str:
    trial_s = working.trial_s if working is not None else 0.0
    return f"{trial_s:g} s" if trial_s < 120 else f"{trial_s / 60:.0f} minutes"


def _until(seen: Situation) -> str:
    state, working = seen.state, seen.state.working
    if working is None or state.trial_at is None:
        return ""
    return f" until {moment(state.trial_at + timedelta(seconds=working.trial_s))}"


def _back(state: UpdateState) -> str:
    slot = state.slots.get(state.back_to or "")
    return f"{slot.release} comes back" if slot is not None else "nothing is left to run"


def _fallback(seen: Situation) -> str:
    back = good_slot(seen.state, other_slot(seen.slot)) if seen.slot else None
    if back is None:
        return "it limps on and says so, for nothing else is here"
    return f"{seen.state.slots[back].release} comes back"


def _failed(state: UpdateState) -> str:
    if not state.known_bad:
        return ""
    bundle, why = list(state.known_bad.items())[-1]
    others = f" {_count(len(state.known_bad) - 1, 'other bundle')} failed before." if len(state.known_bad) > 1 else ""
    return f"Bundle {bundle[:12]} failed here and is not tried again: {why.rstrip('.')}.{others}"
