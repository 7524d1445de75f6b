"""``edgewise up``: hub, worker and signer on this machine, as processes."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._hub import ROOT_DIR

EXAMPLE = "Example: edgewise up --data-dir edgewise-data"


def command(
    data_dir: Path = typer.Option(ROOT_DIR, "--data-dir", envvar="EDGEWISE_DATA_DIR", help="where everything is kept"),
    http_port: int = typer.Option(8080, "--http-port", min=0, max=65535, help="0 picks a free one and prints it"),
    device_port: int = typer.Option(
        8443, "--device-port", min=0, max=65535, help="for devices, over TLS; 0 picks a free one and prints it"
    ),
) -> None:
    """Run a hub, a training worker and an automatic signer, embedded storage, until Ctrl-C."""
    import signal
    import time

    from edgewise.apps.processes import Installation
    from edgewise.wire import EdgewiseError

    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with Installation(data_dir, http_port=http_port, device_port=device_port) as installation:
        typer.echo(f"hub on {installation.url}, with a worker and a signer")
        typer.echo(f"devices enrol at {installation.device_url}")
        typer.echo(f"root, targets and release keys are in {installation.keys}; the hub never sees them")
        typer.echo(f"console: {installation.console_url}")
        typer.echo("Ctrl-C stops all of it; everything is kept in " + str(data_dir))
        try:
            while not (ended := installation.ended()):
                time.sleep(0.5)
        except KeyboardInterrupt:
            return
        raise EdgewiseError(ended)
