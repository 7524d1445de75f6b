"""Routes for use cases and devices."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from edgewise.hub import enrol, scope, usecases
from edgewise.hub.access import Person
from edgewise.hub.api.auth import Administrator, Operator, Reader, ThisHub, Watcher
from edgewise.hub.api.device import read_body
from edgewise.hub.api.models import (
    DeviceOut,
    Done,
    EnrolmentTokenIn,
    EnrolmentTokenOut,
    Reason,
    UseCaseOut,
)
from edgewise.hub.api.problems import responses
from edgewise.hub.store import devices, intake
from edgewise.hub.store import usecases as rows
from edgewise.hub.usecase_text import TEXT_BYTES_MAX, read_usecase
from edgewise.wire import NotValid

router = APIRouter()
TEXT = {"schema": {"type": "string", "description": "usecase.yaml as it is"}}
BODY = {"requestBody": {"required": True, "content": {"application/yaml": TEXT, "application/json": {"schema": {}}}}}


@router.get("/usecases", tags=["use cases"], responses=responses())
def list_usecases(hub: ThisHub, who: Reader) -> list[UseCaseOut]:
    """The use cases of the caller's sites, each in the version in force."""
    with hub.store.read() as connection:
        names = [
            name
            for name in rows.names(connection)
            if who.sites is None or who.sees_any(usecases.sites_of(connection, name))
        ]
        held = [rows.newest(connection, name) for name in names]
    return [UseCaseOut.model_validate(row) for row in held]


@router.post("/usecases", tags=["use cases"], responses=responses(413), openapi_extra=BODY)
async def apply_usecase(request: Request, hub: ThisHub, who: Administrator) -> UseCaseOut:
    """Put a use case in force; the body is ``usecase.yaml`` or the same as JSON. The same one again changes nothing."""
    body = await read_body(request.scope, request.receive, TEXT_BYTES_MAX)

    def apply() -> UseCaseOut:
        usecase = read_usecase(body)
        who.check_sites((site.name for site in usecase.sites), f"use case {usecase.name}")
        with hub.store.read() as connection:
            if rows.newest(connection, usecase.name) is not None:
                scope.check_whole(connection, who, usecase.name, f"use case {usecase.name}")
        source = body.decode(errors="replace")
        return UseCaseOut.model_validate(usecases.apply(hub.store, usecase, source=source, who=who.name, now=hub.now()))

    return await run_in_threadpool(apply)


@router.get("/usecases/{name}", tags=["use cases"], responses=responses(404))
def get_usecase(name: str, hub: ThisHub, who: Reader) -> UseCaseOut:
    """A use case in the version in force."""
    with hub.store.read() as connection:
        usecases.need(connection, name)
        scope.check_some(connection, who, name, f"use case {name}")
        return UseCaseOut.model_validate(rows.newest(connection, name))


@router.post("/enrolment-tokens", tags=["devices"], status_code=201, responses=responses(404))
def make_enrolment_token(wish: EnrolmentTokenIn, hub: ThisHub, who: Operator) -> EnrolmentTokenOut:
    """A one-time token with which one device makes itself known. It is shown here and never again."""
    who.check_sites([wish.site], "an enrolment token")
    token, expires_at = enrol.make_token(
        hub.store,
        site=wish.site,
        use_case=wish.use_case,
        device=wish.device,
        labels=wish.labels,
        who=who.name,
        now=hub.now(),
        chance=hub.chance,
        limits=hub.limits,
    )
    # The fingerprint lets the device know the hub's root before it sends the secret anywhere.
    return EnrolmentTokenOut(token=f"{token}.{hub.authority.fingerprint}", expires_at=expires_at)


@router.get("/devices", tags=["devices"], responses=responses())
def list_devices(hub: ThisHub, who: Watcher, use_case: str | None = None, site: str | None = None) -> list[DeviceOut]:
    """The devices of the caller's sites with their last report and what they should run."""
    with hub.store.read() as connection:
        found = devices.find(connection, use_case=use_case, site=site, sites=who.sites)
    return [DeviceOut.model_validate(row) for row in found]


@router.get("/devices/{device}", tags=["devices"], responses=responses(404))
def get_device(device: str, hub: ThisHub, who: Watcher) -> DeviceOut:
    """One device."""
    _check_device(hub, who, device)
    with hub.store.read() as connection:
        row = devices.get(connection, device)
    if row is None:
        raise NotValid(f"there is no device {device[:80]!r}; see GET /api/v1/devices", code="device_unknown")
    return DeviceOut.model_validate(row)


@router.get("/devices/{device}/records", tags=["devices"], responses=responses())
def list_records(
    device: str,
    hub: ThisHub,
    who: Watcher,
    after: Annotated[str, Query(max_length=32)] = "",
    limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
) -> list[str]:
    """Ids of everything that a device sent and the hub holds, in their order: to compare with what the device made."""
    _check_device(hub, who, device)
    with hub.store.read() as connection:
        return intake.record_ids(connection, device, after=after, limit=limit)


@router.post("/devices/{device}/shut-out", tags=["devices"], responses=responses(404))
def shut_out(device: str, why: Reason, hub: ThisHub, who: Operator) -> Done:
    """Refuse everything that this device sends from now on."""
    _check_device(hub, who, device)
    enrol.shut_out(hub.store, device, reason=why.reason, who=who.name, now=hub.now())
    return Done()


def _check_device(hub: ThisHub, who: Person, device: str) -> None:
    """Raises Refused where the device is at a site that is not this person's."""
    with hub.store.read() as connection:
        row = devices.get(connection, device)
    if row is not None:
        who.check_sites([row.site], f"device {device}")
