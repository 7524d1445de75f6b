"""The OpenAPI document: what FastAPI finds, and the raw device routes, which it cannot see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from edgewise.hub.api.problems import Problem, responses
from edgewise.wire import MEDIA_TYPE, DeltaOffer, Envelope, Manifest, Receipt

TITLE = "edgewise hub"
EST_TYPE = "application/pkcs7-mime"
TEXT = (
    "People, workers and signers show a bearer token. What devices ask is described by `/openapi-devices.json`. "
    "Every error is an RFC 9457 problem document with a stable `code`."
)
DIGEST = {"name": "digest", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}
DELTA: list[dict[str, Any]] = [
    {**DIGEST, "name": "base", "in": "query", "description": "the blob that the device holds"},
    {
        "name": "codec",
        "in": "query",
        "required": True,
        "schema": {"type": "integer", "minimum": 1, "maximum": 9999},
        "description": "version of the delta container that the device reads",
    },
]
PATH = {
    "name": "path",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": "metadata/timestamp.json",
}
TOKEN: list[dict[str, Any]] = [{"HTTPBearer": []}]
CERTIFICATE: list[dict[str, Any]] = [{"device": []}]
DEVICE_TEXT = (
    "What devices ask, over TLS 1.2 or 1.3 at an address of its own, known by their client certificate. Enrolment has "
    "the shape of EST (RFC 7030). Every error is an RFC 9457 problem document with a stable `code`."
)
BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def document(app: FastAPI, *, prefix: str) -> dict[str, Any]:
    """The whole document of this app; made once and kept."""
    if app.openapi_schema is None:
        whole = get_openapi(title=TITLE, version=app.version, description=TEXT, routes=app.routes)
        components = whole.setdefault("components", {})
        _add_schemas(components, (Problem, Envelope, Manifest))
        for path, item in _shared_paths(TOKEN).items():
            whole["paths"].setdefault(prefix + path, {}).update(item)
        app.openapi_schema = whole
    return app.openapi_schema


def device_document(version: str, *, prefix: str = "/api/v1") -> dict[str, Any]:
    """The document of the devices' application."""
    components: dict[str, Any] = {
        "securitySchemes": {
            "device": {"type": "mutualTLS", "description": "a certificate of the hub's own authority"},
            "token": {"type": "http", "scheme": "basic", "description": "the one-time token as the password"},
        }
    }
    _add_schemas(components, (Problem, DeltaOffer, Receipt, Envelope, Manifest))
    paths = {prefix + path: item for path, item in {**_device_paths(), **_shared_paths(CERTIFICATE)}.items()}
    paths[f"{prefix}/blobs/{{digest}}"]["patch"] = _upload_operation()
    info = {"title": f"{TITLE}, for devices", "version": version, "description": DEVICE_TEXT}
    return {"openapi": "3.1.0", "info": info, "paths": {**paths, **_est_paths()}, "components": components}


def _add_schemas(components: dict[str, Any], records: Sequence[type[BaseModel]]) -> None:
    schemas = components.setdefault("schemas", {})
    for record in records:
        schema = record.model_json_schema(ref_template="#/components/schemas/{model}")
        for name, inner in schema.pop("$defs", {}).items():
            schemas.setdefault(name, inner)
        schemas.setdefault(record.__name__, schema)


def _est_paths() -> dict[str, dict[str, Any]]:
    text = {"schema": {"type": "string"}}
    request, answer = {"application/pkcs10": text}, {"description": "done", "content": {EST_TYPE: text}}
    return {
        "/.well-known/est/cacerts": {
            "get": _operation("The authority's certificates", None, {200: answer}, security=[])
        },
        "/.well-known/est/simpleenroll": {
            "post": _operation(
                "A certificate for a one-time token",
                request,
                {200: answer},
                security=[{"token": []}],
                problems=(409, 413),
            )
        },
        "/.well-known/est/simplereenroll": {
            "post": _operation(
                "A new certificate for the same key",
                request,
                {200: answer},
                security=[{"device": []}, {}],
                problems=(413,),
            )
        },
    }


def _device_paths() -> dict[str, dict[str, Any]]:
    upload = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
    return {
        "/contact": {
            "post": _operation(
                "One exchange: an upload goes in, the receipt comes back",
                upload,
                {200: _ok("Receipt")},
                security=CERTIFICATE,
                problems=(409, 413),
            )
        },
        "/identity": {"get": _operation("What this device must know", None, {200: _ok()}, security=CERTIFICATE)},
        "/blobs/{digest}/delta": {
            "get": _operation(
                "How to make a blob from one that the device holds: the delta is a blob of its own",
                None,
                {200: _ok("DeltaOffer")},
                parameters=[DIGEST, *DELTA],
                security=CERTIFICATE,
                problems=(404, 406),
            )
        },
    }


def _upload_operation() -> dict[str, Any]:
    count = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
    names = {"Upload-Offset": "first byte of the body in the blob", "Upload-Length": "bytes of the whole blob"}
    headers = [
        {"name": name, "in": "header", "required": True, "schema": count, "description": text}
        for name, text in names.items()
    ]
    return _operation(
        "Bring the rest of a blob; what arrives is kept when the connection breaks",
        {"application/partial-upload": {"schema": {"type": "string", "format": "binary"}}},
        {204: {"description": "Upload-Offset says how far it is, Upload-Complete whether it is whole"}},
        security=CERTIFICATE,
        parameters=[DIGEST, *headers],
        problems=(409, 413),
    )


def _shared_paths(security: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    part = {"name": "Range", "in": "header", "schema": {"type": "string"}, "description": "bytes=FIRST-LAST"}
    shown = {"name": "media_type", "in": "query", "schema": {"type": "string"}, "description": "to show a picture as"}
    whole = {200: {"description": "the blob", "content": BINARY}, 206: {"description": "part of it", "content": BINARY}}
    nothing = {"description": "done"}
    return {
        "/blobs/{digest}": {
            "get": _operation(
                "Read a blob", None, whole, security=security, parameters=[DIGEST, part, shown], problems=(404, 416)
            ),
            "head": _operation(
                "Ask whether a blob is stored",
                None,
                {200: {"description": "it is"}},
                security=security,
                parameters=[DIGEST],
                problems=(404,),
            ),
            "put": _operation(
                "Store a blob", BINARY, {204: nothing}, security=security, parameters=[DIGEST], problems=(413,)
            ),
        },
        "/tuf/{path}": {
            "get": _operation(
                "A file of the release repository (TUF), as any static server would have it",
                None,
                whole,
                security=security,
                parameters=[PATH, part],
                problems=(404, 416),
            )
        },
        "/bundles/{digest}/manifest": {
            "get": _operation(
                "The exact bytes of a manifest",
                None,
                {200: _ok("Manifest")},
                security=security,
                parameters=[DIGEST],
                problems=(404,),
            )
        },
    }


def _operation(
    summary: str,
    body: Mapping[str, Any] | None,
    answers: Mapping[int, Any],
    *,
    security: list[dict[str, Any]],
    parameters: list[dict[str, Any]] | None = None,
    problems: tuple[int, ...] = (),
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": ["device"],
        "summary": summary,
        "parameters": parameters or [],
        "security": security,
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
