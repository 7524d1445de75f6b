"""What the console's pages show, gathered from the store's questions at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub import releases as release_acts
from edgewise.hub import rollouts as rollout_acts
from edgewise.hub import scope, usecases
from edgewise.hub.access import Person
from edgewise.hub.console import acts, device_story
from edgewise.hub.console.label_data import names
from edgewise.hub.console.scorecard import scorecard
from edgewise.hub.console.story import stages_of, story_of, words_of
from edgewise.hub.console.todo import quiet, things_to_do
from edgewise.hub.pins import pin_text
from edgewise.hub.rollout_status import RolloutStatus, statuses
from edgewise.hub.rollout_words import DEVICE_STATES, device_state
from edgewise.hub.situation import Situation
from edgewise.hub.store import (
    Store,
    bundles,
    champions,
    costs,
    devices,
    failures,
    intake,
    lists,
    orders,
    releases,
    samples,
    verdicts,
)
from edgewise.hub.store import labels as label_rows
from edgewise.hub.store import rollouts as rollout_rows
from edgewise.hub.store.devices import DeviceRow
from edgewise.hub.store.rollouts import RolloutRow
from edgewise.wire import NotValid, UseCase

ROUNDS_MAX = 12
ROLLOUTS_MAX = 6
HISTORY_MAX = 20
FLEET_NAMED_MAX = 50  # devices that the overview names one by one; of more it counts those of each site


def overview(store: Store, who: Person, use_case: str | None, now: datetime) -> dict[str, Any]:
    """The loop of one use case in numbers, as far as this person's sites go, and what a person should do."""
    with store.read() as connection:
        known = names(connection, who)
        if not known:
            return {"names": [], "usecase": None, "active": "overview"}
        usecase = usecases.need(connection, use_case or known[0])
        scope.check_some(connection, who, usecase.name, f"use case {usecase.name}")
        whole = who.sees_all(usecases.sites_of(connection, usecase.name))
        champion = champions.champion(connection, usecase.name)
        about: dict[str, Any] = {"champion": None if champion is None else champion.id, "sites": who.sites}
        sites = lists.site_counts(connection, usecase.name, silent_since=now - quiet(usecase), **about)
        total = sum(row["devices"] for row in sites)
        fleet = devices.find(connection, use_case=usecase.name, sites=who.sites) if total <= FLEET_NAMED_MAX else None
        found = rollout_rows.find(connection, use_case=usecase.name, limit=ROLLOUTS_MAX) if whole else []
        # The whole status of a rollout looks at every device, which is for its own page where these are many.
        shown = statuses(connection, found, now=now) if fleet is not None else []
        return {
            "names": known,
            "active": "overview",
            "usecase": usecase,
            "champion": champion,
            "counts": counts(connection, who, usecase),
            "devices_total": total,
            "site_counts": sites,
            "sites": None if fleet is None else _sites(usecase, who, fleet, now),
            "rounds": _rounds(connection, usecase.name) if whole else [],
            "rollouts": found,
            "shown": shown,
            "chart": _chart(next((item for item in shown if len(item.history) > 1), None)),
            "todo": things_to_do(connection, who, usecase, found, now, whole=whole, sites=sites),
            "whole": whole,
        }


def release(store: Store, who: Person, name: str) -> dict[str, Any]:
    """One release with its verdict, bundle and the devices that run it."""
    with store.read() as connection:
        row = release_acts.need(connection, name)
        scope.check_some(connection, who, row.use_case, f"release {name}")
        whole = who.sees_all(usecases.sites_of(connection, row.use_case))
        verdict = verdicts.get(connection, row.verdict) if row.verdict is not None and whole else None
        fleet = devices.find(connection, use_case=row.use_case, sites=who.sites)
        mine = {device.id for device in fleet}
        return {
            "active": "releases",
            "names": names(connection, who),
            "usecase": usecases.need(connection, row.use_case),
            "release": row,
            "manifest": bundles.manifest(connection, row.bundle),
            "verdict": None if verdict is None else verdict.verdict,
            "card": scorecard(connection, name) if verdict is not None else None,
            "running": [device for device in fleet if device.release == name],
            "commits": [
                row for row in devices.commits_of(connection, release=name) if who.sites is None or row.device in mine
            ],
            "rollouts": rollout_rows.find(connection, release=name) if whole else [],
            "whole": whole,
        }


def rollout(store: Store, who: Person, name: str, now: datetime) -> dict[str, Any]:
    """One rollout, whole."""
    with store.read() as connection:
        row = rollout_acts.need(connection, name)
        scope.check_whole(connection, who, row.use_case, f"rollout {name}")
        status = statuses(connection, [row], now=now)[0]
        stages = stages_of(status)
        return {
            "active": "rollouts",
            "names": names(connection, who),
            "usecase": usecases.need(connection, row.use_case),
            "rollout": status,
            "story": story_of(status),
            "stages": stages,
            "words": words_of(stages),
            "acts": acts.offered(status, who),
            "made_it": acts.made_it(status, who),
            "chart": _chart(status),
        }


def device(store: Store, who: Person, name: str, now: datetime) -> dict[str, Any]:
    """One device: what it runs and should run, and where it stands in the newest rollout that moved anything."""
    with store.read() as connection:
        row = devices.get(connection, name)
        if row is None:
            raise NotValid(f"there is no device {name[:80]!r}; see the overview", code="device_unknown")
        who.check_sites([row.site], f"device {name}")
        usecase = usecases.need(connection, row.use_case)
        found = rollout_rows.find(connection, use_case=row.use_case, limit=ROLLOUTS_MAX)
        newest = next((item for item in found if item.state not in ("waiting", "superseded", "aborted")), None)
        stands = None if newest is None else _standing(connection, usecase, newest, row, now)
        return {
            "active": "devices",
            "names": names(connection, who),
            "usecase": usecase,
            "device": row,
            "story": device_story.story_of(row, stands, quiet=quiet(usecase), now=now),
            "pinned": pin_text(row.pin),
            "stands": stands,
            "whole": who.sees_all(usecases.sites_of(connection, row.use_case)),
            "history": list(reversed(devices.commits_of(connection, device=name)))[:HISTORY_MAX],
            "failures": failures.page(connection, device=name, limit=HISTORY_MAX),
            "events": intake.events_of(connection, device=name, limit=HISTORY_MAX),
            "sent": costs.of_devices(connection, [name]).get(name),
        }


def _standing(
    connection: sa.Connection, usecase: UseCase, row: RolloutRow, device: DeviceRow, now: datetime
) -> dict[str, Any] | None:
    """Where one device stands in a rollout: its state, its variant or why none fits; None for one that was shut out."""
    rollout = rollout_acts.as_rollout(connection, row)
    fleet = Situation(connection, usecase, now, started_at=now, only=device).fleet(rollout, row.data or {})
    seen = next(iter(fleet), None)
    if seen is None:
        return None
    state = device_state(rollout, seen, now)
    means = next(text for name, text, _ in DEVICE_STATES if name is state)
    return {"rollout": row, "device": seen, "state": state.value, "means": means}


def counts(connection: sa.Connection, who: Person, usecase: UseCase) -> dict[str, Any]:
    """The loop's numbers, as far as this person's sites go."""
    sums = [row for row in intake.telemetry_sums(connection, usecase.name) if who.sees(row["site"])]
    by_label = samples.label_counts(connection, usecase.name, sites=who.sites)
    newest_order = orders.newest(connection, usecase.name)
    newest_verdict = next(iter(verdicts.find(connection, use_case=usecase.name, limit=1)), None)
    decided = sum(row["bytes_decided"] for row in sums)
    sent = samples.bytes_received(connection, usecase.name, sites=who.sites)
    since = 0 if newest_order is None else newest_order.labels_position
    return {
        "decisions": sum(row["decisions"] for row in sums),
        "alarms": sum(row["alarms"] for row in sums),
        "bytes_decided": decided,
        "bytes_sent": sent,
        "share_sent": sent / decided if decided else None,
        "samples": sum(count for _, _, count in by_label),
        "labelled": sum(count for _, label, count in by_label if label is not None),
        "waiting": sum(count for _, label, count in by_label if label is None),
        "new_labels": len(label_rows.labelled_after(connection, usecase.name, since)),
        "labels_min": usecase.retrain.labels_min,
        "order": newest_order,
        "verdict": newest_verdict,
        "releases": len(releases.find(connection, use_case=usecase.name)),
        "requests": len(verdicts.requests(connection, states=("waiting",), use_case=usecase.name)),
    }


def _sites(usecase: UseCase, who: Person, fleet: Sequence[DeviceRow], now: datetime) -> list[dict[str, Any]]:
    since = now - quiet(usecase)
    return [
        {
            "name": site.name,
            "devices": [
                {
                    "row": row,
                    "report": row.last_report,
                    "wanted": row.wanted,
                    "away": row.seen_at is None or row.seen_at < since,
                }
                for row in fleet
                if row.site == site.name
            ],
        }
        for site in usecase.sites
        if who.sees(site.name)
    ]


def _rounds(connection: sa.Connection, use_case: str) -> list[dict[str, Any]]:
    result = []
    for row in verdicts.find(connection, use_case=use_case, limit=ROUNDS_MAX):
        made = releases.of_bundle(connection, row.candidate)
        asked = verdicts.requests(connection, bundle=row.candidate, limit=1)
        result.append(
            {
                "row": row,
                "verdict": row.verdict,
                "release": made[0] if made else None,
                "request": next(iter(asked), None),
            }
        )
    return result


def _chart(status: RolloutStatus | None) -> dict[str, Any] | None:
    """The e-process of a rollout as uPlot wants it: a list of x values, then one of y values."""
    if status is None:
        return None
    return {
        "rollout": status.id,
        "release": status.release,
        "bound": status.e_bound,
        "labels": [point[2] for point in status.history],
        "times": [point[0].timestamp() for point in status.history],
        "e_values": [point[3] for point in status.history],
    }
