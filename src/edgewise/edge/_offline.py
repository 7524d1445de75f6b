"""The device's status from its files alone: the agent may be off, the hub away, and another version running."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewise import __version__
from edgewise.edge import _outbox_sql as sql
from edgewise.edge._contact_memory import newest_known, read_contact_note
from edgewise.edge._explain import explain
from edgewise.edge._identity import Identity
from edgewise.edge._metered import cost, days_of, waits_of
from edgewise.edge._outbox_file import FILE as OUTBOX_FILE
from edgewise.edge._slots import POINTER_FILE
from edgewise.edge._story import Situation, story_values
from edgewise.edge._troubles import Known, troubles
from edgewise.edge._trusted import Trusted
from edgewise.edge._update_choices import waits
from edgewise.edge._update_state import UpdateState, read_state
from edgewise.edge.certificate import certificate_sentence
from edgewise.ports import Clock, Credentials
from edgewise.wire import CLASSES, Connectivity, EdgewiseError, NotNow, plain


def known_here(folder: Path, state: UpdateState, metadata_expires_at: datetime | None) -> Known:
    """What the files, and the metadata verified, say for certain."""
    certificate, note = None, read_contact_note(folder)
    with contextlib.suppress(EdgewiseError):
        certificate = Credentials(folder).validity()
    lived = newest_known(note.hub_at, state.assignment.issued_at if state.assignment else None)
    return Known(certificate=certificate, metadata_expires_at=metadata_expires_at, contact=note, lived=lived)


def metadata_end(folder: Path, identity: Identity, clock: Clock) -> datetime | None:
    """When the release metadata verified here end; None where there are none."""
    with contextlib.suppress(EdgewiseError):
        return Trusted(folder, root=identity.root, use_case=identity.use_case, clock=clock).expires_at
    return None


def read_status(
    folder: Path, identity: Identity, *, facts: Mapping[str, Any], clock: Clock, agent_runs: bool
) -> dict[str, Any]:
    """What runs, why, what it waits for and what comes next; ``story`` is the same for people.

    Args:
        facts: what is true of the machine now.
        agent_runs: whether an agent holds the folder's lock.
    Raises:
        NotValid: the folder is of another version.
    """
    now, state = clock.now(), read_state(folder)
    name = _pointer(folder)
    slot = state.slots.get(name or "")
    not_now = waits(state, facts, now)
    about = {
        "device": identity.device,
        "site": identity.site,
        "use_case": identity.use_case,
        "hub": identity.hub_url,
        "certificate": certificate_sentence(Credentials(folder), now),
        "version": __version__,
        "agent": "runs" if agent_runs else "is off",
        "phase": state.phase.value,
        "release": slot.release if slot else None,
        "bundle": slot.bundle if slot else None,
        "last_failure": state.last_failure,
        "failure": plain(state.failure) if state.failure else None,
        **outbox_status(folder / "outbox"),
        "cost": _cost_or_why(folder, identity, facts, now),
        "why": explain(state, running=slot is not None, not_now=not_now),
    }
    situation = Situation(
        now=now,
        state=state,
        slot=name if slot else None,
        not_now=not_now,
        troubles=troubles(now, known_here(folder, state, metadata_end(folder, identity, clock)), facts),
        policy_version=identity.usecase.data.version,
        decisions=about["decisions"],
        backlog=about["backlog"],
    )
    return about | {"story": story_values(situation)}


def _pointer(folder: Path) -> str | None:
    try:
        return (folder / POINTER_FILE).read_text().strip()
    except OSError:
        return None


def _cost_or_why(folder: Path, identity: Identity, facts: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    try:
        return cost_here(folder, identity.usecase.connectivity, facts, now)
    except NotNow as error:
        return {"error": str(error)}


def cost_here(folder: Path, connectivity: Connectivity, facts: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What waits on the device, what metered links cost so far and what the next contact would take; see `cost`.

    Raises:
        NotNow: the outbox cannot be read now.
    """
    file, totals, counts = folder / "outbox" / OUTBOX_FILE, [], None
    if file.exists():
        try:
            with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
                totals = connection.execute(sql.TOTALS).fetchall()
                counts = connection.execute(sql.COUNTS_OF).fetchone()
        except sqlite3.Error as error:
            raise NotNow(f"{file} cannot be read: {error}", code="outbox_failed") from error
    is_metered = facts.get("network_metered") is True
    days = days_of(counts[0] if counts else None)
    return cost(waits_of(totals), connectivity, is_metered=is_metered, days=days, now=now)


def outbox_status(folder: Path) -> dict[str, Any]:
    file = folder / OUTBOX_FILE
    empty: dict[str, Any] = {"decisions": 0, "backlog": 0, "outbox": {}}
    if not file.exists():
        return empty
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            rows = connection.execute(sql.TOTALS).fetchall()
            stored = connection.execute(sql.COUNTS_OF).fetchone()
    except sqlite3.Error as error:
        return empty | {"outbox": {"error": f"{file} cannot be read: {error}"}}
    names = ("waiting", "waiting_bytes", "sealed", "sealed_bytes", "shed", "refused", "stored", "erased")
    counts = {CLASSES[row[0]]: dict(zip(names, row[1:], strict=True)) for row in rows if any(row[1:])}
    known = json.loads(stored[0]) if stored else {"decisions": 0}
    waiting = sum(item["waiting"] + item["sealed"] for item in counts.values())
    return {"decisions": known["decisions"], "backlog": waiting, "outbox": counts}
