"""Lists of devices, rollouts and releases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from edgewise.hub.api.auth import ThisHub
from edgewise.hub.console._router import router
from edgewise.hub.console.cases import Case, case_page
from edgewise.hub.console.login import Visitor
from edgewise.hub.console.paging import asked, made
from edgewise.hub.console.todo import quiet
from edgewise.hub.rollout import State
from edgewise.hub.store import bundles, champions, lists, releases
from edgewise.hub.store.devices import DeviceRow
from edgewise.hub.store.rollouts import RolloutRow

PHASES = ("new", "idle", "fetching", "staged", "shadow", "trial", "committed", "reverting")
SHOWS = {"alone": "pinned or in conflict", "silent": "out of contact"}


@router.get("/devices")
def devices_list(request: Request, hub: ThisHub, who: Visitor) -> Response:
    """The devices of a use case, with filters."""
    return case_page(request, hub, who, "devices.html", lambda case: _devices(request, case), active="devices")


def _devices(request: Request, case: Case) -> Mapping[str, Any]:
    wish = asked(request, case.name, "site", "phase", "release", "begins", "show")
    since = case.hub.now() - quiet(case.usecase)
    found = lists.devices_page(
        case.connection,
        case.name,
        sites=case.who.sites,
        site=wish["site"],
        phase=wish["phase"],
        release=wish["release"],
        begins=wish["begins"],
        alone=wish["show"] == "alone",
        silent_since=since if wish["show"] == "silent" else None,
        after=wish.cursor,
        limit=case.rows + 1,
    )
    page = wish.page(found, case.rows, lambda row: row.id)
    return {
        "asked": wish,
        "page": page,
        "fields": [
            ("site", "site", case.mine),
            ("phase", "phase", PHASES),
            ("release", "runs", None),
            ("begins", "name begins with", None),
            ("show", "only", tuple(SHOWS)),
        ],
        "away": {row.id for row in page.rows if _is_away(row, case)},
    }


def _is_away(row: DeviceRow, case: Case) -> bool:
    return row.revoked_at is None and (row.seen_at is None or case.hub.now() - row.seen_at > quiet(case.usecase))


@router.get("/rollouts")
def rollouts_list(request: Request, hub: ThisHub, who: Visitor) -> Response:
    """The rollouts of a use case, newest first."""
    return case_page(
        request, hub, who, "rollouts.html", lambda case: _rollouts(request, case), active="rollouts", whole=True
    )


def _rollouts(request: Request, case: Case) -> Mapping[str, Any]:
    wish = asked(request, case.name, "state")
    found = lists.rollouts_page(
        case.connection, case.name, state=wish["state"], before=wish.place(), limit=case.rows + 1
    )
    page = wish.page(found, case.rows, made)
    return {
        "asked": wish,
        "page": page,
        "fields": [("state", "state", tuple(state.value for state in State))],
        "told": {row.id: in_short(row) for row in page.rows},
    }


def in_short(row: RolloutRow) -> dict[str, Any]:
    """What the controller remembers of a rollout, without a look at the fleet."""
    data = row.data or {}
    waves, evidence = data.get("waves", []), data.get("evidence", {})
    return {
        "wave": len(waves),
        "passed": sum(1 for wave in waves if wave.get("passed_at")),
        "exposed": len(data.get("exposed", {})),
        "failed": len(data.get("failed", {})),
        "wins": evidence.get("wins", 0),
        "losses": evidence.get("losses", 0),
        "e_value": evidence.get("e_value", 1.0),
    }


@router.get("/releases")
def releases_list(request: Request, hub: ThisHub, who: Visitor) -> Response:
    """The releases of a use case, newest first, each with what it was made of."""
    return case_page(request, hub, who, "releases.html", lambda case: _releases(request, case), active="releases")


def _releases(request: Request, case: Case) -> Mapping[str, Any]:
    wish = asked(request, case.name)
    found = lists.releases_page(case.connection, case.name, before=wish.number(), limit=case.rows + 1)
    page = wish.page(found, case.rows, lambda row: row.version)
    champion = champions.champion(case.connection, case.name)
    return {
        "asked": wish,
        "page": page,
        "champion": None if champion is None else champion.id,
        "lines": [_lineage(case, row.bundle) for row in page.rows],
    }


def _lineage(case: Case, bundle: str) -> dict[str, Any]:
    """What a release's bundle began from, and how large it is."""
    row, manifest = bundles.get(case.connection, bundle), bundles.manifest(case.connection, bundle)
    made_from = None if manifest is None else manifest.provenance
    parent = None if made_from is None or made_from.parent is None else made_from.parent
    known = releases.of_bundle(case.connection, parent) if parent else []
    return {
        "parent_release": known[0].id if known else None,
        "size_bytes": None if row is None else row.size_bytes,
        "parent": parent,
        "revision": None if made_from is None else made_from.revision,
        "order": None if made_from is None else made_from.order,
    }
