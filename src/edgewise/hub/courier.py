"""The hub's side of a courier's stick: what devices without a link need, signed; what they sent, checked, stored.

Nothing on a stick is believed for being there: the hub's part is signed by the key of assignments, a device's part by
the key of its certificate, and an upload goes through the same intake as one over the link.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from edgewise.hub import audit, bundles, enrol, intake, repository, usecases
from edgewise.hub._hub import Hub
from edgewise.hub.access import Person
from edgewise.hub.door import LocalDoor
from edgewise.hub.known import known_device
from edgewise.hub.store import intake as rows
from edgewise.hub.store import repository as tuf_rows
from edgewise.hub.store.devices import DeviceRow
from edgewise.policy import may_leave
from edgewise.trust import ders_of, key_of, open_certified, pem_of, seal, validity_of
from edgewise.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, parse, role_of, version_of
from edgewise.wire import (
    SEGMENTS_MAX,
    Manifest,
    NotTrusted,
    NotValid,
    Receipt,
    Refusal,
    decode,
    digest,
    encode,
    unpack_upload,
)
from edgewise.wire.courier import (
    DEVICE_STICK_TYPE,
    HUB_STICK_TYPE,
    UPLOAD,
    Acked,
    CourierReply,
    DeviceListing,
    HubListing,
    SealedListing,
    StickFile,
)

DEVICES_MAX = 1000  # in one export


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """What goes onto a stick. Paths below ``blobs/`` are blobs of this hub; everything else is here."""

    sealed: SealedListing
    files: dict[str, bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What became of one file of a device's part."""

    device: str
    new: bool = False
    watermark: int = 0
    refused: int = 0


# -- out ---------------------------------------------------------------------------------------------------------------


def export(hub: Hub, names: Sequence[str], person: Person) -> Parcel:
    """Everything these devices need to come to what the hub wants, and what it has of theirs.

    Raises:
        NotTrusted: a device is unknown, shut out, or at a site that is not this person's.
        NotValid: no device, or too many. NotNow: there is no release repository yet.
    """
    if not 0 < len(set(names)) <= DEVICES_MAX:
        raise NotValid(f"{len(set(names))} devices are named, needs 1 to {DEVICES_MAX}", code="devices_count")
    _ = hub.root
    with hub.store.read() as connection:
        devices = [known_device(connection, name) for name in sorted(set(names))]
    person.check_sites([row.site for row in devices], "a courier's stick")
    files, blobs = _metadata(hub), dict[str, int]()
    for row in devices:
        targets, wanted = _wanted(hub, row)
        files |= targets
        blobs |= wanted
        files[f"devices/{row.id}"] = encode(_reply(hub, row))
    listed = {path: StickFile(sha256=digest(data), size_bytes=len(data)) for path, data in files.items()}
    listed |= {f"blobs/{name}": StickFile(sha256=name, size_bytes=size) for name, size in blobs.items()}
    listing = HubListing(hub_epoch=hub.hub_epoch, made_at=hub.now(), files=listed)
    sealed = SealedListing(envelope=seal(encode(listing), HUB_STICK_TYPE, [hub.key]))
    with hub.store.write() as connection:
        for row in devices:
            data = {"assignment": row.assignment_number, "listing": sealed.envelope.signatures[0].sig[:32]}
            audit.note(
                connection, actor=person.name, action="courier.exported", subject=row.id, data=data, now=hub.now()
            )
    return Parcel(sealed=sealed, files=files)


def _metadata(hub: Hub) -> dict[str, bytes]:
    """Every root, so that a device can follow from the one it pinned, and the newest of every other role."""
    files: dict[str, bytes] = {}
    with hub.store.read() as connection:
        newest = tuf_rows.newest(connection)
        for version in range(1, tuf_rows.newest_version(connection, ROOT) + 1):
            if (body := tuf_rows.document(connection, ROOT, version)) is not None:
                files[f"tuf/metadata/{version}.{ROOT}.json"] = body
    for role, body in newest.items():
        name = f"{TIMESTAMP}.json" if role == TIMESTAMP else f"{parse(body, role).signed.version}.{role}.json"
        files[f"tuf/metadata/{name}"] = body
    assert SNAPSHOT in newest, "a repository is published with its snapshot"
    return files | _targets(hub, newest[TARGETS], TARGETS, "")


def _targets(hub: Hub, document: bytes, role: str, prefix: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path, target in parse(document, role).signed.targets.items():
        if path.startswith(prefix):
            folder, slash, name = path.rpartition("/")
            sha256 = target.hashes["sha256"]
            found[f"tuf/targets/{folder}{slash}{sha256}.{name}"] = hub.store.blobs.get(sha256)
    return found


def _wanted(hub: Hub, row: DeviceRow) -> tuple[dict[str, bytes], dict[str, int]]:
    """The target files of the release that a device is told to run, and the sizes of its blobs by digest."""
    wanted = row.wanted
    if wanted is None or wanted.release is None or wanted.bundle is None:
        return {}, {}
    role = role_of(row.use_case)
    with hub.store.read() as connection:
        document = tuf_rows.document(connection, role)
    if document is None:
        return {}, {}
    prefix = f"{row.use_case}/{version_of(wanted.release, row.use_case)}/"
    manifest = decode(Manifest, bundles.need_manifest(hub.store, wanted.bundle))
    blobs = {blob.sha256: blob.size_bytes for blob in manifest.blobs.values()}
    return _targets(hub, document, role, prefix), blobs


def _reply(hub: Hub, row: DeviceRow) -> CourierReply:
    with hub.store.read() as connection:
        usecase = usecases.need(connection, row.use_case)
        acked = [_acked(connection, row.id, epoch, mark) for epoch, mark in rows.watermarks_of(connection, row.id)]
        metadata = repository.newest_metadata(connection)
    return CourierReply(
        device=row.id,
        hub_epoch=hub.hub_epoch,
        acked=tuple(acked),
        assignment=intake.sign_assignment(row.wanted, hub.key) if row.assignment is not None else None,
        metadata=metadata,
        next_contact_s=usecase.connectivity.contact_s,
        certificates=_next_certificate(hub, row),
        at=hub.now(),
    )


def _acked(connection: sa.Connection, device: str, epoch: str, watermark: int) -> Acked:
    # No more segments than that are open at once, so older refusals were told already.
    numbers = range(max(1, watermark - SEGMENTS_MAX + 1), watermark + 1)
    segments = [rows.segment(connection, device, epoch, number) for number in numbers]
    refused = [
        Refusal(number=one.number, code=one.refused_code, text=one.refused_text or "")
        for one in segments
        if one is not None and one.refused_code is not None
    ]
    return Acked(epoch=epoch, watermark=watermark, refused=tuple(refused))


def _next_certificate(hub: Hub, row: DeviceRow) -> str:
    """A device cannot ask for it without a link; its key is known, and the same grace counts as over the link."""
    if row.certificate_ends_at is None or hub.now() > row.certificate_ends_at + _grace(hub):
        return ""
    made = hub.authority.device_certificate(row.public_key, site=row.site, device=row.id, now=hub.now())
    enrol.certified(hub.store, row.id, validity_of(made)[1])
    return pem_of(made, hub.authority.device_issuer).decode()


# -- in ----------------------------------------------------------------------------------------------------------------


def take(hub: Hub, sealed: SealedListing, path: str | None, content: bytes, person: Person) -> Taken:
    """Check a device's listing; then one of its files: a blob is stored, an upload goes to the intake.

    Args:
        path: as listed; None checks the listing and stores nothing.
    Raises:
        NotTrusted: the certificate, the signature, a digest or the device does not hold; nothing is stored.
        NotValid: the policy lets nothing leave by a courier, or the intake refuses the upload. NotNow: the store is
            busy.
    """
    row, listing = _open(hub, sealed, person)
    with hub.store.read() as connection:
        # The policy in force here, which may be newer than the one that the device wrote its stick under.
        may_leave(usecases.need(connection, row.use_case).data, "courier")
    if path is None:
        return Taken(device=row.id)
    file = listing.files.get(path)
    if file is None or len(content) != file.size_bytes or digest(content) != file.sha256:
        raise NotTrusted(
            f"{path[:200]!r} with {len(content)} bytes is not what device {row.id} listed; the stick was changed",
            code="stick_damaged",
        )
    if path == f"blobs/{file.sha256}":
        LocalDoor(hub).put_blob(row.id, file.sha256, content)
        return Taken(device=row.id, new=True)
    if path != UPLOAD:
        raise NotTrusted(f"{path[:200]!r} is nothing that a device puts on a stick", code="stick_damaged")
    return _take_upload(hub, row, content, person)


def _take_upload(hub: Hub, row: DeviceRow, body: bytes, person: Person) -> Taken:
    header, _ = unpack_upload(body)
    with hub.store.read() as connection:
        before = rows.watermark(connection, row.id, header.epoch)
    newest = max((segment.number for segment in header.segments), default=0)
    # An upload that arrived before, by stick or link, must not make the device look older than it is.
    if header.device == row.id and newest <= before and row.sent_at is not None and header.sent_at <= row.sent_at:
        return Taken(device=row.id, watermark=before)
    receipt = decode(Receipt, LocalDoor(hub).exchange(row.id, body))
    if receipt.missing_blobs:
        raise NotValid(
            f"the stick of device {row.id} lacks blob {receipt.missing_blobs[0][:12]}…; export again at the device",
            code="blob_missing",
        )
    data = {"epoch": header.epoch, "from": before, "watermark": receipt.watermark, "upload": digest(body)}
    with hub.store.write() as connection:
        audit.note(connection, actor=person.name, action="courier.imported", subject=row.id, data=data, now=hub.now())
    return Taken(device=row.id, new=True, watermark=receipt.watermark, refused=len(receipt.refused))


def _open(hub: Hub, sealed: SealedListing, person: Person) -> tuple[DeviceRow, DeviceListing]:
    """The device that signed this, as it is enrolled now, and its listing."""
    try:
        certificate = ders_of(sealed.certificates.encode())[0]
        ends_at = validity_of(certificate)[1]
    except (NotValid, ValueError) as error:
        raise NotTrusted(f"the certificate on the stick cannot be read: {error}", code="certificate_invalid") from error
    now = hub.now()
    # Judged for a moment in which it held; how long ago that may be, the grace decides as for a device that comes back.
    who = hub.authority.who(certificate, min(now, ends_at))
    with hub.store.read() as connection:
        row = known_device(connection, who.device)
    if key_of(certificate) != row.public_key or who.site != row.site:
        raise NotTrusted(
            f"device {row.id} was enrolled again with another key; this stick is of the old one", code="key_replaced"
        )
    newest_end = max(ends_at, row.certificate_ends_at or ends_at)
    if now > newest_end + _grace(hub):
        raise NotTrusted(
            f"the certificate of device {row.id} ended at {newest_end.isoformat()}, over "
            f"{hub.config.certificates.grace_days} days ago; enrol it again with a new token",
            code="grace_over",
        )
    person.check_sites([row.site], f"the stick of device {row.id}")
    payload = open_certified(sealed.envelope, payload_type=DEVICE_STICK_TYPE, certificate=certificate)
    listing = decode(DeviceListing, payload)
    if listing.device != row.id:
        raise NotTrusted(f"device {row.id} signed a stick in the name of {listing.device}", code="wrong_device")
    return row, listing


def _grace(hub: Hub) -> timedelta:
    return timedelta(days=hub.config.certificates.grace_days)
