"""What a start of the device tells the hub: what runs, and what could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from edgewise import __version__
from edgewise.edge.outbox import Outbox
from edgewise.edge.update import Updater
from edgewise.ports import OpenedSafe


@dataclass(frozen=True, kw_only=True, slots=True)
class StartNote:
    """One event, as `Keeper.note` takes it."""

    what: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)
    alarm: bool = False


def start_notes(updater: Updater, outbox: Outbox, opened: OpenedSafe) -> Iterator[StartNote]:
    """What this start should be remembered for, in order."""
    running = updater.running
    text = f"the agent started with {running.release if running else 'no bundle yet'}"
    yield StartNote(what="started", text=text, data={"version": __version__, "phase": updater.phase.value})
    if outbox.was_broken:
        text = "the outbox could not be read and was set aside as outbox.db.broken; what it held was not sent"
        yield StartNote(what="outbox_broken", text=text, data={"epoch": outbox.epoch}, alarm=True)
    if opened.notice is not None:
        yield StartNote(what="data_key_elsewhere", text=opened.notice)
    if opened.trouble is not None or outbox.locked_as is not None:
        place = outbox.locked_as
        text = f"{opened.trouble or 'the outbox is locked with another data key'}; " + (
            f"what waited to be sent was set aside in {place.name}" if place else "nothing waited to be sent"
        )
        yield StartNote(what="outbox_locked", text=text, data={"epoch": outbox.epoch}, alarm=True)
