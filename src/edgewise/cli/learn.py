"""``edgewise learn``: train, from a folder or as the hub's worker."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgewise.cli._hub import HUB, HUB_DATA, ROOT_DIR, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show, tell
from edgewise.cli._progress import progress

if TYPE_CHECKING:
    from edgewise.learn import Executor


class Where(StrEnum):
    """Where trainings run."""

    local = "local"
    ray = "ray"


EXECUTOR = typer.Option(Where.local, "--executor", help="a process of its own on this machine, or a Ray cluster")
RAY_ADDRESS = typer.Option("auto", "--ray-address", help="of the cluster; auto finds the one that this machine is in")
MEMORY_MB = typer.Option(0, "--memory-mb", min=0, help="that a training may take; 0 for four fifths of the machine's")
SECONDS_MAX = typer.Option(86_400.0, "--seconds-max", min=1, help="that a training may take")


def open_executor(where: Where, ray_address: str, memory_mb: int, seconds_max: float) -> Executor:
    """What these options ask for."""
    from edgewise.learn import LocalProcess, RayCluster, TrainingLimits

    limits = TrainingLimits(memory_bytes_max=memory_mb * 1_000_000 or None, seconds_max=seconds_max)
    return RayCluster(ray_address, limits) if where is Where.ray else LocalProcess(limits)


class LogForm(StrEnum):
    auto = "auto"
    json = "json"
    text = "text"


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
    target: str = typer.Option("", "--target", help="column of numbers to state with an interval, instead of labels"),
    config: Path | None = typer.Option(None, "--config", help="YAML file with settings of the trainer"),
    seed: int = typer.Option(0, "--seed"),
    seconds: float = typer.Option(0.0, "--seconds", min=0, help="time budget of the training; 0 for the trainer's own"),
) -> None:
    """Train on a folder of labelled data, without any hub."""
    from edgewise.cli._settings import read_settings
    from edgewise.learn import train_folder

    settings = {} if config is None else read_settings(config)
    with progress("training") as advance:
        bundle = train_folder(
            data,
            output,
            good=good,
            group=group or None,
            trainer=trainer or None,
            target=target or None,
            config=settings,
            seed=seed,
            seconds=seconds or None,
            progress=advance,
            tell=tell,
        )
    states = bundle.manifest.states
    said = f"labels {', '.join(bundle.manifest.labels)}" if states is None else f"states {states.target} {states.unit}"
    typer.echo(f"{output}: bundle {bundle.digest[:12]}, {said.rstrip()}")


@app.command(epilog="Example: edgewise learn worker --hub http://127.0.0.1:8080 --work-dir work/")
def worker(
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    work_dir: Path = typer.Option(ROOT_DIR / "worker", "--work-dir", help="cache of samples; may be deleted any time"),
    name: str = typer.Option("", "--name", help="the worker's name; made from host and process without it"),
    poll_s: float = typer.Option(1.0, "--poll-s", min=0.05, help="seconds between looks at the hub"),
    executor: Where = EXECUTOR,
    ray_address: str = RAY_ADDRESS,
    memory_mb: int = MEMORY_MB,
    seconds_max: float = SECONDS_MAX,
    log_form: LogForm = typer.Option(
        LogForm.auto,
        "--log-form",
        envvar="EDGEWISE_LOG_FORM",
        help="of its lines: json, text, or auto: text at a terminal",
    ),
) -> None:
    """Claim training orders from the hub, train, and return candidates, until stopped."""
    from edgewise.learn import run_worker

    chosen = open_executor(executor, ray_address, memory_mb, seconds_max)
    with connect(hub, token, data_dir, role="worker") as api:
        run_worker(api, work_dir, name=name or None, poll_s=poll_s, executor=chosen, form=log_form.value)


@app.command(epilog="Example: edgewise learn order surface-inspection --why 'a new camera at plant 2'")
def order(
    use_case: str = typer.Argument(..., help="name of the use case", show_default=False),
    why: str = typer.Option("by hand", "--why", help="the reason, for the audit log"),
    base: str = typer.Option("champion", "--base", help="champion, none, or the digest of a bundle to start from"),
    seed: int = typer.Option(0, "--seed", min=0),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Order a training on everything that is labelled for training so far."""
    with connect(hub, token, data_dir) as api:
        made = api.post("/orders", {"use_case": use_case, "why": why, "base": base, "seed": seed})
    show(made, output)


@app.command(epilog="Example: edgewise learn suggest surface-inspection")
def suggest(
    use_case: str = typer.Argument(..., help="name of the use case", show_default=False),
    why: str = typer.Option("by hand", "--why", help="the reason, for the audit log"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Order that the champion looks at all that waits for a label, so that people start from its word."""
    with connect(hub, token, data_dir) as api:
        made = api.post("/orders/score", {"use_case": use_case, "why": why})
    typer.echo(f"order {made['id']}: a worker makes it; labelling shows its words as suggestions")


@app.command(epilog="Example: edgewise learn adapt surface-inspection --site plant-2")
def adapt(
    use_case: str = typer.Argument(..., help="name of the use case", show_default=False),
    site: str = typer.Option(..., "--site", help="whose variant is made"),
    why: str = typer.Option("by hand", "--why", help="the reason, for the audit log"),
    ask: bool = typer.Option(False, "--ask", help="only have its devices tell their sums anew; order when they have"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Order a variant of the champion for one site, from the sums that its devices told; the gate judges it there."""
    with connect(hub, token, data_dir) as api:
        if ask:
            asked = api.post("/orders/adapt/ask", {"use_case": use_case, "site": site})["devices"]
            typer.echo(f"{len(asked)} devices of {site} are asked for their sums: {', '.join(asked[:10])}")
            return
        made = api.post("/orders/adapt", {"use_case": use_case, "site": site, "why": why})
    typer.echo(
        f"order {made['id']}: a worker makes it of bundle {made['base'][:12]}; the gate judges it at {site} alone"
    )


@app.command(epilog="Example: edgewise learn orders --state open")
def orders(
    use_case: str = typer.Option("", "--use-case", help="of this use case only"),
    state: str = typer.Option("", "--state", help="open, claimed, returned, failed or cancelled"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show orders, newest first."""
    asked = {name: value for name, value in (("use_case", use_case), ("state", state)) if value}
    with connect(hub, token, data_dir) as api:
        rows = api.get("/orders", **asked)
    show(rows, output, ("id", "kind", "use_case", "state", "worker", "attempts", "made_at", "error"))


@app.command(epilog="Example: edgewise learn cancel 3f0c… --reason 'wrong labels'")
def cancel(
    order: str = typer.Argument(..., help="the order's id", show_default=False),
    reason: str = typer.Option(..., "--reason", help="why, for the audit log"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """End an order that nobody wants any more; its worker stops within seconds."""
    with connect(hub, token, data_dir) as api:
        row = api.post(f"/orders/{order}/cancel", {"reason": reason})
    typer.echo(f"order {row['id']} is {row['state']}")


@app.command(epilog="Example: edgewise learn sweep sweep.yaml --data pictures/ -o bundle/")
def sweep(
    plan: Path = typer.Argument(
        ..., help="YAML: axes, and draw, seeds, compare_share, confirm_share", show_default=False
    ),
    data: Path | None = typer.Option(None, "--data", help="a folder of labelled data; the bundle goes to --output"),
    output: Path | None = typer.Option(
        None, "-o", "--output", help="folder for the best bundle; it must not exist yet"
    ),
    use_case: str = typer.Option("", "--use-case", help="instead: order it at the hub, for a worker"),
    trainer: str = typer.Option("", "--trainer", help="name of a trainer; chosen from the data without it"),
    good: list[str] = typer.Option([], "--good", help="label of good parts"),
    group: str = typer.Option("", "--group", help="column whose groups are never split"),
    executor: Where = EXECUTOR,
    ray_address: str = RAY_ADDRESS,
    memory_mb: int = MEMORY_MB,
    seconds_max: float = SECONDS_MAX,
    form: Format = typer.Option(Format.table, "--format", help="table for people, json or yaml for programs"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Try many settings on one frozen part, measure the best again on another, and keep it."""
    from edgewise.cli._sweep import read_plan_file, show_swept
    from edgewise.learn import sweep_folder
    from edgewise.ports import write_bundle
    from edgewise.wire import NotValid

    found = read_plan_file(plan)
    if use_case:
        wish = {
            "use_case": use_case,
            "why": f"sweep of {', '.join(found.axes)}",
            **({"trainer": trainer} if trainer else {}),
        }
        with connect(hub, token, data_dir) as api:
            made = api.post("/orders", wish | {"config": {"sweep": found.model_dump_json(exclude_defaults=True)}})
        typer.echo(f"order {made['id']}: a worker makes it; edgewise learn orders shows how far it is")
        return
    if data is None or output is None:
        raise NotValid("a sweep needs --data DIR and -o BUNDLE, or --use-case NAME for a worker", code="option_missing")
    if output.exists():
        raise NotValid(f"{output} exists already; name a new folder for the bundle", code="folder_taken")
    chosen = open_executor(executor, ray_address, memory_mb, seconds_max)
    with progress("sweep") as advance:
        swept = sweep_folder(
            data, found, chosen, good=good, group=group or None, trainer=trainer or None, go_on=advance
        )
    write_bundle(output, swept.best.bundle.manifest, swept.best.bundle.blobs)
    show_swept(swept, form)
    if form is Format.table:
        typer.echo(f"{output}: bundle {swept.best.bundle.digest[:12]}")
