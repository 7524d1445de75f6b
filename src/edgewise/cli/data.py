"""``edgewise data``: labelled data in and out, in the formats of other tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show
from edgewise.cli._progress import progress

if TYPE_CHECKING:
    from edgewise.learn import TrainingSample, Written
    from edgewise.ports.api import HubApi

IMPORT_MAX = 500  # samples in one request
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
    """Read a folder of labelled data and write it in another format. What has no place there is said."""
    from edgewise.learn import read_dataset, write_dataset

    _say(write_dataset(read_dataset(source).samples, target, form), target)


@app.command("import", epilog="Example: edgewise data import pictures/ --use-case parts --site plant-a")
def import_folder(
    source: Path = typer.Argument(..., help="a folder in any of the formats", show_default=False),
    use_case: str = typer.Option(..., "--use-case", help="name of the use case"),
    site: str = typer.Option("", "--site", help="where it was taken, for samples that do not say so themselves"),
    group: str = typer.Option("", "--group", help="column whose groups are never split; found by itself without it"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Bring labelled data to the hub: what a first model is trained on, or what others have labelled.

    It may be repeated: a sample that is there already keeps its id and gets the label. Doubtful rows are left out.
    """
    from edgewise.learn import read_dataset
    from edgewise.wire import NotValid

    found = read_dataset(source, group=group or None).samples
    samples = [one for one in found if not one.uncertain]
    if not site and (nowhere := [one.name for one in samples if not one.site]):
        raise NotValid(f"{nowhere[0]} does not say where it was taken; name it with --site", code="site_missing")
    relabelled = 0
    with connect(hub, token, data_dir) as api, progress("importing") as advance:
        done = 0
        for batch in _batches(samples):
            relabelled += _import(api, batch, use_case, site)
            done += len(batch)
            advance(batch[-1].name, done / len(samples))
    left = f"; {len(found) - len(samples)} whose label is in doubt were left out" if len(found) > len(samples) else ""
    typer.echo(f"{len(samples)} labelled samples are at the hub, {relabelled} of them were there{left}")


@app.command("export", epilog="Example: edgewise data export --use-case parts --format coco -o parts-coco/")
def export(
    use_case: str = typer.Option(..., "--use-case", help="name of the use case"),
    form: str = typer.Option("csv", "--format", help=FORMS),
    target: Path = typer.Option(..., "-o", "--output", help="a new folder"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Take all labelled samples of a use case from the hub, with everything that is known of them."""
    from edgewise.learn import write_dataset
    from edgewise.wire import NotValid

    with connect(hub, token, data_dir) as api, progress("exporting") as advance:
        rows = list(_labelled(api, use_case))
        if not rows:
            raise NotValid(f"use case {use_case} has no labelled sample; label some first", code="data_empty")
        samples = [_sample(api, row) for row in rows]
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
    """Show the dataset revisions of a use case, newest first."""
    with connect(hub, token, data_dir) as api:
        show(api.get(f"/usecases/{use_case}/revisions"), output, ("digest", "made_at", "count", "new", "parent"))


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


def _say(written: Written, target: Path) -> None:
    typer.echo(f"{written.count} samples are in {target}")
    for line in (*written.lost, *written.left_out):
        typer.echo(f"  {line}", err=True)


def _batches(samples: Sequence[TrainingSample]) -> Iterator[list[TrainingSample]]:
    whole = iter(samples)
    while batch := list(islice(whole, IMPORT_MAX)):
        yield batch


def _import(api: HubApi, batch: Sequence[TrainingSample], use_case: str, site: str) -> int:
    """Store these samples; comes back with how many the hub knew by their own id and were labelled there."""
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    known = [one for one in batch if _is_id(one.name) and _knows(api, one.name)]
    said = [{"sample": one.name, "label": one.label, "annotation": _annotation(api, one)} for one in known]
    if said:
        api.post("/labels", {"labels": said})
    there, rows = {one.name for one in known}, []
    for sample in batch:
        if sample.name in there:
            continue
        content = sample.read()
        about: dict[str, Any] = {"use_case": use_case, "site": sample.site or site, "frame": sample.name}
        about |= {"group": sample.group, "label": sample.label, "annotation": _annotation(api, sample)}
        about |= {"media_type": sample.media_type, "blob": api.put_blob(content), "size_bytes": len(content)}
        rows.append(about | {"taken_at": (sample.taken_at or now).isoformat()})
    if rows:
        api.post("/samples/import", {"samples": rows})
    return len(known)


def _annotation(api: HubApi, sample: TrainingSample) -> dict[str, Any] | None:
    from edgewise.wire import plain

    if sample.mask is not None:
        api.put_blob(sample.mask())
    return None if sample.annotation is None else plain(sample.annotation)


def _is_id(name: str) -> bool:
    return len(name) == 32 and all(char in "0123456789abcdef" for char in name)


def _knows(api: HubApi, sample: str) -> bool:
    from edgewise.wire import NotValid

    try:
        api.get(f"/samples/{sample}")
    except NotValid:
        return False
    return True


def _labelled(api: HubApi, use_case: str) -> Iterator[dict[str, Any]]:
    """Every labelled sample of a use case, a page at a time."""
    asked: dict[str, str | int | bool] = {"use_case": use_case, "labelled": True, "limit": 1000}
    while True:
        page = api.get("/samples", **asked)
        yield from page["samples"]
        if page["next"] is None:
            return
        asked["cursor"] = page["next"]


def _sample(api: HubApi, row: dict[str, Any]) -> TrainingSample:
    from datetime import datetime

    from edgewise.learn import TrainingSample
    from edgewise.wire import Annotation

    annotation = None if row["annotation"] is None else Annotation.model_validate(row["annotation"])
    mask = None if annotation is None else annotation.mask
    history = api.get(f"/samples/{row['id']}")["labels"]
    columns = {"inclusion_probability": f"{row['inclusion_probability']:g}"}
    if history:
        columns |= {"labelled_by": history[-1]["who"], "labelled_at": history[-1]["at"]}
    return TrainingSample(
        name=row["id"],
        label=row["label"],
        group=row["group"],
        read=lambda: api.get_blob(row["blob"]),
        media_type=row["media_type"],
        site=row["site"],
        columns=columns,
        annotation=annotation,
        mask=None if mask is None else lambda: api.get_blob(mask),
        taken_at=datetime.fromisoformat(row["taken_at"]),
        device=row["device"],
    )
