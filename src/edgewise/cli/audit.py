"""``edgewise audit``: read and check the audit log."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

app = typer.Typer(help="Who did what when, in a chain that shows every later change.", no_args_is_help=True)


@app.command("list", epilog="Example: edgewise audit list --limit 20")
def list_entries(
    limit: int = typer.Option(20, "--limit", min=1, max=1000),
    after: int = typer.Option(-1, "--after", help="only entries behind this index"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show entries of the audit log, oldest first."""
    with connect(hub, token, data_dir) as api:
        rows = api.get("/audit", after=after, limit=limit)
    show(rows, output, ("index", "at", "actor", "action", "subject"))


@app.command(epilog="Example: edgewise audit verify")
def verify(hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA) -> None:
    """Check the whole chain; exit code 3 and the first broken index where something was changed."""
    from edgewise.wire import NotTrusted

    with connect(hub, token, data_dir) as api:
        answer = api.get("/audit/verify")
    if answer["broken"] is not None:
        raise NotTrusted(
            f"the audit chain is broken at entry {answer['broken']} of {answer['entries']}", code="audit_broken"
        )
    typer.echo(f"{answer['entries']} entries, unbroken")
