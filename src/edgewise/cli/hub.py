"""``edgewise hub``: the cloud side."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._hub import DATA_DIR, HUB, HUB_DATA, TOKEN, connect

NAME = "hub"
app = typer.Typer(help="The cloud side: store, judge, roll out, show.", no_args_is_help=True)


@app.command(epilog="Example: edgewise hub serve --data-dir edgewise-data --http-port 8080")
def serve(
    data_dir: Path = typer.Option(DATA_DIR, "--data-dir", envvar="EDGEWISE_DATA_DIR", help="where everything is kept"),
    host: str = typer.Option("127.0.0.1", "--host", help="address to listen on; loopback by default"),
    http_port: int = typer.Option(8080, "--http-port", min=0, max=65535, help="0 picks a free one and prints it"),
    database: str = typer.Option(
        "", "--database", envvar="EDGEWISE_DATABASE", help="a PostgreSQL URL instead of SQLite"
    ),
    objects: str = typer.Option(
        "", "--objects", envvar="EDGEWISE_OBJECTS", help="an object store such as s3://bucket/prefix"
    ),
    tick_s: float = typer.Option(1.0, "--tick-s", min=0.05, help="seconds between rounds of the controllers"),
) -> None:
    """Run the hub. It prints its address when it is ready; SIGTERM ends it cleanly."""
    from edgewise.hub import HubConfig
    from edgewise.hub.serve import serve as run

    config = HubConfig(data_dir=data_dir, database_url=database or None, objects_url=objects or None)
    run(config, host=host, port=http_port, tick_s=tick_s)


@app.command("trust", epilog='Example: edgewise hub trust "$(edgewise signer init)"')
def trust_key(
    key: str = typer.Argument(
        ..., help="the public half of a release key, as `edgewise signer init` prints it", show_default=False
    ),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Add a release key to the trust root that devices pin when they enrol."""
    import base64
    import binascii

    from edgewise.wire import NotValid, digest

    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error as error:
        raise NotValid(f"{key[:20]!r} is not a public key: {error}; `edgewise signer init` prints one") from error
    with connect(hub, token, data_dir) as api:
        root = api.post("/root/release-keys", {"keys": [{"keyid": digest(raw), "public": key}]})
    typer.echo(f"the trust root has {len(root['release_keys'])} release key(s), version {root['version']}")


@app.command(epilog="Example: edgewise hub token --use-case surface-inspection --site plant-a")
def token(
    use_case: str = typer.Option(..., "--use-case", help="name of the use case"),
    site: str = typer.Option(..., "--site", help="name of the site"),
    device: str = typer.Option("", "--device", help="name for the device; made up without it"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Make a one-time token with which one device can enrol; it prints nothing else."""
    body = {"use_case": use_case, "site": site, **({"device": device} if device else {})}
    with connect(hub, token, data_dir) as api:
        typer.echo(api.post("/enrolment-tokens", body)["token"])
