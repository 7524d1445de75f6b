"""``edgewise edge logs``: the newest lines of the device's own log."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

from edgewise.cli._output import FORMAT, Format, show

EXAMPLE = "Example: edgewise edge logs --data-dir device-a -n 100"


def logs(
    data_dir: Path = typer.Option(
        Path("edgewise-device"), "--data-dir", envvar="EDGEWISE_EDGE_DATA_DIR", help="the device's folder"
    ),
    count: int = typer.Option(50, "-n", "--lines", min=1, max=100_000, help="how many lines"),
    output: Format = FORMAT,
) -> None:
    """Print the newest lines of the device's log; the agent may run or not."""
    from edgewise.edge._device_log import log_lines
    from edgewise.edge.agent import load_identity, log_files

    load_identity(data_dir)  # a folder that is no device gets that sentence, not an empty log
    lines = log_lines(log_files(data_dir), count)
    if output is Format.yaml:
        show(lines, output)
    elif output is Format.json:
        sys.stdout.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    else:
        sys.stdout.write("".join(f"{line.get('at')}  {line.get('what')}: {line.get('text')}\n" for line in lines))
