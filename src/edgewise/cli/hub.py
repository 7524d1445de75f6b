"""``edgewise hub``: the cloud side."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli import _hub_backup, _hub_token, _hub_watch
from edgewise.cli._hub import DATA_DIR, HUB, HUB_DATA, TOKEN, connect

app = typer.Typer(help="The cloud side: store, judge, roll out, show.", no_args_is_help=True)
app.add_typer(_hub_token.app, name="token")
_hub_backup.commands(app)
app.command(epilog="Example: edgewise hub monitoring -o monitoring/")(_hub_watch.monitoring)
app.command(epilog="Example: edgewise hub health --use-case surface-inspection")(_hub_watch.health)
app.command(epilog="Example: edgewise hub threats --hours 72")(_hub_watch.threats)
app.command(epilog="Example: edgewise hub alerts -o json")(_hub_watch.alerts)


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
    device_host: str | None = typer.Option(
        None, "--device-host", help="address to listen on for devices  [default: 127.0.0.1]"
    ),
    device_port: int | None = typer.Option(
        None,
        "--device-port",
        min=0,
        max=65535,
        help="for devices, over TLS; 0 picks a free one  [default: 8443]",
    ),
    device_name: list[str] | None = typer.Option(
        None, "--device-name", help="host name or address by which devices reach the hub, beside loopback; repeatable"
    ),
    trust_domain: str | None = typer.Option(
        None, "--trust-domain", help="of device certificates; chosen at the first start  [default: edgewise.internal]"
    ),
    proxy: list[str] | None = typer.Option(
        None, "--proxy", help="address or network of a proxy that ends TLS for devices; repeatable"
    ),
    database: str | None = typer.Option(None, "--database", help="a PostgreSQL URL instead of SQLite"),
    objects: str | None = typer.Option(None, "--objects", help="an object store such as s3://bucket/prefix"),
    lake: str | None = typer.Option(
        None, "--lake", help="where the lake's tables lie: a folder, s3://bucket/prefix, or off"
    ),
    tick_s: float | None = typer.Option(
        None, "--tick-s", min=0.05, help="seconds between rounds of the controllers  [default: 1]"
    ),
) -> None:
    """Run the hub. It prints its addresses when it is ready; SIGTERM ends it cleanly.

    Each option may also stand in hub.yaml, or as EDGEWISE_DATA_DIR, EDGEWISE_HTTP_PORT and so on.
    """
    import os

    from edgewise.apps.factory.hub import blocks as factory_page
    from edgewise.hub import HubConfig
    from edgewise.hub.serve import serve as run
    from edgewise.hub.settings import load_settings
    from edgewise.ports.logs import log_to

    flags: dict[str, object] = {"data_dir": data_dir, "host": host, "http_port": http_port, "tick_s": tick_s}
    flags |= {"device_host": device_host, "device_port": device_port, "device_names": device_name or None}
    flags |= {"trust_domain": trust_domain, "proxies": proxy or None}
    flags |= {"database": database, "objects": objects, "lake": lake}
    settings = load_settings(config, environment=os.environ, flags=flags)
    if settings.otlp_endpoint:
        os.environ.setdefault("OTEL_EXPORTER_OTLP_ENDPOINT", settings.otlp_endpoint)  # the library reads it there
    log_to("hub", form=settings.log_form, level=settings.log_level)
    run(
        HubConfig(
            data_dir=settings.data_dir,
            database_url=settings.database or None,
            objects_url=settings.objects or None,
            object_options=settings.object_texts,
            oidc=settings.oidc,
            lake=settings.lake_config,
            names=settings.device_names,
            trust_domain=settings.trust_domain,
            proxies=settings.proxies,
            app_pages={"factory": factory_page},
            alerts=settings.alerts,
        ),
        host=settings.host,
        port=settings.http_port,
        device_host=settings.device_host,
        device_port=settings.device_port,
        tick_s=settings.tick_s,
        environment=os.environ,
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
    """Make a one-time token with which one device can enrol, and know the hub; it prints nothing else."""
    body = {"use_case": use_case, "site": site, **({"device": device} if device else {})}
    with connect(hub, token, data_dir) as api:
        typer.echo(api.post("/enrolment-tokens", body)["token"])


@app.command("shut-out", epilog='Example: edgewise hub shut-out press-4 --reason "stolen from the line"')
def shut_out(
    device: str = typer.Argument(..., help="name of the device", show_default=False),
    reason: str = typer.Option(..., "--reason", help="why; it is written into the audit log"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Refuse everything that a device sends from now on; only a new token made for it lets it in again."""
    from urllib.parse import quote

    with connect(hub, token, data_dir) as api:
        api.post(f"/devices/{quote(device, safe='@:')}/shut-out", {"reason": reason})
    typer.echo(f"{device} is shut out")
