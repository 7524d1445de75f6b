"""``edgewise edge tune``: the best way to run a network on this device."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import typer

from edgewise.cli._output import FORMAT, Format, show
from edgewise.cli._progress import progress

NAME = "tune"
EXAMPLE = "Example: edgewise edge tune model.onnx --data-dir device-a"
COLUMNS = ("threads", "spinning", "provider", "place", "batch", "p10_ms", "p50_ms", "p95_ms", "cpu_ms", "runs")


def tune(
    model: Path = typer.Argument(..., help="an ONNX file or a bundle (folder, packed file)", show_default=False),
    data_dir: Path | None = typer.Option(
        None, "--data-dir", help="the device's folder, where the choice is left for the agent; without it only shown"
    ),
    seconds: float = typer.Option(20, "--seconds", min=1, max=600, help="to measure, all in all"),
    output: Format = FORMAT,
) -> None:
    """Measure threads, spinning, providers, batches and workers on this device, and choose for the agent."""
    from edgewise.edge import tune as work
    from edgewise.edge.runtime import TUNED_FILE
    from edgewise.wire import NotValid, plain

    if data_dir is not None and not data_dir.is_dir():
        raise NotValid(f"{data_dir} is no folder; name the device's, or leave --data-dir out", code="no_folder")
    with progress("measuring") as advance:
        limits = dataclasses.replace(work.TuneLimits(), seconds=seconds)
        rows, found = work.tune(model, data_dir=data_dir, limits=limits, advance=advance)
    measured = [row.plain() for row in rows]
    if output is not Format.table:
        show({"measured": measured, "chosen": plain(found)}, output)
        return
    show([row for row in measured if not row["error"]], output, COLUMNS)
    typer.echo(f"\nChosen: {found.why}.")
    if data_dir is not None:
        typer.echo(f"Written to {data_dir / TUNED_FILE}; what edge.yaml says of `runtime` wins over it.")
