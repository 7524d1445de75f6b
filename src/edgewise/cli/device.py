"""``edgewise device``: the devices of a hub, and what a person decides about one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

app = typer.Typer(help="The devices that a hub knows: what they run, and pins and conflicts.", no_args_is_help=True)
DEVICE = typer.Argument(..., help="name of the device", show_default=False)
REASON = typer.Option(..., "--reason", help="why; it goes into the audit log")


class How(StrEnum):
    """What becomes of a device in conflict."""

    adopt = "adopt"
    reassign = "reassign"


@app.command("list", epilog="Example: edgewise device list --site plant-a")
def list_devices(
    use_case: str = typer.Option("", "--use-case", help="of this use case"),
    site: str = typer.Option("", "--site", help="of this site"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show the devices: what they run, in which phase, when they were last heard of, and whether rollouts may."""
    given = {"use_case": use_case, "site": site}
    with connect(hub, token, data_dir) as api:
        found = api.get("/devices", **{name: value for name, value in given.items() if value})
    if output is not Format.table:
        show(found, output)
        return
    from edgewise.cli._rollout_words import clock, columns

    if not found:
        typer.echo("none")
        return
    rows = [["device", "site", "runs", "phase", "heard of", "left alone"]]
    for item in found:
        seen = clock(item["seen_at"]) if item["seen_at"] else "never"
        rows.append([item["id"], item["site"], item["release"] or "–", item["phase"] or "–", seen, _alone(item)])
    typer.echo("\n".join(columns(rows)))


@app.command("show", epilog="Example: edgewise device show press-4")
def show_device(
    device: str = DEVICE, hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA, output: Format = FORMAT
) -> None:
    """Show one device: what it runs and should run, what it waits for, its labels and facts."""
    with connect(hub, token, data_dir) as api:
        seen = api.get(_path(device))
    if output is Format.table:
        typer.echo("\n".join(_lines(seen)))
    else:
        show(seen, output)


@app.command(epilog='Example: edgewise device pin press-4 --reason "audit week"')
def pin(
    device: str = DEVICE,
    reason: str = REASON,
    release: str = typer.Option("", "--release", help="refuse where it runs another one than this"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Keep a device at the release that it runs: rollouts leave it alone, and say so."""
    with connect(hub, token, data_dir) as api:
        seen = api.put(f"{_path(device)}/pin", {"reason": reason, **({"release": release} if release else {})})
    typer.echo(f"{device} stays at {seen['pin']['release']}")


@app.command(epilog="Example: edgewise device unpin press-4")
def unpin(device: str = DEVICE, hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA) -> None:
    """Let rollouts have the device again."""
    with connect(hub, token, data_dir) as api:
        api.delete(f"{_path(device)}/pin")
    typer.echo(f"{device} is not pinned")


@app.command(epilog='Example: edgewise device resolve press-4 --how adopt --reason "the backup was a day old"')
def resolve(
    device: str = DEVICE,
    how: How = typer.Option(
        ..., "--how", help="adopt: it stays at what it runs, pinned; reassign: it is told again what this hub wants"
    ),
    reason: str = REASON,
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Decide about a device that reports what this hub does not know; until then rollouts leave it alone."""
    with connect(hub, token, data_dir) as api:
        seen = api.post(f"{_path(device)}/resolve", {"how": how.value, "reason": reason})
    wanted = (seen["assignment"] or {}).get("release")
    typer.echo(f"{device} runs {seen['release']}" + (f" and is told {wanted}" if how is How.reassign else " and stays"))


def _path(device: str) -> str:
    return f"/devices/{quote(device, safe='@:')}"


def _alone(seen: Mapping[str, Any]) -> str:
    """Why no rollout touches the device."""
    if seen["revoked_at"]:
        return "shut out"
    if seen["conflict"] and not seen["conflict"].get("resolved"):
        return f"in conflict: {seen['conflict']['text']}"
    return f"pinned: {seen['pin']['why']}" if seen["pin"] else ""


def _lines(seen: Mapping[str, Any]) -> Iterator[str]:
    from edgewise.cli._rollout_words import clock, text

    report, wanted = seen["report"] or {}, seen["assignment"] or {}
    heard = f"last heard of {clock(seen['seen_at'])} UTC" if seen["seen_at"] else "never heard of"
    yield from text(f"{seen['id']} at {seen['site']}, use case {seen['use_case']}; {heard}.")
    runs = f"{seen['release']}, {seen['phase']}" if seen["release"] else "no release yet"
    before = f"; before that {report['previous']}" if report.get("previous") else ""
    yield from text(f"Runs: {runs}{before}.")
    if wanted.get("release"):
        kind = "go back to" if wanted["kind"] == "revert" else "decide beside with" if wanted["shadow"] else "run"
        yield from text(f"Told: {kind} {wanted['release']} (assignment {wanted['number']}): {wanted['reason']}")
    for sentence in (*report.get("not_now", ()), *report.get("waits_for", ())):
        yield from text(f"Waits: {sentence}")
    if alone := _alone(seen):
        yield from text(f"Left alone by rollouts: {alone}")
    if report.get("last_failure"):
        yield from text(f"Last failure: {report['last_failure']}")
    for name in ("labels", "facts"):
        if seen[name]:
            yield from text(f"{name.capitalize()}: " + ", ".join(f"{key} {seen[name][key]}" for key in seen[name]))
