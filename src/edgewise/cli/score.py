"""``edgewise score``: how good a bundle is on labelled data."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._output import FORMAT, Format, show, tell
from edgewise.cli._progress import progress
from edgewise.cli.usecase import read_file

EXAMPLE = "Example: edgewise score bundle/ --data other-pictures/ -o json"


def command(
    bundle: Path = typer.Argument(..., help="a bundle's folder or packed file", show_default=False),
    data: Path = typer.Option(
        ..., "--data", help="images.zip or images beside labels.csv, or one folder per class, or another format"
    ),
    good: list[str] = typer.Option([], "--good", help="label of good parts; what the bundle remembers without it"),
    group: str = typer.Option("", "--group", help="column of groups for the intervals; found by itself without it"),
    usecase: Path | None = typer.Option(None, "--usecase", help="a usecase.yaml, whose slices are scored too"),
    output: Format = FORMAT,
) -> None:
    """Score a bundle on a folder of labelled data: every metric with its interval, overall, per group and slice."""
    from edgewise.learn import score

    declared = None if usecase is None else read_file(usecase)
    with progress("scoring") as advance:
        result = score(bundle, data, good=good, group=group or None, use_case=declared, progress=advance)
    tell(result["said"])
    if output is Format.table:
        parts = {"": result, **{f"slice:{name} ": part for name, part in result["slices"].items()}}
        rows = [
            {"metric": f"{where}{name}", **value}
            for where, part in parts.items()
            for name, value in part.items()
            if isinstance(value, dict) and "value" in value
        ]
        show(rows, output, ("metric", "value", "low", "high"))
    else:
        show(result, output)
