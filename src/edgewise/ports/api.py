"""The people's door to the hub over HTTP: used by the command line, the worker, the signer and the demo."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgewise.wire import EdgewiseError, NotNow, NotTrusted, NotValid, digest
from edgewise.wire.trace import HEADER, trace_now

if TYPE_CHECKING:
    import httpx

API = "/api/v1"


class HubApi:
    """Calls to one hub with one token. Every failure comes back as one of the three families of errors.

    Args:
        url: where the hub listens, such as ``http://127.0.0.1:8080``.
        token: an API token; its role decides what is allowed.
        timeout_s: longest wait for one answer.
    """

    def __init__(self, url: str, token: str, *, timeout_s: float = 30.0) -> None:
        import httpx  # late: a device reads only `problem` of this file

        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout_s,
            follow_redirects=False,
            event_hooks={"request": [name_trace]},
        )

    def __enter__(self) -> HubApi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int | float | bool) -> Any:
        """The JSON answer of a GET below /api/v1.

        Raises:
            NotNow: the hub does not answer, or is busy.
            NotTrusted: the token is unknown or its role does not allow this.
            NotValid: the hub refused; the message is the hub's own.
        """
        return self._json("GET", path, params=query)

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        content: bytes | None = None,
        media_type: str = "",
        query: Mapping[str, str | int | float | bool] | None = None,
    ) -> Any:
        """The JSON answer of a POST below /api/v1; None where the hub has nothing to say (204). Raises as `get`."""
        if content is not None:
            return self._json("POST", path, content=content, headers={"Content-Type": media_type}, params=query)
        return self._json("POST", path, json=body, params=query)

    def put(self, path: str, body: Any) -> Any:
        """The JSON answer of a PUT below /api/v1. Raises as `get`."""
        return self._json("PUT", path, json=body)

    def delete(self, path: str) -> Any:
        """The JSON answer of a DELETE below /api/v1. Raises as `get`."""
        return self._json("DELETE", path)

    def get_bytes(self, path: str) -> bytes:
        """The raw answer of a GET below /api/v1. Raises as `get`."""
        return self._call("GET", path).content

    def ask_lake(self, question: Mapping[str, Any], *, media_type: str) -> tuple[bytes, Mapping[str, str]]:
        """The raw answer of the lake to a question, and its headers (names in lower case). Raises as `get`."""
        response = self._call("POST", "/lake/query", json=question, headers={"Accept": media_type})
        return response.content, response.headers

    def get_blob(self, sha256: str) -> bytes:
        """A blob by its digest, checked against it. Raises as `get`, and NotTrusted where the bytes do not match."""
        data = self.get_bytes(f"/blobs/{sha256}")
        if digest(data) != sha256:
            raise NotTrusted(
                f"the hub sent {digest(data)[:12]}… for blob {sha256[:12]}…; ask again, or check the store"
            )
        return data

    def put_blob(self, data: bytes) -> str:
        """Store a blob unless the hub has it; comes back with its digest. Raises as `get`."""
        name = digest(data)
        if self._http_status("HEAD", f"/blobs/{name}") != 200:
            self._call("PUT", f"/blobs/{name}", content=data)
        return name

    def _http_status(self, method: str, path: str) -> int:
        import httpx

        try:
            return self._http.request(method, API + path).status_code
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from error

    def _json(self, method: str, path: str, **options: Any) -> Any:
        response = self._call(method, path, **options)
        return response.json() if response.content else None

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        import httpx

        try:
            response = self._http.request(method, API + path, **options)
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from error
        if response.status_code >= 400:
            raise problem(response.status_code, _body(response))
        return response


def name_trace(request: httpx.Request) -> None:
    """Put the trace in force, if there is one, into a request's header."""
    trace = trace_now()
    if trace is not None:
        request.headers[HEADER] = trace.header


def problem(status: int, body: Mapping[str, Any]) -> EdgewiseError:
    """The error family of an HTTP status and its RFC 9457 problem document.

    >>> type(problem(503, {"detail": "the disk is full"})).__name__
    'NotNow'
    """
    text = str(body.get("detail") or body.get("title") or f"the hub answered with status {status}")
    code = str(body.get("code") or f"http_{status}")
    if status in (401, 403):
        return NotTrusted(text, code=code)
    if status in (408, 425, 429) or status >= 500:
        return NotNow(text, code=code)
    return NotValid(text, code=code)


def _body(response: httpx.Response) -> Mapping[str, Any]:
    try:
        value = response.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _unreachable(url: str, error: Exception) -> NotNow:
    return NotNow(
        f"no hub answers at {url} ({type(error).__name__}); start one with `edgewise up`, or name another with --hub",
        code="hub_unreachable",
    )
