"""``edgewise edge card``: what this device can do, measured."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._output import FORMAT, Format, show
from edgewise.cli._progress import progress

NAME = "card"
EXAMPLE = "Example: edgewise edge card --data-dir device-a -o json"


def card(
    data_dir: Path = typer.Option(
        Path("edgewise-device"), "--data-dir", envvar="EDGEWISE_EDGE_DATA_DIR", help="the device's folder"
    ),
    measure: bool = typer.Option(False, "--measure", help="measure again, also where there is a card"),
    seconds: float = typer.Option(0.5, "--seconds", min=0.1, max=60, help="for each reference network"),
    output: Format = FORMAT,
) -> None:
    """Show the device's signed capability card; measured now where there is none. An agent sends it with its report."""
    from edgewise.edge.agent import load_identity
    from edgewise.edge.card import load_card, make_card
    from edgewise.ports import Credentials, SystemClock
    from edgewise.wire import plain

    identity, key = load_identity(data_dir), Credentials(data_dir).key
    found = None if measure else load_card(data_dir, key)
    if found is None:
        with progress("measuring") as advance:
            now = SystemClock().now()
            found = make_card(data_dir, identity.device, key, now, seconds=seconds, advance=advance)
    show(plain(found[0]), output)
