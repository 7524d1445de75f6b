"""Routes for the lake: its tables, how it is, and questions in SQL."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from edgewise.hub._hub import Hub
from edgewise.hub.api.auth import ThisHub, Watcher
from edgewise.hub.api.models import Out
from edgewise.hub.api.problems import responses
from edgewise.hub.body import Body
from edgewise.hub.lake import TABLES, Asked, Lake, ask, status
from edgewise.wire import NotValid

router = APIRouter()
ARROW = "application/vnd.apache.arrow.stream"
LOOK_S = 0.25  # how often it is looked whether the caller is still there


class Trouble(Out):
    text: str
    since: datetime


class TableSize(Out):
    version: int
    rows: int
    files: int
    bytes: int


class LakeOut(Out):
    """How the lake is; sizes are those of the last commit, of all sites."""

    waiting: int = Field(description="segments that are not in it yet")
    lag_s: float = Field(description="since the oldest of them was received; 0 without any")
    committed_at: datetime | None
    tables: dict[str, TableSize]
    held_back: list[str] = Field(description="use_case/site whose rows have to be in another region")
    error: Trouble | None = Field(description="why it is not written, and since when")


class ColumnOut(Out):
    name: str
    kind: str
    text: str


class TableOut(Out):
    name: str
    text: str
    rows: int | None = Field(description="of all sites; none for people of some sites")
    version: int | None
    columns: list[ColumnOut]


class Question(Body):
    """One question in SQL."""

    sql: str = Field(min_length=1, description="one SELECT in DuckDB's SQL", examples=["SELECT count(*) FROM readings"])
    at: str | None = Field(None, max_length=60, description="a moment (RFC 3339), or a version of the one table read")
    rows_max: int | None = Field(None, ge=1, le=10**9, description="of the answer; the hub has a bound of its own")


@router.get("/lake", tags=["lake"], responses=responses(409))
def get_lake(hub: ThisHub, who: Watcher) -> LakeOut:
    """How the lake is: what waits, what the tables hold, and what is wrong."""
    who.check_everywhere("the state of the lake")
    _lake(hub)
    with hub.store.read() as connection:
        return LakeOut.model_validate(status(connection, hub.now()))


@router.get("/lake/tables", tags=["lake"], responses=responses(409))
def list_tables(hub: ThisHub, who: Watcher) -> list[TableOut]:
    """The tables with their columns."""
    _lake(hub)
    with hub.store.read() as connection:
        sizes = status(connection, hub.now())["tables"] if who.sites is None else {}
    return [
        TableOut(
            name=table.name,
            text=table.text,
            rows=sizes.get(table.name, {}).get("rows"),
            version=sizes.get(table.name, {}).get("version"),
            columns=[ColumnOut(name=item.name, kind=item.kind, text=item.text) for item in table.columns],
        )
        for table in TABLES.values()
    ]


@router.post(
    "/lake/query",
    tags=["lake"],
    responses={
        **responses(409),
        200: {
            "description": "the rows: JSON, or an Arrow IPC stream for `Accept: application/vnd.apache.arrow.stream`",
            "content": {"application/json": {"schema": {"type": "object"}}, ARROW: {}},
        },
    },
    response_class=Response,
)
async def query(
    request: Request, hub: ThisHub, who: Watcher, question: Question, accept: Annotated[str, Header()] = ""
) -> Response:
    """Ask the lake. Rows of other sites than the caller's are not there."""
    asked = Asked(
        sql=question.sql,
        at=question.at,
        sites=who.sites,
        rows_max=question.rows_max,
        form="arrow" if ARROW in accept else "json",
    )
    gone = threading.Event()
    work = asyncio.ensure_future(run_in_threadpool(ask, _lake(hub), asked, gone=gone))
    while not (await asyncio.wait({work}, timeout=LOOK_S))[0]:
        if await request.is_disconnected():
            gone.set()  # nobody reads the answer: its process is ended
    found = work.result()
    headers: dict[str, Any] = {
        "Edgewise-Rows": str(found.rows),
        "Edgewise-Truncated": "true" if found.truncated else "false",
        "Edgewise-Versions": ", ".join(f"{name}={version}" for name, version in sorted(found.versions.items())),
    }
    return Response(found.body, headers=headers, media_type=ARROW if asked.form == "arrow" else "application/json")


def _lake(hub: Hub) -> Lake:
    if hub.lake is None:
        raise NotValid("this hub keeps no lake; set `lake` in hub.yaml to a folder or a bucket", code="no_lake")
    return hub.lake
