"""The page of one device, and what a person decides about it: pins, and conflicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote

from fastapi import Form, Response

from edgewise.hub._hub import Hub
from edgewise.hub.access import Person
from edgewise.hub.api.auth import Operator, ThisHub
from edgewise.hub.api.standing import PinIn, ResolveIn, pin, resolve, unpin
from edgewise.hub.console import data
from edgewise.hub.console._render import page
from edgewise.hub.console._router import router
from edgewise.hub.console.login import Visitor
from edgewise.hub.console.rollout_pages import Reason, done
from edgewise.wire import NotValid

ACTS: dict[str, Callable[[str, str, Hub, Person], object]] = {
    "pin": lambda device, reason, hub, who: pin(device, PinIn(reason=reason), hub, who),
    "unpin": lambda device, _reason, hub, who: unpin(device, hub, who),
    "adopt": lambda device, reason, hub, who: resolve(device, ResolveIn(how="adopt", reason=reason), hub, who),
    "reassign": lambda device, reason, hub, who: resolve(device, ResolveIn(how="reassign", reason=reason), hub, who),
}


@router.get("/devices/{device}")
def device(hub: ThisHub, who: Visitor, device: str) -> Response:
    """One device: what it runs, which variant, where it stands, and what a person can decide about it."""
    return page(hub, who, "device.html", lambda: data.device(hub.store, who, device, hub.now()))


@router.post("/devices/{device}/decide")
def decide(hub: ThisHub, who: Operator, device: str, act: Annotated[str, Form()], reason: Reason = "") -> Response:
    """Pin, unpin, adopt or reassign, and back to the page."""
    back = f"/devices/{quote(device)}"

    def do() -> str:
        if act not in ACTS:
            raise NotValid(f"{act[:40]!r} cannot be done to a device; it knows {', '.join(ACTS)}", code="act_unknown")
        if act != "unpin" and not reason.strip():
            raise NotValid(f"{act} needs its reason; go back and write one", code="reason_missing")
        ACTS[act](device, reason.strip(), hub, who)
        return back

    return done(who, do, back=back)
