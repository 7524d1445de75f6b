"""Routes for erasures: to order one, and to see where it is done."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field

from edgewise.hub import erasures
from edgewise.hub.api.auth import Approver, ThisHub
from edgewise.hub.api.models import Out
from edgewise.hub.api.problems import responses
from edgewise.hub.body import Body
from edgewise.hub.erasures import Progress
from edgewise.wire import Erasure, canonical, decode
from edgewise.wire._record import Digest, Name

router = APIRouter()


class ErasureIn(Body):
    use_case: Name
    subject: Digest | None = Field(None, description="keyed hash, as `edgewise edge subject` prints it on the device")
    site: Name | None = Field(None, description="all sites of the use case where it is left out")
    since: AwareDatetime | None = Field(None, description="of what was taken from then on")
    until: AwareDatetime | None = Field(
        None, description="of what was taken until then; all that is held when a device carries it out without"
    )
    reason: str = Field(min_length=1, max_length=500, description="it goes to devices and into the audit log")


class ErasureOut(Out):
    number: int
    use_case: str
    subject: str | None
    site: str | None
    since: datetime | None
    until: datetime | None
    reason: str
    who: str
    made_at: datetime
    done: int = Field(description="devices that have reported it as done")
    devices: int = Field(description="devices that it reaches and that are not shut out")


@router.post("/erasures", tags=["erasures"], status_code=201, responses=responses(404))
def create_erasure(wish: ErasureIn, hub: ThisHub, who: Approver) -> ErasureOut:
    """Order that devices, and the hub for what they have under way, forget a subject, a site or a time."""
    given = wish.model_dump(mode="json", exclude_none=True, exclude={"use_case"})
    return _out(erasures.create(hub, wish.use_case, decode(Erasure, canonical(given)), who))


@router.get("/erasures", tags=["erasures"], responses=responses())
def list_erasures(
    hub: ThisHub, who: Approver, use_case: Annotated[str | None, Query(max_length=160)] = None
) -> list[ErasureOut]:
    """The newest erasures at the caller's sites, with how far they are."""
    return [_out(one) for one in erasures.listed(hub, who, use_case)]


def _out(one: Progress) -> ErasureOut:
    fields = {name: getattr(one.row, name) for name in ErasureOut.model_fields if name not in ("done", "devices")}
    return ErasureOut(**fields, done=one.done, devices=one.devices)
