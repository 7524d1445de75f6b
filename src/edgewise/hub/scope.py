"""What somebody of some sites may see: use cases that touch their sites, and what speaks of these alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

import sqlalchemy as sa

from edgewise.hub import usecases
from edgewise.hub.access import Person
from edgewise.hub.store import samples


class OfUseCase(Protocol):
    @property
    def use_case(self) -> str | None: ...


Row = TypeVar("Row", bound=OfUseCase)


def check_some(connection: sa.Connection, who: Person, use_case: str | None, what: str) -> None:
    """Raises Refused unless the use case is at one of this person's sites; None is a use case that nobody named."""
    if who.sites is None:
        return
    if use_case is None:
        who.check_everywhere(what)
    else:
        who.check_any_site(usecases.sites_of(connection, use_case), what)


def check_whole(connection: sa.Connection, who: Person, use_case: str | None, what: str) -> None:
    """Raises Refused unless all sites of the use case are this person's: for rollouts, orders, verdicts, evidence."""
    if who.sites is None:
        return
    if use_case is None:
        who.check_everywhere(what)
    else:
        who.check_sites(usecases.sites_of(connection, use_case), what)


def check_samples(connection: sa.Connection, who: Person, ids: Iterable[str]) -> None:
    """Raises Refused where one of these samples is of a site that is not this person's."""
    if who.sites is None:
        return
    for row in samples.these(connection, ids).values():
        who.check_sites([row.site], f"sample {row.id}")


def visible(connection: sa.Connection, who: Person, rows: Iterable[Row], *, whole: bool = False) -> list[Row]:
    """The rows whose use case is at one of this person's sites; with `whole`, only at these."""
    found = list(rows)
    if who.sites is None:
        return found
    names = {row.use_case for row in found if row.use_case is not None}
    sites = {name: usecases.sites_of(connection, name) for name in names}
    fits = who.sees_all if whole else who.sees_any
    return [row for row in found if row.use_case is not None and fits(sites[row.use_case])]
