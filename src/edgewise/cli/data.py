"""``edgewise data``: labelled data in and out, in the formats of other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgewise.cli._errors import FAILED
from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show, tell
from edgewise.cli._progress import progress

if TYPE_CHECKING:
    from edgewise.learn import Written

FORMS = "csv, parquet, coco, imagefolder or label-studio"
app = typer.Typer(
    help="Labelled data in and out, in the formats that other tools read and write.", no_args_is_help=True
)


@app.command("convert", epilog="Example: edgewise data convert exported/ coco/ --format coco")
def convert(
    source: Path = typer.Argument(..., help="a folder in any of the formats", show_default=False),
    target: Path = typer.Argument(..., help="a new folder", show_default=False),
    form: str = typer.Option(..., "--format", help=FORMS),
) -> None:
    """Read a folder of labelled data and write it in another format. What has no place there is said.

    Exit code 1 where a sample could not be read; the others are written.
    """
    from edgewise.learn import read_dataset, write_dataset

    found = read_dataset(source)
    tell(found.said)
    _say(write_dataset(found.samples, target, form), target)


@app.command("import", epilog="Example: edgewise data import pictures/ --use-case parts --site plant-a")
def import_folder(
    source: Path = typer.Argument(..., help="a folder in any of the formats", show_default=False),
    use_case: str = typer.Option(..., "--use-case", help="name of the use case"),
    site: str = typer.Option("", "--site", help="where it was taken, for samples that do not say so themselves"),
    group: str = typer.Option("", "--group", help="column whose groups are never split; found by itself without it"),
    target: str = typer.Option("", "--target", help="column of numbers that are the labels, instead of `label`"),
    config: Path | None = typer.Option(None, "--config", help="YAML with horizon_s: windows of recorded series"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Bring labelled data to the hub: what a first model is trained on, or what others have labelled.

    It may be repeated: a sample that is there already keeps its id and gets the label. Doubtful rows are left out. One
    sample with two labels is refused before anything is sent; files that cannot be read are named, and the rest goes
    on (exit code 1).
    """
    from edgewise.cli._data_hub import bring, check_one_label
    from edgewise.cli._settings import read_settings
    from edgewise.learn import read_dataset, read_series
    from edgewise.wire import NotValid

    if config is None:
        found = read_dataset(source, group=group or None, target=target or None)
    else:
        found = read_series(source, read_settings(config) | ({"target": target} if target else {}))
    tell(found.said)
    samples = found.certain
    if not site and (nowhere := [one.name for one in samples if not one.site]):
        raise NotValid(f"{nowhere[0]} does not say where it was taken; name it with --site", code="site_missing")
    check_one_label(samples, site)
    with connect(hub, token, data_dir) as api, progress("importing") as advance:
        done = bring(api, samples, use_case, site, advance)
    left = f"; {len(found.uncertain)} whose label is in doubt were left out" if found.uncertain else ""
    typer.echo(f"{done.count} labelled samples are at the hub, {done.known} of them were there{left}")
    tell(done.lost)
    _leave(done.left_out)


@app.command("export", epilog="Example: edgewise data export --use-case parts --format coco -o parts-coco/")
def export(
    use_case: str = typer.Option(..., "--use-case", help="name of the use case"),
    form: str = typer.Option("csv", "--format", help=FORMS),
    target: Path = typer.Option(..., "-o", "--output", help="a new folder"),
    revision: str = typer.Option("", "--revision", help="a revision's digest or number; all labelled samples without"),
    unlabelled: bool = typer.Option(False, "--unlabelled", help="samples that wait for a label; label-studio alone"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Take the labelled samples of a use case from the hub, with everything that is known of them.

    What a device decided goes along as a pre-annotation in label-studio: --unlabelled gives the tasks to label there.
    Exit code 1 where a sample could not be read; the others are written.
    """
    from edgewise.cli._data_hub import taken, waiting
    from edgewise.learn import write_dataset
    from edgewise.wire import NotValid

    if unlabelled and (revision or form != "label-studio"):
        raise NotValid("--unlabelled goes with --format label-studio and without --revision", code="options_differ")
    with connect(hub, token, data_dir) as api, progress("exporting") as advance:
        samples, left = (waiting(api, use_case), []) if unlabelled else taken(api, use_case, revision)
        tell(left)
        advance("writing", 0.2)
        written = write_dataset(samples, target, form)
    _say(written, target)


@app.command("revisions", epilog="Example: edgewise data revisions --use-case parts")
def revisions(
    use_case: str = typer.Option(..., "--use-case", help="name of the use case"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show the dataset revisions of a use case, newest first. Number 1 is the first that was made."""
    from edgewise.cli._data_hub import revision_rows

    with connect(hub, token, data_dir) as api:
        rows = revision_rows(api, use_case)
    show(rows, output, ("number", "digest", "made_at", "count", "new", "parent"))


@app.command("show", epilog="Example: edgewise data show 3f2a…")
def show_revision(
    revision: str = typer.Argument(..., help="the revision's digest", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show what is in a revision, and what was left out of it and why."""
    with connect(hub, token, data_dir) as api:
        show(api.get(f"/revisions/{revision}/summary"), output)


@app.command("diff", epilog="Example: edgewise data diff 3f2a… 9c41…")
def diff(
    older: str = typer.Argument(..., help="digest of the older revision", show_default=False),
    newer: str = typer.Argument(..., help="digest of the newer one", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show how two revisions differ: what came in, what went out, which labels changed."""
    with connect(hub, token, data_dir) as api:
        show(api.get(f"/revisions/{older}/diff/{newer}"), output)


@app.command("tables", epilog="Example: edgewise data tables readings")
def tables(
    table: str = typer.Argument("", help="name of one, for its columns", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show the tables of the lake, or the columns of one: what each says, and in which unit."""
    from edgewise.cli._data_lake import table_rows

    with connect(hub, token, data_dir) as api:
        rows = table_rows(api, table)
    show(rows, output, ("name", "kind", "text") if table else ("name", "rows", "version", "text"))


@app.command("query", epilog='Example: edgewise data query "SELECT site, count(*) FROM readings GROUP BY site"')
def query(
    sql: str = typer.Argument(..., help="one SELECT in DuckDB's SQL; - reads it from the standard input"),
    at: str = typer.Option("", "--at", help="as it was then: 2026-03-01T06:00:00Z, or a version of the one table read"),
    rows_max: int = typer.Option(0, "--rows", min=0, help="rows of the answer; the hub's own bound without it"),
    output: str = typer.Option(
        "table", "-o", "--output", help="table, json or csv; a new file NAME.parquet or NAME.csv"
    ),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Ask the lake in SQL. Of sites that are not yours there are no rows.

    An answer that was cut is said so (exit code 1). A question that takes too long or too much ends with exit code 4.
    """
    import sys

    from edgewise.cli._data_lake import WAIT_S, asked, check_output, printed, saved

    check_output(output)
    text = sys.stdin.read() if sql == "-" else sql
    question = {"sql": text, **({"at": at} if at else {}), **({"rows_max": rows_max} if rows_max else {})}
    with connect(hub, token, data_dir, wait_s=WAIT_S) as api:
        answer = asked(api, question, arrow=output.endswith(".parquet"))
    if output in ("table", "json", "csv"):
        printed(answer, output)
    else:
        saved(answer, Path(output))
        typer.echo(f"{answer.rows} rows are in {output}")
    if answer.truncated:
        tell(f"the answer was cut after {answer.rows} rows; ask for fewer, or sum them up")
        raise typer.Exit(FAILED)


def _say(written: Written, target: Path) -> None:
    typer.echo(f"{written.count} samples are in {target}")
    tell(written.lost)
    _leave(written.left_out)


def _leave(left_out: Sequence[str]) -> None:
    """Name what could not be read, and leave with the code for it."""
    tell(left_out)
    if left_out:
        raise typer.Exit(FAILED)
