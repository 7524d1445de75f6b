"""The device's way to its hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import httpx

from edgewise.ports._blobs import check_digest
from edgewise.ports._credentials import Credentials
from edgewise.ports._http import CHUNK_BYTES, LinkDown, Refused, ask, client, down, refuse_failed
from edgewise.ports.api import API
from edgewise.wire import MEDIA_TYPE, NotNow, NotValid

Answer = TypeVar("Answer")


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

    def get_delta(self, sha256: str, *, base: str, codec: int) -> bytes:
        """A `DeltaOffer`, as JSON: how to get a blob from another. Refused: there is none, take the blob itself."""

    def get_release(self, release_id: str) -> bytes:
        """The envelope of a release, as JSON."""

    def get_manifest(self, sha256: str) -> bytes:
        """The exact bytes of a bundle's manifest."""


class HubDoor(Protocol):
    """The hub's half of a link in the same process: the same calls, and whose device asks."""

    def exchange(self, device: str, body: bytes) -> bytes: ...
    def put_blob(self, device: str, sha256: str, data: bytes) -> None: ...
    def has_blob(self, device: str, sha256: str) -> bool: ...
    def get_blob(self, device: str, sha256: str, *, offset: int = 0) -> bytes: ...
    def get_delta(self, device: str, sha256: str, *, base: str, codec: int) -> bytes: ...
    def get_release(self, device: str, release_id: str) -> bytes: ...
    def get_manifest(self, device: str, sha256: str) -> bytes: ...


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
        check_digest(sha256)
        self._refuse_lost("request")
        with _AsLink():
            data = self._hub.get_blob(self._device, sha256, offset=offset)[:bytes_max]
        if self._lose("reply"):
            yield data[: len(data) // 2]  # a download that breaks off has given something already
            raise LinkDown("the reply was lost on the simulated link")
        yield data

    def get_delta(self, sha256: str, *, base: str, codec: int) -> bytes:
        check_digest(base)
        return self._call(partial(self._hub.get_delta, base=base, codec=codec), check_digest(sha256))

    def get_release(self, release_id: str) -> bytes:
        return self._call(self._hub.get_release, release_id)

    def get_manifest(self, sha256: str) -> bytes:
        return self._call(self._hub.get_manifest, check_digest(sha256))

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
    """

    def __init__(self, base_url: str, credentials: Credentials, *, timeout_s: float = 20.0) -> None:
        self.base_url = base_url.rstrip("/")
        self._credentials = credentials
        self._timeout_s = timeout_s
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
        path = f"/blobs/{check_digest(sha256)}"
        last = "" if bytes_max is None else str(offset + bytes_max - 1)
        headers = {"Range": f"bytes={offset}-{last}"} if offset or last else {}
        left = bytes_max
        http = self._http
        try:
            with http.stream("GET", API + path, headers=headers) as response:
                refuse_failed(response)
                skip = offset if response.status_code == 200 else 0  # a server without ranges starts at the beginning
                for piece in response.iter_bytes(CHUNK_BYTES):
                    wanted, skip = piece[skip:][:left], max(0, skip - len(piece))
                    if wanted:
                        yield wanted
                    if left is not None and (left := left - len(wanted)) <= 0:
                        return
        except httpx.HTTPError as error:
            raise down(self.base_url, error) from error

    def get_delta(self, sha256: str, *, base: str, codec: int) -> bytes:
        return self._call("GET", f"/blobs/{check_digest(sha256)}/delta?base={check_digest(base)}&codec={codec:d}")

    def get_release(self, release_id: str) -> bytes:
        return self._call("GET", f"/releases/{quote(release_id, safe='@:')}/envelope")

    def get_manifest(self, sha256: str) -> bytes:
        return self._call("GET", f"/bundles/{check_digest(sha256)}/manifest")

    def _call(self, method: str, path: str, body: bytes = b"", media_type: str = "application/octet-stream") -> bytes:
        headers = {"Content-Type": media_type} if body or method in ("POST", "PUT") else {}
        return ask(self._http, self.base_url, method, API + path, body, headers)
