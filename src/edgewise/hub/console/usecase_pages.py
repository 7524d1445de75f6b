"""The page of a use case: what it is for, its loop as a picture, quality by site over rounds, and drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response

from edgewise.hub.api.auth import ThisHub
from edgewise.hub.console import data, loop
from edgewise.hub.console._render import is_part
from edgewise.hub.console._router import router
from edgewise.hub.console.cases import Case, case_page
from edgewise.hub.console.login import Visitor
from edgewise.hub.console.todo import quiet
from edgewise.hub.store import champions, drift, lists, releases, rollouts, verdicts

ROUNDS_MAX = 30  # in the picture
ALARMS_MAX = 1000  # counted


@router.get("/use-case")
def use_case_page(request: Request, hub: ThisHub, who: Visitor) -> Response:
    """One use case as a whole; for htmx the picture alone."""
    template = "_loop.html" if is_part(request) else "use_case.html"
    return case_page(request, hub, who, template, _gather, active="use-case")


def _gather(case: Case) -> Mapping[str, Any]:
    connection, name = case.connection, case.name
    champion = champions.champion(connection, name)
    since = case.hub.now() - quiet(case.usecase)
    about: dict[str, Any] = {"champion": None if champion is None else champion.id, "silent_since": since}
    sites = lists.site_counts(connection, name, **about, sites=case.who.sites)
    newest = next(iter(rollouts.find(connection, use_case=name, limit=1)), None) if case.whole else None
    counts = data.counts(connection, case.who, case.usecase)
    total = sum(row["devices"] for row in sites)
    known = about["champion"]
    open_alarms = drift.alarms(connection, name, is_open=True, limit=ALARMS_MAX)
    return {
        "steps": loop.steps(name, counts, devices=total, champion=known, rollout=newest),
        "pictures": loop.PICTURES,
        "quality": quality(case) if case.whole else None,
        "alarms": open_alarms if case.whole else [],
        "sites": sites,
        "champion": known,
    }


def quality(case: Case) -> dict[str, Any]:
    """The measure that the gate looks at, of each candidate as trained, by site, oldest round first."""
    found = verdicts.find(case.connection, use_case=case.name, limit=ROUNDS_MAX)
    rounds = [row for row in reversed(found) if row.verdict.site is None and row.verdict.variant is None]
    names, short, links = [], [], []
    for row in rounds:
        made = releases.of_bundle(case.connection, row.candidate)
        names.append(f"{made[0].id if made else row.candidate[:10]}, {row.result}")
        short.append(f"@{made[0].version}" if made else row.candidate[:5])
        links.append(f"/releases/{quote(made[0].id, safe='')}#card-title" if made else f"/ledger/{row.candidate}")
    values = [{one.site: one.candidate for one in row.verdict.sites if ":" not in one.site} for row in rounds]
    return {
        "x": list(range(len(rounds))),
        "x_title": "round",
        "names": names,
        "short": short,
        "links": links,
        "share": case.usecase.outcome.target is None,
        "lines": [{"name": site, "y": [each.get(site) for each in values]} for site in _sites(values)],
    }


def _sites(values: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(site for each in values for site in each))
