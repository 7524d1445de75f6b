"""``edgewise sim``: a whole fleet in one process."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli import _sim_load
from edgewise.cli._output import FORMAT, Format, show
from edgewise.cli._progress import progress

app = typer.Typer(help="A simulated fleet: with its hub in one process, or on a hub that runs.", no_args_is_help=True)
app.command(epilog="Example: edgewise sim load --devices 100 --rate 200 --seconds 60 -o json")(_sim_load.load)


@app.command(epilog="Example: edgewise sim run --seed 7 --devices 20 --hours 6")
def run(
    seed: int = typer.Option(0, "--seed", help="the same seed gives the same event log, byte for byte"),
    devices: int = typer.Option(20, "--devices", min=1, max=1000),
    hours: float = typer.Option(6.0, "--hours", min=0.01, help="simulated hours"),
    lose: float = typer.Option(0.2, "--lose", min=0, max=0.95, help="chance that a request or a reply is lost"),
    power_cut: float = typer.Option(0.01, "--power-cut", min=0, max=0.5, help="chance of a power cut a device-step"),
    log: Path | None = typer.Option(None, "--log", help="write the event log (JSON lines) to this file"),
    output: Format = FORMAT,
) -> None:
    """Run the very same device and hub code with lost requests, lost replies and power cuts; check the invariants."""
    from edgewise.sim import Faults, run_fleet
    from edgewise.wire import EdgewiseError

    with progress("simulating") as advance:
        result = run_fleet(
            seed=seed,
            devices=devices,
            hours=hours,
            faults=Faults(lose=lose, power_cut=power_cut),
            log=log,
            progress=advance,
        )
    show(result.summary(), output)
    if result.broken:
        raise EdgewiseError(f"invariants broken: {'; '.join(result.broken)}; replay with --seed {seed}")
