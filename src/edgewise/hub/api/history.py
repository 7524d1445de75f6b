"""Routes for what was: what ran where at a moment, where a release ran, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field

from edgewise.hub import ran, scope
from edgewise.hub.api.auth import Reader, ThisHub, Watcher
from edgewise.hub.api.models import Out
from edgewise.hub.api.problems import responses
from edgewise.hub.store import failures as failure_rows
from edgewise.hub.store import ran as rows
from edgewise.hub.store import releases
from edgewise.hub.store.failures import FailureRow
from edgewise.hub.store.ran import Stretch
from edgewise.wire import NotValid

router = APIRouter()
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(max_length=160, description="`next` of the page before")]
Name = Annotated[str | None, Query(max_length=160)]


class RanOut(Out):
    """One device at one moment."""

    device: str
    site: str
    use_case: str
    release: str
    bundle: str
    variant: str | None
    since: datetime = Field(description="first seen committed, by the hub's clock")
    last_seen_at: datetime
    sure: bool = Field(description="seen so before and after the moment, with nothing else between")
    text: str = Field(examples=["committed since 2026-03-01 08:00:12Z, and still at 2026-03-01 17:41:02Z"])


class RanPage(Out):
    at: datetime
    ran: list[RanOut]
    next: str | None


class StretchOut(Out):
    """One unbroken time of a release on a device."""

    device: str
    site: str
    bundle: str
    variant: str | None
    since: datetime
    last_seen_at: datetime
    until: datetime | None = Field(description="when the device was first seen with something else")


class StretchPage(Out):
    release: str
    stretches: list[StretchOut]
    next: str | None


class FailureOut(Out):
    device: str
    site: str
    use_case: str
    at: datetime = Field(description="by the device's clock")
    received_at: datetime
    phase: str
    component: str
    category: str | None = Field(description="none where the device told it in words alone")
    code: str
    text: str
    rollout: str | None
    release: str | None


class FailurePage(Out):
    failures: list[FailureOut]
    next: str | None


@router.get("/ran", tags=["releases"], responses=responses(422))
def what_ran(
    hub: ThisHub,
    who: Watcher,
    at: Annotated[AwareDatetime | None, Query(description="RFC 3339; now without it")] = None,
    use_case: Name = None,
    site: Name = None,
    device: Name = None,
    release: Name = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> RanPage:
    """What each device ran at a moment, as far as it was heard of: release, bundle, variant, and how sure that is."""
    moment = at or hub.now()
    with hub.store.read() as connection:
        found = rows.at(
            connection,
            moment,
            use_case=use_case,
            site=site,
            device=device,
            release=release,
            sites=who.sites,
            after=cursor or "",
            limit=limit + 1,
        )
    page = found[:limit]
    ran_there = [
        RanOut(
            **_of(item),
            use_case=item.use_case,
            release=item.release,
            sure=ran.is_sure(item, moment),
            text=ran.how_sure(item, moment),
        )
        for item in page
    ]
    return RanPage(at=moment, ran=ran_there, next=page[-1].device if len(found) > limit else None)


@router.get("/releases/{release}/ran", tags=["releases"], responses=responses(404))
def where_it_ran(
    release: str,
    hub: ThisHub,
    who: Reader,
    since: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to", description="before this")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> StretchPage:
    """Where a release ran, from when to when, in the order in which it came to the devices."""
    with hub.store.read() as connection:
        row = releases.get(connection, release)
        if row is None:
            raise NotValid(f"there is no release {release[:80]!r}; see GET /api/v1/releases", code="release_unknown")
        scope.check_some(connection, who, row.use_case, f"release {release}")
        found = rows.of_release(
            connection,
            release,
            since=since,
            until=until,
            sites=who.sites,
            after=_position(cursor, 0),
            limit=limit + 1,
        )
    page = found[:limit]
    stretches = [StretchOut(**_of(item), until=item.next_since) for item in page]
    return StretchPage(release=release, stretches=stretches, next=_next(page, found))


@router.get("/failures", tags=["rollouts"], responses=responses(422))
def list_failures(
    hub: ThisHub,
    who: Watcher,
    use_case: Name = None,
    rollout: Name = None,
    device: Name = None,
    code: Name = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> FailurePage:
    """What went wrong with updates on the caller's devices, newest first: time, phase, component, category, code."""
    with hub.store.read() as connection:
        found = failure_rows.page(
            connection,
            use_case=use_case,
            rollout=rollout,
            device=device,
            code=code,
            sites=who.sites,
            before=None if cursor is None else _position(cursor, 0),
            limit=limit + 1,
        )
    page = found[:limit]
    return FailurePage(failures=[FailureOut.model_validate(row) for row in page], next=_next(page, found))


def _of(stretch: Stretch) -> dict[str, object]:
    same = {"device": stretch.device, "site": stretch.site, "bundle": stretch.bundle}
    return same | {"variant": ran.variant_of(stretch), "since": stretch.since, "last_seen_at": stretch.last_at}


def _next(page: Sequence[Stretch | FailureRow], found: Sequence[object]) -> str | None:
    return str(page[-1].position) if len(found) > len(page) else None


def _position(cursor: str | None, default: int) -> int:
    """The place that a cursor names.

    Raises:
        NotValid: it is none of ours.
    """
    if cursor is None:
        return default
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise NotValid(f"{cursor[:60]!r} is not a cursor; take `next` of the page before", code="cursor_invalid")
    return int(cursor)
