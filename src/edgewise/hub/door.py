"""The hub's half of a link in the same process: what the device routes do, without HTTP and TLS."""

from __future__ import annotations

import time
from concurrent.futures import Future
from functools import partial

from edgewise.hub import enrol, intake, known, repository_view
from edgewise.hub._hub import Hub
from edgewise.hub.counters import Counters
from edgewise.hub.enrol import Enrolment
from edgewise.hub.store.devices import DeviceRow
from edgewise.wire import NotNow, canonical, encode


class LocalDoor:
    """Implements `ports.HubDoor` for one hub. The caller vouches for the device's name."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def exchange(self, device: str, body: bytes) -> bytes:
        hub, started_s, outcome = self.hub, time.perf_counter(), "refused"
        try:
            answer = self._exchange(device, body)
            outcome = "stored"
        except NotNow:
            outcome = "not_now"
            raise
        finally:
            hub.counters.contact("full", outcome, time.perf_counter() - started_s)
        return answer

    def _exchange(self, device: str, body: bytes) -> bytes:
        hub = self.hub
        return intake.handle_contact(
            hub.store,
            device,
            body,
            hub.now(),
            known=hub.known,
            hub_epoch=hub.hub_epoch,
            signer_key=lambda: hub.key,
            chance=hub.chance,
            limits=hub.limits,
        )

    def quick(self, device: str, body: bytes) -> bytes | Future[bytes | None] | None:
        """What `exchange` answers, where that takes no waiting here: at once, or as a promise; None: ask `exchange`."""
        hub, started_s = self.hub, time.perf_counter()
        answer = intake.handle_at_once(
            device,
            body,
            hub.now(),
            known=hub.known,
            streams=hub.streams,
            hub_epoch=hub.hub_epoch,
            chance=hub.chance,
            limits=hub.limits,
        )
        if isinstance(answer, Future):
            answer.add_done_callback(partial(_count_stream, hub.counters, started_s))
        elif answer is not None:
            hub.counters.contact("quiet", "quiet", time.perf_counter() - started_s)
        return answer

    def put_blob(
        self, device: str, sha256: str, data: bytes, *, offset: int = 0, size_bytes: int | None = None
    ) -> None:
        """Take a blob's bytes from `offset` on, of a blob of `size_bytes`; without it they are all that is left."""
        self._known(device)
        size_bytes = offset + len(data) if size_bytes is None else size_bytes
        self.hub.uploads.put(device, sha256, data, offset=offset, size_bytes=size_bytes)

    def blob_offset(self, device: str, sha256: str) -> int | None:
        self._known(device)
        return self.hub.uploads.offset(device, sha256)

    def has_blob(self, device: str, sha256: str) -> bool:
        self._known(device)
        return self.hub.store.blobs.has(sha256)

    def get_blob(self, device: str, sha256: str, *, offset: int = 0) -> bytes:
        self._known(device)
        blobs = self.hub.store.blobs
        return b"".join(blobs.pieces(sha256, offset)) if offset else blobs.get(sha256)

    def get_delta(self, device: str, sha256: str, *, base: str, codec: int) -> bytes:
        return encode(self.hub.deltas.offer(self._known(device), sha256, base=base, codec=codec))

    def get_file(self, device: str, path: str, *, offset: int = 0) -> bytes:
        self._known(device)
        return repository_view.need_file(self.hub.store, path)[offset:]

    def enrol(self, enrolment: Enrolment) -> bytes:
        """Enrol a device and answer as `identity` does.

        Raises:
            NotNow: there is no root of trust yet; the token stays good.
        """
        hub = self.hub
        _ = hub.root  # first: a token must not be used up for a device that could check nothing
        return self.identity(enrol.enrol(hub.store, enrolment, now=hub.now(), chance=hub.chance).id)

    def identity(self, device: str) -> bytes:
        """What a device must know: its name, site, use case, whom to trust, the hub's epoch."""
        hub = self.hub
        return canonical(enrol.identity(hub.store, self._known(device), hub.root, hub.hub_epoch))

    def _known(self, device: str) -> DeviceRow:
        with self.hub.store.read() as connection:
            return known.known_device(connection, device)


def _count_stream(counters: Counters, started_s: float, answer: Future[bytes | None]) -> None:
    """Count a contact that shared a commit; one that takes the long way after all is counted there."""
    if answer.cancelled():
        return
    if answer.exception() is not None:
        counters.contact("stream", "not_now", time.perf_counter() - started_s)
    elif answer.result() is not None:
        counters.contact("stream", "stored", time.perf_counter() - started_s)
