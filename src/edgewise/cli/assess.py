"""``edgewise assess``: whether something is ready, before anything is built on it."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from edgewise.cli._output import Format
from edgewise.cli._progress import progress

app = typer.Typer(help="Whether data is ready to learn from.", no_args_is_help=True)


@app.callback()
def _always_a_group() -> None:
    # Without a callback typer takes a group with one command for that command.
    return None


@app.command("data", epilog="Example: edgewise assess data pictures/ --target 0.9 --html readiness.html")
def data(
    source: Path = typer.Argument(..., help="a folder of labelled data in any format", show_default=False),
    good: list[str] = typer.Option([], "--good", help="label of good parts; may be given again"),
    group: str = typer.Option("", "--group", help="column whose groups are never split; found by itself without it"),
    target: float = typer.Option(0.9, "--target", min=0.01, max=1.0, help="mean recall to reach"),
    html: Path | None = typer.Option(None, "--html", help="also write the report as a page"),
    output: Format = typer.Option(Format.table, "-o", "--output", help="table for people, json or yaml for programs"),
) -> None:
    """Report counts, copies, leaks, doubtful labels, how sites differ, and how many labels a target needs.

    Exit code 1 where the data is not ready.
    """
    from edgewise.cli._output import show
    from edgewise.learn import read_dataset
    from edgewise.learn._assess import assess, page

    with progress("assessing") as advance:
        found = assess(read_dataset(source, good=good, group=group or None), target=target, progress=advance)
    if html is not None:
        html.write_text(page(found), encoding="utf-8")
    if output is not Format.table:
        show(json.loads(json.dumps(found.plain())), output)
    else:
        from edgewise.cli._rollout_words import text

        typer.echo(f"{found.source}: {found.word}, {found.samples} samples in {found.groups} groups")
        for one in found.findings:
            typer.echo("\n".join(text(f"{one.severity}: {one.text}")))
        if html is not None:
            typer.echo(f"the report is in {html}")
    if found.word == "not ready":
        raise typer.Exit(1)
