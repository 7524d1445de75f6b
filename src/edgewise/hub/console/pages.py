"""Routes of the console. Pages are whole without scripts; htmx and uPlot only make them livelier."""

from __future__ import annotations

import mimetypes
from importlib import resources
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Form, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from edgewise.hub import labels, scope
from edgewise.hub.access import Action, Person
from edgewise.hub.api.auth import Labeller, ThisHub
from edgewise.hub.console import data
from edgewise.hub.console._render import is_part, page
from edgewise.hub.console._router import router
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
    return page(hub, who, "overview.html", lambda: data.overview(hub.store, who, use_case, hub.now()))


@router.get("/console/live")
def live(hub: ThisHub, who: Visitor, use_case: str | None = None) -> Response:
    """The part of the overview that changes, for htmx to put in place."""
    return page(hub, who, "_live.html", lambda: data.overview(hub.store, who, use_case, hub.now()))


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

    return page(hub, who, "_card.html" if is_part(request) else "labelling.html", values)


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
    if not is_part(request):
        return RedirectResponse(f"/labelling?use_case={quote(use_case)}&last={quote(sample)}", status_code=303)
    return labelling(request, hub, who, use_case=use_case, last=sample, skip=skip)


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
