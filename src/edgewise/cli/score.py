"""``edgewise score``: how good a bundle is on labelled data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from edgewise.cli._output import FORMAT, Format, show, tell
from edgewise.cli._progress import progress
from edgewise.cli.usecase import read_file

EXAMPLE = "Example: edgewise score bundle/ --data other-pictures/ -o json"


def _harmed(
    bundle: Path, beside: Path | None, data: Path, good: Sequence[str], group: str
) -> dict[str, dict[str, Any]]:
    from edgewise.learn import read_dataset, robustness
    from edgewise.ports import read_bundle
    from edgewise.wire import plain

    others = {} if beside is None else {"beside": read_bundle(beside)}
    samples = [one for one in read_dataset(data, good=good, group=group or None).samples if not one.uncertain]
    with progress("harming") as advance:
        found = robustness({**others, "bundle": read_bundle(bundle)}, samples, good=good, progress=advance)
    return {name: plain(one) for name, one in found.items()}


def _harm_rows(found: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    rows = []
    for told in found["bundle"]["harms"]:
        row = {"harm": told["harm"], "macro recall": _points(told["macro_recall"]), "lost": _points(told.get("loss"))}
        rows.append(row | ({"behind the other": _points(told["behind"])} if "behind" in told else {}))
    return rows


def _unread(told: dict[str, Any]) -> list[str]:
    count = told["unreadable"]
    return [f"{count} of the {told['samples']} pictures cannot be read; the harms are over the others"] if count else []


def _points(one: dict[str, float | None] | None) -> str:
    """A share in points of a hundred, with its interval.

    >>> _points({"value": 0.9, "low": 0.85, "high": None}), _points(None)
    ('90.0', '')
    """
    if one is None or one["value"] is None:
        return ""
    low, high = one["low"], one["high"]
    shown = f"{100 * one['value']:.1f}"
    return shown if low is None or high is None else f"{shown} ({100 * low:.1f} to {100 * high:.1f})"


def command(
    bundle: Path = typer.Argument(..., help="a bundle's folder or packed file", show_default=False),
    data: Path = typer.Option(
        ..., "--data", help="images.zip or images beside labels.csv, or one folder per class, or another format"
    ),
    good: list[str] = typer.Option([], "--good", help="label of good parts; what the bundle remembers without it"),
    group: str = typer.Option("", "--group", help="column of groups for the intervals; found by itself without it"),
    usecase: Path | None = typer.Option(None, "--usecase", help="a usecase.yaml, whose slices are scored too"),
    robust: bool = typer.Option(False, "--robustness", help="also on the same pictures out of focus, darker, noisy …"),
    beside: Path | None = typer.Option(None, "--beside", help="another bundle, compared under each of these harms"),
    output: Format = FORMAT,
) -> None:
    """Score a bundle on a folder of labelled data: every metric with its interval, overall, per group and slice."""
    from edgewise.learn import score

    declared = None if usecase is None else read_file(usecase)
    with progress("scoring") as advance:
        result = score(bundle, data, good=good, group=group or None, use_case=declared, progress=advance)
    if robust or beside is not None:
        result["robustness"] = _harmed(bundle, beside, data, good, group)
    tell(result["said"])
    if output is Format.table:
        parts = {"": result, **{f"slice:{name} ": part for name, part in result["slices"].items()}}
        rows = [
            {"metric": f"{where}{name}", **value}
            for where, part in parts.items()
            for name, value in part.items()
            if isinstance(value, dict) and "value" in value
        ]
        rows += [
            {"metric": f"{where}recall of {label}", **part["recall"][label]}
            for where, part in parts.items()
            for label in (() if declared is None else declared.outcome.labels_that_matter)
            if label in part["recall"]
        ]
        show(rows, output, ("metric", "value", "low", "high"))
        if "robustness" in result:
            show(_harm_rows(result["robustness"]), output)
            tell(_unread(result["robustness"]["bundle"]))
    else:
        show(result, output)
