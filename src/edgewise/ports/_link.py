"""The device's way to its hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

from edgewise.ports._blobs import check_digest
from edgewise.ports._clock import Clock, SystemClock
from edgewise.ports._credentials import Credentials
from edgewise.ports._http import LinkDown, Refused, ask, client, down, refuse_failed
from edgewise.ports._patience import RATE_MIN_BYTES_S, Patience
from edgewise.ports.api import API
from edgewise.wire import MEDIA_TYPE, NotNow, NotValid

if TYPE_CHECKING:
    import httpx

Answer = TypeVar("Answer")
UPLOAD_TYPE = "application/partial-upload"


class Link(Protocol):
    """What a device can ask of its hub. Each call raises LinkDown (try later), Refused (the hub says no) or NotTrusted.

    The bytes of blobs are not checked here; whoever stores them checks them against their digest.
    """

    def exchange(self, body: bytes) -> bytes:
        """The receipt for an upload. LinkDown does not mean that the upload was not stored."""

    def put_blob(self, sha256: str, data: bytes, *, offset: int = 0) -> None:
        """Give the hub a blob, of which it has the first `offset` bytes; again is fine.

        After LinkDown, or Refused with code ``offset_wrong``, ask `blob_offset` where to go on.
        """

    def blob_offset(self, sha256: str) -> int | None:
        """How many bytes of a blob the hub holds durably; None when it has all of it."""

    def has_blob(self, sha256: str) -> bool:
        """Whether the hub holds a blob."""

    def get_blob(self, sha256: str, *, offset: int = 0, bytes_max: int | None = None) -> Iterator[bytes]:
        """A blob from a byte on, piece by piece; after LinkDown what came so far is good, so go on from there.

        With ``bytes_max`` no more than that is asked for, so that no more is on its way either.
        """

    def get_delta(self, sha256: str, *, base: str, codec: int) -> bytes:
        """A `DeltaOffer`, as JSON: how to get a blob from another. Refused: there is none, take the blob itself."""

    def get_file(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        """A file of the release repository from a byte on, such as ``metadata/timestamp.json``; as `get_blob`."""


class HubDoor(Protocol):
    """The hub's half of a link in the same process: the same calls, and whose device asks."""

    def exchange(self, device: str, body: bytes) -> bytes: ...
    def put_blob(
        self, device: str, sha256: str, data: bytes, *, offset: int = 0, size_bytes: int | None = None
    ) -> None: ...
    def blob_offset(self, device: str, sha256: str) -> int | None: ...
    def has_blob(self, device: str, sha256: str) -> bool: ...
    def get_blob(self, device: str, sha256: str, *, offset: int = 0) -> bytes: ...
    def get_delta(self, device: str, sha256: str, *, base: str, codec: int) -> bytes: ...
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

    def put_blob(self, sha256: str, data: bytes, *, offset: int = 0) -> None:
        put = partial(self._hub.put_blob, offset=offset, size_bytes=len(data))
        rest = bytes(data[offset:])
        if self._lose("request"):
            with _AsLink():  # an upload that breaks off has given something already
                put(self._device, check_digest(sha256), rest[: len(rest) // 2])
            raise LinkDown("the request was lost on the simulated link")
        with _AsLink():
            put(self._device, check_digest(sha256), rest)
        self._refuse_lost("reply")

    def blob_offset(self, sha256: str) -> int | None:
        return self._call(self._hub.blob_offset, check_digest(sha256))

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

    def get_delta(self, sha256: str, *, base: str, codec: int) -> bytes:
        check_digest(base)
        return self._call(partial(self._hub.get_delta, base=base, codec=codec), check_digest(sha256))

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
    """The hub over HTTPS; the device's certificate says who asks.

    A renewed certificate is used from the next call on, without a restart.

    Args:
        base_url: where the hub listens for devices, such as ``https://hub.example:8443``.
        credentials: the device's key and certificate, and the root that the hub's own must lead to.
        timeout_s: longest wait for the hub to connect, take or send anything.
        clock: by which the pace of a download is judged.
    """

    def __init__(
        self, base_url: str, credentials: Credentials, *, timeout_s: float = 20.0, clock: Clock | None = None
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()
        self._stamp: tuple[int, ...] | None = None
        self._client: httpx.Client | None = None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    @property
    def _http(self) -> httpx.Client:
        stamp = self._credentials.stamp()
        if self._client is None or stamp != self._stamp:
            fresh = client(self.base_url, self._credentials.context(), self._timeout_s)
            self.close()
            self._client, self._stamp = fresh, stamp
        return self._client

    def exchange(self, body: bytes) -> bytes:
        return self._call("POST", "/contact", body, MEDIA_TYPE)

    def put_blob(self, sha256: str, data: bytes, *, offset: int = 0) -> None:
        path = f"/blobs/{check_digest(sha256)}"
        headers = {
            "Content-Type": UPLOAD_TYPE,
            "Upload-Offset": str(offset),
            "Upload-Length": str(len(data)),
            "Upload-Complete": "?1",  # this request brings all that is left
        }
        try:
            ask(self._http, self.base_url, "PATCH", API + path, data[offset:], headers)
        except Refused as error:
            if error.status != 405:  # of a hub that is older than this device: it takes whole blobs alone
                raise
            self._call("PUT", path, data)

    def blob_offset(self, sha256: str) -> int | None:
        import httpx  # late, as in `client`

        try:
            with self._http.stream("HEAD", f"{API}/blobs/{check_digest(sha256)}") as response:
                if response.status_code != 404:
                    refuse_failed(response)
                    return None
                said = response.headers.get("Upload-Offset", "0")
        except httpx.HTTPError as error:
            raise down(self.base_url, error) from error
        return int(said) if said.isdecimal() else 0

    def has_blob(self, sha256: str) -> bool:
        return self.blob_offset(sha256) is None

    def get_blob(self, sha256: str, *, offset: int = 0, bytes_max: int | None = None) -> Iterator[bytes]:
        yield from self._read(f"/blobs/{check_digest(sha256)}", offset, bytes_max)

    def get_file(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        yield from self._read(f"/tuf/{quote(path, safe='/@:')}", offset, None)

    def _read(self, path: str, offset: int, left: int | None) -> Iterator[bytes]:
        import httpx

        last = "" if left is None else str(offset + left - 1)
        headers = {"Range": f"bytes={offset}-{last}"} if offset or last else {}
        # Packed, a few bytes could become gigabytes, and their rate could not be told.
        headers["Accept-Encoding"] = "identity"
        patience = Patience(self._clock, self._timeout_s, RATE_MIN_BYTES_S)
        http = self._http
        try:
            with http.stream("GET", API + path, headers=headers) as response:
                refuse_failed(response)
                skip = offset if response.status_code == 200 else 0  # a server without ranges starts at the beginning
                for piece in patience.paced(response.iter_raw(), self.base_url + path):
                    wanted, skip = piece[skip:][:left], max(0, skip - len(piece))
                    if wanted:
                        yield wanted
                    if left is not None and (left := left - len(wanted)) <= 0:
                        return
        except httpx.HTTPError as error:
            raise down(self.base_url, error) from error

    def get_delta(self, sha256: str, *, base: str, codec: int) -> bytes:
        return self._call("GET", f"/blobs/{check_digest(sha256)}/delta?base={check_digest(base)}&codec={codec:d}")

    def _call(self, method: str, path: str, body: bytes = b"", media_type: str = "application/octet-stream") -> bytes:
        headers = {"Content-Type": media_type} if body or method in ("POST", "PUT") else {}
        return ask(self._http, self.base_url, method, API + path, body, headers)
