"""What an update remembers, stored before the work it names, and what happened on the way, for the audit log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewise.edge._update_state import STATE_FILE, Event, Happening, move, read_state
from edgewise.ports import replace_file
from edgewise.wire import Assignment, encode


class Journal:
    """The stored state of an update, and the happenings not told yet.

    Args:
        folder: holds ``update.json``.
        checkpoint: called by name where a power cut would matter.
    Raises:
        NotValid: the folder is of another version.
    """

    def __init__(self, folder: Path, checkpoint: Callable[[str], None]) -> None:
        self._folder = folder
        self._checkpoint = checkpoint
        self._happened: list[Happening] = []
        self.state = read_state(folder)

    def save(self, **changes: Any) -> None:
        """Store the state with these changes, in one step."""
        state = self.state.model_copy(update=changes)
        name = state.phase.value
        self._checkpoint(f"before_{name}")
        replace_file(self._folder / STATE_FILE, encode(state))
        self.state = state
        self._checkpoint(f"after_{name}")

    def move(self, event: Event, now: datetime, reason: str, **changes: Any) -> None:
        """Store the phase after the event together with the changes, then tell."""
        before, phase = self.state.phase, move(self.state.phase, event)
        changes.setdefault("moves", self.state.moves + 1)
        self.save(phase=phase, changed_at=now, **changes)
        data = {"from": before.value, "to": phase.value, "event": event.value}
        if (failure := changes.get("failure")) is not None:
            data |= {name: getattr(failure, name) for name in ("component", "category", "code")}
        self.tell("phase", f"{before.value} → {phase.value}: {reason or event.value}", self.state.working, **data)

    def forget_slot(self, name: str) -> None:
        """The slot holds nothing that may run, until something is staged there."""
        self.save(slots={key: slot for key, slot in self.state.slots.items() if key != name})

    def tell(self, what: str, text: str, assignment: Assignment | None, **data: Any) -> None:
        """Something that the hub should hear of."""
        if assignment is not None:
            names = ("number", "release", "bundle", "rollout", "kind")
            data |= {name: getattr(assignment, name) for name in names if getattr(assignment, name) is not None}
        if self.state.known_bad and assignment is not None and assignment.bundle in self.state.known_bad:
            data["failed"] = self.state.known_bad[assignment.bundle]
        self._happened.append(Happening(what=what, text=text[:500], data=data))

    def happened(self) -> list[Happening]:
        """What was told since the last time, once."""
        told, self._happened = self._happened, []
        return told
