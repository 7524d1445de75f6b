"""How commands print: a table for people, JSON or YAML for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import typer


class Format(StrEnum):
    table = "table"
    json = "json"
    yaml = "yaml"


FORMAT = typer.Option(Format.table, "-o", "--output", help="table for people, json or yaml for programs")


def show(value: Any, form: Format, columns: Sequence[str] = ()) -> None:
    """Print a value: rows of mappings, or one mapping. `columns` chooses and orders the table's columns."""
    if form is Format.json:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    elif form is Format.yaml:
        import yaml

        sys.stdout.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
    elif isinstance(value, Mapping):
        _pairs(value)
    else:
        _rows(list(value), columns)


def tell(sentences: str | Sequence[str]) -> None:
    """One sentence or several beside the result, on the error stream: what was left out, or is good to know."""
    for line in (sentences,) if isinstance(sentences, str) else sentences:
        typer.echo(f"  {line}", err=True)


def _rows(rows: list[Mapping[str, Any]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        sys.stdout.write("none\n")
        return
    names = list(columns) or list(rows[0])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(short(cell(row.get(name))) for name in names))
    Console(soft_wrap=False).print(table)


def _pairs(value: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, item in value.items():
        table.add_row(name.replace("_", " "), cell(item))
    Console(soft_wrap=False).print(table)


def short(text: str) -> str:
    """A cell of a list: digests by their beginning, times to the second. `-o json` has all of it.

    >>> short("0a1cb3536b5960e9" * 4), short("2026-11-23T21:29:31.274646Z"), short("plant-a")
    ('0a1cb3536b59…', '2026-11-23 21:29:31', 'plant-a')
    """
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return text[:12] + "…"
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\.?\d*(Z|\+00:00)$", r"\1 \2", text)


def cell(value: Any) -> str:
    """A value as one table cell.

    >>> cell(None), cell(0.123456), cell(["a", "b"]), cell(True)
    ('–', '0.1235', 'a, b', 'yes')
    """
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(item)}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(cell(item) for item in value)
    return str(value)
