"""Routes of the console. Pages are whole without scripts; htmx and uPlot only make them livelier."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Form, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from edgewise.hub import labels, scope
from edgewise.hub._hub import Hub
from edgewise.hub.access import Action, Person, Refused
from edgewise.hub.api.auth import Labeller, Operator, ThisHub
from edgewise.hub.api.rollouts import operate
from edgewise.hub.console import data
from edgewise.hub.console._render import render
from edgewise.hub.console._router import router
from edgewise.hub.console.login import Visitor, Visits, sign_in
from edgewise.hub.rollout import Event
from edgewise.wire import EdgewiseError, NotValid

STATIC = resources.files("edgewise.hub.console") / "static"
STATIC_FILES = (
    "app.css",
    "app.js",
    "vendor/htmx-4.0.1.min.js",
    "vendor/uplot-1.6.32.iife.min.js",
    "vendor/uplot-1.6.32.min.css",
)
SKIPPED_MAX = 50


class Enters(Visits):
    """`Visits` for the one page where a link with a token signs a person in."""

    def __call__(self, request: Request) -> Person | Response:  # type: ignore[override]
        token = request.query_params.get("token")
        if token is not None:
            return sign_in(request, request.app.state.hub, token)
        return super().__call__(request)


Entrant = Annotated[Any, Depends(Enters((Action.WATCH,)))]


@router.get("/")
def overview(hub: ThisHub, who: Entrant, use_case: str | None = None) -> Response:
    """The loop at a glance; with ``?token=`` it signs a person in."""
    if isinstance(who, Response):
        return who
    return _page(hub, who, "overview.html", lambda: data.overview(hub.store, who, use_case, hub.now()))


@router.get("/console/live")
def live(hub: ThisHub, who: Visitor, use_case: str | None = None) -> Response:
    """The part of the overview that changes, for htmx to put in place."""
    return _page(hub, who, "_live.html", lambda: data.overview(hub.store, who, use_case, hub.now()))


@router.get("/labelling")
def labelling(
    request: Request,
    hub: ThisHub,
    who: Visitor,
    use_case: str | None = None,
    sample: str | None = None,
    last: str = "",
    skip: str = "",
) -> Response:
    """The sample that most wants a label, or the one that is named."""
    skipped = tuple(item for item in skip.split(",") if item)[-SKIPPED_MAX:]

    def values() -> dict[str, Any]:
        return data.labelling(hub.store, who, use_case, sample=sample, last=last, skipped=skipped, now=hub.now())

    return _page(hub, who, "_card.html" if _partial(request) else "labelling.html", values)


@router.post("/labelling")
def set_label(
    request: Request,
    hub: ThisHub,
    who: Labeller,
    use_case: Annotated[str, Form()],
    sample: Annotated[str, Form()],
    label: Annotated[str, Form()] = "",
    new_label: Annotated[str, Form()] = "",
    skip: Annotated[str, Form()] = "",
) -> Response:
    """Label one sample and show the next."""
    with hub.store.read() as connection:
        scope.check_samples(connection, who, [sample])
    labels.set_labels(hub.store, [(sample, new_label.strip() or label)], who=who.name, now=hub.now())
    if not _partial(request):
        return RedirectResponse(f"/labelling?use_case={quote(use_case)}&last={quote(sample)}", status_code=303)
    return labelling(request, hub, who, use_case=use_case, last=sample, skip=skip)


@router.get("/releases/{release}")
def release(hub: ThisHub, who: Visitor, release: str) -> Response:
    """One release: what it is, what the gate said, where it runs."""
    return _page(hub, who, "release.html", lambda: data.release(hub.store, who, release))


@router.get("/rollouts/{rollout}")
def rollout(hub: ThisHub, who: Visitor, rollout: str) -> Response:
    """One rollout: waves, evidence, and what a person can do."""
    return _page(hub, who, "rollout.html", lambda: data.rollout(hub.store, who, rollout, hub.now()))


@router.post("/rollouts/{rollout}/{act}")
def operate_rollout(
    hub: ThisHub, who: Operator, rollout: str, act: str, reason: Annotated[str, Form()] = ""
) -> Response:
    """Approve, deny, pause, resume, revert or abort, and back to the page."""
    acts = (Event.APPROVE, Event.DENY, Event.PAUSE, Event.RESUME, Event.REVERT, Event.ABORT)
    events = {event.value: event for event in acts}
    if act not in events:
        known = ", ".join(events)
        raise NotValid(f"{act[:40]!r} cannot be done to a rollout; it knows {known}", code="act_unknown")
    if act == "revert" and not reason.strip():
        raise NotValid("a revert needs its reason; go back and write one", code="reason_missing")
    why = reason.strip() or f"{act} in the console"
    operate(hub, rollout, events[act], who, why)
    return RedirectResponse(f"/rollouts/{quote(rollout)}", status_code=303)


@router.get("/static/{path:path}")
def static(path: str) -> Response:
    """A file that the pages need; the list is closed, so no path leads elsewhere."""
    if path not in STATIC_FILES:
        return HTMLResponse("there is no such file", status_code=404)
    body = STATIC.joinpath(*path.split("/")).read_bytes()
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    caching = "public, max-age=31536000, immutable" if path.startswith("vendor/") else "no-cache"
    return Response(body, media_type=kind, headers={"Cache-Control": caching, "X-Content-Type-Options": "nosniff"})


def _page(hub: Hub, who: Person, template: str, values: Callable[[], Mapping[str, Any]]) -> Response:
    """A page of what this person may see."""
    try:
        found = values()
    except Refused:
        raise
    except EdgewiseError as error:
        gone = error.code.endswith("_unknown")
        told = {"title": "Not found" if gone else "Not now", "text": str(error)}
        return render("message.html", told, who=who, status=404 if gone else 503)
    return render(template, {**found, "now": hub.now()}, who=who)


def _partial(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"
