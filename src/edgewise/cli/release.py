"""``edgewise release``: list, show and sign releases."""

from __future__ import annotations

import getpass
from pathlib import Path

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

NAME = "release"
app = typer.Typer(
    help="Approved and signed bundles. Signing happens where the release key is, never in the hub.",
    no_args_is_help=True,
)


@app.command("list", epilog="Example: edgewise release list -o json")
def list_releases(hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA, output: Format = FORMAT) -> None:
    """Show all releases, newest first."""
    with connect(hub, token, data_dir) as api:
        rows = api.get("/releases")
    flat = [{**row["release"], **row} for row in rows]
    show(
        rows if output is not Format.table else flat,
        output,
        ("id", "signed_as", "approved_by", "received_at", "bundle"),
    )


@app.command("show", epilog="Example: edgewise release show surface-inspection@2")
def show_release(
    release: str = typer.Argument(..., help="the release's id", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show one release: its gate, what it was made of, who approved it, and where it runs."""
    with connect(hub, token, data_dir) as api:
        row = api.get(f"/releases/{release}")
    show(row if output is not Format.table else {**row.pop("release"), **row}, output)


@app.command(
    epilog='Example: edgewise release sign 9c41… --key release.pem --override "drill: prove that the fleet reverts"'
)
def sign(
    bundle: str = typer.Argument(..., help="manifest digest of the candidate", show_default=False),
    key: Path = typer.Option(..., "--key", help="the release key (PEM), kept away from the hub"),
    override: str = typer.Option("", "--override", help="sign against the gate's verdict, with this reason (audited)"),
    who: str = typer.Option("", "--who", help="your name; the login name without it"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Check a candidate's evidence here and sign it; a candidate that did not pass needs --override."""
    from edgewise.signer import sign_by_person

    with connect(hub, token, data_dir) as api:
        release = sign_by_person(
            api, bundle, key_file=key, by=who or getpass.getuser(), override_reason=override or None
        )
    typer.echo(f"{release.id} is signed ({release.signed_as})")
