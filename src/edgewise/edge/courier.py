"""A device without any link: one stick brings the hub's answer, releases and assignment, and takes what waits here.

What comes is verified as over a link, all of it before anything changes: the release repository from the pinned root,
in a copy; the hub's listing by the keys that this repository names; every file by its digest; the assignment by its
number. Only then the same code as ever takes the receipt, the metadata, the assignment and the blobs.
"""

from __future__ import annotations

import base64
import binascii
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewise.edge._agent_config import load_config
from edgewise.edge._enrolment import load_identity
from edgewise.edge._folder_lock import locked
from edgewise.edge._opened import open_device
from edgewise.edge._trusted import Trusted
from edgewise.edge._update_state import Phase
from edgewise.edge.device import Device
from edgewise.policy import may_leave
from edgewise.ports import (
    Clock,
    Credentials,
    FolderLink,
    ListSource,
    StickPart,
    SystemClock,
    device_part,
    disk_error,
    hub_part,
)
from edgewise.trust import ders_of, open_envelope, seal_certified, validity_of
from edgewise.wire import NotTrusted, NotValid, PublicKey, Receipt, decode, encode, unpack_upload
from edgewise.wire.courier import (
    DEVICE_STICK_TYPE,
    HUB_STICK_TYPE,
    Acked,
    CourierReply,
    DeviceListing,
    HubListing,
    SealedListing,
)

STEPS_MAX = 10_000
IDLE_STEPS_MAX = 20  # without progress: the rest waits for a window, a condition or the agent
IDLE_S = 0.1
NO_HUB = "0" * 32
WORKING = (Phase.FETCHING, Phase.REVERTING)


def _no_answer(body: bytes) -> bytes:
    """The receipt of somebody who stored nothing: it acknowledges what was known to be, and asks for nothing."""
    header, _ = unpack_upload(body)
    receipt = Receipt(
        watermark=header.acked, epoch=header.epoch, hub_epoch=NO_HUB, next_contact_s=60, at=header.sent_at
    )
    return encode(receipt)


# -- what comes --------------------------------------------------------------------------------------------------------


def take_in(
    device: Device,
    folder: Path,
    stick: Path,
    clock: Clock,
    *,
    rest: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Take what the hub put on a stick for this device, and update as far as that goes now.

    Args:
        folder: of the device.
        rest: waits so many seconds, where the assignment bounds the bytes a second.
    Returns:
        what the device does now: phase, release, assignment, records that the hub has, what it waits for.
    Raises:
        NotTrusted: a signature, digest, number or version does not hold, or the stick is older than what is known
            here; nothing was changed. NotValid: no stick, or nothing on it for this device. NotNow: the disk.
    """
    part, reply, receipt = _check(device, folder, stick, clock.now())
    link = FolderLink(came=part, answer=_no_answer)
    before = device.backlog
    device.contacts.take_reply(encode(receipt), link, clock.now())
    acknowledged = max(0, before - device.backlog)
    _take_certificate(Credentials(folder), reply)
    _update(device, link, clock, rest)
    device.settle(clock.now())
    updater = device.updater
    return {
        "device": device.identity.device,
        "phase": updater.phase.value,
        "release": updater.running.release if updater.running else None,
        "assignment": updater.number,
        "acknowledged": acknowledged,
        "backlog": device.backlog,
        "waits_for": list(device.waits_for()),
    }


def _check(device: Device, folder: Path, stick: Path, now: datetime) -> tuple[StickPart, CourierReply, Receipt]:
    """The stick's files and the hub's answer, once everything about them holds. Changes nothing."""
    name = device.identity.device
    part = StickPart(hub_part(stick))
    sealed = part.sealed()
    try:
        listing = decode(HubListing, base64.b64decode(sealed.envelope.payload, validate=True))
    except (NotValid, binascii.Error) as error:
        raise NotTrusted(f"the stick's listing cannot be read: {error}", code="stick_damaged") from error
    if f"devices/{name}" not in listing.files:
        others = [path.removeprefix("devices/") for path in listing.files if path.startswith("devices/")]
        raise NotTrusted(
            f"this stick is for {', '.join(others[:5]) or 'no device'}, this device is {name}; export it with "
            f"`edgewise courier export --device {name}`",
            code="wrong_device",
        )
    part.take(listing.files)
    keys = _keys(device, folder, part, now)
    open_envelope(sealed.envelope, payload_type=HUB_STICK_TYPE, keys=keys)
    try:
        reply = decode(CourierReply, part.read(f"devices/{name}"))
    except NotValid as error:
        raise NotTrusted(f"the hub's answer cannot be read: {error}", code="stick_damaged") from error
    if reply.device != name or reply.hub_epoch != listing.hub_epoch:
        raise NotTrusted(f"the answer on the stick is for {reply.device}, this device is {name}", code="wrong_device")
    return part, reply, _receipt(device, reply, keys)


def _keys(device: Device, folder: Path, part: StickPart, now: datetime) -> Sequence[PublicKey]:
    """The director's keys as the repository on the stick names them, verified from here in a copy."""
    identity = device.identity
    with tempfile.TemporaryDirectory(prefix="edgewise-courier-") as place:
        if (folder / "tuf").is_dir():
            try:
                shutil.copytree(folder / "tuf", Path(place) / "tuf")
            except OSError as error:
                raise disk_error(error, Path(place)) from error
        trusted = Trusted(Path(place), root=identity.root, use_case=identity.use_case, clock=_At(now))
        trusted.refresh(FolderLink(came=part, answer=_no_answer))
        return tuple(trusted.keys())


def _receipt(device: Device, reply: CourierReply, keys: Sequence[PublicKey]) -> Receipt:
    """The receipt for this device's outbox. NotTrusted: the stick is older than what is known here."""
    state, outbox = device.updater.state, device.outbox
    if reply.hub_epoch in state.earlier_epochs:
        raise NotTrusted(
            "the stick was written before the hub was set up anew; export a new one at the hub", code="stick_old"
        )
    if reply.assignment is not None:
        device.updater.check(reply.assignment, keys)
    acked = next((one for one in reply.acked if one.epoch == outbox.epoch), Acked(epoch=outbox.epoch, watermark=0))
    if acked.watermark < outbox.acked:
        raise NotTrusted(
            f"the stick acknowledges up to {acked.watermark}, the hub has acknowledged up to {outbox.acked} already; "
            "it is an old stick, export a new one at the hub",
            code="stick_old",
        )
    return Receipt(
        watermark=acked.watermark,
        epoch=outbox.epoch,
        hub_epoch=reply.hub_epoch,
        refused=acked.refused,
        assignment=reply.assignment,
        metadata=reply.metadata,
        next_contact_s=reply.next_contact_s,
        at=reply.at,
    )


class _At:
    """A clock that stands."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return 0.0


def _take_certificate(credentials: Credentials, reply: CourierReply) -> None:
    """Use the next certificate where it lasts longer than this one."""
    if not reply.certificates:
        return
    chain = ders_of(reply.certificates.encode())
    if validity_of(chain[0])[1] > credentials.validity()[1]:
        credentials.take(chain)


def _update(device: Device, link: FolderLink, clock: Clock, rest: Callable[[float], None]) -> None:
    idle, seen = 0, ""
    for _ in range(STEPS_MAX):
        device.update_step(clock.now(), link)
        updater = device.updater
        now_seen = f"{updater.phase} {updater.waits_for}"
        idle = idle + 1 if now_seen == seen else 0
        seen = now_seen
        if updater.not_now is not None or updater.stuck or (idle and updater.phase not in WORKING):
            return
        if idle > IDLE_STEPS_MAX:
            return
        if idle:
            rest(IDLE_S)


# -- what goes ---------------------------------------------------------------------------------------------------------


def write_out(device: Device, credentials: Credentials, stick: Path, now: datetime) -> dict[str, Any]:
    """Put the report and all that is open onto a stick, signed; the device keeps it until the hub has it.

    Raises:
        NotNow: the stick is full. NotValid: it cannot be written, or nothing may leave by a courier.
    """
    may_leave(device.identity.usecase.data, "courier")
    name = device.identity.device
    device.settle(now)
    part = StickPart(device_part(stick, name))
    device.contacts.write_out(FolderLink(goes=part, answer=_no_answer), now)
    listing = DeviceListing(device=name, made_at=now, files=part.files)
    envelope = seal_certified(encode(listing), DEVICE_STICK_TYPE, credentials.key)
    part.publish(SealedListing(envelope=envelope, certificates=credentials.certificates().decode()))
    size_bytes = sum(file.size_bytes for file in part.files.values())
    return {"device": name, "files": len(part.files), "bytes": size_bytes, "backlog": device.backlog}


# -- as commands -------------------------------------------------------------------------------------------------------


def import_stick(data_dir: Path, stick: Path) -> dict[str, Any]:
    """`take_in` for the device in a folder. NotNow: its agent runs. Raises as `take_in`."""
    return with_device(data_dir, lambda device, clock: take_in(device, Path(data_dir), stick, clock))


def export_stick(data_dir: Path, stick: Path) -> dict[str, Any]:
    """`write_out` for the device in a folder. NotNow: its agent runs. Raises as `write_out`."""
    credentials = Credentials(data_dir)
    return with_device(data_dir, lambda device, clock: write_out(device, credentials, stick, clock.now()))


def with_device(data_dir: Path, work: Callable[[Device, Clock], dict[str, Any]]) -> dict[str, Any]:
    """What the work gives that is done with the device in a folder, without a link. NotNow: its agent runs."""
    data_dir = Path(data_dir)
    identity, config, clock = load_identity(data_dir), load_config(data_dir), SystemClock()
    with locked(data_dir):
        Credentials(data_dir).validity()  # raises where the folder is not whole
        nowhere = FolderLink(answer=_no_answer)
        device = open_device(
            data_dir, identity, config, link=nowhere, open_source=lambda _: ListSource(), clock=clock
        )  # fmt: skip
        try:
            return work(device, clock)
        finally:
            device.close(clock.now())
