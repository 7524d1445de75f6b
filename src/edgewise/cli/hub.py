"""``edgewise hub``: the cloud side."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli import _hub_token
from edgewise.cli._hub import DATA_DIR, HUB, HUB_DATA, TOKEN, connect

NAME = "hub"
app = typer.Typer(help="The cloud side: store, judge, roll out, show.", no_args_is_help=True)
app.add_typer(_hub_token.app, name="token")


@app.command(epilog="Example: edgewise hub serve --data-dir edgewise-data --http-port 8080")
def serve(
    config: Path | None = typer.Option(
        None, "--config", envvar="EDGEWISE_CONFIG", help="hub.yaml; that of the data folder without it"
    ),
    data_dir: Path | None = typer.Option(None, "--data-dir", help=f"where everything is kept  [default: {DATA_DIR}]"),
    host: str | None = typer.Option(None, "--host", help="address to listen on  [default: 127.0.0.1]"),
    http_port: int | None = typer.Option(
        None, "--http-port", min=0, max=65535, help="0 picks a free one and prints it  [default: 8080]"
    ),
    database: str | None = typer.Option(None, "--database", help="a PostgreSQL URL instead of SQLite"),
    objects: str | None = typer.Option(None, "--objects", help="an object store such as s3://bucket/prefix"),
    tick_s: float | None = typer.Option(
        None, "--tick-s", min=0.05, help="seconds between rounds of the controllers  [default: 1]"
    ),
) -> None:
    """Run the hub. It prints its address when it is ready; SIGTERM ends it cleanly.

    Each option may also stand in hub.yaml, or as EDGEWISE_DATA_DIR, EDGEWISE_HTTP_PORT and so on.
    """
    import os

    from edgewise.hub import HubConfig
    from edgewise.hub.serve import serve as run
    from edgewise.hub.settings import load_settings

    flags = {"data_dir": data_dir, "host": host, "http_port": http_port, "database": database, "objects": objects}
    settings = load_settings(config, environment=os.environ, flags={**flags, "tick_s": tick_s})
    run(
        HubConfig(
            data_dir=settings.data_dir,
            database_url=settings.database or None,
            objects_url=settings.objects or None,
            oidc=settings.oidc,
        ),
        host=settings.host,
        port=settings.http_port,
        tick_s=settings.tick_s,
    )


@app.command("enrol-token", epilog="Example: edgewise hub enrol-token --use-case surface-inspection --site plant-a")
def enrol_token(
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
