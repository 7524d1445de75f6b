"""ImageFolder: one folder of pictures per class, as torchvision and many others read it; splits may be above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgewise.learn._dataset import PICTURE_ENDINGS, TrainingSample
from edgewise.learn._formats._files import Names, Written, facts_of, safe_name, safe_part, write_contents
from edgewise.learn._formats._reading import Found, Reading, made
from edgewise.learn._formats._tree import split_word
from edgewise.wire import NotValid


def read(reading: Reading) -> Found:
    """The pictures of each class folder. Where all folders are splits with classes below, these are the classes.

    Raises:
        NotValid: no such folder, a link out of it, or a group is asked for, which nothing here tells.
    """
    folder = reading.folder
    if reading.group is not None:
        raise NotValid(
            f"{folder} has no labels.csv, so no column {reading.group!r} to group by; add labels.csv or leave --group "
            "out",
            code="column_missing",
        )
    if reading.tree.outside:
        raise NotValid(
            f"{folder / min(reading.tree.outside)} is a link out of the folder, and such links are not followed; "
            "put the files themselves there",
            code="link_outside",
        )
    pictures = _pictures(reading)
    in_splits = _in_splits(pictures)
    samples = []
    for name in pictures:
        parts = name.split("/")
        if in_splits and len(parts) < 3:
            reading.notes.count("pictures of a split that are in no class folder were left out", name)
            continue
        samples.append(
            made(
                name,
                parts[1] if in_splits else parts[0],
                reading.opener(reading.tree.files[name]),
                media_type=PICTURE_ENDINGS[Path(name).suffix.lower()],
                facts={"split": split_word(parts[0])} if in_splits else {},
                where=str(folder),
            )
        )
    if in_splits:
        reading.notes.count("folders taken for splits, and those below them for classes", ", ".join(_tops(pictures)))
    if not samples:
        raise NotValid(
            f"{folder} has neither labels.csv nor one folder of pictures per class; "
            "put labels.csv there (columns file and label) beside the pictures or images.zip",
            code="data_missing",
        )
    return Found(samples)


def _pictures(reading: Reading) -> list[str]:
    """Names of the pictures that are in a folder; hidden ones and those beside the folders are told."""
    found = []
    for name in reading.tree.files:
        parts = name.split("/")
        if Path(name).suffix.lower() not in PICTURE_ENDINGS:
            reading.notes.count("files that are no pictures were left out", name)
        elif any(part.startswith(".") or part == "__MACOSX" for part in parts):
            reading.notes.count("hidden files were left out", name)
        elif len(parts) < 2:
            reading.notes.count("pictures in no class folder were left out", name)
        else:
            found.append(name)
    for ending, (first, count) in reading.tree.others.items():
        reading.notes.count(f"files ending in {ending or 'nothing'} were left out", first, count)
    return sorted(found)


def _tops(pictures: Sequence[str]) -> list[str]:
    return sorted({name.split("/")[0] for name in pictures})


def _in_splits(pictures: Sequence[str]) -> bool:
    """Whether all folders have the names of splits, and at least one of them has folders instead of pictures."""
    tops = _tops(pictures)
    flat = {name.split("/")[0] for name in pictures if name.count("/") == 1}
    return bool(tops) and all(split_word(top) for top in tops) and len(flat) < len(tops)


def write(samples: Sequence[TrainingSample], folder: Path) -> Written:
    """`LABEL/NAME`; there is no place for anything else than the label."""
    pictures = [sample for sample in samples if sample.media_type.startswith("image/")]
    folders = _folders(sorted({sample.label for sample in pictures}))
    placed = [
        replace(one, name=f"{folders[one.label]}/{safe_name(one.name, one.media_type).replace('/', '_')}")
        for one in pictures
    ]
    names, failed = write_contents(placed, folder)
    lost = []
    if len(pictures) < len(samples):
        lost.append(f"{len(samples) - len(pictures)} samples are no pictures: a folder per class has no place for them")
    if any(sample.annotation is not None for sample in pictures):
        lost.append("boxes, spans, values and masks were left out: a folder per class has no place for them")
    if facts := sorted({name for sample in pictures for name in facts_of(sample)}):
        lost.append(f"{', '.join(facts)} were left out: a folder per class has no place for them")
    lost += [f"label {label!r} became folder {name!r}" for label, name in folders.items() if label != name]
    return Written(count=len(names), lost=tuple(lost), left_out=tuple(failed))


def _folders(labels: Sequence[str]) -> dict[str, str]:
    """A folder for each label: two labels never share one."""
    names = Names()
    return {label: names.free(f"{safe_part(label) or 'label'}.x").removesuffix(".x") for label in labels}
