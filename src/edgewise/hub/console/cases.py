"""Pages about one use case: which one is asked for, whether this person may see it, and what a page of none says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import HTMLResponse

from edgewise.hub import scope, usecases
from edgewise.hub._hub import Hub
from edgewise.hub.access import Person
from edgewise.hub.console import nav
from edgewise.hub.console._render import page, render
from edgewise.hub.console.label_data import names
from edgewise.wire import UseCase

EMPTY = "This hub has no use case yet, so there is nothing to show. Write usecase.yaml, then: edgewise usecase apply."


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One use case at one moment of the store, for one person; `whole` where they see all of its sites."""

    connection: sa.Connection
    hub: Hub
    who: Person
    usecase: UseCase
    whole: bool

    @property
    def name(self) -> str:
        return self.usecase.name

    @property
    def rows(self) -> int:
        """How many rows a page has."""
        return self.hub.limits.console_rows_max

    @property
    def mine(self) -> list[str]:
        """The sites of the use case that this person sees."""
        return [name for name in usecases.sites_of(self.connection, self.name) if self.who.sees(name)]


def case_page(
    request: Request,
    hub: Hub,
    who: Person,
    template: str,
    gather: Callable[[Case], Mapping[str, Any]],
    *,
    active: str,
    whole: bool = False,
) -> HTMLResponse:
    """The page of the use case that the address names, of the first one where it names none.

    Args:
        gather: what the page shows. active: its key in `nav.LINKS`.
        whole: it speaks of all sites, so that somebody of some is told so in its place.
    """
    asked = request.query_params.get("use_case") or None
    with hub.store.read() as connection:
        known = names(connection, who)
    if not known:
        told = {"title": _title(active), "text": EMPTY, "back": "/", "active": active}
        return render("message.html", told, who=who)

    def values() -> Mapping[str, Any]:
        with hub.store.read() as connection:
            usecase = usecases.need(connection, asked or known[0])
            scope.check_some(connection, who, usecase.name, f"use case {usecase.name}")
            all_sites = who.sees_all(usecases.sites_of(connection, usecase.name))
            frame = {"names": known, "usecase": usecase, "active": active, "whole": all_sites}
            if whole and not all_sites:
                return frame | {"not_shown": True}
            case = Case(connection=connection, hub=hub, who=who, usecase=usecase, whole=all_sites)
            return {**frame, "not_shown": False, **gather(case)}

    return page(hub, who, template, values)


def _title(active: str) -> str:
    return next((link.title for link in nav.LINKS if link.key == active), "Overview")
