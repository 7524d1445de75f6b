"""Routes for people's tokens, and for asking who one is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, Field

from edgewise.hub import people
from edgewise.hub.access import PERMITTED, Action, Person, Role
from edgewise.hub.api.auth import Administrator, ThisHub, needs
from edgewise.hub.api.models import Out
from edgewise.hub.api.problems import responses
from edgewise.hub.body import Body
from edgewise.wire._record import Name

router = APIRouter()


class TokenIn(Body):
    name: str = Field(min_length=1, max_length=100, description="the owner, whom the audit log names")
    role: Role
    sites: tuple[Name, ...] | None = Field(None, min_length=1, max_length=1000, description="all where it is left out")
    expires_at: AwareDatetime | None = Field(None, description="never where it is left out")


class TokenOut(Out):
    id: str
    name: str
    role: str
    sites: list[str] | None
    made_at: datetime
    made_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None = Field(description="to the hour")


class TokenMade(TokenOut):
    token: str = Field(description="shown here and never again")


class WhoOut(Out):
    name: str
    role: str
    sites: list[str] | None
    may: list[str]


@router.get("/me", tags=["people"], responses=responses())
def who_am_i(who: Annotated[Person, Depends(needs(Action.READ))]) -> WhoOut:
    """Whom the hub takes the caller for."""
    may = [action.value for action in Action if action in PERMITTED[who.role]]
    sites = None if who.sites is None else sorted(who.sites)
    return WhoOut(name=who.name, role=who.role, sites=sites, may=may)


@router.get("/tokens", tags=["people"], responses=responses())
def list_tokens(hub: ThisHub, who: Administrator) -> list[TokenOut]:
    """Tokens of people and machines, newest first, never their secrets."""
    return [TokenOut.model_validate(row) for row in people.list_tokens(hub.store, by=who, limits=hub.limits)]


@router.post("/tokens", tags=["people"], status_code=201, responses=responses())
def make_token(wish: TokenIn, hub: ThisHub, who: Administrator) -> TokenMade:
    """Make a token. It is shown here and never again."""
    text, row = people.make_token(
        hub.store,
        name=wish.name,
        role=wish.role,
        sites=wish.sites,
        expires_at=wish.expires_at,
        by=who,
        now=hub.now(),
        chance=hub.chance,
        limits=hub.limits,
    )
    return TokenMade(**TokenOut.model_validate(row).model_dump(), token=text)


@router.post("/tokens/{token}/revoke", tags=["people"], responses=responses(404))
def revoke_token(token: str, hub: ThisHub, who: Administrator) -> TokenOut:
    """End a token now, and the console sessions that began with it."""
    return TokenOut.model_validate(people.revoke_token(hub.store, token, by=who, now=hub.now()))
