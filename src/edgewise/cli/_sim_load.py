"""``edgewise sim load``: a load from outside on a hub that runs."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show
from edgewise.cli._progress import progress

DEVICE_URL = typer.Option("https://127.0.0.1:8443", "--device-url", help="where devices reach the hub")
FOLDER = typer.Option(Path("edgewise-load"), "--folder", help="keys and ledger; the same folder goes on with both")


def load(
    hub: str = HUB,
    device_url: str = DEVICE_URL,
    devices: int = typer.Option(20, "--devices", min=1, max=100_000),
    rate: float = typer.Option(20.0, "--rate", help="contacts a second, all devices together"),
    seconds: float = typer.Option(10.0, "--seconds", help="for how long"),
    readings: int = typer.Option(100, "--readings", min=1, max=10_000, help="in a contact that brings readings"),
    reconnect: float = typer.Option(0.1, "--reconnect", min=0, max=1, help="share of contacts on a new connection"),
    lose: float = typer.Option(0.02, "--lose", min=0, max=0.9, help="share of replies lost on purpose"),
    seed: int = typer.Option(0, "--seed", help="of what is sent when"),
    folder: Path = FOLDER,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Put real, enrolled devices on a running hub and compare what it holds with what it acknowledged."""
    from edgewise.sim.load import LoadPlan, refuse_broken, run_load

    plan = LoadPlan(
        devices=devices, rate=rate, seconds=seconds, readings=readings, reconnect=reconnect, lose=lose, seed=seed
    )
    with connect(hub, token, data_dir) as api, progress("load") as advance:
        result = run_load(api, device_url, folder, plan, progress=advance)
    show(result.summary(), output)
    refuse_broken(result)
