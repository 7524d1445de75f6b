"""One device told in sentences: what it runs, why, what it waits for, and what happens next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from edgewise.hub.console.words import ago, clock
from edgewise.hub.pins import pin_text
from edgewise.hub.store.devices import COMMITTED, DeviceRow

# What a device does after the phase that it told of last; docs/device-life.md draws the phases.
AFTER = {
    "idle": "At its next contact it learns of {wanted}, and fetches it as soon as its window and conditions allow.",
    "fetching": "Once all of {wanted} has arrived and each hash and signature holds, it is staged beside what runs.",
    "staged": "It puts {wanted} on trial, or lets it decide in the shadow first where the rollout wants that.",
    "shadow": "{wanted} decides beside what runs, without acting. The hub says when it goes on trial, or is dropped.",
    "trial": "After its own checks it commits {wanted}; where one fails it goes back by itself.",
    "reverting": "It runs the release before again, whole, within moments.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """Sentences about a device; `waits_for` is empty where it waits for nothing."""

    runs: str
    why: str
    waits_for: tuple[str, ...]
    then: str


def story_of(row: DeviceRow, stands: Mapping[str, Any] | None, *, quiet: timedelta, now: datetime) -> Story:
    """The device in sentences, by what the hub knows.

    Args:
        stands: its place in the newest rollout, None where it has none.
        quiet: how long it may be silent before it counts as out of contact.
    """
    return Story(runs=_runs(row), why=_why(row), waits_for=tuple(_waits(row, stands, quiet, now)), then=_then(row))


def _runs(row: DeviceRow) -> str:
    if row.release is None:
        return "It runs no release yet." if row.seen_at else "It is enrolled, and was not heard yet."
    phase = (row.phase or "idle").lower()
    return f"It runs {row.release}." if phase == COMMITTED else f"It runs {row.release}, and is {phase}."


def _why(row: DeviceRow) -> str:
    if row.revoked_at is not None:
        return "It was shut out: the hub takes nothing from it and tells it nothing. It decides on with what it has."
    if row.in_conflict:
        return f"It reports what this hub does not know: {row.in_conflict}. It is left alone until a person decides."
    if row.pin:
        return f"It is {pin_text(row.pin)}, so every rollout leaves it alone."
    wanted = row.wanted
    if wanted is None or wanted.release is None:
        return "Nothing was assigned to it yet."
    return f"It was told to run {wanted.release}: {wanted.reason or 'no reason was given'}."


def _waits(row: DeviceRow, stands: Mapping[str, Any] | None, quiet: timedelta, now: datetime) -> Iterator[str]:
    if row.revoked_at is not None:
        return
    if row.seen_at is None:
        yield "its first contact"
    elif now - row.seen_at > quiet:
        yield f"its next contact: it was heard {ago(row.seen_at, now)}, and decides on meanwhile"
    report = row.last_report
    if report is not None:
        yield from report.waits_for
        until = f", until {clock(report.not_now_until)}" if report.not_now_until else ""
        yield from (f"{reason}{until}" for reason in report.not_now)
    seen = None if stands is None else stands["device"]
    if seen is not None and row.release != stands["rollout"].release:  # type: ignore[index]
        yield from (*seen.misfits, *seen.outside, *seen.unmet, *seen.not_now)


def _then(row: DeviceRow) -> str:
    if row.revoked_at is not None:
        return "Nothing, until it is enrolled again under a new key."
    if row.in_conflict:
        return "Nothing, until a person adopts what it runs, or reassigns what this hub wants."
    wanted = row.wanted
    if wanted is None or wanted.release is None:
        return "The first rollout that selects it assigns a release to it."
    phase = (row.phase or "idle").lower()
    if wanted.release == row.release and phase in (COMMITTED, "idle"):
        return "Nothing: it runs what it should. The next rollout that selects it moves it on."
    return AFTER.get(phase, AFTER["idle"]).format(wanted=wanted.release)
