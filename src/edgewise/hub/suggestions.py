"""What machines say of a sample before a person does, and the orders in which people look at samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa

from edgewise.hub.store import predictions
from edgewise.hub.store.opinions import FeedbackRow
from edgewise.hub.store.predictions import PredictionRow
from edgewise.hub.store.samples import SampleRow

Order = Literal["urgent", "newest", "uncertain", "disagreement", "cluster", "second", "adjudicate"]
ORDERS: tuple[Order, ...] = get_args(Order)
MEANS: Mapping[Order, str] = {
    "urgent": "alarms, operators' words, disagreements, audit, then the least certain",
    "newest": "what came last",
    "uncertain": "where the network was least sure",
    "disagreement": "where two releases, or the device and its operator, say different things",
    "cluster": "pictures that look alike, many at once",
    "second": "what others labelled, without seeing what they said",
    "adjudicate": "where people said different things",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """A machine's word on a sample.

    `source` is device, release for the other one that saw the same frame, or champion for the one that looked later.
    """

    source: Literal["device", "release", "champion"]
    label: str
    confidence: float
    margin: float
    release: str | None = None
    annotation: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A sample with what was said about it: all that an order looks at."""

    row: SampleRow
    suggestions: tuple[Suggestion, ...] = ()
    words: tuple[FeedbackRow, ...] = ()


def suggestions(connection: sa.Connection, rows: Sequence[SampleRow]) -> dict[str, tuple[Suggestion, ...]]:
    """What machines say of these samples, by sample; the first of each is what a person is offered to accept.

    The one place where labelling learns of it: the champion's word where it looked at the sample later, then the
    decision that travelled with it, and the other release's where both saw the frame.
    """
    later = predictions.of(connection, [row.id for row in rows])
    return {row.id: (*_of_champion(later.get(row.id)), *_of_decisions(row)) for row in rows}


def _of_champion(row: PredictionRow | None) -> list[Suggestion]:
    if row is None or not row.label:  # it looked, and could not read the sample
        return []
    said = {"label": row.label, "confidence": row.confidence, "margin": row.margin, "release": row.release}
    return [Suggestion(source="champion", **said)]  # type: ignore[arg-type]


def _of_decisions(row: SampleRow) -> list[Suggestion]:
    found = []
    for source, said in (("device", row.decision), ("release", row.shadow)):
        if said:
            found.append(
                Suggestion(
                    source=source,  # type: ignore[arg-type]
                    label=told(said),
                    confidence=said["confidence"],
                    margin=said["margin"],
                    release=said.get("release"),
                )
            )
    return found


def told(decision: Mapping[str, Any]) -> str:
    """What a decision says: its label, or its value with the interval.

    >>> told({"label": "pit"}), told({"label": "within", "stated": [10.0, 12.5, 20.25]})
    ('pit', '12.5 (10 to 20.25)')
    """
    stated = decision.get("stated")
    if not stated:
        return str(decision["label"])
    low, value, high = (f"{one:.5g}" for one in stated)
    return f"{value} ({low} to {high})"


def ordered(order: Order, seen: Sequence[Seen]) -> list[Seen]:
    """The samples as this order shows them. Orders without a rule of their own keep what the store gave.

    Ties go by id, which is random, so nothing that was said decides between equals.
    """
    rule = _RULES.get(order)
    return list(seen) if rule is None else sorted(seen, key=lambda one: (*rule(one), one.row.id))


def doubt(seen: Seen) -> float:
    """The smallest margin of all that decided on it, from 0 to 1; 2 where nothing did."""
    return min((one.margin for one in seen.suggestions), default=2.0)


def contradictions(seen: Seen) -> int:
    """How many words stand against what the device said: of operators, and of other releases."""
    if not seen.suggestions:
        return len(seen.words)
    first = seen.suggestions[0].label
    return sum(one.label != first for one in seen.suggestions[1:]) + sum(
        word.verdict != "unknown" or (word.label or first) != first for word in seen.words
    )


_RULES: dict[Order, Callable[[Seen], tuple[float, ...]]] = {
    "newest": lambda one: (-one.row.received_at.timestamp(),),
    "uncertain": lambda one: (doubt(one),),
    # People before machines; then the surer a machine that is contradicted was, the more there is to learn.
    "disagreement": lambda one: (-len(one.words), -contradictions(one), -_sure(one)),
}


def _sure(seen: Seen) -> float:
    return max((one.confidence for one in seen.suggestions), default=0.0)
