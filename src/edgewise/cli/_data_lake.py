"""Answers of the lake, for ``edgewise data query``."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewise.cli._output import Format, show
from edgewise.wire.errors import NotValid

if TYPE_CHECKING:
    from edgewise.ports.api import HubApi

WAIT_S = 120.0  # longer than a hub lets a question run
JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"
PRINTED = ("table", "json", "csv")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A hub's answer: JSON or an Arrow stream, and whether the hub cut it."""

    body: bytes
    rows: int
    truncated: bool


def check_output(output: str) -> None:
    """Before anything is asked: that the answer has somewhere to go.

    Raises:
        NotValid: neither a form nor the name of a new file of a known kind.
    """
    if output in PRINTED:
        return
    if not output.endswith((".parquet", ".csv")):
        raise NotValid(f"-o {output} is none of {', '.join(PRINTED)}, and no NAME.parquet or NAME.csv")
    if Path(output).exists():
        raise NotValid(f"{output} is there already; name a new file, or remove it")


def asked(api: HubApi, question: Mapping[str, Any], *, arrow: bool) -> Answer:
    """What the hub answers."""
    body, headers = api.ask_lake(question, media_type=ARROW if arrow else JSON)
    return Answer(
        body=body,
        rows=int(headers.get("edgewise-rows", "0")),
        truncated=headers.get("edgewise-truncated") == "true",
    )


def printed(answer: Answer, form: str) -> None:
    """The rows on the standard output."""
    if form == "csv":
        sys.stdout.write(_csv(answer.body))
        return
    told = json.loads(answer.body)
    names = [column["name"] for column in told["columns"]]
    rows = [dict(zip(names, row, strict=True)) for row in told["rows"]]
    show(rows, Format(form), names)


def saved(answer: Answer, file: Path) -> None:
    """The rows in a new file, by the end of its name."""
    if file.suffix == ".csv":
        file.write_text(_csv(answer.body), newline="")
        return
    import pyarrow.ipc  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    pyarrow.parquet.write_table(pyarrow.ipc.open_stream(answer.body).read_all(), file)


def _csv(body: bytes) -> str:
    told = json.loads(body)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column["name"] for column in told["columns"]])
    for row in told["rows"]:
        writer.writerow([json.dumps(item) if isinstance(item, list | dict) else item for item in row])
    return out.getvalue()


def table_rows(api: HubApi, name: str) -> list[dict[str, Any]]:
    """The tables, or the columns of one.

    Raises:
        NotValid: there is no such table.
    """
    found = {table["name"]: table for table in api.get("/lake/tables")}
    if not name:
        return list(found.values())
    if name not in found:
        raise NotValid(f"there is no table {name[:60]}; there are {', '.join(found)}")
    return list(found[name]["columns"])
