"""``edgewise drift``: which devices see something else than at first, since when, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, short, show

app = typer.Typer(
    help="Drift: devices and cohorts that no longer see what they saw, and what they have in common.",
    no_args_is_help=True,
)


@app.command(epilog="Example: edgewise drift status surface-inspection")
def status(
    use_case: str = typer.Argument(..., help="the use case", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show the alarms of a use case and their likely causes."""
    with connect(hub, token, data_dir) as api:
        found = api.get(f"/usecases/{use_case}/drift")
    if output is not Format.table:
        show(found, output)
        return
    typer.echo("\n".join(_status_lines(found)))


@app.command("show", epilog="Example: edgewise drift show camera-7")
def show_device(
    device: str = typer.Argument(..., help="the device", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show how far a device's days are from its first ones, and its accuracy while nothing has changed."""
    with connect(hub, token, data_dir) as api:
        use_case = api.get(f"/devices/{device}")["use_case"]
        states = api.get(f"/usecases/{use_case}/drift/devices")
        found = [one for one in states if one["subject"] == device]
    if output is not Format.table:
        show(found, output)
        return
    if not found:
        typer.echo(f"{device} is not looked at yet: no day of it is finished, or the fleet has too few days")
    for one in found:
        typer.echo("\n".join(_device_lines(one)))


def _status_lines(found: Mapping[str, Any]) -> Iterator[str]:
    from edgewise.cli._rollout_words import text

    yield from text(f"{found['use_case']}, {found['day'] or 'no day yet'}: {found['text']}")
    for alarm in found["alarms"]:
        until = f"closed {short(alarm['closed_at'])}: {alarm['closed_why']}" if alarm["closed_at"] else "open"
        yield from text(f"  {alarm['kind']} {alarm['subject']} ({alarm['pipeline']}) since {alarm['began']}, {until}")
    for cause in found["causes"]:
        yield from text(
            f"  likely cause: {cause['attribute']} {cause['value']}, {cause['alarmed']} of {cause['members']} "
            f"in alarm, {cause['lift']:.1f} times as often as all"
        )


def _device_lines(one: Mapping[str, Any]) -> Iterator[str]:
    from edgewise.cli._rollout_words import text

    data = one["data"]
    yield from text(f"{one['subject']} ({one['pipeline']}): {data['word']} on {one['day']}")
    yield from text(f"  evidence {data['evidence']:g}, an alarm at {data['threshold']:g}")
    if data["accuracy"] is not None:
        yield from text(f"  accuracy by its own confidence: {data['accuracy']:.1%}")
    else:
        yield from text(f"  no accuracy: {data['why_no_accuracy']}")
    for day, distance in zip(data["days"], data["distance"], strict=True):
        mark = "" if distance is None else " *" if distance > data["limit"] else ""
        yield f"  {day}  {'first days' if distance is None else format(distance, '.1f')}{mark}"
