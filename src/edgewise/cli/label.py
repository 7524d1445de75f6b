"""``edgewise label``: the labelling queue from a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

app = typer.Typer(help="Label samples; the console's labelling page does the same with pictures.", no_args_is_help=True)
USE_CASE = typer.Option(..., "--use-case", help="name of the use case")


class Order(StrEnum):
    urgent = "urgent"
    newest = "newest"
    uncertain = "uncertain"
    disagreement = "disagreement"
    cluster = "cluster"
    second = "second"
    adjudicate = "adjudicate"


@app.command("next", epilog="Example: edgewise label next --use-case surface-inspection --save-to pictures")
def next_samples(
    use_case: str = USE_CASE,
    limit: int = typer.Option(10, "--limit", min=1, max=200),
    order: Order = typer.Option(Order.urgent, "--order", help="what comes first"),
    save_to: Path | None = typer.Option(None, "--save-to", help="also save the pictures into this folder"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show the samples most worth a label, in an order of your choice."""
    with connect(hub, token, data_dir) as api:
        rows = api.get(f"/usecases/{use_case}/labelling/queue", order=order.value, limit=limit)
        if save_to:
            save_to.mkdir(parents=True, exist_ok=True)
            for row in rows:
                (save_to / f"{row['sample']}.{row.get('media_type', 'image/jpeg').split('/')[-1]}").write_bytes(
                    api.get_blob(row["blob"])
                )
    said = [{**row, "says": next((one["label"] for one in row["suggestions"]), None)} for row in rows]
    show(said, output, ("sample", "site", "frame", "why", "says"))


@app.command("set", epilog="Example: edgewise label set 0d5e… crack")
def set_label(
    sample: str = typer.Argument(..., help="the sample's id", show_default=False),
    label: str = typer.Argument(..., help="the class; a new word makes a new class", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Give a sample its label. A second label replaces the first; the history stays."""
    with connect(hub, token, data_dir) as api:
        api.post("/labels", {"labels": [{"sample": sample, "label": label}]})
    typer.echo(f"{sample} is {label}")


@app.command("stats", epilog="Example: edgewise label stats --use-case surface-inspection --target 0.95")
def stats(
    use_case: str = USE_CASE,
    target: float | None = typer.Option(
        None, "--target", min=0.01, max=0.999, help="a score: how many labels it needs"
    ),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """How labelling goes: labelled and open, who did what, how far people agree, and whether it is enough."""
    base = f"/usecases/{use_case}/labelling"
    with connect(hub, token, data_dir) as api:
        found = {
            "progress": api.get(f"{base}/progress"),
            "agreement": api.get(f"{base}/agreement"),
            "enough": api.get(f"{base}/enough", **({} if target is None else {"target": target})),
        }
    show(found if output is not Format.table else _lines(found), output)


@app.command("undo", epilog="Example: edgewise label undo --use-case surface-inspection")
def undo(
    use_case: str = USE_CASE,
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Take back your newest act of labelling in the console or over the API; again for the one before it."""
    with connect(hub, token, data_dir) as api:
        show(api.post(f"/usecases/{use_case}/labelling/undo", {}), output)


def _lines(found: Mapping[str, Any]) -> dict[str, str]:
    """The same for people, a line each."""
    progress = found["progress"]
    counts = {label: str(count) for label, count in progress["labels"].items()}
    sites = [f"{one['site']} {one['labelled']} labelled, {one['open']} open" for one in progress["sites"]]
    people = [f"{one['who']} {one['said']} ({one['today']} today)" for one in progress["people"]]
    return {
        "labelled": f"{progress['labelled']}, of them today {progress['today']} of {progress['planned_today']} planned",
        "open": str(progress["open"]),
        "classes": ", ".join(f"{label} {count}" for label, count in counts.items()) or "none",
        "sites": "; ".join(sites) or "none",
        "people": ", ".join(people) or "nobody yet",
        "disputed": str(progress["disputed"]),
        "operators_wait": str(progress["unanswered"]),
        "agreement": found["agreement"]["text"],
        "enough": f"{found['enough']['word']}: {found['enough']['text']}",
    }
