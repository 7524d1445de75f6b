"""Small records for tests that fill an outbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from edgewise.edge.outbox import Entry, Outbox
from edgewise.wire import Decision, Event, Sample, digest

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(number: int, record_class: str = "audit", text: str = "x") -> Entry:
    record = Event(id=f"{number:032x}", at=NOW + timedelta(seconds=number), what="started", text=text)
    return Entry(record=record, record_class=record_class, policy_version=1)  # type: ignore[arg-type]


def sample(number: int, record_class: str = "sample", content: bytes | None = None, **more: Any) -> Entry:
    content = number.to_bytes(4, "big") * 75 if content is None else content
    entry = {name: more.pop(name) for name in ("subject",) if name in more}
    values: dict[str, Any] = {
        "id": f"{number:032x}", "frame": f"f{number}", "site": "a", "taken_at": NOW, "kept_at": NOW, "why": "margin",
        "decision": Decision(label="good", confidence=0.9, margin=0.8, bundle="0" * 64), "inclusion_probability": 1,
        "blob": digest(content), "size_bytes": len(content), "media_type": "image/png",
    }  # fmt: skip
    return Entry(
        record=Sample(**(values | more)), record_class=record_class, policy_version=1, transform="strip-metadata",
        content=content, **entry,
    )  # type: ignore[arg-type]  # fmt: skip


def fates(outbox: Outbox) -> dict[str, str]:
    return {item.id: item.fate for item in outbox.made(100_000)}
