"""What lies on a courier's stick: signed listings over files named by their digests, and a hub's answer to a device."""

from __future__ import annotations

from pydantic import Field

from edgewise.wire._record import Digest, Id, Name, Record, Time
from edgewise.wire.contact import Refusal
from edgewise.wire.release import Envelope

HUB_STICK_TYPE = "application/vnd.edgewise.courier-hub+json"
DEVICE_STICK_TYPE = "application/vnd.edgewise.courier-device+json"
UPLOAD = "upload"  # the path of a device's upload
FILES_MAX = 20_000  # on one part of a stick


class StickFile(Record):
    sha256: Digest
    size_bytes: int = Field(ge=0)


class HubListing(Record):
    """Everything that a hub put on a stick; signed by the key of its assignments.

    Paths: ``tuf/metadata/…`` and ``tuf/targets/…`` as the repository serves them, ``blobs/<sha256>``,
    ``devices/<name>`` with a `CourierReply`.
    """

    hub_epoch: Id
    made_at: Time
    files: dict[str, StickFile] = Field(max_length=FILES_MAX)


class DeviceListing(Record):
    """Everything that a device put on a stick; signed by the key of its certificate. Paths: `UPLOAD`, ``blobs/…``."""

    device: Name
    made_at: Time
    files: dict[str, StickFile] = Field(max_length=FILES_MAX)


class Acked(Record):
    """What the hub has of one epoch of a device, as a receipt says it."""

    epoch: Id
    watermark: int = Field(ge=0)
    refused: tuple[Refusal, ...] = ()


class CourierReply(Record):
    """The hub's last word to one device; the listing's signature covers it."""

    device: Name
    hub_epoch: Id
    acked: tuple[Acked, ...] = ()
    assignment: Envelope | None = None
    metadata: int = Field(0, ge=0)
    next_contact_s: float = Field(gt=0)
    certificates: str = ""  # PEM: the device's next certificate and its issuer; empty where it must enrol again
    at: Time


class SealedListing(Record):
    """The file ``listing.json``: a listing in its envelope; a device's certificate and its issuer in PEM beside it."""

    envelope: Envelope
    certificates: str = Field("", max_length=64_000)
