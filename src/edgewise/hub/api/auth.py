"""Who calls, and whether they may: bearer tokens with a role, or the console's cookie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from edgewise.hub._hub import Hub
from edgewise.hub.tokens import Role
from edgewise.wire import NotTrusted

COOKIE = "edgewise_token"
SAFE = ("GET", "HEAD", "OPTIONS")
BEARER = HTTPBearer(auto_error=False, description="a token of the hub's folder tokens/, such as admin.token")


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Somebody with a token."""

    role: Role


def this_hub(request: Request) -> Hub:
    hub = request.app.state.hub
    assert isinstance(hub, Hub)
    return hub


def caller(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None,
) -> Caller:
    """Whoever sends this request.

    Raises:
        NotTrusted: no known token, or a form of another site sent it with the console's cookie.
    """
    hub = this_hub(request)
    if bearer is not None:
        return Caller(role=hub.tokens.role(bearer.credentials))
    cookie = request.cookies.get(COOKIE)
    if cookie is None:
        raise NotTrusted(
            "this needs an API token: send `Authorization: Bearer TOKEN` with one of the hub's tokens/<role>.token",
            code="no_token",
        )
    role = hub.tokens.role(cookie)
    if request.method not in SAFE:
        check_same_origin(request)
    return Caller(role=role)


def check_same_origin(request: Request) -> None:
    """Refuse a change that another site's page sends with the cookie of this one.

    Raises:
        NotTrusted: the browser names another origin, or none.
    """
    origin = request.headers.get("origin")
    if origin is None or urlsplit(origin).netloc != request.headers.get("host"):
        raise NotTrusted(
            f"a change with the console's cookie must come from the console; it came from {origin or 'nowhere'}",
            code="other_origin",
        )


def needs(*roles: Role) -> Callable[[Caller], Caller]:
    """A dependency that lets only these roles through; with none named, any token."""

    def check(who: Annotated[Caller, Depends(caller)]) -> Caller:
        if roles and who.role not in roles:
            raise NotTrusted(
                f"a token of role {who.role} may not do this; it needs role {' or '.join(roles)}", code="role_wrong"
            )
        return who

    return check


ThisHub = Annotated[Hub, Depends(this_hub)]
Anyone = Annotated[Caller, Depends(needs())]
Admin = Annotated[Caller, Depends(needs("admin"))]
Worker = Annotated[Caller, Depends(needs("admin", "worker"))]
Signer = Annotated[Caller, Depends(needs("admin", "signer"))]
