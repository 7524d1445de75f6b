"""Routes that tell what is in dataset revisions, and how two of them differ."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import Field

from edgewise.hub import revisions, scope
from edgewise.hub.api.auth import Reader, ThisHub
from edgewise.hub.api.models import Out
from edgewise.hub.api.problems import responses
from edgewise.hub.store import ledger as rows
from edgewise.hub.store import orders as order_rows
from edgewise.wire import DatasetRevision, NotValid

router = APIRouter()


class RevisionOut(Out):
    digest: str
    use_case: str
    made_at: datetime
    parent: str | None
    count: int = Field(description="samples, erased ones too")
    new: int


class RevisionSummary(RevisionOut):
    by_site: dict[str, dict[str, int]] = Field(description="samples of each site by label")
    left_out: dict[str, int] = Field(description="labelled samples that are not in it, by the reason")
    erased: int


class RevisionDiff(Out):
    """What the newer revision has that the older has not, and the other way round."""

    older: str
    newer: str
    added: dict[str, dict[str, int]] = Field(description="of each site by label")
    removed: dict[str, dict[str, int]]
    relabelled: dict[str, int] = Field(description="by the change, such as `pit -> good`")


@router.get("/usecases/{name}/revisions", tags=["orders"], responses=responses(404))
def list_revisions(name: str, hub: ThisHub, who: Reader) -> list[RevisionOut]:
    """The dataset revisions of a use case, newest first."""
    with hub.store.read() as connection:
        scope.check_whole(connection, who, name, f"the revisions of {name}")
        found = rows.revisions_list(connection, name, limit=hub.limits.page_max)
    return [RevisionOut.model_validate(row) for row in found]


@router.get("/revisions/{digest}/summary", tags=["orders"], responses=responses(404))
def summary(digest: str, hub: ThisHub, who: Reader) -> RevisionSummary:
    """What is in a revision, counted by site and label; not its samples."""
    with hub.store.read() as connection:
        body = _need(connection, digest)
        scope.check_whole(connection, who, body.use_case, f"revision {digest[:12]}…")
        row = rows.revision(connection, digest)
    assert row is not None
    about = {"by_site": revisions.by_site(body.samples), "left_out": body.left_out or {}}
    return RevisionSummary(**RevisionOut.model_validate(row).model_dump(), **about, erased=len(body.erased or ()))


@router.get("/revisions/{older}/diff/{newer}", tags=["orders"], responses=responses(404))
def diff(older: str, newer: str, hub: ThisHub, who: Reader) -> RevisionDiff:
    """How two revisions differ."""
    with hub.store.read() as connection:
        before, after = _need(connection, older), _need(connection, newer)
        for body in (before, after):
            scope.check_whole(connection, who, body.use_case, f"a revision of {body.use_case}")
    added, removed, relabelled = revisions.difference(before, after)
    return RevisionDiff(older=older, newer=newer, added=added, removed=removed, relabelled=relabelled)


def _need(connection: sa.Connection, digest: str) -> DatasetRevision:
    body = order_rows.revision(connection, digest)
    if body is None:
        raise NotValid(f"there is no dataset revision {digest[:80]!r} here", code="revision_unknown")
    return body
