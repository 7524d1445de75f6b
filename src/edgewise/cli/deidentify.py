"""``edgewise deidentify``: private copies of pictures, rows and DICOM files, with a report."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgewise.cli._output import FORMAT, Format, show
from edgewise.cli._progress import progress

if TYPE_CHECKING:
    from edgewise.edge.deidentify import Recipe, RunReport

EXAMPLE = "Example: edgewise deidentify visits/ private/ --report report.json"


class Profile(StrEnum):
    """What is done to pictures where no policy says it."""

    people = "people"
    drop_people = "drop-people"
    metadata = "metadata"


PICTURES: dict[Profile, tuple[str, ...]] = {
    Profile.people: ("strip-metadata", "blur-faces", "blur-plates"),
    Profile.drop_people: ("strip-metadata", "drop-faces", "blur-plates"),
    Profile.metadata: ("strip-metadata",),
}


class Dates(StrEnum):
    remove = "remove"
    shift = "shift"


class BurnedIn(StrEnum):
    refuse = "refuse"
    warn = "warn"


def command(
    source: Path = typer.Argument(..., metavar="IN", help="a folder, read to the bottom, or one file"),
    target: Path = typer.Argument(..., metavar="OUT", help="a folder that is empty or does not exist yet"),
    report: Path | None = typer.Option(None, "--report", help="write a report as FILE (JSON) and FILE.html"),
    policy: Path | None = typer.Option(None, "--policy", help="a usecase.yaml whose data policy decides"),
    profile: Profile = typer.Option(Profile.people, "--profile", help="for pictures, where there is no policy"),
    text_field: list[str] = typer.Option([], "--text-field", help="field of rows whose text may stay; repeatable"),
    dates: Dates = typer.Option(Dates.remove, "--dicom-dates", help="shift keeps their distances for each patient"),
    burned_in: BurnedIn = typer.Option(BurnedIn.refuse, "--burned-in", help="DICOM pixels that may show text"),
    key_file: Path | None = typer.Option(
        None,
        "--key-file",
        help="16 to 4096 secret bytes: the same hashes and UIDs in each run with it",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="find, count and report; write no copy"),
    output: Format = FORMAT,
) -> None:
    """Write private copies of a folder's pictures, JSON, JSON lines, CSV and DICOM files; refuse and list the rest.

    Nothing is changed in place. Exit code 1 when a file was refused.
    """
    from edgewise.edge.deidentify import deidentify

    recipe = _recipe(policy, profile, text_field, dates, burned_in, key_file)
    with progress("de-identifying") as advance:
        done = deidentify(source, target, recipe, dry_run=dry_run, progress=advance)
    if report is not None:
        _write_report(report, done, _about(policy, profile, recipe, key_file))
    show(done.summary(), output)
    if done.refused:
        raise typer.Exit(1)


def _recipe(
    policy: Path | None, profile: Profile, text_fields: list[str], dates: Dates, burned_in: BurnedIn, key: Path | None
) -> Recipe:
    from edgewise.edge.deidentify import Recipe
    from edgewise.frames import DicomOptions
    from edgewise.wire import PrivateSettings

    dicom = DicomOptions(dates=dates.value, burned_in=burned_in.value)
    if policy is None:
        settings = PrivateSettings(text_fields=tuple(text_fields), identifiers="mask")
        return Recipe(transforms=PICTURES[profile], settings=settings, key=_key(key), dicom=dicom)
    data = _policy(policy)
    rows = data.data_class == "measurement"
    settings = data.private.model_copy(update={"text_fields": (*data.private.text_fields, *text_fields)})
    return Recipe(
        transforms=None if rows else data.transforms, settings=settings, key=_key(key), rows=rows, dicom=dicom
    )


def _policy(file: Path) -> Any:
    from edgewise.hub import read_usecase
    from edgewise.wire import NotValid

    try:
        return read_usecase(file.read_bytes(), name=str(file)).data
    except OSError as error:
        raise NotValid(f"{file} cannot be read ({error.strerror}); name a usecase.yaml", code="file_missing") from error


def _key(file: Path | None) -> bytes:
    from edgewise.ports import SystemChance
    from edgewise.wire import NotValid

    if file is None:
        return SystemChance().bytes(32)
    try:
        with file.open("rb") as handle:
            key = handle.read(4097)
    except OSError as error:
        raise NotValid(
            f"{file} cannot be read ({error.strerror}); name a file with a key", code="file_missing"
        ) from error
    if not 16 <= len(key) <= 4096:
        raise NotValid(f"{file} has {len(key)} bytes, a key needs 16 to 4096", code="key_invalid")
    return key


def _about(policy: Path | None, profile: Profile, recipe: Recipe, key: Path | None) -> dict[str, Any]:
    from datetime import UTC, datetime

    from edgewise import __version__

    return {
        "edgewise": __version__,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "policy": policy.name if policy else None,
        "profile": None if policy else profile.value,
        "pictures": list(recipe.transforms or ()),
        "rows": [f"{recipe.settings.identifiers}-identifiers", "drop-text"] if recipe.rows else [],
        "text_fields": list(recipe.settings.text_fields),
        "dicom": {"dates": recipe.dicom.dates, "burned_in": recipe.dicom.burned_in},
        "key": "from a file" if key else "made for this run and forgotten",
    }


def _write_report(file: Path, done: RunReport, about: dict[str, Any]) -> None:
    import json

    from edgewise.ports import replace_file

    replace_file(file, (json.dumps(done.plain(about), indent=2, ensure_ascii=False) + "\n").encode())
    replace_file(file.with_name(file.name + ".html"), done.page(about).encode())
