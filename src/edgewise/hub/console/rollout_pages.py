"""Pages of rollouts: one as it stands, the step before each act, and what a release would do before it starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Form, Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, StreamingResponse

from edgewise.hub import releases as release_acts
from edgewise.hub import rollouts as rollout_acts
from edgewise.hub import scope
from edgewise.hub.access import Action, Person, Refused
from edgewise.hub.api.auth import Operator, ThisHub
from edgewise.hub.api.previews import preview_rollout
from edgewise.hub.api.problems import status_of
from edgewise.hub.api.rollouts import RolloutIn, create_rollout, operate, said
from edgewise.hub.console import acts, data
from edgewise.hub.console._render import is_part, page, sorry
from edgewise.hub.console._router import router
from edgewise.hub.console.login import Visitor, Visits
from edgewise.hub.console.watching import Watchers
from edgewise.hub.rollout import Event
from edgewise.hub.rollout_status import RolloutStatus
from edgewise.hub.store import rollouts as rollout_rows
from edgewise.hub.usecase_text import read_policy
from edgewise.wire import EdgewiseError, NotValid, explain

REASON_CHARACTERS_MAX = 500
POLICY_CHARACTERS_MAX = 20_000
VisitingOperator = Annotated[Person, Depends(Visits((Action.OPERATE,)))]
Reason = Annotated[str, Form(max_length=REASON_CHARACTERS_MAX)]
Policy = Annotated[str, Query(max_length=POLICY_CHARACTERS_MAX)]


@router.get("/rollouts/{rollout}")
def rollout(request: Request, hub: ThisHub, who: Visitor, rollout: str) -> Response:
    """One rollout: where it stands, stages, evidence, and what a person can do; for htmx the part that changes."""
    template = "_rollout.html" if is_part(request) else "rollout.html"
    return page(hub, who, template, lambda: data.rollout(hub.store, who, rollout, hub.now()))


@router.get("/rollouts/{rollout}/watch")
async def watch(request: Request, hub: ThisHub, who: Visitor, rollout: str) -> Response:
    """An event for each change of a rollout, as it happens; after a while the page asks again, with its session."""

    def check() -> str:
        with hub.store.read() as connection:
            row = rollout_acts.need(connection, rollout)
            scope.check_whole(connection, who, row.use_case, f"rollout {rollout}")
            return row.use_case

    use_case = await run_in_threadpool(check)
    watchers: Watchers = request.app.state.watchers
    if watchers.are_full:
        return Response("too many pages follow a rollout; this one asks every few seconds instead", status_code=503)

    def stamp() -> str:
        with hub.store.read() as connection:
            return rollout_rows.stamp(connection, rollout, use_case)

    return StreamingResponse(
        watchers.changes(stamp), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


@router.get("/rollouts/{rollout}/{act}")
def confirm(hub: ThisHub, who: Visitor, rollout: str, act: str) -> Response:
    """What an act will do, before it is done."""

    def values() -> dict[str, Any]:
        event, found = _event(act), data.rollout(hub.store, who, rollout, hub.now())
        status = found["rollout"]
        wanted = acts.find(status, who, event)
        if wanted is None:
            who.check(acts.NEEDS[event])
            raise NotValid(_not_offered(status, who, event), code="act_not_now")
        return {**found, "act": wanted, "told": wanted.told(status)}

    return page(hub, who, "confirm.html", values)


@router.post("/rollouts/{rollout}/{act}")
def operate_rollout(hub: ThisHub, who: Operator, rollout: str, act: str, reason: Reason = "") -> Response:
    """Approve, deny, pause, resume, revert or abort, and back to the page."""
    back = f"/rollouts/{quote(rollout)}"

    def do() -> str:
        event = _event(act)
        if event in acts.WITH_REASON and not reason.strip():
            raise NotValid(f"{act} needs its reason; go back and write one", code="reason_missing")
        operate(hub, rollout, event, who, said(event, who, reason.strip()))
        return back

    return done(who, do, back=back)


@router.get("/releases/{release}/preview")
def preview(
    hub: ThisHub,
    who: VisitingOperator,
    release: str,
    policy: Policy = "",
    away_percent: Annotated[float, Query(ge=0, le=100)] = 0,
) -> Response:
    """What a rollout of this release would do if it began now."""

    def values() -> dict[str, Any]:
        with hub.store.read() as connection:
            row = release_acts.need(connection, release)
            scope.check_whole(connection, who, row.use_case, f"a rollout of {release}")
        wrong, seen = "", None
        try:
            seen = preview_rollout(_wish(release, policy), hub, who, away_percent / 100, None)
        except NotValid as error:
            wrong = str(error)
        return {"release": release, "policy": policy, "away_percent": away_percent, "preview": seen, "wrong": wrong}

    return page(hub, who, "preview.html", values)


@router.post("/releases/{release}/rollouts")
def start(
    hub: ThisHub,
    who: Operator,
    release: str,
    policy: Annotated[str, Form(max_length=POLICY_CHARACTERS_MAX)] = "",
    why: Reason = "",
) -> Response:
    """Start a rollout as it was previewed, and on to its page."""

    def do() -> str:
        more = {"why": why.strip()} if why.strip() else {}
        return f"/rollouts/{create_rollout(_wish(release, policy, **more), hub, who).id}"

    return done(who, do, back=f"/releases/{quote(release)}/preview?policy={quote(policy)}")


def done(who: Person, act: Callable[[], str], *, back: str) -> Response:
    """On to the page that the act names, or a page that says why it could not be done."""
    try:
        return RedirectResponse(act(), status_code=303)
    except Refused:
        raise
    except EdgewiseError as error:
        return sorry(error, who, status=status_of(error), back=back)


def _event(act: str) -> Event:
    known = {event.value: event for event in acts.NEEDS}
    if act not in known:
        raise NotValid(f"{act[:40]!r} cannot be done to a rollout; it knows {', '.join(known)}", code="act_unknown")
    return known[act]


def _not_offered(status: RolloutStatus, who: Person, event: Event) -> str:
    if event is Event.APPROVE and acts.made_it(status, who):
        return f"you made this rollout of {status.release}, so somebody else has to approve it"
    possible = ", ".join(act.event.value for act in acts.offered(status, who)) or "nothing"
    return f"'{event}' cannot happen to a rollout of {status.release} that is {status.state}; possible now: {possible}"


def _wish(release: str, policy: str, **more: str) -> RolloutIn:
    """The release with the fields of the policy that a person wrote, as YAML."""
    changes = read_policy(policy, name="the changes") if policy.strip() else {}
    try:
        return RolloutIn.model_validate_json(json.dumps({"release": release, **changes, **more}))
    except ValidationError as error:
        raise NotValid(f"the rollout's policy has mistakes: {explain(error)}", code="policy_invalid") from error
