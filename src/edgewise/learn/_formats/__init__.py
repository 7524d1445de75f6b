"""Labelled data in the formats that other tools read and write: a user can come and leave with everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgewise.learn._dataset import TrainingSample
from edgewise.learn._formats import (
    _coco,
    _coco_writer,
    _image_folder,
    _label_studio,
    _label_studio_writer,
    _list_writers,
    _listed,
)
from edgewise.learn._formats._bounds import BOUNDS, ReadBounds
from edgewise.learn._formats._files import Written
from edgewise.learn._formats._reading import Found, Reading
from edgewise.wire import NotValid

Write = Callable[[Sequence[TrainingSample], Path], Written]
Read = Callable[[Reading], Found | None]

WRITERS: dict[str, Write] = {
    "coco": _coco_writer.write,
    "imagefolder": _image_folder.write,
    "csv": _list_writers.write_csv,
    "parquet": _list_writers.write_parquet,
    "label-studio": _label_studio_writer.write,
}
UNLABELLED = ("label-studio",)  # has a place for samples that wait for their label
# In the order in which they are looked for; a folder of pictures per class is what is left.
READERS: dict[str, Read] = {
    "csv": _listed.read_csv,
    "parquet": _listed.read_parquet,
    "coco": _coco.read,
    "label-studio": _label_studio.read,
    "imagefolder": _image_folder.read,
}


def read_folder(reading: Reading) -> Found:
    """The samples of a folder, in the first of `READERS` that it holds.

    Raises:
        NotValid: the folder holds such data, and it cannot be read; the message says where. Or it holds none.
    """
    for read in READERS.values():
        found = read(reading)
        if found is not None:
            return found
    raise NotValid(f"{reading.folder} holds no labelled samples; at least one is needed", code="data_empty")


def write_dataset(samples: Sequence[TrainingSample], folder: Path | str, form: str) -> Written:
    """Write samples into a new folder.

    Args:
        form: a key of `WRITERS`.
    Returns:
        how many were written, and a sentence for each thing that the format has no place for.
    Raises:
        NotValid: there is no such format, nothing to write, or the folder is not empty.
    """
    if form not in WRITERS:
        raise NotValid(f"there is no format {form!r}; there are {', '.join(WRITERS)}", code="format_unknown")
    if form not in UNLABELLED and (bare := next((one.name for one in samples if not one.label), None)) is not None:
        raise NotValid(
            f"{bare} has no label, and {form} has no place for such; write {', '.join(UNLABELLED)}",
            code="label_missing",
        )
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise NotValid(f"{place} is not an empty folder; name a new one", code="folder_not_empty")
    if not samples:
        raise NotValid("there are no samples to write; choose other ones", code="data_empty")
    place.mkdir(parents=True, exist_ok=True)
    return WRITERS[form](samples, place)


__all__ = ["BOUNDS", "READERS", "WRITERS", "Found", "ReadBounds", "Reading", "Written", "read_folder", "write_dataset"]
