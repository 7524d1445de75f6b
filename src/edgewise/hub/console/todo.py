"""What needs a person now: the first thing that the overview says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgewise.hub import lake
from edgewise.hub.access import Action, Person
from edgewise.hub.store import lists, orders, pages, releases, verdicts
from edgewise.hub.store.rollouts import RolloutRow
from edgewise.wire import UseCase

RECENT_DAYS = 7
NAMED_MAX = 4  # devices of one kind that are named: after a restore from a backup all may be in conflict
CONFLICTS_LOOKED_AT = 500  # of which those that a person resolved already are left out


@dataclass(frozen=True, kw_only=True, slots=True)
class Todo:
    """One thing to do: `level` is stop, look or next."""

    level: str
    text: str
    link: str = ""
    link_text: str = ""
    command: str = ""


def quiet(usecase: UseCase) -> timedelta:
    """How long a device may be silent before it counts as out of contact."""
    return timedelta(seconds=max(60.0, 3 * usecase.connectivity.contact_s))


def things_to_do(
    connection: sa.Connection,
    who: Person,
    usecase: UseCase,
    rollouts: Sequence[RolloutRow],
    now: datetime,
    *,
    whole: bool,
    sites: Sequence[Mapping[str, Any]],
) -> list[Todo]:
    """Everything that waits for this person, the most urgent first; what their role may not do is not offered.

    Args:
        whole: whether the person sees all sites of the use case.
        sites: `lists.site_counts`, so that a fleet in order is not looked through again.
    """
    total = Counter[str]()
    for row in sites:
        total.update({key: value for key, value in row.items() if key != "site"})
    found = [
        *(_lake(connection, now) if who.sites is None else ()),
        *_devices(connection, usecase, who, now, total),
        *_rollouts(rollouts, now),
        *(_gate(connection, usecase) if whole else ()),
        *(_orders(connection, usecase) if whole else ()),
        *(_labels(connection, usecase, who) if who.may(Action.LABEL) else ()),
        *(_start(connection, usecase, total["devices"], who) if who.may(Action.OPERATE) else ()),
    ]
    return sorted(found, key=lambda item: ("stop", "look", "next").index(item.level))


def _lake(connection: sa.Connection, now: datetime) -> Iterator[Todo]:
    told = lake.status(connection, now)
    if told["error"] is not None:
        waits = f"{told['waiting']} segments wait in the store, nothing is lost"
        yield Todo(level="look", text=f"The lake is not written: {told['error']['text']}. {waits}.")


def _devices(
    connection: sa.Connection, usecase: UseCase, who: Person, now: datetime, total: Mapping[str, int]
) -> Iterator[Todo]:
    about: dict[str, Any] = {"sites": who.sites, "limit": NAMED_MAX}
    for row in lists.clones(connection, usecase.name, **about) if total["clones"] else ():
        text = f"Two devices use the key of {row.id}: shut it out and enrol both again."
        yield Todo(level="stop", text=text, link=f"/devices/{row.id}", link_text="device")
    if total["alone"]:
        yield from _conflicts(connection, usecase, who)
    if total["silent"]:
        away = lists.devices_page(connection, usecase.name, **about, silent_since=now - quiet(usecase))
        left = total["silent"] - len(away)
        names = ", ".join(row.id for row in away) + (f" and {left} more" if left > 0 else "")
        text = f"Out of contact: {names}. They decide on; nothing is lost."
        link = f"/devices?use_case={usecase.name}&show=silent"
        yield Todo(level="look", text=text, link=link, link_text="show them")


def _conflicts(connection: sa.Connection, usecase: UseCase, who: Person) -> Iterator[Todo]:
    torn = lists.in_conflict(connection, usecase.name, sites=who.sites, limit=CONFLICTS_LOOKED_AT)
    for row in torn[:NAMED_MAX]:
        text = f"{row.id} is left alone until somebody decides: {row.in_conflict}."
        yield Todo(level="look", text=text, link=f"/devices/{row.id}", link_text="decide")
    if len(torn) > NAMED_MAX:
        some = f"{len(torn) - NAMED_MAX}{' or' if len(torn) == CONFLICTS_LOOKED_AT else ''}"
        link = f"/devices?use_case={usecase.name}&show=alone"
        yield Todo(level="look", text=f"{some} more devices are in conflict.", link=link, link_text="show them")


def _rollouts(rollouts: Sequence[RolloutRow], now: datetime) -> Iterator[Todo]:
    for item in rollouts:
        data, link, reason = item.data or {}, f"/rollouts/{item.id}", item.why or "no reason was given"
        ended = datetime.fromisoformat(data["ended_at"]) if data.get("ended_at") else None
        recent = ended is not None and now - ended < timedelta(days=RECENT_DAYS)
        if data.get("stranded"):
            text = (
                f"{', '.join(data['stranded'])} cannot leave {item.release}: sign the earlier bundle as a new release."
            )
            yield Todo(level="stop", text=text, link=link, link_text="rollout")
        if item.state in ("waiting", "paused"):
            yield Todo(level="look", text=f"{item.release}: {reason}.", link=link, link_text="look and decide")
        elif item.state == "aborted" and recent:
            yield Todo(level="stop", text=f"{item.release} was aborted: {reason}.", link=link, link_text="why")
        elif item.state in ("reverting", "reverted") and recent and item is rollouts[0]:
            text = f"{item.release} was taken back to {data.get('returned_to')}: {reason}."
            yield Todo(level="look", text=text, link=link, link_text="evidence")


def _gate(connection: sa.Connection, usecase: UseCase) -> Iterator[Todo]:
    found = verdicts.find(connection, use_case=usecase.name, limit=20)
    newest = next((row for row in found if row.verdict.site is None or row.result == "passed"), None)
    if newest is None or releases.of_bundle(connection, newest.candidate):
        return
    request = next(iter(verdicts.requests(connection, bundle=newest.candidate, limit=1)), None)
    if newest.result == "inconclusive":
        reason = newest.verdict.reasons[0] if newest.verdict.reasons else "too few samples"
        yield Todo(
            level="look", text=f"The gate holds a candidate: {reason}.", link="/labelling", link_text="label more"
        )
    elif request is not None and request.state == "refused":
        yield Todo(level="look", text=f"The signer refused a candidate: {request.answer}")
    elif newest.result == "passed" and not usecase.signing.automatic:
        yield Todo(
            level="look",
            text=f"A candidate passed the gate and waits for {usecase.people.approver}'s signature.",
            command=f"edgewise release sign {newest.candidate} --key keys/release",
        )


def _orders(connection: sa.Connection, usecase: UseCase) -> Iterator[Todo]:
    newest = orders.newest(connection, usecase.name)
    if newest is not None and newest.state == "failed":
        yield Todo(
            level="look",
            text=f"The last training order failed: {(newest.error or 'no reason given')[:200]}",
            link=f"/orders/{newest.id}",
            link_text="order",
        )
    elif newest is not None and newest.state == "open":
        yield Todo(
            level="next",
            text="A training order waits for a worker.",
            command="edgewise learn worker",
            link=f"/orders/{newest.id}",
            link_text="order",
        )


def _labels(connection: sa.Connection, usecase: UseCase, who: Person) -> Iterator[Todo]:
    waiting = pages.waiting_by_why(connection, usecase.name, sites=who.sites)
    total = sum(waiting.values())
    if total:
        words = ", ".join(f"{count} {why}" for why, count in waiting.items())
        urgent = any(waiting.get(why) for why in ("alarm", "feedback", "disagreement"))
        text = f"{total} sample{'s wait' if total > 1 else ' waits'} for a label ({words})."
        link = f"/labelling?use_case={usecase.name}"
        yield Todo(level="look" if urgent else "next", text=text, link=link, link_text="label")


def _start(connection: sa.Connection, usecase: UseCase, devices_total: int, who: Person) -> Iterator[Todo]:
    mine = [site.name for site in usecase.sites if who.sees(site.name)]
    if not devices_total and mine:
        command = f"edgewise hub enrol-token --use-case {usecase.name} --site {mine[0]}"
        yield Todo(level="next", text="No device is enrolled yet: make a token for the first one.", command=command)
    if orders.newest(connection, usecase.name) is None and not pages.any_sample(connection, usecase.name):
        text = "Nothing to train on yet: import labelled samples (POST /api/v1/samples/import), or let devices send."
        yield Todo(level="next", text=text, link="/docs", link_text="API")
