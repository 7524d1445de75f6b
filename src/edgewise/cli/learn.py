"""``edgewise learn``: train, from a folder or as the hub's worker."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._hub import HUB, HUB_DATA, ROOT_DIR, TOKEN, connect
from edgewise.cli._output import tell
from edgewise.cli._progress import progress

app = typer.Typer(help="Labelled samples in, candidate bundle out.", no_args_is_help=True)


@app.command(epilog="Example: edgewise learn train --data pictures/ --good ok -o bundle/")
def train(
    data: Path = typer.Option(
        ..., "--data", help="images.zip or images beside labels.csv, or one folder per class, or another format"
    ),
    output: Path = typer.Option(..., "-o", "--output", help="folder for the bundle; it must not exist yet"),
    good: list[str] = typer.Option([], "--good", help="label of good parts; none, free, good, ok or normal without it"),
    group: str = typer.Option("", "--group", help="column whose groups are never split; found by itself without it"),
    trainer: str = typer.Option("", "--trainer", help="name of a trainer; chosen from the data without it"),
    seed: int = typer.Option(0, "--seed"),
    seconds: float = typer.Option(0.0, "--seconds", min=0, help="time budget of the training; 0 for the trainer's own"),
) -> None:
    """Train on a folder of labelled data, without any hub."""
    from edgewise.learn import train_folder

    with progress("training") as advance:
        bundle = train_folder(
            data,
            output,
            good=good,
            group=group or None,
            trainer=trainer or None,
            seed=seed,
            seconds=seconds or None,
            progress=advance,
            tell=tell,
        )
    typer.echo(f"{output}: bundle {bundle.digest[:12]}, labels {', '.join(bundle.manifest.labels)}")


@app.command(epilog="Example: edgewise learn worker --hub http://127.0.0.1:8080 --work-dir work/")
def worker(
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    work_dir: Path = typer.Option(ROOT_DIR / "worker", "--work-dir", help="cache of samples; may be deleted any time"),
    name: str = typer.Option("", "--name", help="the worker's name; made from host and process without it"),
    poll_s: float = typer.Option(1.0, "--poll-s", min=0.05, help="seconds between looks at the hub"),
) -> None:
    """Claim training orders from the hub, train, and return candidates, until stopped."""
    from edgewise.learn import run_worker

    with connect(hub, token, data_dir, role="worker") as api:
        run_worker(api, work_dir, name=name or None, poll_s=poll_s)
