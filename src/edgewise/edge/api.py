"""The device's local API: health, metrics, status for people and programs, feedback, and inference by protocol v2."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgewise.edge._asgi import AsgiApp, Receive, Scope, Send, reply
from edgewise.edge._field import FieldSide
from edgewise.edge._http_head import Head
from edgewise.edge._v2 import InPlace, v2_app
from edgewise.edge._v2_models import ServedModel
from edgewise.edge.device import Device
from edgewise.policy import may_name_frames
from edgewise.ports import Clock
from edgewise.wire import EdgewiseError, NotNow, NotValid

FEEDBACK_BYTES_MAX = 16_384
FEEDBACK_TEXT_MAX = 2000  # characters of each field
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
JSON = {"content-type": "application/json"}
_FORBIDDEN = b'{"error": "the policy lets no decision leave by the local API; add local-api to data.leave"}'


class _RunningModels(Mapping[str, ServedModel]):
    """The running bundle under its manifest's name, looked up anew for each request."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._served: tuple[str, ServedModel] | None = None
        self._of: object = None

    def _now(self) -> dict[str, ServedModel]:
        running = self._device.updater.running
        if running is None:
            return {}
        if self._of is not running or self._served is None:
            name = running.pipeline.manifest.name
            self._served, self._of = (name, ServedModel.of_pipeline(running.pipeline, running.release)), running
        return dict([self._served])

    def __getitem__(self, name: str) -> ServedModel:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())


def local_api(device: Device, clock: Clock, is_alive: Callable[[], bool], field: FieldSide | None = None) -> AsgiApp:
    """The ASGI app. It is meant for loopback: it has no login, and answers only to local host names.

    Args:
        is_alive: whether the decision loop still turns.
        field: sinks, sources under observation, and the door for pushed frames.
    """
    protocol = v2_app(_RunningModels(device))

    def may_answer(head: Head) -> bool:
        """What the app below asks before it hands an inference on, for those that are answered in place."""
        return _is_local({"headers": head.headers}) and may_name_frames(device.policy, "local-api")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if not _is_local(scope):
            await reply(send, 403, JSON, b'{"error": "this API answers only to local host names"}')
        elif path == "/v2" or path.startswith("/v2/"):
            if path.endswith(("/infer", "/decide")) and not may_name_frames(device.policy, "local-api"):
                await reply(send, 403, JSON, _FORBIDDEN)
            else:
                await protocol(scope, receive, send)
        elif field is not None and (pushed := await field.push.answer(scope, receive)) is not None:
            await reply(send, *pushed)
        elif path == "/feedback" and method == "POST":
            await reply(send, *await _feedback(device, clock, scope, receive))
        elif method not in ("GET", "HEAD"):
            await reply(send, 405, JSON, b'{"error": "only GET is answered here"}')
        else:
            await reply(send, *_page(path))

    def _page(path: str) -> tuple[int, dict[str, str], bytes]:
        text = {"content-type": "text/plain; charset=utf-8"}
        match path:
            case "/livez":
                alive = is_alive()
                return (200, text, b"ok\n") if alive else (503, text, b"the decision loop stands still\n")
            case "/readyz":
                ready = device.updater.running is not None
                return (200, text, b"ok\n") if ready else (503, text, b"no bundle runs yet\n")
            case "/metrics":
                from edgewise.edge._device_metrics import (
                    metrics_page,  # late: a device that nobody asks needs no library
                )

                return 200, {"content-type": "text/plain; version=0.0.4; charset=utf-8"}, metrics_page(device, field)
            case "/status":
                status = device.status(clock.now()) | {"made_ids": device.made_ids()}
                status |= field.status() if field is not None else {}
                return 200, JSON, json.dumps(status).encode()
            case "/":
                headers = {"content-type": "text/html; charset=utf-8", "content-security-policy": "default-src 'none'"}
                return 200, headers, _html(device.status(clock.now())).encode()
        known = "/, /status, /livez, /readyz, /metrics, /v2 and POST /feedback"
        return 404, JSON, json.dumps({"error": f"{path[:200]} is not here; there is {known}"}).encode()

    return InPlace(app, protocol, may_answer)


def _is_local(scope: Scope) -> bool:
    """A page of another site must not reach this API by a host name that its owner points to loopback."""
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1")
            bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and ":" in host else host
            return bare.lower() in LOCAL_HOSTS
    return True


async def _feedback(device: Device, clock: Clock, scope: Scope, receive: Receive) -> tuple[int, dict[str, str], bytes]:
    try:
        kinds = [value for name, value in scope["headers"] if name == b"content-type"]
        # Only this type makes a browser ask first, so that no foreign page can post here.
        if not kinds or not kinds[0].startswith(b"application/json"):
            raise NotValid("feedback must be sent as application/json", code="media_type")
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > FEEDBACK_BYTES_MAX:
                raise NotValid(f"feedback has over {FEEDBACK_BYTES_MAX} bytes", code="too_large")
            if not message.get("more_body"):
                break
        value = _feedback_fields(body)
        return 202, JSON, json.dumps(device.feedback(clock.now(), **value)).encode()
    except EdgewiseError as error:
        status = 503 if isinstance(error, NotNow) else 400
        return status, JSON, json.dumps({"error": str(error), "code": error.code}).encode()


def _feedback_fields(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
        json.dumps(value, ensure_ascii=False).encode()  # JSON may write half a character, which no record can hold
    except (ValueError, RecursionError) as error:
        raise NotValid(f"feedback is not JSON: {str(error)[:200]}", code="not_json") from error
    names, longest = {"verdict", "frame", "label", "note"}, FEEDBACK_TEXT_MAX
    texts = isinstance(value, dict) and all(
        isinstance(item, str) and len(item) <= longest for item in value.values() if item is not None
    )
    if not texts or not set(value) <= names or "verdict" not in value:
        raise NotValid(
            f"feedback needs verdict (wrong, missed or unknown) and may have frame, label and note, texts of at most "
            f"{longest} characters; seen {body[:80]!r}",
            code="feedback_invalid",
        )
    return {name: item for name, item in value.items() if item is not None}


def _html(status: dict[str, Any]) -> str:
    why = status["why"]
    latency = status["latency_ms"]
    rows = {
        "Runs": f"{status['release'] or 'nothing yet'} (bundle {str(status['bundle'] or '–')[:12]})",
        "Because": why["because"],
        "Phase": status["phase"],
        "Next": why["next"],
        "Waits for": "; ".join(status["waits_for"]) or "nothing",
        "Last failure": status["last_failure"] or "none",
        "Decisions": status["decisions"],
        "Latency": f"{latency['p50'] or 0:.2f} ms median, {latency['p99'] or 0:.2f} ms in 99 of 100",
        "Waits to be sent": f"{status['backlog']} records",
        "Shed": ", ".join(f"{count} {name}" for name, count in status["outbox"]["shed"].items()) or "nothing",
        "Last contact": status["contact"]["last_at"] or "none yet",
    }
    cells = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items())
    title = html.escape(f"{status['device']} · {status['site']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        f"<title>{title}</title><h1>{title}</h1><table>{cells}</table></html>"
    )
