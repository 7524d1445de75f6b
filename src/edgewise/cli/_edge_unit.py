"""``edgewise edge unit``: the device as a systemd service."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import typer

EXAMPLE = "Example: edgewise edge unit --source /srv/camera -o /etc/systemd/system/edgewise-edge.service"


def unit(
    source: Path | None = typer.Option(
        None, "--source", help="folder in which pictures appear; any other source is named in edge.yaml"
    ),
    data_dir: Path = typer.Option(
        Path("/var/lib/edgewise"),
        "--data-dir",
        envvar="EDGEWISE_EDGE_DATA_DIR",
        help="the device's folder; directly under /var/lib systemd makes up a user for it",
    ),
    memory_max: str = typer.Option("1G", "--memory-max", help="most memory of the service, such as 800M"),
    output: Path | None = typer.Option(None, "-o", "--output", help="write it there instead of printing it"),
) -> None:
    """Print the systemd unit of the device in a folder: watchdog, limits and hardening included."""
    from edgewise.edge._source_text import as_spec
    from edgewise.edge.agent import load_identity
    from edgewise.edge.unit import unit_text
    from edgewise.ports import replace_file
    from edgewise.wire import NotValid

    if source is not None and as_spec(str(source)).kind != "folder":
        raise NotValid(f"a unit takes a folder; write `source: {source}` into edge.yaml", code="source_invalid")
    folder, device, owner = data_dir.absolute(), "", None
    with contextlib.suppress(NotValid):  # it may be enrolled later
        device = load_identity(folder).device
    with contextlib.suppress(OSError, KeyError):
        owner = folder.owner()
    text = unit_text(
        python=sys.executable,
        data_dir=folder,
        source=source.absolute() if source is not None else None,
        owner=owner,
        device=device,
        memory_max=memory_max,
    )
    if output is None:
        sys.stdout.write(text)
    else:
        replace_file(output, text.encode())
        typer.echo(f"{output} is written; start it: systemctl daemon-reload && systemctl enable --now {output.stem}")
