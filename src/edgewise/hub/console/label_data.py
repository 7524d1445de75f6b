"""What the labelling pages show, gathered at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgewise.hub import label_view, labelling, labelling_queue, labelling_stats, labels, scope, usecases
from edgewise.hub._hub import Hub
from edgewise.hub.access import Action, Person
from edgewise.hub.label_view import View
from edgewise.hub.store import opinions, pages
from edgewise.hub.store import usecases as usecase_rows
from edgewise.hub.store.opinions import OpinionRow
from edgewise.hub.suggestions import MEANS, Order, Seen

SKIPPED_MAX = 100
WORDS_MAX = 200
DISPUTES_SHOWN_MAX = 20
WHOLE, MARKS = "whole", "marks"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a person asked the labelling page for.

    Attributes:
        mode: marks to draw boxes or spans, whole to say one word; empty where the sample decides.
        sample: this one; None for the next of the order.
    """

    order: Order = "urgent"
    mode: str = ""
    skipped: tuple[str, ...] = ()
    sample: str | None = None


def names(connection: sa.Connection, who: Person) -> list[str]:
    """The use cases that this person sees."""
    known = usecase_rows.names(connection)
    return [name for name in known if who.sites is None or who.sees_any(usecases.sites_of(connection, name))]


def card(hub: Hub, who: Person, use_case: str, asked: Asked, *, notice: str = "", problem: str = "") -> dict[str, Any]:
    """The sample, or group of pictures, that this person looks at now; theirs alone where they may label.

    Args:
        notice: what was just done. problem: what was not, and why.
    Raises:
        NotValid: no such use case or sample. NotTrusted: another person's site.
    """
    now = hub.now()
    with hub.store.read() as connection:
        usecase = usecases.need(connection, use_case)
        scope.check_some(connection, who, use_case, f"use case {use_case}")
    found = _found(hub, who, use_case, asked, now)
    with hub.store.read() as connection:
        shown = view_of(hub, connection, found)
        said = _said(connection, found, asked)
        since = now - timedelta(seconds=hub.limits.label_undo_s)
        waiting = pages.waiting_by_why(connection, use_case, sites=who.sites)
        values = {
            "names": names(connection, who),
            "active": "labelling",
            "usecase": usecase,
            "labels": labels.known_labels(connection, use_case),
            "order": asked.order,
            "orders": MEANS,
            "found": found,
            "seen": found[0] if found and asked.order != "cluster" else None,
            "view": shown,
            "mode": _mode(asked, found, shown),
            "marks": _marks(found, shown),
            "said": said,
            "settles": _settles(who, said, asked),
            "skipped": asked.skipped,
            "act": hub.chance.id(),
            "undo": next(iter(opinions.last_acts(connection, use_case, who.name, since=since, limit=1)), None),
            "waiting": waiting,
            "waiting_total": sum(waiting.values()),
            "today": pages.labelled_since(connection, use_case, _midnight(now)),
            "budget": usecase.labelling.labels_per_day,
            "notice": notice,
            "problem": problem,
            "kind": {"second": "second", "adjudicate": "settle", "cluster": "bulk"}.get(asked.order, "label"),
            "keep_s": hub.limits.label_claim_s / 3,
        }
    return values


def _found(hub: Hub, who: Person, use_case: str, asked: Asked, now: datetime) -> list[Seen]:
    if who.may(Action.LABEL):
        about: dict[str, Any] = {"skipped": asked.skipped, "sample": asked.sample}
        return labelling_queue.take(hub.store, use_case, asked.order, who=who, now=now, limits=hub.limits, **about)
    with hub.store.read() as connection:
        if asked.sample is not None:
            scope.check_samples(connection, who, [asked.sample])
            row = labelling_queue.need_sample(connection, use_case, asked.sample)
            return labelling_queue.seen(connection, [row])
        more: dict[str, Any] = {"skipped": asked.skipped, "limit": 1}
        return labelling_queue.queue(hub.store, connection, use_case, asked.order, who=who, now=now, **more)


def view_of(hub: Hub, connection: sa.Connection, found: Sequence[Seen]) -> View | None:
    return label_view.view(hub.store, connection, found[0].row) if found else None


def _mode(asked: Asked, found: Sequence[Seen], shown: View | None) -> str:
    """Marks where they were asked for, or the sample has some already; only pictures and series can have them."""
    if shown is None or shown.kind not in ("picture", "series") or asked.order == "cluster":
        return WHOLE
    held = found[0].row.annotation or {}
    return asked.mode or (MARKS if held.get("boxes") or held.get("spans") else WHOLE)


def _marks(found: Sequence[Seen], shown: View | None) -> list[dict[str, Any]]:
    """Boxes or spans that the sample has already, whichever its content can have."""
    held = (found[0].row.annotation if found else None) or {}
    return list(held.get("spans" if shown is not None and shown.kind == "series" else "boxes") or [])


def _said(connection: sa.Connection, found: Sequence[Seen], asked: Asked) -> list[OpinionRow]:
    """What people hold of the sample, for who settles a dispute; nothing for who gives a second opinion."""
    if not found or asked.order in ("second", "cluster"):
        return []
    return opinions.of(connection, [found[0].row.id]).get(found[0].row.id, [])


def _settles(who: Person, said: Sequence[OpinionRow], asked: Asked) -> bool:
    """Whether this person may settle what they look at."""
    return asked.order != "adjudicate" or who.may(Action.APPROVE) or all(one.who != who.name for one in said)


def progress(hub: Hub, who: Person, use_case: str, target: float | None) -> dict[str, Any]:
    """How labelling goes, how far people agree, and whether it is enough."""
    with hub.store.read() as connection:
        usecase = usecases.need(connection, use_case)
        scope.check_some(connection, who, use_case, f"use case {use_case}")
        whole = who.sees_all(usecases.sites_of(connection, use_case))
        return {
            "names": names(connection, who),
            "active": "labels",
            "usecase": usecase,
            "progress": labelling_stats.progress(connection, use_case, who=who, now=hub.now()),
            "agreement": labelling_stats.agreed(connection, use_case, who=who),
            "enough": labelling_stats.is_enough(connection, use_case, target=target) if whole else None,
            "rounds": labelling_stats.rounds_of(connection, use_case) if whole else [],
            "target": target,
            "disputes": opinions.disputed(connection, use_case, limit=DISPUTES_SHOWN_MAX, sites=who.sites),
        }


def words(hub: Hub, who: Person, use_case: str, problem: str = "") -> dict[str, Any]:
    """What operators said, those without an answer first."""
    with hub.store.read() as connection:
        usecase = usecases.need(connection, use_case)
        scope.check_some(connection, who, use_case, f"use case {use_case}")
        about: dict[str, Any] = {"limit": WORDS_MAX, "sites": who.sites}
        return {
            "names": names(connection, who),
            "active": "labels",
            "usecase": usecase,
            "open": opinions.words(connection, use_case, answered=False, **about),
            "answered": opinions.words(connection, use_case, answered=True, **about),
            "answers": labelling.ANSWERS,
            "acts": hub.chance,
            "problem": problem,
        }


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
