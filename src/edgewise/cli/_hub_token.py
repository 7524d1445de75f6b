"""``edgewise hub token``: who may call the hub, as what, and for which sites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

app = typer.Typer(help="API tokens of people and of programs elsewhere.", no_args_is_help=True)
COLUMNS = ("id", "name", "role", "sites", "expires_at", "revoked_at", "used_at", "made_by")


@app.command(epilog="Example: edgewise hub token create ann --role operator --site plant-a --days 90")
def create(
    name: str = typer.Argument(..., help="the owner, whom the audit log names", show_default=False),
    role: str = typer.Option(..., "--role", help="viewer, labeller, operator, approver, admin; or worker, signer"),
    site: list[str] = typer.Option([], "--site", help="a site that it reaches; repeat for more; all without it"),
    days: float = typer.Option(90, "--days", min=0, help="until it ends; 0 for never"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Make a token and print it, once; the hub keeps only its hash."""
    from datetime import UTC, datetime, timedelta

    body: dict[str, Any] = {"name": name, "role": role}
    if site:
        body["sites"] = site
    if days:
        body["expires_at"] = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    with connect(hub, token, data_dir) as api:
        made = api.post("/tokens", body)
    if output is Format.table:
        typer.echo(made["token"])
        typer.echo(f"token {made['id']} of {name} is not shown again", err=True)
    else:
        show(made, output)


@app.command("list", epilog="Example: edgewise hub token list")
def list_tokens(hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA, output: Format = FORMAT) -> None:
    """Show all tokens: owner, role, sites, when each ends and was last used."""
    with connect(hub, token, data_dir) as api:
        rows = api.get("/tokens")
    if output is Format.table:
        rows = [{**row, "sites": row["sites"] or "all"} for row in rows]
    show(rows, output, COLUMNS)


@app.command(epilog="Example: edgewise hub token revoke 4f1c…")
def revoke(
    which: str = typer.Argument(..., help="the token's id (see `edgewise hub token list`)", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """End a token now, and the console sessions that began with it."""
    with connect(hub, token, data_dir) as api:
        row = api.post(f"/tokens/{which}/revoke")
    typer.echo(f"token {row['id']} of {row['name']} is revoked")
