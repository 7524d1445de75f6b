"""Counts of decisions by release, rollout and pipeline; additive, so that windows and fleets are sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from edgewise.edge._spans import CLOCK_STEP
from edgewise.frames import Decided
from edgewise.measure import Histogram
from edgewise.wire import Telemetry

APART_MAX = timedelta(days=1)
SUMS = ("decisions", "bytes_decided", "alarms", "paired", "disagreed", "overrides")
Key = tuple[str | None, str | None, str | None, str | None]  # release, bundle, rollout, pipeline unless it is main


@dataclass(kw_only=True, slots=True)
class Counts:
    """Sums over some decisions of one bundle."""

    decisions: int = 0
    bytes_decided: int = 0
    alarms: int = 0
    paired: int = 0
    disagreed: int = 0
    overrides: int = 0  # decisions that an operator called wrong or missed, when he did
    labels: dict[str, int] = field(default_factory=dict)
    latency: Histogram = field(default_factory=Histogram)
    start: datetime | None = None
    end: datetime | None = None

    def add(
        self, decisions: Sequence[Decided], size_bytes: int, latency: Histogram, span: tuple[datetime, datetime]
    ) -> None:
        """Count decisions.

        Args:
            size_bytes: of all their frames.
            latency: of all of them.
            span: the first and the last of their moments.
        """
        self.decisions += len(decisions)
        self.bytes_decided += size_bytes
        for decision in decisions:
            self.labels[decision.label] = self.labels.get(decision.label, 0) + 1
        self.latency.merge(latency)
        self.touch(*span)

    def touch(self, first: datetime, last: datetime | None = None) -> None:
        """Something was counted at this moment, or between these two."""
        last = last or first
        # A clock may be set back meanwhile; a window never ends before it starts.
        self.start = first if self.start is None else min(self.start, first)
        self.end = last if self.end is None else max(self.end, last)

    def without_overrides(self) -> tuple[Counts, Counts]:
        """These counts without their overrides, and the overrides alone."""
        return replace(self, overrides=0), Counts(overrides=self.overrides, start=self.start, end=self.end)

    def merge(self, other: Counts) -> None:
        """Add another's sums to these."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for label, count in other.labels.items():
            self.labels[label] = self.labels.get(label, 0) + count
        self.latency = self.latency + other.latency
        self.start = min((at for at in (self.start, other.start) if at), default=None)
        self.end = max((at for at in (self.end, other.end) if at), default=None)

    def plain(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = (*SUMS, "labels")
        times = {"start": self.start, "end": self.end}
        return {
            **{name: getattr(self, name) for name in names},
            "latency": self.latency.plain(),
            **{name: at.isoformat() for name, at in times.items() if at},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Counts:
        """The counts of `plain()`."""
        counts = cls(**{name: value for name, value in plain.items() if name not in ("latency", "start", "end")})
        counts.latency = Histogram.from_plain(plain["latency"])
        counts.start, counts.end = (datetime.fromisoformat(plain[name]) for name in ("start", "end"))
        return counts


class Windows:
    """Counts by release, rollout and pipeline, not sent yet."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Counts] = {}

    def of(self, key: Key) -> Counts:
        """The counts of this release and rollout."""
        found = self.by_key.get(key)
        if found is None:  # not `setdefault`, which would make counts at every frame
            found = self.by_key[key] = Counts()
        return found

    def is_apart(self, other: Windows) -> bool:
        """Whether the other's moments are so far from these that only a clock that was set can have made them."""
        ends = [counts.end for counts in self.by_key.values() if counts.end]
        starts = [counts.start for counts in other.by_key.values() if counts.start]
        return bool(ends and starts) and not -CLOCK_STEP <= min(starts) - max(ends) <= APART_MAX

    def override(self, key: Key, now: datetime) -> None:
        """Somebody calls a decision of this release wrong now; its own window may be closed for long."""
        counts = self.of(key)
        counts.overrides += 1
        counts.touch(now)

    def merge(self, other: Windows) -> None:
        for key, counts in other.by_key.items():
            self.of(key).merge(counts)

    @property
    def decisions(self) -> int:
        return sum(counts.decisions for counts in self.by_key.values())

    @property
    def started_at(self) -> datetime | None:
        return min((counts.start for counts in self.by_key.values() if counts.start), default=None)

    def plain(self) -> list[Any]:
        return [[list(key), counts.plain()] for key, counts in self.by_key.items()]

    @classmethod
    def from_plain(cls, plain: list[Any]) -> Windows:
        windows = cls()
        for key, counts in plain:
            release, bundle, rollout, *pipeline = key  # states of before there were pipelines name none
            windows.by_key[release, bundle, rollout, pipeline[0] if pipeline else None] = Counts.from_plain(counts)
        return windows

    def telemetry(
        self, *, ids: list[str], site: str, shed: dict[str, int], deferrals: dict[str, int] | None = None
    ) -> list[Telemetry]:
        """One record for each release, rollout and pipeline; the caller brings as many ids."""
        records = []
        for (key, counts), name in zip(self.by_key.items(), ids, strict=True):
            assert counts.start is not None, "an empty window is not kept"
            assert counts.end is not None, "what has a start has an end"
            quantiles = {"p50": counts.latency.quantile(0.5), "p99": counts.latency.quantile(0.99)}
            records.append(
                Telemetry(
                    id=name,
                    site=site,
                    start=counts.start,
                    end=counts.end,
                    release=key[0],
                    bundle=key[1],
                    rollout=key[2],
                    pipeline=key[3],
                    decisions=counts.decisions,
                    bytes_decided=counts.bytes_decided,
                    labels=counts.labels,
                    alarms=counts.alarms,
                    paired=counts.paired,
                    disagreed=counts.disagreed,
                    overrides=counts.overrides,
                    latency_ms={name: round(value, 4) for name, value in quantiles.items() if value is not None},
                    shed=shed,
                    deferrals=deferrals,
                )
            )
        return records
