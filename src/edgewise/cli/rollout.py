"""``edgewise rollout``: preview, start, watch, answer, stop and revert rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from edgewise.cli import _rollout_status
from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show
from edgewise.cli._rollout_policy import with_policy

app = typer.Typer(help="Bring releases to devices in waves, watch them, revert them.", no_args_is_help=True)

WHICH = typer.Argument(..., help="the rollout's id (see `edgewise rollout status`)", show_default=False)
REASON = typer.Option(..., "--reason", help="why; it goes into the audit log")
AWAY = typer.Option(0.0, "--away-share", min=0, max=1, help="of the devices in contact now, that would stay away")
SPEED = typer.Option(None, "--bytes-per-s", min=1, help="speed of a device's downloads; without it the use case's")


@app.command(epilog="Example: edgewise rollout preview surface-inspection@2 --wave 1 --wave 100% --select line=a")
@with_policy
def preview(
    body: dict[str, Any],
    away_share: float = AWAY,
    bytes_per_s: float | None = SPEED,
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Say what a rollout would do: who takes part and who cannot, waves, bytes, cost, time. Nothing is started.

    Exit code 2 where it could never work.
    """
    query = {"away_share": away_share, **({} if bytes_per_s is None else {"bytes_per_s": bytes_per_s})}
    with connect(hub, token, data_dir) as api:
        seen = api.post("/rollouts/preview", body, query=query)
    _preview(seen, output)


@app.command(epilog="Example: edgewise rollout create surface-inspection@2 --wave 1 --wave 100% --bake-s 3600")
@with_policy
def create(
    body: dict[str, Any],
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    dry_run: bool = typer.Option(False, "--dry-run", help="say what it would do, as `preview` does; start nothing"),
    output: Format = FORMAT,
) -> None:
    """Start a rollout; what is not given comes from the use case. A newer rollout supersedes an unfinished one.

    Says before what is fetched and what that costs. What could never work is not started: exit code 2.
    """
    from edgewise.cli._rollout_words import amount, text

    with connect(hub, token, data_dir) as api:
        seen = api.post("/rollouts/preview", body)
        if dry_run:
            _preview(seen, output)
            return
        _refuse(seen)
        for line in text(f"{body['release']}: {amount(seen)}."):
            typer.echo(line, err=output is not Format.table)
        made = api.post("/rollouts", body)
    if output is Format.table:
        _rollout_status.print_one(made)
    else:
        show(made, output)


@app.command(epilog="Example: edgewise rollout status")
def status(
    rollout: str = typer.Argument("", help="the rollout's id; all of them without it", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show rollouts; or one: why it waits, what comes next, its waves, its evidence, and what it asks."""
    with connect(hub, token, data_dir) as api:
        seen = api.get(f"/rollouts/{rollout}") if rollout else api.get("/rollouts")
    if output is not Format.table:
        show(seen, output)
    elif rollout:
        _rollout_status.print_one(seen)
    else:
        _rollout_status.print_all(seen)


@app.command(epilog="Example: edgewise rollout failures --rollout 4f1c…")
def failures(
    rollout: str = typer.Option("", "--rollout", help="of this rollout"),
    device: str = typer.Option("", "--device", help="of this device"),
    code: str = typer.Option("", "--code", help="of this kind, such as download_refused"),
    limit: int = typer.Option(20, "--limit", min=1, max=1000),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show what went wrong with updates, newest first: when, where, in which phase, which part, what."""
    given = {"rollout": rollout, "device": device, "code": code}
    with connect(hub, token, data_dir) as api:
        page = api.get("/failures", limit=limit, **{name: value for name, value in given.items() if value})
    if output is Format.table:
        _rollout_status.print_failures(page)
    else:
        show(page, output)


@app.command(epilog="Example: edgewise rollout approve 4f1c…")
def approve(rollout: str = WHICH, hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA) -> None:
    """Let a rollout begin that somebody else made; or, where one asks, let its open stage count as passed."""
    _act(hub, token, data_dir, rollout, "approve")


@app.command(epilog='Example: edgewise rollout deny 4f1c… --reason "not before the audit"')
def deny(
    rollout: str = WHICH, reason: str = REASON, hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA
) -> None:
    """Do not let a rollout begin that waits for approval; no device was touched."""
    _act(hub, token, data_dir, rollout, "deny", reason)


@app.command(epilog="Example: edgewise rollout pause 4f1c…")
def pause(rollout: str = WHICH, hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA) -> None:
    """Open no further wave until `resume`; devices keep what they run."""
    _act(hub, token, data_dir, rollout, "pause")


@app.command(epilog="Example: edgewise rollout resume 4f1c…")
def resume(rollout: str = WHICH, hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA) -> None:
    """Go on with a paused rollout; one that asks waits as long again, without the devices that have failed so far."""
    _act(hub, token, data_dir, rollout, "resume")


@app.command(epilog='Example: edgewise rollout revert 4f1c… --reason "operators report missed cracks"')
def revert(
    rollout: str = WHICH, reason: str = REASON, hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA
) -> None:
    """Take a rollout back: every device that has its release returns to the release it ran before."""
    _act(hub, token, data_dir, rollout, "revert", reason)


@app.command(epilog='Example: edgewise rollout abort 4f1c… --reason "the wrong release"')
def abort(
    rollout: str = WHICH, reason: str = REASON, hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA
) -> None:
    """Give a rollout up: no further device gets the release, and those that have it keep it."""
    _act(hub, token, data_dir, rollout, "abort", reason)


def _act(hub: str, token: str, data_dir: Path, rollout: str, verb: str, reason: str = "") -> None:
    with connect(hub, token, data_dir) as api:
        answer = api.post(f"/rollouts/{rollout}/{verb}", {"reason": reason} if reason else None)
    typer.echo(f"{rollout} is {answer['state']}")


def _preview(seen: Mapping[str, Any], output: Format) -> None:
    from edgewise.cli._rollout_words import preview_lines

    if output is Format.table:
        typer.echo("\n".join(preview_lines(seen)))
    else:
        show(seen, output)
    _refuse(seen)


def _refuse(seen: Mapping[str, Any]) -> None:
    """Raises NotValid where the rollout could never work."""
    from edgewise.wire import NotValid

    if seen["problems"]:
        raise NotValid(
            f"a rollout of {seen['release']} could never work: {'; '.join(seen['problems'])}", code="policy_impossible"
        )
