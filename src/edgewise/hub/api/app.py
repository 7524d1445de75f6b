"""The hub's one web application."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgewise.hub._hub import Hub
from edgewise.hub.access import Refused
from edgewise.hub.api import (
    courier,
    device,
    drift,
    erasures,
    est,
    field,
    gate,
    history,
    labelling,
    lake,
    ledger,
    openapi,
    orders,
    overview,
    people,
    previews,
    problems,
    readings,
    revisions,
    rollouts,
    samples,
    standing,
    system,
    tuf,
    uploads,
    usecases,
    watch,
)
from edgewise.hub.api.auth import SignInNeeded, note_refused
from edgewise.hub.api.metrics import Metrics
from edgewise.hub.console import router as console
from edgewise.hub.console._render import login_page, render
from edgewise.hub.console.watching import Watchers
from edgewise.hub.folder import software_version
from edgewise.wire.trace import HEADER, read_trace, trace_of, tracing

PREFIX = "/api/v1"
LOG = logging.getLogger("edgewise.hub.request")
CONTACT = "/contact"  # too many for a line each; `door` has one for those that change something


def create_app(hub: Hub) -> FastAPI:
    """The application for this hub: device routes, people's routes, console, health. It starts nothing by itself."""
    app = FastAPI(
        title=openapi.TITLE,
        version=software_version(),
        docs_url=None,  # the framework's page loads its assets from a CDN; ours is at /docs
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.hub = hub
    app.state.metrics = Metrics(hub)
    app.state.watchers = Watchers(hub.limits)
    problems.install(app)
    # Raw routes first: they are asked most, and "/bundles/{digest}/manifest" must not meet another pattern.
    app.router.routes.extend(device.shared_routes(hub, prefix=PREFIX, for_devices=False))
    app.router.routes.extend(tuf.routes(hub, prefix=PREFIX, for_devices=False))
    app.router.routes.extend(courier.routes(hub, prefix=PREFIX))
    for module in (usecases, standing, courier, erasures, samples, orders, tuf, gate, rollouts, history, overview):
        app.include_router(module.router, prefix=PREFIX)
    for module in (readings, people, previews, ledger, field, drift, revisions, labelling, watch, lake):
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(system.router)
    app.include_router(console)

    async def at_the_door(_request: Request, error: Exception) -> Response:
        return login_page(hub, text=str(error))

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        path = request.url.path
        await run_in_threadpool(note_refused, hub, error, asked=f"{request.method} {path}", client=request.client)
        if path.startswith(PREFIX):
            return problems.answer_to(error)
        return render(
            "message.html", {"title": "Not allowed", "text": str(error), "back": "/"}, who=error.person, status=403
        )

    app.add_exception_handler(SignInNeeded, at_the_door)
    app.add_exception_handler(Refused, refused)
    app.add_middleware(Counted, metrics=app.state.metrics)

    def document() -> dict[str, Any]:
        return openapi.document(app, prefix=PREFIX)

    app.openapi = document  # type: ignore[method-assign]
    return app


def create_device_app(hub: Hub, metrics: Metrics | None = None) -> ASGIApp:
    """What devices meet, and nothing else: enrolment, contact, and what they download.

    Args:
        metrics: of the people's application, which shows them.
    """
    routes = [
        *device.device_routes(hub, prefix=PREFIX),
        device.route(PREFIX + "/blobs/{digest}", uploads.UploadRoute(hub), "PATCH"),
        *device.shared_routes(hub, prefix=PREFIX, for_devices=True),
        *tuf.routes(hub, prefix=PREFIX, for_devices=True),
        *est.routes(hub),
    ]

    async def problem(_request: Request, error: Exception) -> Response:
        return problems.answer_to(error)

    app = Starlette(routes=routes, exception_handlers={HTTPException: problem, Exception: problem})
    return Counted(Direct(app, routes), metrics=metrics or Metrics(hub))


class Direct:
    """Calls the application of a path without variable parts at once; the rest goes through the router.

    A fleet asks for one path above all, and routing costs as much as its answer from memory.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app = app
        self._routes = {
            (method, one.path): one for one in routes if "{" not in one.path for method in one.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope.get("method", ""), scope.get("path", "")))
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"], scope["path_params"] = route, {}
        await route.app(scope, receive, send)


class Counted:
    """Counts every answer by the pattern of its route."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._name, self._number = metrics.name, itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500
        parent = read_trace(Headers(scope=scope).get(HEADER))
        # Without one, such as from an older device, the hub begins one of its own.
        number = str(next(self._number))
        trace = parent.child(self._name, number) if parent is not None else trace_of(self._name, number)

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with tracing(trace):
                await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", "other").removeprefix(PREFIX)
            seconds = time.perf_counter() - started
            self._metrics.seen(route, status, seconds)
            with tracing(trace):
                note_request(scope["method"], route, status, seconds)
            if self._metrics.telemetry is not None:
                told = {
                    "http.request.method": scope["method"],
                    "http.route": route,
                    "http.response.status_code": status,
                }
                self._metrics.telemetry.request(
                    f"{scope['method']} {route}", trace, parent, seconds=seconds, ended_ns=time.time_ns(), told=told
                )


def note_request(method: str, route: str, status: int, seconds: float) -> None:
    """A line for what changes something or fails; the rest only where somebody wants to see everything."""
    quiet = status < 400 and (method in ("GET", "HEAD") or route == CONTACT or status == 204)  # 204: nothing to do
    level = logging.DEBUG if quiet else logging.WARNING if status >= 500 else logging.INFO
    if LOG.isEnabledFor(level):
        told = {"method": method, "route": route, "status": status, "seconds": round(seconds, 6)}
        LOG.log(level, "%s %s: %s", method, route, status, extra={"told": told})
