"""Which frames of a period are kept, beside what was kept of the same pipeline before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgewise.edge._clusters import Floats
from edgewise.edge._period import Item, Period
from edgewise.edge.keep import Kept, Seen, is_cold, remember, select
from edgewise.ports import Chance


@dataclass(kw_only=True, slots=True)
class _Sent:
    """What was kept of one pipeline, for comparing; embeddings of another bundle, or another scene, say nothing."""

    bundle: str | None = None
    remembered: Floats | None = None


class Selection:
    """Picks frames, and remembers a spread-out set of those picked; it starts anew with each bundle.

    Args:
        audit_share: part of the picks drawn at random, 0 to 1.
        site: where this device is.
    """

    def __init__(self, chance: Chance, *, audit_share: float, site: str) -> None:
        self._chance = chance
        self._site = site
        self._audit_share = audit_share
        self._sent: dict[str, _Sent] = {}  # by pipeline

    def picks(self, period: Period, room_bytes: int) -> list[Kept]:
        """The frames to keep; their sizes, before they are made private, never sum to more than the room."""
        sent = self._sent.setdefault(period.pipeline, _Sent())
        if period.bundle != sent.bundle:
            sent.bundle, sent.remembered = period.bundle, None
        return select(
            _seen(period.items),
            room_bytes,
            self._chance,
            audit_share=self._audit_share,
            remembered=sent.remembered,
            cold=period.bundle is None or is_cold(period.sites, self._site),
        )

    def remember(self, period: Period, picks: Sequence[Kept]) -> None:
        """Compare the next periods of this pipeline with these picks too."""
        sent = self._sent[period.pipeline]
        sent.remembered = remember(sent.remembered, (period.items[pick.index].embedding for pick in picks))


def _seen(items: Sequence[Item]) -> list[Seen]:
    # Rows before the first bundle may have different numbers of columns: then nothing can be compared.
    alike = len({None if item.embedding is None else len(item.embedding) for item in items}) == 1
    return [
        Seen(
            margin=item.decision.margin,
            size_bytes=item.size_bytes,
            embedding=item.embedding if alike else None,
            kept=item.kept,
        )
        for item in items
    ]
