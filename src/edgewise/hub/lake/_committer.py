"""The one committer: what came since the last round goes into the tables, each with its offset in the same transaction.

Where it stops – by a kill, a full disk, a lease that was lost – a table's own offset says what is in it, so going on
neither doubles nor loses a row (docs/adr/0019). What the store notes as done is only where to begin looking.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgewise.hub.lake._delta import NOTES, SEGMENTS, LakeTable
from edgewise.hub.lake._place import LakeConfig, Place
from edgewise.hub.lake._rows import Batch
from edgewise.hub.lake._rules import Rules, rules_of
from edgewise.hub.lake._tables import TABLES
from edgewise.hub.lake._tidy import Tidy
from edgewise.hub.limits import LakeLimits
from edgewise.hub.store import Store, leases
from edgewise.hub.store import lake as rows
from edgewise.ports import Chance
from edgewise.wire import EdgewiseError, NotNow

LEASE = "lake"
LOG = logging.getLogger(__name__)
# Called between two durable steps with the name of the one that was just done; tests end the process there.
Between = Callable[[str], None]


class Lake:
    """The lake of one hub process.

    Args:
        holder: the name under which this process holds leases.
        between: told of each durable step.
    """

    def __init__(
        self,
        store: Store,
        place: Place,
        config: LakeConfig,
        limits: LakeLimits,
        *,
        hub_epoch: str,
        holder: str,
        chance: Chance,
        clock: Callable[[], datetime],
        between: Between = lambda _step: None,
    ) -> None:
        self.store = store
        self.place = place
        self.config = config
        self.limits = limits
        self._hub_epoch = hub_epoch
        self._holder = holder
        self._chance = chance
        self._clock = clock
        self._between = between
        self._tables: dict[str, LakeTable] = {}
        self._tidy = Tidy(config, limits)
        self._due: datetime | None = None
        self._written: dict[str, Any] = {}  # the state as the store has it
        self.queries = threading.BoundedSemaphore(limits.queries_max)

    def tick(self, now: datetime) -> bool:
        """Commit what waits, if it is time; True where it was. A lake that fails is told of, never raised."""
        if self._due is not None and now < self._due:
            return False
        self._due = now + timedelta(seconds=self.config.commit_s)
        try:
            if not self.commit(now):
                self._due = now  # more waits than one round takes
        except NotNow as error:
            self._tables.clear()
            if error.code not in ("lease_held", "lease_lost", "lake_overtaken"):
                self._failed(error, now)
        except Exception as error:
            self._tables.clear()
            self._failed(error, now)
        return True

    def run(self, stop: threading.Event, every_s: float = 1.0) -> None:
        """Tick until told to stop; another hub of the database may go on at once then."""
        while not stop.is_set():
            self.tick(self._clock())
            stop.wait(every_s)
        with contextlib.suppress(EdgewiseError), self.store.write() as connection:
            leases.release(connection, LEASE, holder=self._holder, now=self._clock())

    def commit(self, now: datetime) -> bool:
        """One round: everything that waits, up to the bound of a round; False where more is left.

        Raises:
            NotNow: another hub of this database commits, or the lake or the database does not answer.
        """
        check = self._fence()
        if not self._tables and not self._anything(now):
            return True
        rules = rules_of(self.store, self.config, now)
        state = self._state(check)
        state["held_back"] = sorted(map(list, rules.outside))
        for _ in range(self.limits.batches_max):
            more = self._batch(state, rules, check, now)
            if not more:
                break
        else:
            return False
        self._tidy.run(self._tables, rules, lambda: self._write(check), now)
        self._remember(state, check, now)
        return True

    def _anything(self, now: datetime) -> bool:
        """Whether there is a reason to open the tables, which takes memory and time that an idle hub need not spend."""
        with self.store.read() as connection:
            state = rows.state(connection)
            known = state.get("hub_epoch") == self._hub_epoch
            waits = rows.waiting(connection, state.get("position", 0))[0] or rows.notes(connection, limit=1)
        return bool(waits) or (bool(state) and (not known or self._tidy.due(now)))

    # -- one batch -----------------------------------------------------------------------------------------------------

    def _batch(
        self, state: dict[str, Any], rules: Rules, check: Callable[[sa.Connection], None], now: datetime
    ) -> bool:
        """Take a batch from the store into the tables; True where there may be more."""
        offsets = {name: table.offset(SEGMENTS) or 0 for name, table in self._tables.items()}
        batch = Batch(offsets, rules.admits)
        with self.store.read() as connection:  # one moment: what is erased later has a note later
            last, notes = self._take(connection, batch, state["position"])
        note = max((item.position for item in notes), default=0)
        if last == state["position"] and not notes:
            return False
        for name, table in self._tables.items():
            arrow = batch.table(name)
            if arrow is not None:
                self._write(check)
                told = {SEGMENTS: max(last, offsets[name]), NOTES: max(note, table.offset(NOTES) or 0)}
                table.append(arrow, told)
                self._between(f"append {name}")
        for item in notes:
            if item.kind == "erased":
                self._erase(item.data, check)
        state["position"] = last
        self._remember(state, check, now, done=[item.position for item in notes])
        return True

    def _take(self, connection: sa.Connection, batch: Batch, position: int) -> tuple[int, list[rows.Note]]:
        notes = _in_one_go(rows.notes(connection, limit=self.limits.notes_max))
        after = self._tables["samples"].offset(NOTES) or 0
        wanted = [item.sample for item in notes if item.kind == "import" and item.position > after and item.sample]
        imported = rows.imported(connection, wanted)
        batch.add_notes(notes, imported, after=self._tables["labels"].offset(NOTES) or 0)
        while batch.count < self.limits.rows_max:
            sizes = rows.sizes_after(connection, position, limit=self.limits.segments_max)
            chosen = _up_to(sizes, self.limits.bytes_max)
            if chosen is None:
                break
            for segment in rows.bodies_between(connection, position, chosen):
                batch.add_segment(segment)
                position = segment.position
                if batch.count >= self.limits.rows_max:
                    break
            else:
                position = chosen  # the last ones may have no body any more
        return position, notes

    def _erase(self, data: Mapping[str, Any], check: Callable[[sa.Connection], None]) -> None:
        """Records that were erased go from the newest version; doing it twice changes nothing."""
        for name in ("samples", "feedback", "events", "labels"):
            self._write(check)
            self._tables[name].delete_ids(data["ids"], device=data.get("device"))
            self._between(f"erase {name}")

    # -- bookkeeping ---------------------------------------------------------------------------------------------------

    def _state(self, check: Callable[[sa.Connection], None]) -> dict[str, Any]:
        """What was done, with all tables open; a table without this epoch's offset begins from nothing."""
        with self.store.write() as connection:
            check(connection)
            lake_id = rows.lake_id(connection, self._chance.id())
            state = rows.state(connection)
        self._written = dict(state)
        for name in TABLES:
            if name in self._tables:
                self._tables[name].refresh()
            else:
                about = {"lake_id": lake_id, "hub_epoch": self._hub_epoch, "history_s": self.config.history_s}
                self._tables[name] = LakeTable(self.place, name, **about)  # type: ignore[arg-type]
                self._between(f"open {name}")
        new = [name for name, table in self._tables.items() if table.offset(SEGMENTS) is None]
        if new or state.get("hub_epoch") != self._hub_epoch:
            state = {"hub_epoch": self._hub_epoch, "position": 0}
            with self.store.write() as connection:
                check(connection)
                for name, kind in (("labels", "label"), ("samples", "import")):
                    if name in new:
                        rows.note_all(connection, kind)  # type: ignore[arg-type]
                rows.set_state(connection, state)
            self._between("note all")
        for name in new:
            self._write(check)
            self._tables[name].begin()
            self._between(f"begin {name}")
        return state

    def _remember(
        self,
        state: dict[str, Any],
        check: Callable[[sa.Connection], None],
        now: datetime,
        done: list[int] | None = None,
    ) -> None:
        """Note how far it is and what the tables hold; notes that were done go. Without any news nothing is written."""
        told = {name: asdict(table.size()) for name, table in self._tables.items()}
        state |= {"tables": told, "error": None}
        if done is None and state == self._written:
            return
        state["at"] = now.isoformat()
        with self.store.write() as connection:
            check(connection)
            rows.remove_notes(connection, done or [])
            rows.set_state(connection, state)
        self._written = dict(state)
        self._between("remember")

    def _failed(self, error: Exception, now: datetime) -> None:
        """Show what is wrong where people look; where even that cannot be written, the log has it."""
        if not isinstance(error, EdgewiseError):
            LOG.exception("the lake failed by a mistake of the hub's own", exc_info=error)
        else:
            LOG.warning("the lake was not written: %s", error)
        text = str(error) if isinstance(error, EdgewiseError) else f"{type(error).__name__}: {error}"
        try:
            with self.store.write() as connection:
                state = rows.state(connection)
                since = (state.get("error") or {}).get("since", now.isoformat())
                rows.set_state(connection, state | {"error": {"text": text[:500], "since": since}})
        except EdgewiseError as trouble:
            LOG.warning("the lake's trouble could not be written down: %s", trouble)

    def _fence(self) -> Callable[[sa.Connection], None]:
        def take(connection: sa.Connection) -> int | None:
            now = self._clock()
            until = now + timedelta(seconds=self.limits.lease_s)
            return leases.take(connection, LEASE, holder=self._holder, until=until, now=now)

        with self.store.write() as connection:
            fence = take(connection)
        if fence is None:
            raise NotNow("another hub of this database writes the lake; this one waits", code="lease_held")

        def check(connection: sa.Connection) -> None:
            if take(connection) != fence:
                raise NotNow("another hub took the lake over; this one starts afresh", code="lease_lost")

        return check

    def _write(self, check: Callable[[sa.Connection], None]) -> None:
        """Look at the lease before a commit. One that is lost behind it does no harm: its commit finds another's."""
        with self.store.write() as connection:
            check(connection)


def _in_one_go(notes: list[rows.Note]) -> list[rows.Note]:
    """The first notes, up to where something follows on an erasure: what is brought in again must not go with it."""
    erased = False
    for place, note in enumerate(notes):
        if erased and note.kind != "erased":
            return notes[:place]
        erased = note.kind == "erased"
    return notes


def _up_to(sizes: list[tuple[int, int]], bytes_max: int) -> int | None:
    """The last position whose segments together keep to the bound, at least the first one; None without any."""
    total, last = 0, None
    for position, size in sizes:
        total += size
        if last is not None and total > bytes_max:
            break
        last = position
    return last
