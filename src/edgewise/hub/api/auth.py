"""Who calls, and whether they may: a bearer token, or the console's session; every route names its action here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from edgewise.hub import people
from edgewise.hub._hub import Hub
from edgewise.hub.access import Action, Person, Refused
from edgewise.hub.attempts import network
from edgewise.wire import EdgewiseError, NotTrusted

LOG = logging.getLogger("edgewise.hub")
COOKIE = "edgewise_session"
SAFE = ("GET", "HEAD", "OPTIONS")
BEARER = HTTPBearer(
    auto_error=False,
    description="a token of `edgewise hub token create` or of the hub's folder tokens/; or a JWT of its OIDC issuer",
)


class SignInNeeded(NotTrusted):
    """A page was asked for by somebody who is not signed in; the answer is the login page."""


def this_hub(request: Request) -> Hub:
    hub = request.app.state.hub
    assert isinstance(hub, Hub)
    return hub


def address_of(client: tuple[str, int] | None) -> str:
    """The part of the caller's address by which failures are counted."""
    return "unknown" if client is None else network(client[0])


def by_bearer(hub: Hub, text: str, address: str) -> Person:
    """Whoever shows this token: of a file, of the store, or a JWT of the OIDC issuer.

    Raises:
        NotTrusted: nobody has it. NotNow: too many wrong ones came from this address, or the issuer does not answer.
    """
    now = hub.now()
    hub.attempts.check(address, now)
    try:
        found = hub.tokens.person(text)
        if found is not None:
            return found
        if hub.oidc is not None and text.count(".") == 2:
            return hub.oidc.person(text, now)
        return people.by_token(hub.store, text, now=now, limits=hub.limits)
    except NotTrusted as error:
        failed(hub, address, error)
        raise


def by_cookie(hub: Hub, text: str, address: str) -> Person:
    """Whoever has this console session. Raises as `by_bearer`."""
    now = hub.now()
    hub.attempts.check(address, now)
    try:
        return people.by_session(hub.store, text, now=now)
    except NotTrusted as error:
        # A page that is left open goes on asking with a session that has ended: that is no guess.
        if error.code != "session_ended":
            failed(hub, address, error)
        raise


def failed(hub: Hub, address: str, error: NotTrusted) -> None:
    """Count a wrong token or login of this address, and tell the audit log."""
    now = hub.now()
    count, most = hub.attempts.failed(address, now), hub.attempts.failures_max
    people.note_failed(hub.store, address=address, code=error.code, count=count, count_max=most, now=now)


def caller(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None,
) -> Person:
    """Whoever sends this request.

    Raises:
        NotTrusted: no known token, or a form of another site sent it with the console's cookie.
    """
    hub, address = this_hub(request), address_of(request.client)
    if bearer is not None:
        return by_bearer(hub, bearer.credentials, address)
    cookie = request.cookies.get(COOKIE)
    if cookie is None:
        raise NotTrusted(
            "this needs an API token: send `Authorization: Bearer TOKEN`; `edgewise hub token create` makes one",
            code="no_token",
        )
    person = by_cookie(hub, cookie, address)
    if request.method not in SAFE:
        check_same_origin(request)
    return person


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


def note_refused(hub: Hub, error: Refused, *, asked: str, client: tuple[str, int] | None) -> None:
    """Tell the audit log; where that is impossible now, the refusal stands all the same."""
    now = hub.now()
    count = hub.refusals.failed(error.person.name, now)
    most = hub.refusals.failures_max
    try:
        people.note_refused(
            hub.store, error, asked=asked, address=address_of(client), count=count, count_max=most, now=now
        )
    except EdgewiseError as trouble:
        LOG.warning("a refusal could not be written to the audit log (%s): %s", trouble, error)


@dataclass(frozen=True)
class Needs:
    """A dependency that lets people through whose role permits one of these actions."""

    actions: tuple[Action, ...]

    def __call__(self, who: Annotated[Person, Depends(caller)]) -> Person:
        who.check(*self.actions)
        return who


def needs(*actions: Action) -> Needs:
    return Needs(actions)


ThisHub = Annotated[Hub, Depends(this_hub)]
Reader = Annotated[Person, Depends(needs(Action.READ))]
Watcher = Annotated[Person, Depends(needs(Action.WATCH))]
Labeller = Annotated[Person, Depends(needs(Action.LABEL))]
Operator = Annotated[Person, Depends(needs(Action.OPERATE))]
Approver = Annotated[Person, Depends(needs(Action.APPROVE))]
Auditor = Annotated[Person, Depends(needs(Action.AUDIT))]
Administrator = Annotated[Person, Depends(needs(Action.ADMINISTER))]
Trainer = Annotated[Person, Depends(needs(Action.TRAIN))]
Signer = Annotated[Person, Depends(needs(Action.SIGN))]
OrderReader = Annotated[Person, Depends(needs(Action.TRAIN, Action.WATCH))]
