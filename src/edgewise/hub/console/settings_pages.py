"""Settings: the use case's text and its versions, people's tokens, and the keys that devices trust."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Form, Request, Response

from edgewise.hub import people, repository, repository_view
from edgewise.hub._hub import Hub
from edgewise.hub.access import MEANS, PERMITTED, ROLES, Action, Person
from edgewise.hub.api.auth import Administrator, ThisHub
from edgewise.hub.api.problems import status_of
from edgewise.hub.api.tuf import make_online_key
from edgewise.hub.console._render import page, render, sorry
from edgewise.hub.console._router import router
from edgewise.hub.console.cases import Case, case_page
from edgewise.hub.console.label_data import names
from edgewise.hub.console.login import Visitor, Visits
from edgewise.hub.console.paging import asked, made
from edgewise.hub.console.rollout_pages import done
from edgewise.hub.online_keys import ASSIGNMENT, NAMES
from edgewise.hub.store import usecases as usecase_rows
from edgewise.hub.store.people import TokenRow
from edgewise.wire import NotNow, NotValid

VisitingAdministrator = Annotated[Person, Depends(Visits((Action.ADMINISTER,)))]
DAYS_MAX = 5 * 365
TABS = (
    ("use-case", "Use case", "/settings"),
    ("people", "People", "/settings/people"),
    ("keys", "Keys", "/settings/keys"),
)


def _frame(hub: Hub, who: Person, tab: str) -> dict[str, Any]:
    with hub.store.read() as connection:
        known = names(connection, who)
    return {"names": known, "active": "settings", **_tabs(who, tab)}


def _tabs(who: Person, tab: str) -> dict[str, Any]:
    return {"tabs": [one for one in TABS if one[0] != "people" or who.may(Action.ADMINISTER)], "tab": tab}


# -- the use case ------------------------------------------------------------------------------------------------------


@router.get("/settings")
def use_case_text(request: Request, hub: ThisHub, who: Visitor, version: int | None = None) -> Response:
    """The text of a use case in one version, what changed in it, and all versions."""
    return case_page(request, hub, who, "settings_use_case.html", lambda case: _text(case, version), active="settings")


def _text(case: Case, version: int | None) -> Mapping[str, Any]:
    held = usecase_rows.versions(case.connection, case.name)
    wanted = held[-1].version if version is None else version
    row = next((one for one in held if one.version == wanted), None)
    if row is None:
        raise NotValid(f"{case.name} has no version {wanted}; it has 1 to {held[-1].version}", code="version_unknown")
    before = next((one for one in held if one.version == wanted - 1), None)
    return {
        **_tabs(case.who, "use-case"),
        "row": row,
        "before": before,
        "newest": held[-1].version,
        "versions": list(reversed(held))[: case.hub.limits.page_max],
        "changes": [] if before is None else changes(before.source, row.source),
    }


def changes(old: str, new: str) -> list[tuple[str, str]]:
    """Lines of a difference, each with what became of it: gone, new or same.

    >>> changes("a\\nb", "a\\nc")
    [('same', 'a'), ('gone', 'b'), ('new', 'c')]
    """
    words = {"-": "gone", "+": "new", " ": "same"}
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2)
    return [(words[line[0]], line[1:]) for line in lines if line[:3] not in ("---", "+++") and line[0] in words]


# -- people ------------------------------------------------------------------------------------------------------------


@router.get("/settings/people")
def people_page(request: Request, hub: ThisHub, who: VisitingAdministrator) -> Response:
    """Tokens, newest first, and a form for one more."""
    return page(hub, who, "settings_people.html", lambda: _people(request, hub, who))


def _people(request: Request, hub: Hub, who: Person) -> dict[str, Any]:
    wish = asked(request, request.query_params.get("use_case", "")).at("/settings/people")
    held = people.list_tokens(hub.store, by=who, limits=hub.limits)
    held = sorted(held, key=lambda row: (row.made_at, row.id), reverse=True)
    place, most = wish.place(), hub.limits.console_rows_max
    later = [row for row in held if place is None or (row.made_at, row.id) < place]
    means = {role: ", ".join(MEANS[action] for action in Action if action in PERMITTED[role]) for role in ROLES}
    return {
        **_frame(hub, who, "people"),
        "page": wish.page(later[: most + 1], most, made),
        "asked": wish,
        "roles": means,
        "sites": sorted(who.sites) if who.sites is not None else None,
        "days_max": DAYS_MAX,
        "ended": {row.id for row in held if is_over(row, hub)},
    }


def is_over(row: TokenRow, hub: Hub) -> bool:
    """Whether a token lets nobody in any more."""
    return row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= hub.now())


@router.post("/settings/people")
def add_token(
    hub: ThisHub,
    who: Administrator,
    name: Annotated[str, Form(max_length=200)] = "",
    role: Annotated[str, Form(max_length=40)] = "",
    sites: Annotated[str, Form(max_length=10_000)] = "",
    days: Annotated[str, Form(max_length=10)] = "",
) -> Response:
    """Make a token; the page that follows is the only place where it is ever shown."""
    try:
        if role not in ROLES:
            raise NotValid(f"there is no role {role[:40]!r}; choose one of {', '.join(ROLES)}", code="role_unknown")
        wanted = [site for site in (part.strip() for part in sites.split(",")) if site]
        text, row = people.make_token(
            hub.store,
            name=name.strip(),
            role=role,
            sites=wanted or None,
            expires_at=None if not days.strip() else hub.now() + timedelta(days=_days(days)),
            by=who,
            now=hub.now(),
            chance=hub.chance,
            limits=hub.limits,
        )
    except (NotValid, NotNow) as error:
        return sorry(
            error, who, status=422 if isinstance(error, NotValid) else status_of(error), back="/settings/people"
        )
    return render("settings_token.html", {**_frame(hub, who, "people"), "text": text, "row": row}, who=who)


def _days(text: str) -> int:
    if not (text.strip().isascii() and text.strip().isdecimal() and 1 <= int(text) <= DAYS_MAX):
        raise NotValid(f"{text[:10]!r} is no number of days; needs 1 to {DAYS_MAX}, or nothing", code="expiry_invalid")
    return int(text)


@router.get("/settings/people/{token}/revoke")
def confirm_revoke(hub: ThisHub, who: VisitingAdministrator, token: str) -> Response:
    """What revoking a token will do, before it is done."""

    def values() -> dict[str, Any]:
        held = {row.id: row for row in people.list_tokens(hub.store, by=who, limits=hub.limits)}
        if token not in held:
            raise NotValid(f"there is no token {token[:40]!r}; see the list of people", code="people_token_unknown")
        return {**_frame(hub, who, "people"), "row": held[token], "own": token == who.token}

    return page(hub, who, "settings_revoke.html", values)


@router.post("/settings/people/{token}/revoke")
def revoke(hub: ThisHub, who: Administrator, token: str) -> Response:
    """Revoke it, and back to the list."""

    def do() -> str:
        people.revoke_token(hub.store, token, by=who, now=hub.now())
        return "/settings/people"

    return done(who, do, back="/settings/people")


# -- keys --------------------------------------------------------------------------------------------------------------


@router.get("/settings/keys")
def keys_page(hub: ThisHub, who: Visitor) -> Response:
    """Whom devices trust: roles with their keys, what waits for signatures, and the hub's own keys."""

    def values() -> dict[str, Any]:
        state = repository_view.state(hub.store, hub.online)
        return {**_frame(hub, who, "keys"), "trust": state, "own": own_keys(hub, state)}

    return page(hub, who, "settings_keys.html", values)


def own_keys(hub: Hub, state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The hub's own keys: the one that signs now, those that wait to be named by the offline roles, and older ones."""
    named = {role["role"]: {key["keyid"] for key in role["keys"]} for role in state["roles"]}
    found = []
    for name in NAMES:
        ids = [key["keyid"] for key in state["online"][name]]
        signs = _signing_now(hub, name, ids, named)
        at = -1 if signs is None else ids.index(signs)
        words = ["signs now" if place == at else "older" if place < at else "waits" for place in range(len(ids))]
        found.append(
            {
                "name": name,
                "keys": list(zip(ids, words, strict=True)),
                "role": "director" if name == ASSIGNMENT else name,
            }
        )
    return found


def _signing_now(hub: Hub, name: str, ids: list[str], named: Mapping[str, set[str]]) -> str | None:
    if name == ASSIGNMENT:
        return repository.assignment_key(hub.store, hub.online).public.keyid
    return next((one for one in reversed(ids) if one in named.get(name, set())), None)


@router.get("/settings/keys/{name}/new")
def confirm_key(hub: ThisHub, who: VisitingAdministrator, name: str) -> Response:
    """What a new online key is for, before it is made."""

    def values() -> dict[str, Any]:
        hub.online.of(name)
        return {**_frame(hub, who, "keys"), "name": name, "role": "director" if name == ASSIGNMENT else name}

    return page(hub, who, "settings_key_new.html", values)


@router.post("/settings/keys/{name}/new")
def new_key(hub: ThisHub, who: Administrator, name: str) -> Response:
    """Make one more online key, and back to the list."""

    def do() -> str:
        make_online_key(name, hub, who)
        return "/settings/keys"

    return done(who, do, back="/settings/keys")
