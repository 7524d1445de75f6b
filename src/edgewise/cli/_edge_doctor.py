"""``edgewise edge doctor``: what is well with the device, what is not, and what to do."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgewise.cli._output import FORMAT, Format, show

if TYPE_CHECKING:
    from edgewise.edge.doctor import Check

EXAMPLE = "Example: edgewise edge doctor --data-dir device-a --source camera/"
COLUMNS = 80
MARGIN = 18


def doctor(
    data_dir: Path = typer.Option(
        Path("edgewise-device"), "--data-dir", envvar="EDGEWISE_EDGE_DATA_DIR", help="the device's folder"
    ),
    source: str | None = typer.Option(None, "--source", help="as `edge run` takes it"),
    hub: str = typer.Option(
        "", "--hub", envvar="EDGEWISE_EDGE_HUB", help="address of the hub; the one of the enrolment without it"
    ),
    http_port: int = typer.Option(8081, "--http-port", min=0, max=65535, help="port of the local API"),
    output: Format = FORMAT,
) -> None:
    """Look at everything a device needs, offline too; exit code 1 where something failed."""
    from edgewise.edge.doctor import examine, is_well

    checks = examine(data_dir, source=source, hub_url=hub or None, http_port=http_port)
    if output is Format.table:
        sys.stdout.write("".join(f"{line}\n" for check in checks for line in _lines(check)))
    else:
        show([asdict(check) for check in checks], output)
    if not is_well(checks):
        raise typer.Exit(1)


def _lines(check: Check) -> list[str]:
    text = check.text if not check.do else f"{check.text}. Do: {check.do}."
    head = f"{check.verdict:<5}{check.name:<{MARGIN - 6}} "
    return textwrap.wrap(
        text,
        COLUMNS,
        initial_indent=head,
        subsequent_indent=" " * MARGIN,
        break_long_words=False,
        break_on_hyphens=False,
    )
