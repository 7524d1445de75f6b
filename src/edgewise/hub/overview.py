"""The loop at a glance: devices, samples, orders, releases and rollouts of every use case, computed when asked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from edgewise.hub import usecases as usecase_acts
from edgewise.hub.access import Person
from edgewise.hub.store import Store, champions, intake, orders, releases, samples, usecases
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import overview as rows

LAST = 5  # orders and releases shown
WHOLE = ("orders", "rollouts")  # what speaks of all sites of a use case


def overview(store: Store, who: Person, now: datetime) -> dict[str, Any]:
    """The use cases of this person's sites with their counts; for somebody of all sites what the whole hub received."""
    sites = who.sites
    with store.read() as connection:
        counts = {
            "devices_by_phase": rows.devices_by_phase(connection, sites),
            "devices_by_release": rows.devices_by_release(connection, sites),
            "samples": rows.samples_by_purpose(connection, sites),
            "orders": rows.orders_by_state(connection),
            "rollouts": rows.rollouts_by_state(connection),
        }
        cases = []
        for name in usecases.names(connection):
            own = usecase_acts.sites_of(connection, name)
            if not who.sees_any(own):
                continue
            whole = who.sees_all(own)
            champion = champions.champion(connection, name)
            cases.append(
                {
                    "name": name,
                    **{
                        key: {two: count for one, two, count in held if one == name}
                        for key, held in counts.items()
                        if whole or key not in WHOLE
                    },
                    "labels": [
                        {"site": site, "label": label, "samples": count}
                        for site, label, count in samples.label_counts(connection, name, sites=sites)
                    ],
                    "bytes_received": samples.bytes_received(connection, name, sites=sites),
                    "champion": None if champion is None else champion.id,
                    "last_orders": [
                        {"id": row.id, "state": row.state, "why": row.order.why, "made_at": row.made_at}
                        for row in (orders.find(connection, use_case=name, limit=LAST) if whole else ())
                    ],
                    "last_releases": [
                        {"id": row.id, "signed_as": row.signed_as, "reverted_at": row.reverted_at}
                        for row in releases.find(connection, use_case=name, limit=LAST)
                    ],
                }
            )
        if sites is not None:
            return {"at": now, "use_cases": cases}
        return {
            "at": now,
            "use_cases": cases,
            "intake": intake.received(connection),
            "waiting_to_be_signed": rows.waiting_to_be_signed(connection),
            "audit_entries": audit_rows.count(connection),
        }
