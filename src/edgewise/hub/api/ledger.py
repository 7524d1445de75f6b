"""Routes that follow a thing through the ledger, and that say whether each release helped."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import Field

from edgewise.hub import helped, ledger, scope
from edgewise.hub.access import Person
from edgewise.hub.api.auth import Reader, ThisHub, Watcher
from edgewise.hub.api.models import Out
from edgewise.hub.api.problems import responses
from edgewise.hub.ledger import Entry
from edgewise.wire import Metric, SiteVerdict

router = APIRouter()


class LinkOut(Out):
    kind: str = Field(description="sample, revision, order, bundle, release; the others lead nowhere")
    id: str
    text: str
    at: datetime | None


class EntryOut(Out):
    """One thing of the ledger with its neighbours."""

    kind: str
    id: str
    use_case: str
    at: datetime
    text: str
    facts: dict[str, Any]
    made_of: list[LinkOut]
    led_to: list[LinkOut]
    more: int = Field(description="neighbours that are left out")


class HelpedOut(Out):
    word: str = Field(examples=["helped", "hurt", "no difference seen", "cannot tell"])
    text: str
    same_frames: Metric | None = Field(description="wins minus losses over both, on frames that both decided")
    audit: Metric | None = Field(description="accuracy on audit samples, new minus old, on other days")
    overrides: Metric | None = Field(description="share of decisions not overridden, new minus old, over devices")


class RoundOut(Out):
    """One release beside the one that it replaced."""

    release: str
    replaced: str
    at: datetime
    taken_back: str | None
    helped: HelpedOut
    gate: list[SiteVerdict] = Field(description="on the frozen evaluation share, before it went out")


@router.get("/ledger/{name}", tags=["ledger"], responses=responses(404))
def entry(name: str, hub: ThisHub, who: Watcher) -> EntryOut:
    """A sample, revision, order, bundle or release: what it was made of, and what was made of it."""
    with hub.store.read() as connection:
        found = ledger.find(connection, name)
        check(connection, who, found)
    return EntryOut.model_validate(found)


@router.get("/usecases/{name}/rounds", tags=["ledger"], responses=responses(404))
def rounds(name: str, hub: ThisHub, who: Reader) -> list[RoundOut]:
    """Whether each release helped, beside the one that it replaced, newest first."""
    with hub.store.read() as connection:
        scope.check_whole(connection, who, name, f"the rounds of {name}")
        found = helped.of_use_case(connection, name)
    return [RoundOut.model_validate(one) for one in found]


def check(connection: sa.Connection, who: Person, found: Entry) -> None:
    """Raises Refused where this person may not see the entry: a sample of another site, or what tells of all sites."""
    if found.site is not None:
        who.check_sites([found.site], f"sample {found.id}")
    elif found.kind == "release":
        scope.check_some(connection, who, found.use_case, f"release {found.id}")
    else:
        scope.check_whole(connection, who, found.use_case or None, f"{found.kind} {found.id[:12]}")
