"""``edgewise release``: list, show, sign and withdraw releases."""

from __future__ import annotations

import getpass
from pathlib import Path

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

KEY = typer.Option(..., "--key", help="release key or folder of them, kept away from the hub")
app = typer.Typer(
    help="Approved and signed bundles. Signing happens where the release keys are, never in the hub.",
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


@app.command("scorecard", epilog="Example: edgewise release scorecard surface-inspection@2")
def scorecard(
    release: str = typer.Argument(..., help="the release's id", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show how good a release was found to be: by site and slice, beside the champion, and how well calibrated."""
    with connect(hub, token, data_dir) as api:
        found = api.get(f"/releases/{release}/scorecard")
    if output is not Format.table:
        show(found, output)
        return
    from edgewise.cli._scorecard import lines

    typer.echo("\n".join(lines(found)))


@app.command(
    epilog='Example: edgewise release sign 9c41… --key keys/release --override "drill: prove that the fleet reverts"'
)
def sign(
    bundle: str = typer.Argument(..., help="manifest digest of the candidate", show_default=False),
    key: Path = KEY,
    override: str = typer.Option("", "--override", help="sign against the gate's verdict, with this reason (audited)"),
    variant: list[str] = typer.Option(
        [], "--variant", help="NAME=DIGEST of a variant to add, with --override; may be given again"
    ),
    who: str = typer.Option("", "--who", help="your name; the login name without it"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Check a candidate's evidence here and sign it; a candidate that did not pass needs --override.

    Its variants that passed by themselves come with it.

    Where a release of it waits for more signatures, it gets yours.
    """
    from edgewise.signer import sign_by_person

    with connect(hub, token, data_dir) as api:
        done = sign_by_person(
            api,
            bundle,
            keys=key,
            by=who or getpass.getuser(),
            override_reason=override or None,
            variants=dict(map(_named, variant)),
        )
    rest = f"; {done.missing} more signatures are needed" if done.missing else ""
    names = ", ".join(done.release.bundles)
    typer.echo(f"{done.release.id} ({names}) is signed ({done.release.signed_as}){rest}")


def _named(text: str) -> tuple[str, str]:
    name, equals, digest = text.partition("=")
    if not (name and equals and digest):
        raise typer.BadParameter(f"--variant is {text!r}, needs to be NAME=DIGEST, such as int8=9c41…")
    return name, digest


@app.command(epilog='Example: edgewise release withdraw press@4 --key keys/release --reason "wrong labels"')
def withdraw(
    release: str = typer.Argument(..., help="the release's id", show_default=False),
    key: Path = KEY,
    reason: str = typer.Option(..., "--reason", help="why (audited)"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Vouch for a release no longer: no device installs it or goes back to it; where it runs it runs on."""
    from datetime import UTC, datetime

    from edgewise.ports import read_signers
    from edgewise.signer import Desk, withdraw_release

    with connect(hub, token, data_dir) as api:
        desk = Desk(api, key if key.is_dir() else key.parent)
        done = withdraw_release(desk, release, read_signers([key]), why=reason, now=datetime.now(UTC))
    waits = sum(done["waiting"].values())
    typer.echo(f"{release} waits for {waits} more signatures" if waits else f"{release} is withdrawn")


@app.command(epilog="Example: edgewise release ran --at 2026-05-04T22:00+02:00 --site plant-a")
def ran(
    release: str = typer.Argument("", help="where this release ran, from when to when", show_default=False),
    at: str = typer.Option("", "--at", help="what ran then, such as 2026-05-04T22:00+02:00; now without it"),
    site: str = typer.Option("", "--site", help="of this site"),
    device: str = typer.Option("", "--device", help="of this device"),
    limit: int = typer.Option(100, "--limit", min=1, max=1000),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show what ran where at a moment, and how sure that is; or, of one release, where it ran from when to when."""
    from edgewise.cli._release_ran import print_moment, print_stretches
    from edgewise.cli._rollout_policy import moment

    given = {"site": site, "device": device, "at": moment(at) if at else ""}
    asked: dict[str, str] = {name: value for name, value in given.items() if value}
    if release and not at:
        if asked:
            raise typer.BadParameter("--site and --device go with a moment: add --at, or leave the release out")
        path = f"/releases/{release}/ran"
    else:
        path = "/ran"
        asked |= {"release": release} if release else {}
    with connect(hub, token, data_dir) as api:
        page = api.get(path, limit=limit, **asked)
    if output is not Format.table:
        show(page, output)
    else:
        (print_moment if path == "/ran" else print_stretches)(page)
