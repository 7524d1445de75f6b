"""The device's way to its hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import httpx

from edgewise.ports._blobs import check_digest
from edgewise.ports._clock import Clock, SystemClock
from edgewise.ports._patience import RATE_MIN_BYTES_S, Patience
from edgewise.ports.api import API, problem
from edgewise.trust import SIGNATURE_HEADER, PrivateKey, sign_request
from edgewise.wire import MEDIA_TYPE, EdgewiseError, NotNow, NotTrusted, NotValid, digest, loads

Answer = TypeVar("Answer")
REPLY_BYTES_MAX = 8 << 20  # of a receipt or an error
CHUNK_BYTES = 256 << 10


class LinkDown(NotNow):
    """The hub did not answer, or is busy: try again at the next contact."""

    def __init__(self, message: str, *, code: str = "link_down") -> None:
        super().__init__(message, code=code)


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


class Link(Protocol):
    """What a device can ask of its hub. Each call raises LinkDown (try later), Refused (the hub says no) or NotTrusted.

    The bytes of blobs are not checked here; whoever stores them checks them against their digest.
    """

    def exchange(self, body: bytes) -> bytes:
        """The receipt for an upload. LinkDown does not mean that the upload was not stored."""

    def put_blob(self, sha256: str, data: bytes) -> None:
        """Give the hub a blob; again is fine."""

    def has_blob(self, sha256: str) -> bool:
        """Whether the hub holds a blob."""

    def get_blob(self, sha256: str, *, offset: int = 0, bytes_max: int | None = None) -> Iterator[bytes]:
        """A blob from a byte on, piece by piece; after LinkDown what came so far is good, so go on from there.

        With ``bytes_max`` no more than that is asked for, so that no more is on its way either.
        """

    def get_file(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        """A file of the release repository from a byte on, such as ``metadata/timestamp.json``; as `get_blob`."""


class HubDoor(Protocol):
    """The hub's half of a link in the same process: the same calls, and whose device asks."""

    def exchange(self, device: str, body: bytes) -> bytes: ...
    def put_blob(self, device: str, sha256: str, data: bytes) -> None: ...
    def has_blob(self, device: str, sha256: str) -> bool: ...
    def get_blob(self, device: str, sha256: str, *, offset: int = 0) -> bytes: ...
    def get_file(self, device: str, path: str, *, offset: int = 0) -> bytes: ...


def _never(_: str) -> bool:
    return False


class MemoryLink:
    """A hub in the same process. Losing a reply, not only a request, is what finds duplicates.

    Args:
        hub: the hub's door.
        device: who asks.
        lose: asked with ``"request"`` before the hub sees a call, with ``"reply"`` after it; True loses it.
    """

    def __init__(self, hub: HubDoor, device: str, lose: Callable[[str], bool] = _never) -> None:
        self._hub = hub
        self._device = device
        self._lose = lose

    def exchange(self, body: bytes) -> bytes:
        return self._call(self._hub.exchange, bytes(body))

    def put_blob(self, sha256: str, data: bytes) -> None:
        self._call(self._hub.put_blob, check_digest(sha256), bytes(data))

    def has_blob(self, sha256: str) -> bool:
        return self._call(self._hub.has_blob, check_digest(sha256))

    def get_blob(self, sha256: str, *, offset: int = 0, bytes_max: int | None = None) -> Iterator[bytes]:
        yield from self._read(self._hub.get_blob, check_digest(sha256), offset, bytes_max)

    def get_file(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        yield from self._read(self._hub.get_file, path, offset, None)

    def _read(self, ask: Callable[..., bytes], name: str, offset: int, bytes_max: int | None) -> Iterator[bytes]:
        self._refuse_lost("request")
        with _AsLink():
            data = ask(self._device, name, offset=offset)[:bytes_max]
        if self._lose("reply"):
            yield data[: len(data) // 2]  # a download that breaks off has given something already
            raise LinkDown("the reply was lost on the simulated link")
        yield data

    def _call(self, ask: Callable[..., Answer], *values: Any) -> Answer:
        self._refuse_lost("request")
        with _AsLink():
            answer = ask(self._device, *values)
        self._refuse_lost("reply")
        return answer

    def _refuse_lost(self, what: str) -> None:
        if self._lose(what):
            raise LinkDown(f"the {what} was lost on the simulated link")


class _AsLink:
    """Turns a hub's errors into a link's, as HTTP would."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotNow):
            raise LinkDown(str(error), code=error.code) from error
        if isinstance(error, NotValid):
            raise Refused(str(error), code=error.code) from error


class HttpLink:
    """The hub over HTTP; each request is signed with the device's key.

    Args:
        base_url: where the hub listens, such as ``https://hub.example:8443``.
        device: the name under which the key is enrolled.
        key: the device's key.
        timeout_s: longest wait for the hub to connect, take or send anything.
        clock: the time that is signed.
    """

    def __init__(
        self, base_url: str, device: str, key: PrivateKey, *, timeout_s: float = 20.0, clock: Clock | None = None
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._device = device
        self._key = key
        self._clock = clock or SystemClock()
        self._timeout_s = timeout_s
        self._http = _client(self.base_url, timeout_s)

    def close(self) -> None:
        self._http.close()

    def exchange(self, body: bytes) -> bytes:
        return self._call("POST", "/contact", body, MEDIA_TYPE)

    def put_blob(self, sha256: str, data: bytes) -> None:
        self._call("PUT", f"/blobs/{check_digest(sha256)}", data)

    def has_blob(self, sha256: str) -> bool:
        try:
            self._call("HEAD", f"/blobs/{check_digest(sha256)}")
        except Refused as error:
            if error.status == 404:
                return False
            raise
        return True

    def get_blob(self, sha256: str, *, offset: int = 0, bytes_max: int | None = None) -> Iterator[bytes]:
        yield from self._read(f"/blobs/{check_digest(sha256)}", offset, bytes_max)

    def get_file(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        yield from self._read(f"/tuf/{quote(path, safe='/@:')}", offset, None)

    def _read(self, path: str, offset: int, left: int | None) -> Iterator[bytes]:
        last = "" if left is None else str(offset + left - 1)
        headers = {"Range": f"bytes={offset}-{last}"} if offset or last else {}
        # Packed, a few bytes could become gigabytes, and their rate could not be told.
        headers["Accept-Encoding"] = "identity"
        patience = Patience(self._clock, self._timeout_s, RATE_MIN_BYTES_S)
        try:
            with self._http.stream("GET", API + path, headers=headers | self._signature("GET", path, b"")) as response:
                _refuse_failed(response)
                skip = offset if response.status_code == 200 else 0  # a server without ranges starts at the beginning
                for piece in patience.paced(response.iter_raw(), self.base_url + path):
                    wanted, skip = piece[skip:][:left], max(0, skip - len(piece))
                    if wanted:
                        yield wanted
                    if left is not None and (left := left - len(wanted)) <= 0:
                        return
        except httpx.HTTPError as error:
            raise _down(self.base_url, error) from error

    def _signature(self, method: str, path: str, body: bytes) -> dict[str, str]:
        value = sign_request(
            self._key,
            device=self._device,
            method=method,
            path=API + path,
            body_digest=digest(body),
            sent_at=self._clock.now(),
        )
        return {SIGNATURE_HEADER: value}

    def _call(self, method: str, path: str, body: bytes = b"", media_type: str = "application/octet-stream") -> bytes:
        headers = self._signature(method, path, body)
        if body or method in ("POST", "PUT"):
            headers["Content-Type"] = media_type
        return _ask(self._http, self.base_url, method, API + path, body, headers)


def enrol_over_http(base_url: str, body: bytes, *, timeout_s: float = 20.0) -> bytes:
    """The hub's answer to an enrolment, which a one-time token inside the body allows rather than a signature.

    Args:
        body: JSON with ``token``, ``public`` and ``facts``.
    Returns:
        JSON with ``device``, ``site``, ``usecase``, ``root`` and ``hub_epoch``.
    Raises:
        LinkDown, Refused, NotTrusted: as every call of a link.
    """
    base_url = base_url.rstrip("/")
    with _client(base_url, timeout_s) as http:
        return _ask(http, base_url, "POST", f"{API}/enrol", body, {"Content-Type": "application/json"})


def _client(base_url: str, timeout_s: float) -> httpx.Client:
    try:
        return httpx.Client(base_url=base_url, timeout=timeout_s, follow_redirects=False)
    except httpx.InvalidURL as error:
        raise NotValid(
            f"{base_url!r} is not an address; needs one such as http://127.0.0.1:8080", code="url_invalid"
        ) from error


def _ask(http: httpx.Client, base_url: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The whole answer, of bounded size."""
    try:
        with http.stream(method, path, content=body or None, headers=headers) as response:
            _refuse_failed(response)
            return _whole(response)
    except httpx.UnsupportedProtocol as error:
        raise NotValid(
            f"{base_url!r} is not an address; needs http:// or https:// in front", code="url_invalid"
        ) from error
    except httpx.HTTPError as error:
        raise _down(base_url, error) from error


def _whole(response: httpx.Response) -> bytes:
    data = bytearray()
    for piece in response.iter_bytes(CHUNK_BYTES):
        data += piece
        if len(data) > REPLY_BYTES_MAX:
            raise NotTrusted(
                f"the hub's answer has over {REPLY_BYTES_MAX} bytes, none is so long", code="reply_too_long"
            )
    return bytes(data)


def _refuse_failed(response: httpx.Response) -> None:
    if response.status_code < 300:
        return
    document = _problem_document(_whole(response))
    error: EdgewiseError = problem(response.status_code, document)
    if isinstance(error, NotNow):
        raise LinkDown(str(error), code=error.code)
    if isinstance(error, NotValid):
        raise Refused(str(error), code=error.code, status=response.status_code, problem=document)
    raise error


def _problem_document(data: bytes) -> dict[str, Any]:
    try:
        value = loads(data) if data else {}
    except NotValid:
        return {}  # a proxy's page: the status alone must do
    return value if isinstance(value, dict) else {}


def _down(base_url: str, error: Exception) -> LinkDown:
    return LinkDown(f"no hub answers at {base_url} ({type(error).__name__}); it is tried again at the next contact")
