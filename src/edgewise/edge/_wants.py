"""What the hub wants of this device: the newest assignment that was signed for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from edgewise.edge._update_journal import Journal
from edgewise.edge._update_state import UpdateLimits
from edgewise.trust import open_assignment
from edgewise.wire import Assignment, Envelope, NotTrusted, PublicKey, record_digest


class Wants:
    """Checks assignments and remembers the newest.

    Args:
        journal: remembers it.
        device, use_case: what assignments must be for.
    """

    def __init__(self, journal: Journal, *, device: str, use_case: str, limits: UpdateLimits) -> None:
        self._journal = journal
        self._device = device
        self._use_case = use_case
        self._limits = limits

    def accept(self, envelope: Envelope, keys: Sequence[PublicKey], now: datetime) -> bool:
        """Take note of what the hub wants; False when it is nothing new. Raises as `check`."""
        state = self._journal.state
        old, new = state.assignment, self.check(envelope, keys)
        if old is not None and record_digest(new) == state.assignment_digest:
            return False
        changes: dict[str, Any] = {"assignment": new, "assignment_digest": record_digest(new), "changed_at": now}
        if old is not None and old.hub_epoch != new.hub_epoch:
            earlier = (*state.earlier_epochs, old.hub_epoch)
            changes |= {"earlier_epochs": earlier[-self._limits.remembered_max :], "refused": 0}
        self._journal.save(**changes)
        return True

    def check(self, envelope: Envelope, keys: Sequence[PublicKey]) -> Assignment:
        """What the envelope says, if these keys signed it and it is for this device and not older than what is known.

        Raises:
            NotTrusted: it is not.
        """
        state = self._journal.state
        old = state.assignment
        new = open_assignment(
            envelope,
            keys,
            device=self._device,
            newest=old.number if old else 0,
            hub_epoch=old.hub_epoch if old else None,
            newest_digest=state.assignment_digest,
            earlier_epochs=state.earlier_epochs,
        )
        if new.use_case != self._use_case:
            raise NotTrusted(
                f"assignment {new.number} is for use case {new.use_case}, this device is enrolled for {self._use_case}",
                code="use_case_wrong",
            )
        return new
