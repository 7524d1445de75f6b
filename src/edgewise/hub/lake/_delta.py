"""One Delta table: rows with their offset in one transaction, and everything that deltalake can answer, in our errors.

Of two commits on one version the second does not happen: its app id was moved meanwhile, and no commit of ours is tried
again on top of another's. The next round reads the offset anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from edgewise.hub.lake._place import Place
from edgewise.hub.lake._tables import PARTITION, TABLES, arrow_schema, statistics_columns
from edgewise.wire import NotNow, NotValid

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]
    from deltalake import CommitProperties, DeltaTable, WriterProperties

SEGMENTS, NOTES = "segments", "notes"  # the two orders whose offsets a table carries
FILE_BYTES = 128 << 20  # a file that compaction makes
SMALL_BYTES = 32 << 20
IDS_MAX = 500  # in one condition


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What a table holds in its newest version."""

    version: int
    rows: int
    files: int
    bytes: int


class LakeTable:
    """One table, opened or made.

    Args:
        lake_id: the store whose lake this is; it stands in the table's description.
        hub_epoch: offsets of another one do not count, see `begins`.
    Raises:
        NotValid: the table belongs to another hub. NotNow: it cannot be read or made.
    """

    def __init__(self, place: Place, name: str, *, lake_id: str, hub_epoch: str, history_s: float) -> None:
        self.name = name
        self._url = place.table(name)
        self._options = dict(place.options) or None
        self._apps = {order: f"edgewise/{hub_epoch}/{order}" for order in (SEGMENTS, NOTES)}
        with lake_errors(name):
            self._table = self._opened(f"edgewise lake {lake_id}", history_s)

    def _opened(self, description: str, history_s: float) -> DeltaTable:
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(self._url, self._options):
            seconds = f"interval {int(history_s)} seconds"
            return DeltaTable.create(
                self._url,
                arrow_schema(self.name),
                mode="error",
                partition_by=list(PARTITION),
                description=description,
                configuration={
                    "delta.dataSkippingStatsColumns": statistics_columns(self.name),
                    "delta.deletedFileRetentionDuration": seconds,
                    "delta.logRetentionDuration": seconds,
                },
                storage_options=self._options,
            )
        table = DeltaTable(self._url, storage_options=self._options)
        found = table.metadata().description
        if found != description:
            raise NotValid(
                f"the table {self.name} at {self._url} is of {found or 'nobody that is known'}, not of {description}: "
                "name another place for this hub's lake, or move that table away",
                code="lake_of_another",
            )
        return table

    def refresh(self) -> None:
        """See what another hub committed."""
        with lake_errors(self.name):
            self._table.update_incremental()

    def offset(self, order: str) -> int | None:
        """Up to where an order is in this table; None where this hub epoch committed nothing yet."""
        with lake_errors(self.name):
            return self._table.transaction_version(self._apps[order])

    def begin(self) -> None:
        """Begin from nothing: rows of an earlier hub epoch go, and both offsets are 0, in one transaction."""
        self._write(arrow_schema(self.name).empty_table(), {SEGMENTS: 0, NOTES: 0}, mode="overwrite")

    def append(self, rows: pa.Table, offsets: Mapping[str, int]) -> None:
        """Add rows, and with them the offsets up to which they go: both or neither."""
        self._write(rows, offsets, mode="append")

    def _write(self, rows: pa.Table, offsets: Mapping[str, int], *, mode: Literal["append", "overwrite"]) -> None:
        from deltalake import write_deltalake

        with lake_errors(self.name):
            write_deltalake(
                self._table,
                rows,
                mode=mode,
                writer_properties=_writer(self.name),
                commit_properties=self._once(offsets),
            )

    def delete(self, condition: str) -> int:
        """Rows that fall under an SQL condition go from the newest version; comes back with how many."""
        with lake_errors(self.name):
            done = self._table.delete(condition, writer_properties=_writer(self.name), commit_properties=self._once({}))
        return int(done.get("num_deleted_rows") or 0)

    def delete_ids(self, ids: Sequence[str], *, device: str | None) -> int:
        """Rows of these records go; with `device` only those of that device."""
        whose = "" if device is None else f"device = {literal(device)} AND "
        gone = 0
        for start in range(0, len(ids), IDS_MAX):
            named = ", ".join(literal(name) for name in ids[start : start + IDS_MAX])
            gone += self.delete(f"{whose}{TABLES[self.name].key} IN ({named})")
        return gone

    def small_files(self) -> dict[tuple[str, str, str], int]:
        """How many small files each partition has."""
        import pyarrow as pa

        found: dict[tuple[str, str, str], int] = {}
        with lake_errors(self.name):
            for file in pa.table(self._table.get_add_actions(flatten=True)).to_pylist():
                if file["size_bytes"] < SMALL_BYTES:
                    use_case, site, date = (file[f"partition.{column}"] for column in PARTITION)
                    key = (use_case, site, str(date))
                    found[key] = found.get(key, 0) + 1
        return found

    def compact(self, partition: tuple[str, str, str]) -> None:
        """Make the small files of one partition into large ones."""
        with lake_errors(self.name):
            self._table.optimize.compact(
                partition_filters=[(column, "=", value) for column, value in zip(PARTITION, partition, strict=True)],
                target_size=FILE_BYTES,
                max_concurrent_tasks=1,
                writer_properties=_writer(self.name),
                commit_properties=self._once({}),
            )

    def vacuum(self, history: timedelta) -> int:
        """Remove files that no version of the last `history` needs, and entries of the log older than that."""
        with lake_errors(self.name):
            hours = int(history.total_seconds() // 3600)
            about: dict[str, Any] = {"retention_hours": hours, "enforce_retention_duration": False, "full": True}
            gone = self._table.vacuum(dry_run=True, **about)
            if gone:
                self._table.vacuum(dry_run=False, **about)
                self._table.create_checkpoint()
                self._table.cleanup_metadata()
        return len(gone)

    def size(self) -> Size:
        import pyarrow as pa

        with lake_errors(self.name):
            files = pa.table(self._table.get_add_actions(flatten=True))
            rows, size = (sum(files[column].to_pylist()) for column in ("num_records", "size_bytes"))
            return Size(version=self._table.version(), rows=rows, files=len(files), bytes=size)

    def _once(self, offsets: Mapping[str, int]) -> CommitProperties:
        from deltalake import CommitProperties, Transaction

        told = [Transaction(self._apps[order], version) for order, version in offsets.items()]
        return CommitProperties(max_commit_retries=0, app_transactions=told or None)


def literal(text: str) -> str:
    """A text as an SQL literal.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def moment(at: datetime) -> str:
    """A moment as an SQL literal."""
    return f"arrow_cast({literal(at.isoformat())}, 'Timestamp(Microsecond, Some(\"UTC\"))')"


def _writer(name: str) -> WriterProperties:
    from deltalake import ColumnProperties, WriterProperties

    # Times go up evenly and values share their first bytes: both pack better when they are split up first.
    spread = {"read_at": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"}
    columns: dict[str, Any] = {
        column: ColumnProperties(dictionary_enabled=False, encoding=encoding)  # type: ignore[arg-type]
        for column, encoding in (spread if name == "readings" else {}).items()
    }
    return WriterProperties(compression="ZSTD", compression_level=3, column_properties=columns or None)


@contextlib.contextmanager
def lake_errors(table: str) -> Iterator[None]:
    """Errors of deltalake and of the disk as ours.

    Raises:
        NotNow: code ``lake_overtaken`` where another committer was faster, else ``lake_failed``.
    """
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except CommitFailedError as error:
        raise NotNow(
            f"table {table} got another version meanwhile ({_line(error)}); the next round looks again",
            code="lake_overtaken",
        ) from error
    except (DeltaError, OSError, ValueError) as error:
        raise NotNow(
            f"table {table} cannot be read or written ({_line(error)}); check the lake's place and free space, its "
            "rows wait in the hub's store",
            code="lake_failed",
        ) from error


def _line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
