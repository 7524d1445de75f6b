"""Capability cards: a device's word about itself counts once its own key has signed it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub import audit
from edgewise.hub.store.devices import DeviceRow
from edgewise.trust import open_by_key
from edgewise.wire import (
    CARD_TYPE,
    CapabilityCard,
    EdgewiseError,
    Envelope,
    NotTrusted,
    NotValid,
    Report,
    decode,
    record_digest,
)


def with_card(connection: sa.Connection, device: DeviceRow, report: Report, now: datetime) -> Report:
    """The report as it is stored: with the newest card that holds, and the facts that follow from it.

    A device sends its card until the hub has heard it, so most reports have none. One that does not hold is audited
    and not stored; the contact goes on, for the records in it are as good as ever.
    """
    before = device.last_report
    kept = None if before is None or before.card is None else _opened(device, before.card)
    refused = before.card_refused if before else None
    if report.card is not None:
        try:
            kept, refused = (report.card, _open(device, report.card)), None
        except (NotTrusted, NotValid) as error:
            if refused != record_digest(report.card):  # a device that repeats itself must not fill the log
                _note(connection, device, error, now)
            refused = record_digest(report.card)
    update: dict[str, Any] = {"card": kept[0] if kept else None, "card_refused": refused}
    if kept is not None and report.facts:  # none where the policy lets none leave
        update["facts"] = {**report.facts, **kept[1].facts()}
    return report.model_copy(update=update)


def _note(connection: sa.Connection, device: DeviceRow, error: EdgewiseError, now: datetime) -> None:
    data = {"code": error.code, "text": str(error)[:500]}
    actor = f"device {device.id}"
    audit.note(connection, actor=actor, action="card.refused", subject=device.id, data=data, now=now)


def _opened(device: DeviceRow, envelope: Envelope) -> tuple[Envelope, CapabilityCard] | None:
    """A card stored earlier, unless the device was enrolled again with another key since."""
    try:
        return envelope, _open(device, envelope)
    except (NotTrusted, NotValid):
        return None


def _open(device: DeviceRow, envelope: Envelope) -> CapabilityCard:
    card = decode(CapabilityCard, open_by_key(envelope, payload_type=CARD_TYPE, public=device.public_key))
    if card.device != device.id:
        raise NotTrusted(f"device {device.id} sent the card of {card.device}", code="wrong_device")
    return card
