"""The audit chain: each entry names the hash of the one before, so that no past entry can change unseen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, Field

from edgewise.wire import NotValid, Record, canonical, digest, loads

GENESIS = "0" * 64  # what the first entry names as the one before


class AuditEntry(Record):
    """One thing that somebody did. `hash` is the SHA-256 of the canonical JSON of all other fields."""

    index: int = Field(ge=0)
    at: AwareDatetime
    actor: str
    action: str
    subject: str
    data: dict[str, Any] = Field(default_factory=dict)
    previous: str = Field(pattern=r"^[0-9a-f]{64}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")


def next_entry(
    previous: AuditEntry | None,
    *,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    data: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """The entry that follows `previous`, or the first one.

    Args:
        data: plain JSON values; integers within ±(2^53 - 1).
    Raises:
        NotValid: the data has no canonical JSON form, or the time has no zone.

    >>> first = next_entry(None, at=datetime(2026, 1, 1, tzinfo=UTC), actor="ann", action="release.sign", subject="s@1")
    >>> first.index, first_broken([first])
    (0, None)
    """
    if at.tzinfo is None:
        raise NotValid(f"an audit entry's time is {at}, needs its time zone", code="time_invalid")
    body = {
        "index": 0 if previous is None else previous.index + 1,
        "at": at.astimezone(UTC),
        "actor": actor,
        "action": action,
        "subject": subject,
        "data": dict(data or {}),
        "previous": GENESIS if previous is None else previous.hash,
    }
    # Refused here, where the caller can still be named. Twice, because a float over 2^53 is written as an integer and
    # would only be refused when it is read back.
    canonical(loads(canonical(body["data"])))
    draft = AuditEntry.model_validate({**body, "hash": GENESIS})
    return draft.model_copy(update={"hash": _hash(draft)})


def first_broken(entries: Iterable[AuditEntry], *, previous: AuditEntry | None = None) -> int | None:
    """Index of the first entry that does not hold, None when all do.

    An entry holds when its index follows, it names the hash of the one before and its own hash fits its content. A
    chain whose last entries were cut off still holds: compare its head with one written down elsewhere to find that.

    Args:
        entries: in order.
        previous: a trusted entry before the first of them; None when they start the chain.
    """
    index, before = (0, GENESIS) if previous is None else (previous.index + 1, previous.hash)
    for entry in entries:
        if entry.index != index or entry.previous != before or not _hash_holds(entry):
            return index
        index, before = index + 1, entry.hash
    return None


def _hash_holds(entry: AuditEntry) -> bool:
    try:
        return entry.hash == _hash(entry)
    except NotValid:  # content that could never have been written
        return False


def _hash(entry: AuditEntry) -> str:
    # Every field counts, unknown ones too; the time as UTC, because a database may hand it back in another zone.
    fields = entry.model_dump(mode="json", exclude={"hash"})
    fields["at"] = entry.at.astimezone(UTC).isoformat()
    return digest(canonical(fields))
