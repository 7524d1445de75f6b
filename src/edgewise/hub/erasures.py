"""Erasures: ordered by a person, carried to devices in their assignments, and kept at the door for what is under way.

A device erases what it holds and can still change; what it had sealed before may arrive later or be here already. The
first is left out at intake, the second is told by the device. What the hub itself can see to be covered it forgets when
the erasure is ordered (`forget`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from edgewise.hub import audit, forget, scope, usecases
from edgewise.hub.access import Person
from edgewise.hub.segments import Records, without
from edgewise.hub.store import devices, samples
from edgewise.hub.store import erasures as rows
from edgewise.hub.store.devices import DeviceRow
from edgewise.hub.store.erasures import ErasureRow
from edgewise.policy import SUBJECT_FACT
from edgewise.wire import ERASURES_MAX, Assignment, Erasure, Event, SegmentHeader, UploadHeader

if TYPE_CHECKING:
    from edgewise.hub._hub import Hub

TOLD_MAX = 10_000  # records that one event of a device may name
PLACES_MAX = 64  # segments that one event may name
PAGE_MAX = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """An erasure, and on how many of the devices that it reaches it is done."""

    row: ErasureRow
    done: int
    devices: int


def create(hub: Hub, use_case: str, wish: Erasure, person: Person) -> Progress:
    """Order an erasure; every device that it reaches gets a new assignment with it.

    Raises:
        NotValid: no such use case, or no such site in it.
        Refused: of a site, or of all sites of the use case, that are not this person's.
    """
    now = hub.now()
    with hub.store.write() as connection:
        usecase = usecases.need(connection, use_case)
        if wish.site is not None:
            usecases.check_site(usecase, wish.site)
            person.check_sites([wish.site], "an erasure")
        else:
            scope.check_whole(connection, person, use_case, f"an erasure at all sites of {use_case}")
        order: dict[str, Any] = {name: getattr(wish, name) for name in ("subject", "site", "since", "until", "reason")}
        values = order | {"use_case": use_case, "who": person.name, "made_at": now}
        row = ErasureRow(number=rows.add(connection, values), **values)
        data = {"use_case": use_case} | {name: _text(value) for name, value in order.items()}
        audit.note(connection, actor=person.name, action="erasure.ordered", subject=str(row.number), data=data, now=now)
        for device in devices.find(connection, use_case=use_case, site=wish.site):
            bring(connection, device, hub_epoch=hub.hub_epoch, policy_version=usecase.data.version, now=now)
        forget.forget(connection, forget.covered(connection, row), erasure=row.number, now=now)
        done, total = rows.counts(connection, row)
    forget.sweep(hub.store)
    return Progress(row=row, done=done, devices=total)


def listed(hub: Hub, person: Person, use_case: str | None = None) -> list[Progress]:
    """The newest erasures that this person may see, newest first."""
    with hub.store.read() as connection:
        found = rows.page(connection, use_case=use_case, sites=person.sites, limit=PAGE_MAX)
        counted = [(row, *rows.counts(connection, row)) for row in found]
    return [Progress(row=row, done=done, devices=total) for row, done, total in counted]


def open_for(connection: sa.Connection, device: DeviceRow) -> tuple[Erasure, ...]:
    """What belongs into the device's next assignment."""
    return tuple(row.record for row in rows.open_for(connection, device, ERASURES_MAX))


def bring(connection: sa.Connection, device: DeviceRow, *, hub_epoch: str, policy_version: int, now: datetime) -> bool:
    """See to it that the device's assignment names what is open for it; True when that took a new one.

    Nothing else in the assignment changes, so an update that is under way goes on.
    """
    if device.in_conflict:
        return False  # it would refuse the number, or take up an old release: who resolves the conflict brings them
    wanted, erasures = device.wanted, open_for(connection, device)
    named = {erasure.number for erasure in wanted.erasures} if wanted else set()
    if named.issuperset(erasure.number for erasure in erasures):
        return False
    number = device.assignment_number + 1
    if wanted is None:
        wanted = Assignment(
            device=device.id,
            number=number,
            hub_epoch=hub_epoch,
            use_case=device.use_case,
            policy_version=policy_version,
            issued_at=now,
        )
    update = {"number": number, "hub_epoch": hub_epoch, "erasures": erasures, "issued_at": now}
    devices.assign(connection, wanted.model_copy(update=update))
    data = {"number": number, "erasures": [erasure.number for erasure in erasures]}
    audit.note(connection, actor="controller", action="device.assigned", subject=device.id, data=data, now=now)
    return True


def heard(
    connection: sa.Connection,
    device: DeviceRow,
    header: UploadHeader,
    *,
    hub_epoch: str,
    policy_version: int,
    now: datetime,
) -> bool:
    """Take note of what a device reports as done, and bring it what is open; True when it has a new assignment."""
    report = header.report
    open_now = rows.open_for(connection, device, ERASURES_MAX)
    if not open_now:
        return False
    done = [row.number for row in open_now if report.erased_of == hub_epoch and row.number <= report.erased]
    rows.acknowledge(connection, device.id, done, done_at=header.sent_at, now=now)
    if done:
        actor, data = f"device {device.id}", {"erasures": done}
        audit.note(connection, actor=actor, action="erasure.done", subject=device.id, data=data, now=now)
    return bring(connection, device, hub_epoch=hub_epoch, policy_version=policy_version, now=now)


# -- at the door -------------------------------------------------------------------------------------------------------


def leave_out(
    connection: sa.Connection,
    device: DeviceRow,
    header: SegmentHeader,
    payload: bytes,
    records: Records,
    in_force: Sequence[tuple[Erasure, datetime | None]],
    now: datetime,
) -> tuple[Records, bytes, int]:
    """The records of a segment without those that fall under an erasure, the bytes of these, and how many are gone."""
    covered = _covered(records, header, device.site, in_force) if in_force else {}
    if not covered:
        return records, payload, 0
    data = {"number": header.number, "records": len(covered), "erasures": sorted(set(covered.values()))}
    forget.let_go(connection, {item.blob for item in records.samples if item.id in covered}, now)
    actor = f"device {device.id}"
    audit.note(connection, actor=actor, action="erasure.left_out", subject=device.id, data=data, now=now)
    kept = replace(
        records,
        samples=tuple(item for item in records.samples if item.id not in covered),
        feedback=tuple(item for item in records.feedback if item.id not in covered),
        events=tuple(item for item in records.events if item.id not in covered),
    )
    return kept, without(payload, covered), len(covered)


def in_force_for(connection: sa.Connection, device: DeviceRow) -> list[tuple[Erasure, datetime | None]]:
    """What reaches this device, each with when the device had done it, by its own clock."""
    return [(row.record, done_at) for row, done_at in rows.in_force_for(connection, device)]


def forget_told(connection: sa.Connection, device: DeviceRow, events: Sequence[Event], now: datetime) -> None:
    """Forget the records that a device tells are about what it erased: sealed before, or sent long ago."""
    for event in events:
        if event.what != "erased":
            continue
        ids = [item for name in ("sealed", "stored") for item in _texts(event.data.get(name))]
        places = rows.segments_of(connection, device.id, ids) | _places(event.data)
        mine = [row for row in samples.these(connection, ids).values() if row.device == device.id]
        labelled = [row for row in mine if row.label is not None]
        number = event.data.get("erasure")
        forget.forget(connection, labelled, erasure=number if isinstance(number, int) else 0, now=now)
        gone = rows.remove_records(connection, device.id, ids) + len(labelled)
        forget.let_go(connection, {row.blob for row in mine}, now)
        covered = set(ids)
        for epoch, number in sorted(places):
            if (body := rows.body(connection, device.id, epoch, number)) is not None:
                rows.set_body(connection, device.id, epoch, number, without(body, covered))
        data = {"erasure": event.data.get("erasure"), "told": len(ids), "forgotten": gone, "labelled": len(labelled)}
        actor = f"device {device.id}"
        audit.note(connection, actor=actor, action="erasure.forgotten", subject=device.id, data=data, now=now)


def _texts(value: object) -> list[str]:
    return [item for item in value[:TOLD_MAX] if isinstance(item, str)] if isinstance(value, list) else []


def _places(told: dict[str, Any]) -> set[tuple[str, int]]:
    """The open segments that a device names: what is no sample can be found in no other way."""
    epoch, numbers = told.get("epoch"), told.get("segments")
    if not isinstance(epoch, str) or not isinstance(numbers, list):
        return set()
    return {(epoch, number) for number in numbers[:PLACES_MAX] if isinstance(number, int)}


def _covered(
    records: Records, header: SegmentHeader, site: str, in_force: Sequence[tuple[Erasure, datetime | None]]
) -> dict[str, int]:
    """Ids of records that are to be forgotten, each with the number of an erasure that says so."""
    told = [(item.id, str(item.facts.get(SUBJECT_FACT, "")), item.taken_at) for item in records.samples]
    told += [(item.id, "", item.given_at) for item in records.feedback]
    if header.record_class == "alarm":
        told += [(item.id, "", item.at) for item in records.events]
    found: dict[str, int] = {}
    for name, subject, at in told:
        for erasure, done_at in in_force:
            # What a device made after it had erased is new, unless the order reaches on.
            is_later = erasure.until is None and done_at is not None and at > done_at
            if not is_later and erasure.covers(subject=subject, site=site, at=at):
                found[name] = erasure.number
                break
    return found


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
