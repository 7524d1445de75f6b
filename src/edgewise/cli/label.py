"""``edgewise label``: the labelling queue from a terminal."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

app = typer.Typer(help="Label samples; the console's labelling page does the same with pictures.", no_args_is_help=True)


@app.command("next", epilog="Example: edgewise label next --use-case surface-inspection --save-to pictures")
def next_samples(
    use_case: str = typer.Option(..., "--use-case", help="name of the use case"),
    limit: int = typer.Option(10, "--limit", min=1, max=500),
    save_to: Path | None = typer.Option(None, "--save-to", help="also save the pictures into this folder"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show the samples most worth a label, the most urgent first."""
    with connect(hub, token, data_dir) as api:
        rows = api.get("/labels/next", use_case=use_case, limit=limit)
        if save_to:
            save_to.mkdir(parents=True, exist_ok=True)
            for row in rows:
                (save_to / f"{row['sample']}.{row.get('media_type', 'image/jpeg').split('/')[-1]}").write_bytes(
                    api.get_blob(row["blob"])
                )
    said = [{**row, "says": (row.get("decision") or {}).get("label")} for row in rows]
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
