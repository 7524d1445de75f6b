"""``edgewise edge rotate-key``: the key under which the device's data lie."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._output import FORMAT, Format, show


def rotate_key(
    data_dir: Path = typer.Option(
        Path("edgewise-device"), "--data-dir", envvar="EDGEWISE_EDGE_DATA_DIR", help="the device's folder"
    ),
    output: Format = FORMAT,
) -> None:
    """Lock the device's data with a new key. Nothing is encrypted anew, so it takes a moment; the agent must be off."""
    from edgewise.edge._data_key import rotate
    from edgewise.edge.agent import load_config, load_identity, locked

    load_identity(data_dir)
    with locked(data_dir):
        show(rotate(data_dir, load_config(data_dir).data_key_from), output)
