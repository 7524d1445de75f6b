"""``edgewise edge cost``: what waits to be sent, and what it costs to send it."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._output import FORMAT, Format, show

EXAMPLE = "Example: edgewise edge cost --data-dir device-a -o json"
DEVICE_DIR = typer.Option(
    Path("edgewise-device"), "--data-dir", envvar="EDGEWISE_EDGE_DATA_DIR", help="the device's folder"
)


def cost(data_dir: Path = DEVICE_DIR, output: Format = FORMAT) -> None:
    """Say what waits by class, in bytes and money, what metered links cost so far, and what the next contact would."""
    from edgewise.edge._offline import cost_here
    from edgewise.edge.agent import load_config, load_identity
    from edgewise.ports import SystemClock, SystemFacts

    connectivity = load_identity(data_dir).usecase.connectivity
    facts = SystemFacts(data_dir, load_config(data_dir).facts).read()
    show(cost_here(data_dir, connectivity, facts, SystemClock().now()), output)
