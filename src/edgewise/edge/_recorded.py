"""What is durable of the pipelines: cursors and counts, also of those that edge.yaml names no longer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgewise.edge._period import MAIN, Period

FORGOTTEN = ""  # the sums of pipelines whose cursors are forgotten
PIPELINES_REMEMBERED_MAX = 64  # those that edge.yaml no longer names keep their cursor, should they come back


@dataclass(kw_only=True, slots=True)
class Recorded:
    """What is durable of one pipeline."""

    cursor: str | None = None  # the last frame of its source that needs no decision any more
    decisions: int = 0
    undecided: int = 0


@dataclass(kw_only=True, slots=True)
class RecordedPipelines:
    """All of them, by name. One thread records, any may read."""

    by_name: dict[str, Recorded] = field(default_factory=dict)

    @property
    def decisions(self) -> int:
        return sum(one.decisions for one in list(self.by_name.values()))

    @property
    def undecided(self) -> int:
        return sum(one.undecided for one in list(self.by_name.values()))

    def of(self, pipeline: str) -> Recorded:
        """What is durable of a pipeline, to read."""
        return self.by_name.get(pipeline) or Recorded()

    def take(self, period: Period) -> None:
        """Count a period, and go on behind its last frame."""
        recorded = self.by_name.setdefault(period.pipeline, Recorded())
        recorded.decisions += period.windows.decisions
        recorded.undecided += period.undecided
        recorded.cursor = period.cursor

    def remember_only(self, pipelines: Collection[str]) -> None:
        """Forget the cursors of all but these pipelines and the newest others; what they counted stays counted."""
        others = [name for name in self.by_name if name not in pipelines and name != FORGOTTEN]
        for name in others[: max(0, len(others) - PIPELINES_REMEMBERED_MAX)]:
            gone, sums = self.by_name.pop(name), self.by_name.setdefault(FORGOTTEN, Recorded())
            sums.decisions += gone.decisions
            sums.undecided += gone.undecided

    def plain(self) -> dict[str, Any]:
        """Plain JSON values; main's, and the sums, also by themselves, as before there were pipelines."""
        return {
            "cursor": self.of(MAIN).cursor,
            "decisions": self.decisions,
            "undecided": self.undecided,
            "pipelines": {name: asdict(one) for name, one in self.by_name.items()},
        }

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> RecordedPipelines:
        """Those of `plain()`; a state of before there were pipelines is that of main."""
        alone = {MAIN: {name: value[name] for name in ("cursor", "decisions", "undecided")}}
        return cls(by_name={name: Recorded(**one) for name, one in value.get("pipelines", alone).items()})
