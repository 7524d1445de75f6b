"""Lists that page: what was asked for, one page of it, and the addresses of the next and of the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

from edgewise.hub.api.samples import make_place, read_cursor
from edgewise.wire import NotValid

Row = TypeVar("Row")
FILTER_CHARACTERS_MAX = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[Row]):
    """Rows of one page; `next` and `first` are addresses, empty where there is nothing to go to."""

    rows: Sequence[Row]
    next: str
    first: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the address of a list says: its filters, and after which row the page begins."""

    path: str
    filters: Mapping[str, str]
    cursor: str
    use_case: str

    def __getitem__(self, name: str) -> str:
        return self.filters.get(name, "")

    @property
    def some(self) -> bool:
        """Whether anything is filtered."""
        return any(self.filters.values())

    def number(self) -> int | None:
        """The cursor as a number. Raises NotValid where it is none."""
        if not self.cursor:
            return None
        if not (self.cursor.isascii() and self.cursor.isdecimal() and len(self.cursor) <= 18):
            raise NotValid(f"{self.cursor[:60]!r} is not a place in this list; begin at its top", code="cursor_invalid")
        return int(self.cursor)

    def place(self) -> tuple[datetime, str] | None:
        """The cursor as a time and an id. Raises NotValid where it is none."""
        return read_cursor(self.cursor) if self.cursor else None

    def at(self, path: str) -> Asked:
        """The same for a list at another address."""
        return replace(self, path=path)

    def link(self, **changes: str) -> str:
        """The address of this list with other filters, from its top."""
        wanted = {"use_case": self.use_case, **self.filters, **changes}
        return f"{self.path}?{urlencode({name: value for name, value in wanted.items() if value})}"

    def page(self, found: Sequence[Row], most: int, place: Callable[[Row], object]) -> Page[Row]:
        """The first `most` of `found`, which has one more where there is a next page."""
        rows = found[:most]
        onward = self.link(cursor=str(place(rows[-1]))) if len(found) > most else ""
        return Page(rows=rows, next=onward, first=self.link() if self.cursor else "")


def asked(request: Request, use_case: str, *names: str) -> Asked:
    """What the address says about these filters; what is too long to be one counts as not said."""
    given = {name: request.query_params.get(name, "").strip() for name in (*names, "cursor")}
    held = {
        name: value if len(value) <= FILTER_CHARACTERS_MAX and "\0" not in value else ""
        for name, value in given.items()
    }
    cursor = held.pop("cursor")
    return Asked(path=request.url.path, filters=held, cursor=cursor, use_case=use_case)


def made(row: Any) -> str:
    """The place of a row that has `made_at` and `id`."""
    return make_place(row.made_at, row.id)


def received(row: Any) -> str:
    """The place of a row that has `received_at` and `id`."""
    return make_place(row.received_at, row.id)
