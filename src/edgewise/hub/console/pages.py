"""Routes of the console. Pages are whole without scripts; htmx and uPlot only make them livelier."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Form, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse, RedirectResponse

from edgewise.hub import labels, rollouts
from edgewise.hub._hub import Hub
from edgewise.hub.api.auth import COOKIE, Admin, ThisHub
from edgewise.hub.console import data, words
from edgewise.hub.console._router import router
from edgewise.hub.rollout import Event
from edgewise.wire import EdgewiseError, NotTrusted, NotValid

STATIC = resources.files("edgewise.hub.console") / "static"
STATIC_FILES = (
    "app.css",
    "app.js",
    "vendor/htmx-4.0.1.min.js",
    "vendor/uplot-1.6.32.iife.min.js",
    "vendor/uplot-1.6.32.min.css",
)
HEADERS = {
    # Everything comes from the hub itself, and no page of another site can show or script ours.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
COOKIE_S = 30 * 86_400
WHO = "console"
SKIPPED_MAX = 50


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("edgewise.hub.console", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(words.FILTERS)
    return made


TEMPLATES = _environment()


@router.get("/")
def overview(request: Request, hub: ThisHub, token: str | None = None, use_case: str | None = None) -> Response:
    """The loop at a glance; with ``?token=`` it signs a person in."""
    if token is not None:
        return _sign_in(request, hub, token)
    return _page(request, hub, "overview.html", lambda: data.overview(hub.store, use_case, hub.now()))


@router.get("/console/live")
def live(request: Request, hub: ThisHub, use_case: str | None = None) -> Response:
    """The part of the overview that changes, for htmx to put in place."""
    return _page(request, hub, "_live.html", lambda: data.overview(hub.store, use_case, hub.now()))


@router.get("/labelling")
def labelling(
    request: Request,
    hub: ThisHub,
    use_case: str | None = None,
    sample: str | None = None,
    last: str = "",
    skip: str = "",
) -> Response:
    """The sample that most wants a label, or the one that is named."""
    skipped = tuple(item for item in skip.split(",") if item)[-SKIPPED_MAX:]

    def values() -> dict[str, Any]:
        return data.labelling(hub.store, use_case, sample=sample, last=last, skipped=skipped, now=hub.now())

    return _page(request, hub, "_card.html" if _partial(request) else "labelling.html", values)


@router.post("/labelling")
def set_label(
    request: Request,
    hub: ThisHub,
    _who: Admin,
    use_case: Annotated[str, Form()],
    sample: Annotated[str, Form()],
    label: Annotated[str, Form()] = "",
    new_label: Annotated[str, Form()] = "",
    skip: Annotated[str, Form()] = "",
) -> Response:
    """Label one sample and show the next."""
    labels.set_labels(hub.store, [(sample, new_label.strip() or label)], who=WHO, now=hub.now())
    if not _partial(request):
        return RedirectResponse(f"/labelling?use_case={quote(use_case)}&last={quote(sample)}", status_code=303)
    return labelling(request, hub, use_case=use_case, last=sample, skip=skip)


@router.get("/releases/{release}")
def release(request: Request, hub: ThisHub, release: str) -> Response:
    """One release: what it is, what the gate said, where it runs."""
    return _page(request, hub, "release.html", lambda: data.release(hub.store, release))


@router.get("/rollouts/{rollout}")
def rollout(request: Request, hub: ThisHub, rollout: str) -> Response:
    """One rollout: waves, evidence, and what a person can do."""
    return _page(request, hub, "rollout.html", lambda: data.rollout(hub.store, rollout, hub.now()))


@router.post("/rollouts/{rollout}/{act}")
def operate(hub: ThisHub, who: Admin, rollout: str, act: str, reason: Annotated[str, Form()] = "") -> Response:
    """Pause, resume or revert, and back to the page."""
    events = {"pause": Event.PAUSE, "resume": Event.RESUME, "revert": Event.REVERT}
    if act not in events:
        raise NotValid(
            f"{act[:40]!r} cannot be done to a rollout; it can be paused, resumed or reverted", code="act_unknown"
        )
    if act == "revert" and not reason.strip():
        raise NotValid("a revert needs its reason; go back and write one", code="reason_missing")
    why = reason.strip() or f"{act} in the console"
    rollouts.operate(hub.store, rollout, events[act], who=who.role, reason=why, now=hub.now())
    return RedirectResponse(f"/rollouts/{quote(rollout)}", status_code=303)


@router.post("/sign-out")
def sign_out(_who: Admin) -> Response:
    """Forget the cookie."""
    response = RedirectResponse("/", status_code=303)
    response.delete_cookie(COOKIE)
    return response


@router.get("/static/{path:path}")
def static(path: str) -> Response:
    """A file that the pages need; the list is closed, so no path leads elsewhere."""
    if path not in STATIC_FILES:
        return HTMLResponse("there is no such file", status_code=404)
    body = STATIC.joinpath(*path.split("/")).read_bytes()
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    caching = "public, max-age=31536000, immutable" if path.startswith("vendor/") else "no-cache"
    return Response(body, media_type=kind, headers={"Cache-Control": caching, "X-Content-Type-Options": "nosniff"})


def _sign_in(request: Request, hub: Hub, token: str) -> Response:
    try:
        hub.tokens.role(token)
    except NotTrusted as error:
        return _render("message.html", {"title": "Not signed in", "text": str(error), "sign_in": True}, status=401)
    # A page that goes on by itself, not a redirect: a browser that came from elsewhere would not send the new
    # SameSite=Strict cookie along a redirect, and the person would stand before a closed door.
    response = _render("signed_in.html", {})
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, token, max_age=COOKIE_S, httponly=True, samesite="strict", secure=secure, path="/")
    return response


def _page(request: Request, hub: Hub, template: str, values: Any) -> Response:
    """A page for whoever is signed in as admin; else the door."""
    try:
        role = hub.tokens.role(request.cookies[COOKIE]) if COOKIE in request.cookies else None
    except NotTrusted:
        role = None
    if role != "admin":
        text = "The console needs the administrator's token." if role else ""
        return _render("message.html", {"title": "Sign in", "text": text, "sign_in": True}, status=401)
    try:
        found: Mapping[str, Any] = values()
    except EdgewiseError as error:
        gone = error.code.endswith("_unknown")
        return _render(
            "message.html",
            {"title": "Not found" if gone else "Not now", "text": str(error), "sign_in": False},
            status=404 if gone else 503,
        )
    return _render(template, {**found, "now": hub.now()})


def _render(template: str, values: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
    frame = {"active": None, "names": (), "usecase": None}
    html = TEMPLATES.get_template(template).render(**{**frame, **values})
    return HTMLResponse(html, status_code=status, headers=HEADERS)


def _partial(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"
