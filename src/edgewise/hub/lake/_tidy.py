"""Keeping the tables small and true to the policies: retention, residency, compaction, and files that go for good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from edgewise.hub.lake._delta import LakeTable, literal, moment
from edgewise.hub.lake._place import LakeConfig
from edgewise.hub.lake._rules import ALWAYS, Rules
from edgewise.hub.lake._tables import TABLES
from edgewise.hub.limits import LakeLimits


class Tidy:
    """What is done beside the commits, each a little at a time, so that rows never wait long behind it."""

    def __init__(self, config: LakeConfig, limits: LakeLimits) -> None:
        self._history = timedelta(seconds=config.history_s)
        self._limits = limits
        self._compact_at: datetime | None = None
        self._sweep_at: datetime | None = None

    def due(self, now: datetime) -> bool:
        return self._sweep_at is None or now >= self._sweep_at

    def run(self, tables: Mapping[str, LakeTable], rules: Rules, check: Callable[[], None], now: datetime) -> None:
        """Do what it is time for.

        Args:
            check: raises where the lease is lost.
        """
        if self._compact_at is None or now >= self._compact_at:
            self._compact_at = now + timedelta(seconds=self._limits.compact_s)
            compact(tables, self._limits, check)
        if self.due(now):
            self._sweep_at = now + timedelta(seconds=self._limits.sweep_s)
            sweep(tables, rules, check)
            for table in tables.values():
                check()
                table.vacuum(self._history)


def compact(tables: Mapping[str, LakeTable], limits: LakeLimits, check: Callable[[], None]) -> None:
    """Make large files of the small ones, in those partitions that have the most of them."""
    found = [(count, table, part) for table in tables.values() for part, count in table.small_files().items()]
    for count, table, part in sorted(found, key=lambda item: -item[0])[: limits.partitions_max]:
        if count >= limits.small_files_max:
            check()
            table.compact(part)


def sweep(tables: Mapping[str, LakeTable], rules: Rules, check: Callable[[], None]) -> int:
    """Rows past their retention, and rows that have to be in another region, go; comes back with how many."""
    gone = 0
    for name, table in tables.items():
        conditions = [
            f"use_case = {literal(use_case)} AND {TABLES[name].time} < {moment(since)}"
            for use_case, since in sorted(rules.since.items())
            if since > ALWAYS
        ]
        conditions += [
            f"use_case = {literal(use_case)} AND site = {literal(site)}" for use_case, site in sorted(rules.outside)
        ]
        for condition in conditions:
            check()
            gone += table.delete(condition)
    return gone
