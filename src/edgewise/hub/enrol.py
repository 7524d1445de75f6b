"""How a device becomes and stays known: a one-time token for a site is exchanged for its public key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgewise.hub import audit, usecases
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store, devices
from edgewise.hub.store.devices import DeviceRow, EnrolmentRow
from edgewise.ports import Chance
from edgewise.trust import new_token, token_digest
from edgewise.wire import NotTrusted, NotValid, PublicKey, plain

TOKEN_BYTES = 24
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Enrolment:
    """What a device shows to become known. That it has the private key was checked before.

    Attributes:
        public: its P-256 key.
        device: the name that it wishes for.
    """

    token: str
    public: PublicKey
    device: str | None = None
    facts: Mapping[str, str | float | int | bool] = field(default_factory=dict)


def make_token(
    store: Store,
    *,
    site: str,
    use_case: str,
    device: str | None = None,
    labels: Mapping[str, str] | None = None,
    who: str,
    now: datetime,
    chance: Chance,
    limits: Limits,
) -> tuple[str, datetime]:
    """A new one-time token and when it expires. It is shown once; the hub keeps its hash.

    Raises:
        NotValid: no such use case or site, or not a name for a device.
    """
    if device is not None:
        _check_name(device)
    token, expires_at = new_token(chance.bytes(TOKEN_BYTES)), now + timedelta(seconds=limits.enrolment_token_s)
    with store.write() as connection:
        usecases.check_site(usecases.need(connection, use_case), site)
        row: dict[str, Any] = {"digest": token_digest(token), "site": site, "use_case": use_case, "device": device}
        devices.add_token(connection, row | {"labels": dict(labels or {}), "made_at": now, "expires_at": expires_at})
        data = {"site": site, "use_case": use_case, "expires_at": expires_at.isoformat()}
        audit.note(connection, actor=who, action="token.made", subject=device or site, data=data, now=now)
    return token, expires_at


def enrol(store: Store, enrolment: Enrolment, *, now: datetime, chance: Chance) -> DeviceRow:
    """Enrol a device; comes back with it as the hub knows it now.

    The same request again gives the same answer, because the first one may have been lost on its way.

    Raises:
        NotTrusted: the token is unknown, used up, expired or for another device, or the key is another device's.
        NotValid: not a name, or the name is taken.
    """
    key = enrolment.public
    with store.write() as connection:
        token = devices.token(connection, token_digest(enrolment.token))
        if token is None:
            raise NotTrusted("this enrolment token is not known here; make a new one", code="token_unknown")
        usecases.need(connection, token.use_case)
        owner = devices.by_key(connection, key.keyid)
        if token.used_at is None:
            if token.expires_at < now:
                raise NotTrusted(
                    f"this enrolment token expired at {token.expires_at.isoformat()}; make a new one",
                    code="token_expired",
                )
            name = _add(connection, token, enrolment, key, now, chance)
        elif owner is not None and devices.token_user(connection, token.digest) == owner.id:
            name = owner.id
        else:
            raise NotTrusted("this enrolment token was used already; make a new one for each device", code="token_used")
        row = devices.get(connection, name)
        assert row is not None
        return row


def by_key(store: Store, public: PublicKey, *, now: datetime, grace: timedelta) -> DeviceRow:
    """The device that comes back with nothing but its key: within the grace after its certificate's end.

    Raises:
        NotTrusted: no device has this key, it was shut out, or too long away.
    """
    with store.write() as connection:
        row = devices.by_key(connection, public.keyid)
        if row is None:
            raise NotTrusted("this key belongs to no device here; enrol with a new token", code="unknown_device")
        if row.revoked_at is not None:
            raise NotTrusted(f"device {row.id} was shut out at {row.revoked_at.isoformat()}", code="device_revoked")
        end = row.certificate_ends_at
        if end is None or now > end + grace:
            until = "never had one" if end is None else f"ended at {end.isoformat()}, over {grace.days} days ago"
            raise NotTrusted(
                f"the certificate of device {row.id} {until}; make a new token for this device "
                f"(`edgewise hub enrol-token --device {row.id}`) and enrol it again",
                code="grace_over",
            )
        data = {"keyid": public.keyid, "ended_at": end.isoformat()}
        audit.note(connection, actor=f"device {row.id}", action="device.came_back", subject=row.id, data=data, now=now)
    return row


def certified(store: Store, device: str, ends_at: datetime) -> None:
    """Remember until when the device's newest certificate holds."""
    with store.write() as connection:
        devices.change(connection, device, certificate_ends_at=ends_at)


def identity(store: Store, device: DeviceRow, root: str, hub_epoch: str) -> dict[str, Any]:
    """What a device must know beyond its certificate."""
    with store.read() as connection:
        usecase = usecases.need(connection, device.use_case)
    return {
        "device": device.id,
        "site": device.site,
        "use_case": usecase.name,
        "usecase": plain(usecase),
        "root": root,
        "hub_epoch": hub_epoch,
    }


def shut_out(store: Store, device: str, *, reason: str, who: str, now: datetime) -> None:
    """Refuse everything this device sends from now on; only a new token made for it lets it in again.

    Raises:
        NotValid: there is no such device.
    """
    with store.write() as connection:
        row = devices.get(connection, device)
        if row is None:
            raise NotValid(f"there is no device {device[:80]!r}; see GET /api/v1/devices", code="device_unknown")
        if row.revoked_at is None:
            devices.change(connection, device, revoked_at=now)
            audit.note(
                connection, actor=who, action="device.shut_out", subject=device, data={"reason": reason}, now=now
            )


def _add(
    connection: sa.Connection, token: EnrolmentRow, enrolment: Enrolment, key: PublicKey, now: datetime, chance: Chance
) -> str:
    if token.device is not None and enrolment.device not in (None, token.device):
        raise NotTrusted(
            f"this enrolment token is for device {token.device}, not {str(enrolment.device)[:80]!r}",
            code="wrong_device",
        )
    name = _check_name(token.device or enrolment.device or f"device-{chance.id()[:8]}")
    owner, old = devices.by_key(connection, key.keyid), devices.get(connection, name)
    if owner is not None and owner.id != name:
        raise NotTrusted(
            f"this key is enrolled as device {owner.id} already; a key belongs to one device, make a new one",
            code="cloned_key",
        )
    # Only a token made for this very device may replace its key (a new disk); any other would let one take its name.
    if old is not None and token.device is None:
        raise NotValid(
            f"a device {name} is enrolled already; choose another name, or make a token for this device",
            code="device_exists",
        )
    values: dict[str, Any] = {
        "site": token.site,
        "use_case": token.use_case,
        "labels": token.labels,
        "public": key.public,
    }
    values |= {"keyid": key.keyid, "facts": dict(enrolment.facts), "enrolled_at": now, "revoked_at": None}
    values |= {"certificate_ends_at": None, "clone_seen": None}
    if old is None:
        devices.add(connection, {"id": name, **values})
    else:
        devices.change(connection, name, **values)
    devices.use_token(connection, token.digest, name, now)
    action = "device.enrolled" if old is None else "device.key_replaced"
    data = {"site": token.site, "use_case": token.use_case, "keyid": key.keyid}
    audit.note(connection, actor=f"device {name}", action=action, subject=name, data=data, now=now)
    return name


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise NotValid(
            f"{name[:80]!r} is not a name for a device; needs letters, digits and . _ @ : -, at most 128",
            code="name_invalid",
        )
    return name
