"""Errors as RFC 9457 problem documents: the family decides the status, the code is stable, the text is for people."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import Response

from edgewise.hub.intake import Gap
from edgewise.hub.rollouts import Impossible
from edgewise.wire import EdgewiseError, NotNow, NotTrusted, canonical

LOG = logging.getLogger("edgewise.hub")
MEDIA_TYPE = "application/problem+json"
RETRY_S = 5
# Codes whose HTTP status is another than their family's.
STATUS = {
    "no_token": 401,
    "token_revoked": 401,
    "token_ended": 401,
    "token_invalid": 401,
    "session_ended": 401,
    "too_many_attempts": 429,
    "over_quota": 429,
    "too_busy": 429,
    "token_missing": 401,
    "csr_invalid": 400,
    "proxy_unknown": 400,
    "no_certificate": 401,
    "not_json": 400,
    "upload_invalid": 400,
    "upload_corrupt": 400,
    "blob_missing": 404,
    "delta_none": 404,
    "delta_version": 406,
    "usecase_unknown": 404,
    "device_unknown": 404,
    "sample_unknown": 404,
    "order_unknown": 404,
    "revision_unknown": 404,
    "bundle_unknown": 404,
    "release_unknown": 404,
    "entry_unknown": 404,
    "rollout_unknown": 404,
    "verdict_unknown": 404,
    "scorecard_unknown": 404,
    "request_unknown": 404,
    "people_token_unknown": 404,
    "feedback_unknown": 404,
    "file_unknown": 404,
    "waiting_unknown": 404,
    "metadata_version": 409,
    "gap": 409,
    "no_conflict": 409,
    "conflict": 409,
    "nothing_to_pin": 409,
    "pin_elsewhere": 409,
    "withdrawn": 409,
    "number_exhausted": 409,
    "release_unknown_here": 409,
    "revert_unproven": 409,
    "order_open": 409,
    "order_lost": 409,
    "order_state": 409,
    "order_kind": 409,
    "no_champion": 409,
    "nothing_to_score": 409,
    "sums_missing": 409,
    "sums_too_few": 409,
    "sums_noisy": 409,
    "device_exists": 409,
    "release_version": 409,
    "blob_not_stored": 409,
    "offset_wrong": 409,
    "illegal_move": 409,
    "act_not_now": 409,
    "nothing_to_train": 409,
    "nothing_to_undo": 409,
    "claimed": 409,
    "labelled_meanwhile": 409,
    "no_dispute": 409,
    "too_big": 413,
    "range_invalid": 416,
}


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str


def status_of(error: EdgewiseError) -> int:
    """The HTTP status of an error."""
    if error.code in STATUS:
        return STATUS[error.code]
    if isinstance(error, NotNow):
        return 503
    return 403 if isinstance(error, NotTrusted) else 422


def document(status: int, detail: str, code: str, **more: Any) -> bytes:
    """The bytes of a problem document."""
    title = HTTPStatus(status).phrase
    fields = {"type": f"urn:edgewise:problem:{code}", "title": title, "status": status, "detail": detail, "code": code}
    return canonical({**more, **fields})


def answer(status: int, detail: str, code: str, *, retry_s: int = RETRY_S, **more: Any) -> Response:
    """A whole answer with a problem document."""
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="estrealm"' if code == "token_missing" else "Bearer"
    if status in (429, 503):
        headers["Retry-After"] = str(retry_s)
    if status == 413:
        headers["Connection"] = "close"  # else the server would go on reading what nobody wants
    return Response(document(status, detail, code, **more), status, headers, MEDIA_TYPE)


def answer_to(error: Exception) -> Response:
    """The answer to an error that a handler raised."""
    if isinstance(error, Gap):
        return answer(409, str(error), error.code, watermark=error.watermark, epoch=error.epoch)
    if isinstance(error, Impossible):
        return answer(status_of(error), str(error), error.code, reasons=list(error.reasons))
    if isinstance(error, NotNow) and error.retry_s is not None:
        return answer(status_of(error), str(error), error.code, retry_s=math.ceil(error.retry_s))
    if isinstance(error, EdgewiseError):
        return answer(status_of(error), str(error), error.code)
    if isinstance(error, HTTPException):
        return answer(error.status_code, str(error.detail), f"http_{error.status_code}")
    LOG.error("a request failed by a mistake of the hub's own", exc_info=error)
    return answer(500, "the hub made a mistake; its log says more", "internal")


def install(app: FastAPI) -> None:
    """Make every error of this app a problem document."""

    async def families(request: Request, error: Exception) -> Response:
        if isinstance(error, EdgewiseError):
            request.app.state.hub.counters.refused(error.code)
        return answer_to(error)

    async def validation(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(422, _explain(error), "request_invalid")

    app.add_exception_handler(EdgewiseError, families)
    app.add_exception_handler(HTTPException, families)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(Exception, families)


def _explain(error: RequestValidationError) -> str:
    parts = []
    for item in error.errors()[:5]:
        where = ".".join(str(part) for part in item["loc"])
        parts.append(f"{where}: {item['msg']} (seen {str(item.get('input'))[:80]!r})")
    more = len(error.errors()) - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more else "")


_CONTENT = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the problems that a route can answer with; those of every route included."""
    texts = {status: HTTPStatus(status).phrase for status in sorted({400, 401, 403, 422, 429, 503, *statuses})}
    return {status: {"description": text, **_CONTENT} for status, text in texts.items()}
