"""``edgewise rollout``: create, watch, stop and revert rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

app = typer.Typer(help="Bring releases to devices in waves, watch them, revert them.", no_args_is_help=True)

WHICH = typer.Argument(..., help="the rollout's id (see `edgewise rollout status`)", show_default=False)
REASON = typer.Option(..., "--reason", help="why; it goes into the audit log")


@app.command(epilog="Example: edgewise rollout create surface-inspection@2 --wave 1 --wave 100% --bake-s 3600")
def create(
    release: str = typer.Argument(..., help="the release, such as surface-inspection@2", show_default=False),
    wave: list[str] = typer.Option(
        [], "--wave", help="devices in all (3), a share (25%) or names (press-1,press-2); repeat for more waves"
    ),
    bake_s: float | None = typer.Option(None, "--bake-s", min=0, help="seconds to watch a wave before the next"),
    bake_decisions_min: int | None = typer.Option(
        None, "--bake-decisions-min", min=0, help="paired decisions a wave needs"
    ),
    failures_max: int | None = typer.Option(None, "--failures-max", min=0, help="failed trials that are tolerated"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    dry_run: bool = typer.Option(False, "--dry-run", help="say what would be sent, change nothing"),
    output: Format = FORMAT,
) -> None:
    """Start a rollout; what is not given comes from the use case. A newer rollout supersedes an unfinished one."""
    body: dict[str, Any] = {"release": release}
    if wave:
        body["waves"] = [_wave(text) for text in wave]
    given = {"bake_s": bake_s, "bake_decisions_min": bake_decisions_min, "failures_max": failures_max}
    body.update({name: value for name, value in given.items() if value is not None})
    if dry_run:
        show(body, output)
        return
    with connect(hub, token, data_dir) as api:
        show(api.post("/rollouts", body), output)


@app.command(epilog="Example: edgewise rollout status")
def status(
    rollout: str = typer.Argument("", help="the rollout's id; all of them without it", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show rollouts, or one with its waves, evidence and reason."""
    with connect(hub, token, data_dir) as api:
        if rollout:
            show(api.get(f"/rollouts/{rollout}"), output)
        else:
            rows = api.get("/rollouts")
            show(
                rows,
                output,
                ("id", "release", "state", "wave", "e_value", "reason"),
            )


@app.command(epilog='Example: edgewise rollout revert 4f1c… --reason "operators report missed cracks"')
def revert(
    rollout: str = WHICH, reason: str = REASON, hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA
) -> None:
    """Take a rollout back: every device that has its release returns to the release it ran before."""
    with connect(hub, token, data_dir) as api:
        answer = api.post(f"/rollouts/{rollout}/revert", {"reason": reason})
    typer.echo(f"{rollout} is {answer.get('state', 'reverting')}")


@app.command(epilog="Example: edgewise rollout pause 4f1c…")
def pause(rollout: str = WHICH, hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA) -> None:
    """Open no further wave until `resume`; devices keep what they run."""
    with connect(hub, token, data_dir) as api:
        typer.echo(f"{rollout} is {api.post(f'/rollouts/{rollout}/pause')['state']}")


@app.command(epilog="Example: edgewise rollout resume 4f1c…")
def resume(rollout: str = WHICH, hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA) -> None:
    """Go on with a paused rollout."""
    with connect(hub, token, data_dir) as api:
        typer.echo(f"{rollout} is {api.post(f'/rollouts/{rollout}/resume')['state']}")


def _wave(text: str) -> dict[str, Any]:
    """A wave as the API wants it.

    >>> _wave("3"), _wave("25%"), _wave("press-1,press-2")
    ({'devices': 3}, {'percent': 25.0}, {'named': ['press-1', 'press-2']})
    """
    if text.isdecimal():
        return {"devices": int(text)}
    try:
        return {"percent": float(text[:-1])} if text.endswith("%") else {"named": _names(text)}
    except ValueError:
        raise typer.BadParameter(
            f"a wave is a number of devices (3), a share (25%) or names (press-1,press-2), not {text!r}"
        ) from None


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError(text)
    return names
