"""``edgewise signer``: the automatic keeper of release keys."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._hub import HUB, HUB_DATA, ROOT_DIR, TOKEN, connect

app = typer.Typer(help="Check a gate's evidence and sign releases with keys the hub never sees.", no_args_is_help=True)
KEYS = typer.Option(ROOT_DIR / "keys" / "release", "--keys", help="folder of the release keys (edgewise trust init)")


@app.command(epilog="Example: edgewise signer run --keys keys/release --data-dir edgewise-data")
def run(
    keys: Path = KEYS,
    targets_keys: Path | None = typer.Option(
        None, "--targets-keys", help="folder of the targets keys: then it takes on new use cases by itself"
    ),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    poll_s: float = typer.Option(1.0, "--poll-s", min=0.05, help="seconds between looks at the hub"),
) -> None:
    """Sign what the gate passed, after computing its evidence again from bytes; refuse everything else."""
    from edgewise.signer import run as serve

    with connect(hub, token, data_dir, role="signer") as api:
        serve(api, keys, targets=targets_keys, poll_s=poll_s)
