"""Takes back acts of people who label: the newest first, step by step, and never what somebody else did since."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgewise.hub import audit, labels, scope, usecases
from edgewise.hub.access import Person
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store, opinions, samples
from edgewise.hub.store import labels as label_rows
from edgewise.hub.store.samples import SampleRow
from edgewise.wire import NotValid


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenBack:
    """An act that was taken back; `left` are samples that somebody has labelled since, which stay as they are."""

    kind: str
    samples: tuple[str, ...]
    left: int


def undo(store: Store, use_case: str, *, who: Person, now: datetime, limits: Limits) -> TakenBack:
    """Take back this person's newest act that still stands; again for the one before it.

    What the sample was labelled before holds again, and the history keeps both. What somebody else labelled since
    stays.

    Raises:
        NotValid: there is nothing to take back.
    """
    since = now - timedelta(seconds=limits.label_undo_s)
    with store.write() as connection:
        usecases.need(connection, use_case)
        newest = opinions.last_acts(connection, use_case, who.name, since=since, limit=1)
        if not newest:
            raise NotValid(
                f"there is nothing of yours to take back in {use_case} within {limits.label_undo_s / 3600:g} hours",
                code="nothing_to_undo",
            )
        (done,) = newest
        ids = tuple(item["sample"] for item in done.before)
        scope.check_samples(connection, who, ids)
        left = sum(not _turn_round(connection, item, who, now) for item in done.before)
        opinions.take_answers_back(connection, done.act)
        opinions.undone(connection, done.position, now)
        data = {"act": done.act, "kind": done.kind, "samples": len(ids), "left": left}
        audit.note(connection, actor=who.name, action="labels.undone", subject=use_case, data=data, now=now)
    return TakenBack(kind=done.kind, samples=ids, left=left)


def _turn_round(connection: sa.Connection, item: dict[str, Any], who: Person, now: datetime) -> bool:
    """Put one sample back as it was; False where it was erased, or somebody labelled it since."""
    sample, place = str(item["sample"]), item.get("place")
    row = samples.get(connection, sample)
    if row is None:
        return False
    if place is not None:
        if label_rows.holds(connection, sample) != place:
            return False
        _put_back(connection, row, item["held"], who, now)
    opinions.replace(connection, _places(item, "added"))
    opinions.bring_back(connection, _places(item, "replaced"))
    opinions.settle(connection, _places(item, "settled"), settled=False)
    return True


def _places(item: dict[str, Any], name: str) -> list[int]:
    return [int(one) for one in item[name]]


def _put_back(connection: sa.Connection, row: SampleRow, held: int, who: Person, now: datetime) -> None:
    """The label at this place of the history holds again; 0 is none."""
    old = label_rows.at_place(connection, held) if held else None
    back: dict[str, Any] = {"taken_back_by": who.name, "stands_for": held, "now": now}
    if old is None or not old["label"]:
        samples.take_label_away(connection, row.id)
        label_rows.add(connection, row.use_case, row.id, label="", who=who.name, **back)
        return
    said: dict[str, Any] = {"label": old["label"], "annotation": old["annotation"]}
    samples.set_label(connection, row.id, **said, purpose=row.purpose or labels.TRAIN, now=old["at"])
    label_rows.add(connection, row.use_case, row.id, **said, who=old["who"], **back)
