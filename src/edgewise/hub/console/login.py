"""Signing in and out: with a token, or by the OIDC issuer; afterwards a session that lives in the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Form, Request, Response
from starlette.responses import RedirectResponse

from edgewise.hub import people
from edgewise.hub._hub import Hub
from edgewise.hub.access import Action, Person, Refused
from edgewise.hub.api.auth import (
    COOKIE,
    Needs,
    SignInNeeded,
    ThisHub,
    address_of,
    by_bearer,
    by_cookie,
    check_same_origin,
    failed,
    needs,
    note_refused,
    this_hub,
)
from edgewise.hub.attempts import TooMany
from edgewise.hub.console._render import login_page, render
from edgewise.hub.console._router import router
from edgewise.wire import EdgewiseError, NotNow, NotTrusted

LOGIN_COOKIE = "edgewise_login"
CALLBACK = "/login/oidc/callback"


@dataclass(frozen=True)
class Visits(Needs):
    """`Needs` for pages: who may not see one stands before the door, not before a problem document."""

    def __call__(self, request: Request) -> Person:  # type: ignore[override]
        hub, cookie = this_hub(request), request.cookies.get(COOKIE)
        if cookie is None:
            raise SignInNeeded("", code="no_token")
        try:
            person = by_cookie(hub, cookie, address_of(request.client))
            person.check(*self.actions)
        except Refused:
            raise
        except NotTrusted as error:
            raise SignInNeeded(str(error), code=error.code) from error
        return person


Visitor = Annotated[Person, Depends(Visits((Action.WATCH,)))]


@router.get("/login")
def login(hub: ThisHub) -> Response:
    """The login page."""
    return login_page(hub, status=200)


@router.post("/login")
def login_with_token(request: Request, hub: ThisHub, token: Annotated[str, Form(max_length=20_000)]) -> Response:
    """Sign in with a token from the form."""
    check_same_origin(request)
    return sign_in(request, hub, token)


@router.get("/login/oidc")
def leave_for_issuer(request: Request, hub: ThisHub) -> Response:
    """Send the browser to the issuer."""
    if hub.oidc is None:
        return login_page(hub, text="This hub has no OIDC issuer; sign in with a token.", status=404)
    base = hub.oidc.settings.public_url or str(request.base_url)
    try:
        hub.attempts.check(address_of(request.client), hub.now())
        address, state = hub.oidc.begin(hub.store, base.rstrip("/") + CALLBACK, now=hub.now(), chance=hub.chance)
    except EdgewiseError as error:
        return _sorry(hub, error)
    response = RedirectResponse(address, status_code=303, headers={"Cache-Control": "no-store"})
    # Lax, because the browser comes back from another site; the state in it is good once, here, for minutes.
    secure, most = base.startswith("https:"), int(hub.limits.login_s)
    response.set_cookie(
        LOGIN_COOKIE, state, max_age=most, httponly=True, samesite="lax", secure=secure, path="/login/oidc"
    )
    return response


@router.get(CALLBACK)
def back_from_issuer(
    request: Request, hub: ThisHub, code: str = "", state: str = "", iss: str | None = None, error: str = ""
) -> Response:
    """Take the issuer's answer, once, from the browser that left with its state."""
    address = address_of(request.client)
    try:
        hub.attempts.check(address, hub.now())
        if hub.oidc is None or not state or request.cookies.get(LOGIN_COOKIE) != state:
            raise NotTrusted("this login did not begin in this browser; start again", code="login_unknown")
        if error or not code:
            raise NotTrusted(f"the issuer let nobody in: {error[:200] or 'no code'}", code="login_refused")
        person = hub.oidc.finish(hub.store, state=state, code=code, issuer=iss, now=hub.now())
    except NotTrusted as trouble:
        failed(hub, address, trouble)
        return _sorry(hub, trouble)
    except EdgewiseError as trouble:
        return _sorry(hub, trouble)
    response = _open(request, hub, person, how="oidc")
    response.delete_cookie(LOGIN_COOKIE, path="/login/oidc")
    return response


@router.post("/logout")
def logout(request: Request, hub: ThisHub, who: Annotated[Person, Depends(needs(Action.READ))]) -> Response:
    """End the session, here and in the browser."""
    people.close_session(hub.store, request.cookies.get(COOKIE, ""), who, now=hub.now())
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(COOKIE)
    return response


def sign_in(request: Request, hub: Hub, token: str) -> Response:
    """Open a session for whoever has this token."""
    try:
        person = by_bearer(hub, token.strip(), address_of(request.client))
    except EdgewiseError as error:
        return _sorry(hub, error)
    return _open(request, hub, person, how="token")


def _open(request: Request, hub: Hub, person: Person, *, how: str) -> Response:
    try:
        text = people.open_session(hub.store, person, how=how, now=hub.now(), chance=hub.chance, limits=hub.limits)
    except Refused as error:
        note_refused(hub, error, asked="POST /login", client=request.client)
        return _sorry(hub, error)
    except EdgewiseError as error:
        return _sorry(hub, error)
    # A page that goes on by itself, not a redirect: a browser that came from elsewhere would not send the new
    # SameSite=Strict cookie along a redirect, and the person would stand before a closed door.
    response = render("signed_in.html", {})
    secure, most = request.url.scheme == "https", int(hub.limits.session_s)
    response.set_cookie(COOKIE, text, max_age=most, httponly=True, samesite="strict", secure=secure, path="/")
    return response


def _sorry(hub: Hub, error: EdgewiseError) -> Response:
    if isinstance(error, TooMany):
        response = login_page(hub, title="Not now", text=str(error), status=429)
        response.headers["Retry-After"] = str(error.retry_s)
        return response
    status = 503 if isinstance(error, NotNow) else 403 if isinstance(error, Refused) else 401
    return login_page(hub, title="Not signed in", text=str(error), status=status)
