"""The OpenAPI document: what FastAPI finds, and the raw device routes, which it cannot see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from edgewise.hub.api.problems import Problem, responses
from edgewise.hub.enrol import Enrolment
from edgewise.trust import SIGNATURE_HEADER
from edgewise.wire import MEDIA_TYPE, Envelope, Manifest, Receipt

TITLE = "edgewise hub"
TEXT = (
    "People, workers and signers show a bearer token; a device signs each request with its key (scheme `device`). "
    "Every error is an RFC 9457 problem document with a stable `code`."
)
DIGEST = {"name": "digest", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}
PATH = {
    "name": "path",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": "metadata/timestamp.json",
}
BOTH: list[dict[str, Any]] = [{"device": []}, {"HTTPBearer": []}]
BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def document(app: FastAPI, *, prefix: str) -> dict[str, Any]:
    """The whole document of this app; made once and kept."""
    if app.openapi_schema is None:
        whole = get_openapi(title=TITLE, version=app.version, description=TEXT, routes=app.routes)
        components = whole.setdefault("components", {})
        for record in (Problem, Enrolment, Receipt, Envelope, Manifest):
            schema = record.model_json_schema(ref_template="#/components/schemas/{model}")
            for name, inner in schema.pop("$defs", {}).items():
                components["schemas"].setdefault(name, inner)
            components["schemas"].setdefault(record.__name__, schema)
        components.setdefault("securitySchemes", {})["device"] = {
            "type": "apiKey",
            "in": "header",
            "name": SIGNATURE_HEADER,
            "description": "device;time;signature over method, path, body and time with the device's key",
        }
        for path, item in _device_paths().items():
            whole["paths"].setdefault(prefix + path, {}).update(item)
        app.openapi_schema = whole
    return app.openapi_schema


def _device_paths() -> dict[str, dict[str, Any]]:
    upload = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
    part = {"name": "Range", "in": "header", "schema": {"type": "string"}, "description": "bytes=FIRST-LAST"}
    shown = {"name": "media_type", "in": "query", "schema": {"type": "string"}, "description": "to show a picture as"}
    whole = {200: {"description": "the blob", "content": BINARY}, 206: {"description": "part of it", "content": BINARY}}
    nothing = {"description": "done"}
    return {
        "/enrol": {
            "post": _operation(
                "Enrol a device with its one-time token",
                _json("Enrolment"),
                {201: _ok()},
                security=[],
                problems=(409, 413),
            )
        },
        "/contact": {
            "post": _operation(
                "One exchange: an upload goes in, the receipt comes back",
                upload,
                {200: _ok("Receipt")},
                security=[{"device": []}],
                problems=(409, 413),
            )
        },
        "/blobs/{digest}": {
            "get": _operation("Read a blob", None, whole, parameters=[DIGEST, part, shown], problems=(404, 416)),
            "head": _operation(
                "Ask whether a blob is stored",
                None,
                {200: {"description": "it is"}},
                parameters=[DIGEST],
                problems=(404,),
            ),
            "put": _operation("Store a blob", BINARY, {204: nothing}, parameters=[DIGEST], problems=(413,)),
        },
        "/tuf/{path}": {
            "get": _operation(
                "A file of the release repository (TUF), as any static server would have it",
                None,
                whole,
                parameters=[PATH, part],
                problems=(404, 416),
            )
        },
        "/bundles/{digest}/manifest": {
            "get": _operation(
                "The exact bytes of a manifest", None, {200: _ok("Manifest")}, parameters=[DIGEST], problems=(404,)
            )
        },
    }


def _operation(
    summary: str,
    body: Mapping[str, Any] | None,
    answers: Mapping[int, Any],
    *,
    parameters: list[dict[str, Any]] | None = None,
    security: list[dict[str, Any]] | None = None,
    problems: tuple[int, ...] = (),
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": ["device"],
        "summary": summary,
        "parameters": parameters or [],
        "security": BOTH if security is None else security,
        "responses": {str(status): one for status, one in [*answers.items(), *responses(*problems).items()]},
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": dict(body)}
    return operation


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _ok(name: str | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"schema": {"type": "object"}}
    return {"description": "done", "content": _json(name) if name else {"application/json": schema}}
