"""The hub's half of a link in the same process: what the device routes do, without HTTP and signatures."""

from __future__ import annotations

from edgewise.hub import enrol, intake, repository_view
from edgewise.hub._hub import Hub
from edgewise.hub.enrol import Enrolment
from edgewise.wire import NotValid, canonical, decode


class LocalDoor:
    """Implements `ports.HubDoor` for one hub. The caller vouches for the device's name."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def exchange(self, device: str, body: bytes) -> bytes:
        hub = self.hub
        return intake.handle_contact(
            hub.store,
            device,
            body,
            hub.now(),
            hub_epoch=hub.hub_epoch,
            signer_key=lambda: hub.key,
            chance=hub.chance,
            limits=hub.limits,
        )

    def put_blob(self, device: str, sha256: str, data: bytes) -> None:
        self._known(device)
        if len(data) > self.hub.limits.blob_bytes_max:
            raise NotValid(
                f"blob {sha256[:12]}… has {len(data)} bytes, at most {self.hub.limits.blob_bytes_max} are taken",
                code="too_big",
            )
        self.hub.store.blobs.put_as(sha256, data)

    def has_blob(self, device: str, sha256: str) -> bool:
        self._known(device)
        return self.hub.store.blobs.has(sha256)

    def get_blob(self, device: str, sha256: str, *, offset: int = 0) -> bytes:
        self._known(device)
        return self.hub.store.blobs.get(sha256)[offset:]

    def get_file(self, device: str, path: str, *, offset: int = 0) -> bytes:
        self._known(device)
        return repository_view.need_file(self.hub.store, path)[offset:]

    def enrol(self, body: bytes) -> bytes:
        """The answer to an enrolment, as POST /enrol gives it."""
        hub = self.hub
        answer = enrol.enrol(
            hub.store,
            decode(Enrolment, body),
            root=hub.root,
            hub_epoch=hub.hub_epoch,
            now=hub.now(),
            chance=hub.chance,
        )
        return canonical(answer)

    def _known(self, device: str) -> None:
        with self.hub.store.read() as connection:
            intake.known_device(connection, device)
