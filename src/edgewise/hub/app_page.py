"""The page of an app: blocks that one generic page draws, made by a pure function from what the hub knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import sqlalchemy as sa

from edgewise.hub.access import Person
from edgewise.hub.store import app_numbers as rows
from edgewise.wire import UseCase

WINDOW = timedelta(days=7)  # that the page speaks of


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One thing on the page.

    Attributes:
        kind: `number` shows `rows[0]` large, `table` shows all rows under `columns`, `text` the rows as paragraphs.
        columns: names of the columns of a table.
    """

    kind: Literal["number", "table", "text"]
    title: str
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteNumbers:
    """What the hub knows about one site in the window that the page shows.

    Attributes:
        decisions: by label.
        alarms: decisions that acted, such as parts taken out; None where the policy hides the count.
        overrides: decisions that a person overruled; None where no device tells.
        labelled, wrong: samples that a person labelled, and those whose decision was another label.
        release: that most of its devices run.
    """

    site: str
    decisions: Mapping[str, int] = field(default_factory=dict)
    total: int = 0
    alarms: int | None = None
    overrides: int | None = None
    labelled: int = 0
    wrong: int = 0
    release: str | None = None


# From the numbers of the sites, and the labels that mean a good part.
AppPage: TypeAlias = Callable[[Sequence[SiteNumbers], Sequence[str]], Sequence[Block]]


def numbers(connection: sa.Connection, usecase: UseCase, who: Person, *, now: datetime) -> list[SiteNumbers]:
    """What the sites of this person counted in the last `WINDOW`, by name."""
    since, good = now - WINDOW, usecase.outcome.good_labels
    sums = rows.counted(connection, usecase.name, since=since, sites=who.sites)
    said = rows.decided(connection, usecase.name, since=since, sites=who.sites)
    judged = rows.judged(connection, usecase.name, since=since, good=good, sites=who.sites)
    runs = rows.mostly_run(connection, usecase.name, sites=who.sites)
    sites = [site.name for site in usecase.sites if who.sees(site.name)]
    return [
        SiteNumbers(
            site=site,
            decisions=said.get(site, Counter()),
            total=sums[site].decisions if site in sums else 0,
            alarms=sums[site].alarms if site in sums else None,
            overrides=sums[site].overrides if site in sums else None,
            labelled=judged.get(site, (0, 0))[0],
            wrong=judged.get(site, (0, 0))[1],
            release=runs.get(site),
        )
        for site in dict.fromkeys([*sites, *sorted(sums)])
    ]


def plain_blocks(sites: Sequence[SiteNumbers], good_labels: Sequence[str]) -> tuple[Block, ...]:
    """The page of an app that brings none of its own: decisions, the proxies of quality, and what was said.

    >>> north = SiteNumbers(site="north", total=100, decisions={"ok": 90, "crack": 10}, alarms=9, labelled=4, wrong=1)
    >>> [block.title for block in plain_blocks([north], ["ok"])]
    ['Decisions', 'Sites', 'What was decided']
    >>> plain_blocks([north], ["ok"])[2].rows[0]
    ('north', 'ok (good)', '90', '90.0 %')
    """
    per_site = tuple(
        (
            one.site,
            one.release or "–",
            str(one.total),
            _share(one.alarms, one.total),
            _share(one.overrides, one.total),
            f"{one.wrong} of {one.labelled}",
        )
        for one in sites
    )
    said = tuple(
        (
            one.site,
            f"{label} (good)" if label in good_labels else label,
            str(count),
            _share(count, sum(one.decisions.values())),
        )
        for one in sites
        for label, count in sorted(one.decisions.items(), key=lambda item: (-item[1], item[0]))
    )
    columns = ("site", "mostly runs", "decisions", "alarms", "overruled", "wrong of those labelled")
    return (
        Block(kind="number", title="Decisions", rows=((str(sum(one.total for one in sites)),),)),
        Block(kind="table", title="Sites", columns=columns, rows=per_site),
        Block(kind="table", title="What was decided", columns=("site", "word", "decisions", "share"), rows=said),
    )


def _share(count: int | None, total: int) -> str:
    return "–" if count is None or not total else f"{100 * count / total:.1f} %"
