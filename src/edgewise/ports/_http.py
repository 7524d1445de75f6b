"""HTTPS from the device: the answers of a hub, of bounded size, as values or as this package's errors."""

from __future__ import annotations

import re
import ssl
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgewise.ports.api import problem
from edgewise.wire import EdgewiseError, NotNow, NotTrusted, NotValid, loads

if TYPE_CHECKING:
    import httpx

REPLY_BYTES_MAX = 8 << 20  # of a receipt, an envelope or a manifest
RETRY_S_MAX = 3600.0  # longer than that no hub keeps a device away
RETRY_DIGITS_MAX = 9
CHUNK_BYTES = 256 << 10
REFUSED = re.compile(r"alert[ _](certificate|unknown[ _]ca|bad[ _]certificate)", re.IGNORECASE)  # by TLS alerts


# Where click is installed, httpx loads it with rich and pygments for a command of its own: 50 ms and 5 MB of a device.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None: "not installed", which httpx expects


class LinkDown(NotNow):
    """The hub did not answer, or is busy: try again at the next contact."""

    def __init__(self, message: str, *, code: str = "link_down", retry_s: float | None = None) -> None:
        super().__init__(message, code=code, retry_s=retry_s)


class Refused(NotValid):
    """The hub answered no.

    Attributes:
        status: the HTTP status, 400 where the hub is in this process.
        problem: the RFC 9457 document, as far as there was one.
    """

    def __init__(
        self, message: str, *, code: str = "refused", status: int = 400, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.problem = dict(problem or {})


def client(base_url: str, context: ssl.SSLContext, timeout_s: float) -> httpx.Client:
    """A client for one hub.

    Raises:
        NotValid: not an https address.
    """
    import httpx  # late: 15 % of the time from start to the first decision, and that needs no link

    if not base_url.startswith("https://"):
        raise NotValid(
            f"{base_url!r} is not the devices' address of a hub; needs https:// in front, such as "
            "https://127.0.0.1:8443",
            code="url_invalid",
        )
    try:
        return httpx.Client(base_url=base_url.rstrip("/"), verify=context, timeout=timeout_s, trust_env=False)
    except httpx.InvalidURL as error:
        raise NotValid(
            f"{base_url!r} is not an address; needs one such as https://127.0.0.1:8443", code="url_invalid"
        ) from error


def ask(
    http: httpx.Client,
    base_url: str,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The whole answer, of bounded size.

    Raises:
        LinkDown: no answer, or the hub is busy. Refused: it says no. NotTrusted: one side does not trust the other.
    """
    import httpx

    try:
        with http.stream(method, path, content=body or None, headers=headers) as response:
            refuse_failed(response)
            return _whole(response)
    except httpx.HTTPError as error:
        raise down(base_url, error) from error


def _whole(response: httpx.Response) -> bytes:
    data = bytearray()
    for piece in response.iter_bytes(CHUNK_BYTES):
        data += piece
        if len(data) > REPLY_BYTES_MAX:
            raise NotTrusted(
                f"the hub's answer has over {REPLY_BYTES_MAX} bytes, none is so long", code="reply_too_long"
            )
    return bytes(data)


def refuse_failed(response: httpx.Response) -> None:
    """Raise what the hub's answer means; nothing where it is good."""
    if response.status_code < 300:
        return
    document = _problem_document(_whole(response))
    error: EdgewiseError = problem(response.status_code, document)
    if isinstance(error, NotNow):
        raise LinkDown(str(error), code=error.code, retry_s=retry_after_s(response.headers.get("retry-after")))
    if isinstance(error, NotValid):
        raise Refused(str(error), code=error.code, status=response.status_code, problem=document)
    raise error


def retry_after_s(said: str | None) -> float | None:
    """The seconds in a Retry-After header, at most an hour; None where it says none, or a date.

    Source: RFC 9110 section 10.2.3. A device's clock may be wrong, so a date would be no help.

    >>> retry_after_s("12"), retry_after_s("999999"), retry_after_s("soon"), retry_after_s(None)
    (12.0, 3600.0, None, None)
    """
    if said is None or not said.strip().isdecimal() or len(said) > RETRY_DIGITS_MAX:
        return None
    return min(RETRY_S_MAX, float(said))


def _problem_document(data: bytes) -> dict[str, Any]:
    try:
        value = loads(data) if data else {}
    except NotValid:
        return {}  # a proxy's page: the status alone must do
    return value if isinstance(value, dict) else {}


def down(base_url: str, error: Exception) -> EdgewiseError:
    """What a failed connection means: a link that is down, or two sides of which one does not trust the other."""
    import httpx

    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return NotTrusted(
            f"whoever answers at {base_url} has no certificate of this device's hub ({_why(text)}); check the address, "
            "who sits between, and this device's clock",
            code="hub_certificate",
        )
    if REFUSED.search(text):
        return NotTrusted(
            f"the hub at {base_url} refuses this device's certificate ({_why(text)})", code="certificate_refused"
        )
    if isinstance(error, httpx.RemoteProtocolError):
        return LinkDown(
            f"the hub at {base_url} ended the connection without an answer; if that stays so, its authority may not "
            "know this device's certificate, and the device must be enrolled again"
        )
    return LinkDown(f"no hub answers at {base_url} ({type(error).__name__}); it is tried again at the next contact")


def _why(text: str) -> str:
    return text.rpartition("] ")[2].partition(" (_ssl")[0][:160]
