"""``edgewise field``: how good the running release is where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

app = typer.Typer(help="How good a release is in the field, from frames drawn at random.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """How good a release is in the field, from frames drawn at random."""


@app.command(epilog="Example: edgewise field status surface-inspection --half-width 0.02")
def status(
    use_case: str = typer.Argument(..., help="the use case", show_default=False),
    release: str = typer.Option("", "--release", help="another one than the champion"),
    half_width: float = typer.Option(0.02, "--half-width", min=0.001, max=0.5, help="of the interval that is wanted"),
    days: float = typer.Option(28.0, "--days", min=1, max=366, help="frames of so many days"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show the accuracy by site with its interval, and how many more labels it needs where."""
    asked: dict[str, str | float] = {
        "half_width": half_width,
        "days": days,
        **({"release": release} if release else {}),
    }
    with connect(hub, token, data_dir) as api:
        found = api.get(f"/usecases/{use_case}/field", **asked)
    if output is not Format.table:
        show(found, output)
        return
    typer.echo(f"{found['release']} in the field: {metric(found['accuracy'])}, {found['labelled']} labels")
    sites = sorted({*found["sites"], *found["wanted"], *found["waiting"]})
    rows = [
        {
            "site": site,
            "accuracy": metric(found["sites"].get(site)),
            "labels wanted": found["wanted"].get(site, 0),
            "waiting": found["waiting"].get(site, 0),
        }
        for site in sites
    ]
    if rows:
        show(rows, output, ("site", "accuracy", "labels wanted", "waiting"))
    for label, one in found["recalls"].items():
        if one["value"] is not None:
            typer.echo(f"recall of {label}: {metric(one)}")
    if found["missing"]:
        typer.echo(f"nothing is known of {', '.join(found['missing'])}: left out")
    total = sum(found["wanted"].values())
    wish = f"±{100 * found['half_width']:g} points"
    if not total:
        typer.echo(f"known within {wish}: no more labels are needed")
        return
    typer.echo(f"{total} more labels for {wish}")
    if found["next"]:
        typer.echo(f"next: edgewise label set {found['next'][0]} LABEL, or the console")
    else:
        typer.echo("no audit sample waits for one: devices send more within their budget")


def metric(one: Mapping[str, Any] | None) -> str:
    """A share with its interval.

    >>> metric({"value": 0.9, "low": 0.85, "high": 0.93, "n": 120})
    '90.0 % (85.0 to 93.0)'
    """
    if one is None or one["value"] is None:
        return "not known"
    return f"{100 * one['value']:.1f} % ({100 * one['low']:.1f} to {100 * one['high']:.1f})"
