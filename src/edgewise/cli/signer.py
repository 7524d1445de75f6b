"""``edgewise signer``: the keeper of the release key."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._hub import HUB, HUB_DATA, ROOT_DIR, TOKEN, connect

NAME = "signer"
app = typer.Typer(help="Check a gate's evidence and sign releases with a key the hub never sees.", no_args_is_help=True)
KEYS = typer.Option(ROOT_DIR / "signer", "--keys", help="folder of the release key")


@app.command(epilog="Example: edgewise signer run --keys keys/ --data-dir edgewise-data")
def run(
    keys: Path = KEYS,
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    poll_s: float = typer.Option(1.0, "--poll-s", min=0.05, help="seconds between looks at the hub"),
) -> None:
    """Sign what the gate passed, after computing its evidence again from bytes; refuse everything else."""
    from edgewise.signer import run as serve

    with connect(hub, token, data_dir, role="signer") as api:
        serve(api, keys, poll_s=poll_s)


@app.command("init", epilog="Example: edgewise signer init --keys keys/")
def init(keys: Path = KEYS) -> None:
    """Make the release key if there is none; prints its public half for the hub's trust root."""
    from edgewise.ports import FolderKeys
    from edgewise.signer import release_key

    typer.echo(release_key(FolderKeys(keys)).public.public)
