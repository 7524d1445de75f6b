"""``edgewise demo``: a whole application around the loop, visibly."""

from __future__ import annotations

from pathlib import Path

import typer

EXAMPLE = "Example: edgewise demo factory --quick"


def command(
    name: str = typer.Argument("factory", help="which application"),
    data: Path | None = typer.Option(
        None, "--data", envvar="EDGEWISE_DATA", help="folder of real data; generated without it"
    ),
    out: Path = typer.Option(Path("demo-out"), "--out", help="where report.html and report.json go"),
    data_dir: Path | None = typer.Option(
        None, "--data-dir", help="where hub and devices keep their files; OUT/data without it"
    ),
    quick: bool = typer.Option(False, "--quick", help="a shorter run of the same path"),
    seed: int = typer.Option(0, "--seed", help="the run's seed"),
    rounds: int = typer.Option(0, "--rounds", min=0, max=50, help="rounds of the loop; 5 (2 with --quick) without it"),
    keep: bool = typer.Option(False, "--keep", help="leave everything running at the end, until Ctrl-C"),
) -> None:
    """Take pictures around the whole loop with real processes: train, gate, sign, roll out, decide, learn, revert."""
    from edgewise.apps.demo import Settings, run_demo

    run_demo(
        Settings(
            app=name,
            data=data,
            out=out,
            data_dir=data_dir or out / "data",
            quick=quick,
            seed=seed,
            rounds=rounds or (2 if quick else 5),
            keep=keep,
        )
    )
