"""Routes for machines and readers: health, metrics, version, the OpenAPI document and its page."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse

from edgewise.hub.api.auth import ThisHub
from edgewise.hub.api.docs import page
from edgewise.hub.api.models import Health, Version
from edgewise.hub.api.openapi import device_document
from edgewise.hub.folder import software_version
from edgewise.hub.store import meta
from edgewise.wire import EdgewiseError

router = APIRouter()


@router.get("/livez", tags=["system"])
def livez() -> Health:
    """The process runs."""
    return Health(status="ok")


@router.get("/readyz", tags=["system"], responses={503: {"model": Health, "description": "not ready"}})
def readyz(hub: ThisHub, response: Response) -> Health:
    """The hub can do its work: the store answers, and a release key is known."""
    checks: dict[str, str] = {}
    try:
        with hub.store.read() as connection:
            meta.get(connection, "hub_epoch")
        checks["store"] = "ok"
        hub.store.blobs.has("0" * 64)
        checks["blobs"] = "ok"
    except EdgewiseError as error:
        checks["store" if "store" not in checks else "blobs"] = str(error)
    ready = all(text == "ok" for text in checks.values())
    response.status_code = 200 if ready else 503
    return Health(status="ok" if ready else "not ready", checks=checks)


@router.get("/metrics", tags=["system"], response_class=Response)
def metrics(request: Request) -> Response:
    """Prometheus text."""
    text = request.app.state.metrics.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/version", tags=["system"])
def version() -> Version:
    """The version that runs."""
    return Version(version=software_version())


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    return HTMLResponse(page(request.app.openapi()))


@router.get("/openapi-devices.json", include_in_schema=False)
def for_devices() -> dict[str, Any]:
    """The document of what devices ask, at their own address."""
    return device_document(software_version())
