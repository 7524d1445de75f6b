"""The one door to the database: many readers, one writer, and every error in a family of ours."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.pool import StaticPool

from edgewise.hub.counters import Counters
from edgewise.hub.store import meta
from edgewise.hub.store.migrations import migrate
from edgewise.hub.store.tables import devices, erasures, tuf_roles, usecases
from edgewise.ports import Blobs
from edgewise.wire import EdgewiseError, NotNow, NotValid

BUSY_MS = 30_000
# One number for all hubs on one PostgreSQL database: whoever holds it is the writer.
WRITER_LOCK = 0x65_64_67_65
GROUP_MAX = 128  # pieces of work that share one commit
# Who holds anything in memory that follows from these is told when they change.
WATCHED = frozenset({devices.name, erasures.name, tuf_roles.name, usecases.name})
CHANGES = "changes"  # the key in `meta` of how often they changed, for other hubs on this database
Watcher = Callable[[frozenset[str] | None], None]
T = TypeVar("T")


class _Work(Generic[T]):
    """A piece of work on its way into a shared commit."""

    def __init__(self, do: Callable[[sa.Connection], T]) -> None:
        self._do = do
        self.done = False
        self._result: T
        self.error: BaseException | None = None

    def run(self, connection: sa.Connection) -> None:
        self._result = self._do(connection)

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self._result


class Store:
    """The hub's rows and blobs.

    Questions are plain functions of the modules beside this one; each takes the connection of `read` or `write`.
    All writes pass one writer: a lock in this process, and an advisory lock between hubs on one PostgreSQL database.
    So a transaction reads what it is about to change without any race, and the audit chain has one end.

    Args:
        url: an SQLAlchemy address; ``sqlite://`` keeps everything in memory (for the simulator and tests).
        blobs: where contents live.
        schema: run once in a write, before anything else; brings the schema to this version where nothing is given.
        counters: hear how long writes wait and what commits hold.

    Raises:
        NotNow: the database does not answer.
        NotValid: it was made by another version of edgewise.
    """

    def __init__(
        self,
        url: str,
        blobs: Blobs,
        counters: Counters | None = None,
        *,
        schema: Callable[[sa.Connection], None] = migrate,
    ) -> None:
        self.blobs = blobs
        self.counters = counters or Counters()
        self._memory = url in ("sqlite://", "sqlite:///:memory:")
        self.engine = _engine(url, memory=self._memory)
        self._writer = threading.RLock()
        self._waiting: deque[_Work[Any]] = deque()
        self._watchers: list[Watcher] = []
        self._touched: set[str | None] = set()  # by the write under way
        self._changes = 0
        self._local = threading.local()
        try:
            with self.write() as connection:
                schema(connection)
            sa.event.listen(self.engine, "before_execute", self._touch)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one moment of the store. Inside `write`, the writer's own view.

        Raises:
            NotNow: the database is busy or does not answer.
        """
        inner = getattr(self._local, "connection", None)
        if inner is not None:
            yield inner
            return
        # A database in memory has one connection, so its readers wait for the writer too.
        with self._writer if self._memory else contextlib.nullcontext(), _families():
            options = {} if self.engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
            with self.engine.connect().execution_options(**options) as connection:
                yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """The only connection that may change anything: all of it is durable at the end, or none of it.

        Inside another `write` of the same thread it joins that transaction.

        Raises:
            NotNow: no space, busy, or the database does not answer; nothing was changed.
        """
        inner = getattr(self._local, "connection", None)
        if inner is not None:
            yield inner
            return
        asked_s = time.perf_counter()
        with self._writer, _families(), self.engine.connect() as bare:
            connection = bare.execution_options(edgewise_writes=True)
            self._touched.clear()
            with connection.begin():
                if self.engine.dialect.name == "postgresql":
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITER_LOCK)))
                self.counters.waited(time.perf_counter() - asked_s)
                self._local.connection = connection
                try:
                    yield connection
                    if self._touched:
                        self._count_change(connection)
                finally:
                    self._local.connection = None
            self._tell(frozenset(self._touched))

    def write_grouped(self, do: Callable[[sa.Connection], T]) -> T:
        """What `do` returns, once all that it changed is durable; waits no longer for the disk than the others do.

        Work that arrives while another commit is under way shares the next one: the first thread that becomes the
        writer runs it for all. Each is a savepoint of its own, so one that fails undoes nothing but itself.

        Raises:
            Whatever `do` raises; nothing of it is stored then.
            NotNow: as `write`; then it stands for everybody in the group.
        """
        if getattr(self._local, "connection", None) is not None:
            return do(self._local.connection)
        work = _Work(do)
        self._waiting.append(work)
        with self._writer:
            while not work.done:  # often whoever was the writer before has run it
                count = min(len(self._waiting), GROUP_MAX)
                self._run_group([self._waiting.popleft() for _ in range(count)])
        return work.result()

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` after each commit that changed watched tables: the devices concerned, None for perhaps all."""
        self._watchers.append(watcher)

    def is_behind(self, connection: sa.Connection) -> bool:
        """Whether another hub changed watched tables and nobody here was told yet; asked inside a write."""
        return int(meta.get(connection, CHANGES) or 0) > self._changes

    def look_for_changes(self) -> None:
        """Tell the watchers of what other hubs on this database changed.

        Raises:
            NotNow: the database does not answer.
        """
        if self._memory:
            return
        with self.read() as connection:
            found = int(meta.get(connection, CHANGES) or 0)
        if found <= self._changes:
            return
        with self._writer:
            if found > self._changes:
                self._changes = found
                self._tell(frozenset({None}))

    def _touch(self, _connection: object, statement: object, _many: object, _one: object, options: Any) -> None:
        if isinstance(statement, sa.UpdateBase) and not options.get("edgewise_own_word", False):
            table = statement.table
            if isinstance(table, sa.Table) and table.name in WATCHED:
                self._touched.add(options.get("edgewise_device"))

    def _count_change(self, connection: sa.Connection) -> None:
        found = int(meta.get(connection, CHANGES) or 0)
        if found != self._changes:
            self._touched.add(None)  # another hub changed something too
        self._changes = found + 1
        meta.put(connection, CHANGES, str(self._changes))

    def _tell(self, touched: frozenset[str | None]) -> None:
        if not touched:
            return
        names = None if None in touched else frozenset(name for name in touched if name is not None)
        for watcher in self._watchers:
            watcher(names)

    def _run_group(self, group: Sequence[_Work[Any]]) -> None:
        try:
            with self.write() as connection:
                for work in group:
                    if len(group) == 1:
                        work.run(connection)
                    else:
                        _run_apart(connection, work)
            self.counters.committed(len(group))
        except BaseException as error:
            for work in group:
                work.error = work.error or error
        finally:
            for work in group:
                work.done = True


def _run_apart(connection: sa.Connection, work: _Work[Any]) -> None:
    """Run it so that its failure undoes nothing of the others; only a database that can take nobody's work raises."""
    try:
        with connection.begin_nested():
            work.run(connection)
    except DBAPIError as error:
        if isinstance(_family(error), NotNow):
            raise
        work.error = _family(error) or error
    except Exception as error:
        work.error = error


def _engine(url: str, *, memory: bool) -> sa.Engine:
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True, pool_size=10)
    options: dict[str, Any] = {"poolclass": StaticPool} if memory else {}
    engine = sa.create_engine(url, connect_args={"check_same_thread": False, "timeout": BUSY_MS / 1000}, **options)
    sa.event.listen(engine, "connect", _configure)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: Any, _record: object) -> None:
    # None leaves BEGIN to us: the driver's own habit begins late, and never before a schema change.
    connection.isolation_level = None
    cursor = connection.cursor()
    # FULL is the promise of invariant 2: a commit that returned is on the disk, also after a power cut.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("edgewise_writes", False)
    # A writer takes its lock at once: one that reads first and locks later can fail halfway as "locked".
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _families() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        wrapped = _family(error)
        if wrapped is None:
            raise  # a mistake of ours in a statement: it must be seen, not dressed up
        raise wrapped from error


# SQLite's primary result codes (sqlite.org/rescode.html) and PostgreSQL's classes of SQLSTATE (its manual, appendix A).
FULL, BUSY, UNUSABLE = {13}, {5, 6}, {8, 10, 14}
FULL_STATES, BUSY_STATES, DOWN_STATES = ("53",), ("40", "55P03"), ("08", "57P")


def _family(error: DBAPIError) -> EdgewiseError | None:
    text = next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)
    if isinstance(error, DataError):
        return NotValid(f"a value cannot be stored ({text}); a text with NUL, or too big a number", code="not_storable")
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    state = getattr(error.orig, "sqlstate", None) or ""
    if code in FULL or state.startswith(FULL_STATES):
        return NotNow(f"the hub's database has no space left ({text}); free some and try again", code="disk_full")
    if code in BUSY or state.startswith(BUSY_STATES):
        return NotNow(f"the hub's database is busy ({text}); try again", code="busy")
    # psycopg has no SQLSTATE where it could not connect at all.
    unreachable = isinstance(error, OperationalError) and not code and not state
    if code in UNUSABLE or unreachable or state.startswith(DOWN_STATES) or error.connection_invalidated:
        return NotNow(f"the hub's database does not answer ({text}); check its address and disk", code="database_down")
    return None
