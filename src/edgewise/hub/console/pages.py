"""Routes of the console. Pages are whole without scripts; htmx and uPlot only make them livelier."""

from __future__ import annotations

import mimetypes
from importlib import resources
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Depends, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from edgewise.hub.access import Action, Person
from edgewise.hub.api.auth import ThisHub
from edgewise.hub.console import cases, data
from edgewise.hub.console._render import page, render
from edgewise.hub.console._router import router
from edgewise.hub.console.label_data import names
from edgewise.hub.console.login import Visitor, Visits, sign_in

STATIC = resources.files("edgewise.hub.console") / "static"
STATIC_FILES = (
    "app.css",
    "app.js",
    "label.js",
    "vendor/htmx-4.0.1.min.js",
    "vendor/uplot-1.6.32.iife.min.js",
    "vendor/uplot-1.6.32.min.css",
)


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
    return page(hub, who, "overview.html", lambda: data.overview(hub.store, who, use_case, hub.now()))


@router.get("/console/live")
def live(hub: ThisHub, who: Visitor, use_case: str | None = None) -> Response:
    """The part of the overview that changes, for htmx to put in place."""
    return page(hub, who, "_live.html", lambda: data.overview(hub.store, who, use_case, hub.now()))


@router.get("/labelling")
def labelling(request: Request, hub: ThisHub, who: Visitor, use_case: str | None = None) -> Response:
    """To where the use case is labelled, the first one where none is named."""
    with hub.store.read() as connection:
        name = use_case or next(iter(names(connection, who)), None)
    if name is None:
        text = "There is no use case yet, so there is nothing to label."
        return render("message.html", {"title": "Labelling", "text": text, "back": "/"}, who=who)
    query = urlencode([(key, value) for key, value in request.query_params.multi_items() if key != "use_case"])
    return RedirectResponse(f"/label/{quote(name, safe='')}{'?' if query else ''}{query}", status_code=303)


@router.get("/labels")
def labels_page(hub: ThisHub, who: Visitor, use_case: str | None = None) -> Response:
    """To how labelling of the use case goes, of the first one where none is named."""
    with hub.store.read() as connection:
        name = use_case or next(iter(names(connection, who)), None)
    if name is None:
        told = {"title": "Labels", "text": cases.EMPTY, "back": "/", "active": "labels"}
        return render("message.html", told, who=who)
    return RedirectResponse(f"/label/{quote(name, safe='')}/progress", status_code=303)


@router.get("/releases/{release}")
def release(hub: ThisHub, who: Visitor, release: str) -> Response:
    """One release: what it is, what the gate said, where it runs."""
    return page(hub, who, "release.html", lambda: data.release(hub.store, who, release))


@router.get("/static/{path:path}")
def static(path: str) -> Response:
    """A file that the pages need; the list is closed, so no path leads elsewhere."""
    if path not in STATIC_FILES:
        return HTMLResponse("there is no such file", status_code=404)
    body = STATIC.joinpath(*path.split("/")).read_bytes()
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    caching = "public, max-age=31536000, immutable" if path.startswith("vendor/") else "no-cache"
    return Response(body, media_type=kind, headers={"Cache-Control": caching, "X-Content-Type-Options": "nosniff"})
