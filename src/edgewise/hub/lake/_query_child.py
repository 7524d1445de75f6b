"""The process that answers one question: its order comes as JSON on stdin; out go one line of JSON and the answer."""

from __future__ import annotations

import base64
import json
import math
import os
import sys
import threading
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.dataset as ds  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from edgewise.hub.lake._tables import TABLES, arrow_schema
from edgewise.ports.limited import limit_files, limit_memory

BATCH_ROWS = 4096
# Everything that could reach a file, the network, another setting or a variable of this program.
SETTINGS = {
    "temp_directory": "",  # first: the next ones forbid to change it
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "enable_external_access": False,
    "python_enable_replacements": False,
    "threads": 2,
    "errors_as_json": True,
    "TimeZone": "UTC",
}


class Refused(Exception):
    """The question cannot be answered: a code and a sentence."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def main() -> None:
    order = json.loads(sys.stdin.buffer.read())
    limit_files(256)
    limit_memory(order["memory_bytes"])
    try:
        head, body = answer(order)
    except Refused as error:
        head, body = {"code": error.code, "text": str(error)}, b""
    except MemoryError:
        head, body = {"code": "query_memory", "text": _memory(order["memory_bytes"])}, b""
    except Exception as error:
        head, body = {"code": "query_failed", "text": f"the question could not be answered: {_line(error)}"}, b""
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + body)
    sys.stdout.buffer.flush()
    # Libraries with threads of their own do not always end well, and the answer is out.
    os._exit(0)


def answer(order: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The head and the body of the answer."""
    connection = duckdb.connect(":memory:")
    connection.execute(f"SET memory_limit = '{order['memory_bytes'] * 3 // 4 >> 20}MB'")
    for name, value in SETTINGS.items():
        connection.execute(f"SET {name} = {value!r}" if isinstance(value, str) else f"SET {name} = {value}")
    sql = order["sql"]
    try:
        names = _check(connection, sql)
        versions = {}
        for name in TABLES:
            if name in names:
                versions[name] = _register(connection, name, order, alone=len(names) == 1)
            else:
                connection.register(name, arrow_schema(name).empty_table())
        connection.execute("SET lock_configuration = true")
        timer = threading.Timer(order["seconds"], connection.interrupt)
        timer.daemon = True
        timer.start()
        found, truncated = _rows(connection.execute(sql), order["rows_max"], order["bytes_max"])
        timer.cancel()
    except duckdb.InterruptException as error:
        raise Refused("query_slow", "") from error
    except duckdb.OutOfMemoryException as error:
        raise Refused("query_memory", _memory(order["memory_bytes"])) from error
    except duckdb.Error as error:
        raise _explain(sql, error) from error
    except (OSError, pa.ArrowException, DeltaError) as error:
        raise Refused("lake_failed", f"the lake's files cannot be read: {_line(error)}") from error
    head = {"rows": found.num_rows, "truncated": truncated, "versions": versions}
    return head, _arrow(found) if order["form"] == "arrow" else _json(found)


def _check(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """The lake's tables that the question reads."""
    statements = connection.extract_statements(sql)
    kinds = [statement.type for statement in statements]
    if len(kinds) != 1 or kinds[0] not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        seen = ", ".join(kind.name for kind in kinds) or "none"
        raise Refused("sql_invalid", f"one SELECT is answered, seen {len(kinds)} statements: {seen}")
    return {name for name in TABLES if name in {item.lower() for item in connection.get_table_names(sql)}}


def _register(connection: duckdb.DuckDBPyConnection, name: str, order: dict[str, Any], *, alone: bool) -> int:
    """Let the question see a table, and of it only the rows of these sites; comes back with its version."""
    url, options = order["tables"][name], order["options"] or None
    if not DeltaTable.is_deltatable(url, options):
        connection.register(name, arrow_schema(name).empty_table())
        return 0
    table = DeltaTable(url, storage_options=options)
    if order["at"] is not None:
        _go_back(table, name, order["at"], alone=alone)
    # Cut before SQL sees it: there is no name under which the rows of other sites could be asked for.
    data: ds.Dataset = table.to_pyarrow_dataset()
    if order["sites"] is not None:
        data = data.filter(pc.field("site").isin(pa.array(order["sites"], pa.string())))
    connection.register(name, data)
    return int(table.version())


def _go_back(table: DeltaTable, name: str, at: int | str, *, alone: bool) -> None:
    if isinstance(at, int) and not alone:
        raise Refused(
            "lake_version",
            f"version {at} is of one table, and this reads several, whose versions differ: name a moment instead",
        )
    newest = table.version()
    version = at if isinstance(at, int) else _version_at(table, name, at)
    try:
        table.load_as_version(version)
    except (DeltaError, ValueError, OSError) as error:
        text = f"{name} has no version {version} (any more), it has version {newest} now"
        raise Refused("lake_version", text) from error


def _version_at(table: DeltaTable, name: str, at: str) -> int:
    """The newest version that had been made by then; the first one, which holds nothing, for a moment before it."""
    told = {entry["version"]: entry["timestamp"] for entry in table.history()}
    made = [version for version, made_at in told.items() if made_at <= datetime.fromisoformat(at).timestamp() * 1000]
    if not made and min(told, default=0) > 0:
        raise Refused("lake_version", f"{name} is no longer held as it was at {at}: its history is shorter")
    return max(made, default=0)


def _rows(found: duckdb.DuckDBPyConnection, rows_max: int, bytes_max: int) -> tuple[pa.Table, bool]:
    """The rows up to the bounds, and whether there were more."""
    batches, count, size = [], 0, 0
    reader: Any = found.to_arrow_reader(BATCH_ROWS)
    for batch in reader:
        if count + batch.num_rows > rows_max:
            batches.append(batch.slice(0, rows_max - count))
            return pa.Table.from_batches(batches, reader.schema), True
        if size + batch.nbytes > bytes_max:
            return pa.Table.from_batches(batches, reader.schema), True
        batches.append(batch)
        count, size = count + batch.num_rows, size + batch.nbytes
    return pa.Table.from_batches(batches, reader.schema), False


def _arrow(found: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, found.schema) as writer:
        writer.write_table(found)
    return bytes(sink.getvalue())


def _json(found: pa.Table) -> bytes:
    columns = [{"name": field.name, "type": str(field.type)} for field in found.schema]
    values = [column.to_pylist() for column in found.columns]
    rows = [[plain(value) for value in row] for row in zip(*values, strict=True)]
    return json.dumps({"columns": columns, "rows": rows}, ensure_ascii=False, allow_nan=False).encode()


def plain(value: Any) -> Any:
    """A value as JSON has it. It has no word for NaN and the infinities: they are texts, as moments are.

    >>> plain([float("nan"), b"ab", Decimal("1.5"), {"n": 1}])
    ['NaN', 'YWI=', 1.5, {'n': 1}]
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
    if isinstance(value, datetime | date | clock_time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return plain(float(value)) if value != int(value) else int(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _explain(sql: str, error: duckdb.Error) -> Refused:
    """One sentence: what is wrong, and where."""
    _, _, text = str(error).partition("{")
    try:
        told = json.loads("{" + text)
    except ValueError:
        only = "only the lake can be read: " if isinstance(error, duckdb.PermissionException) else ""
        return Refused("sql_invalid", only + _line(error))
    lines = str(told.get("exception_message", "")).splitlines() or [_line(error)]
    what = " ".join(line.strip() for line in lines if line.strip())
    if told.get("exception_type") == "Catalog" and told.get("type") == "Table":
        what = f"there is no table {told.get('name')}; there are {', '.join(sorted(TABLES))}"
    if isinstance(error, duckdb.PermissionException):
        what = f"only the lake can be read: {what}"
    position = told.get("position")
    if position is None or not str(position).isdecimal():
        return Refused("sql_invalid", what[:600])
    return Refused("sql_invalid", f"{place(sql, int(position))}: {what[:600]}")


def place(sql: str, position: int) -> str:
    """Where a position is, for people.

    >>> place("SELECT 1,\\n  nope", 12)
    "line 2, column 3, at 'nope'"
    """
    before = sql.encode()[:position].decode(errors="ignore")
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    rest = sql[len(before) :].split()
    return f"line {line}, column {column}, at {rest[0][:40]!r}" if rest else f"line {line}, at the end"


def _memory(size: int) -> str:
    return f"the question needs over {size >> 20} MB of memory; ask for a shorter time, fewer sites or fewer columns"


def _line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


if __name__ == "__main__":
    main()
