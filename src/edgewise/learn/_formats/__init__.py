"""Labelled data in the formats that other tools read and write: a user can come and leave with everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgewise.learn._dataset import TrainingSample
from edgewise.learn._formats import _coco, _image_folder, _label_studio, _listed
from edgewise.learn._formats._files import Written
from edgewise.wire import NotValid

Write = Callable[[Sequence[TrainingSample], Path], Written]

WRITERS: dict[str, Write] = {
    "coco": _coco.write,
    "imagefolder": _image_folder.write,
    "csv": _listed.write_csv,
    "parquet": _listed.write_parquet,
    "label-studio": _label_studio.write,
}
# In the order in which they are looked for; a folder of pictures per class is what is left.
READERS: dict[str, tuple[Callable[[Path], Path | None], Callable[[Path, Path], list[TrainingSample]]]] = {
    "parquet": (_listed.find_parquet, _listed.read_parquet),
    "coco": (_coco.find, _coco.read),
    "label-studio": (_label_studio.find, _label_studio.read),
}


def read_foreign(folder: Path) -> tuple[str, list[TrainingSample]] | None:
    """The name of the format and the samples, where a folder holds one of `READERS`; None where it holds none.

    Raises:
        NotValid: the folder holds such data, and it cannot be read; the message says where.
    """
    for name, (find, read) in READERS.items():
        listing = find(folder)
        if listing is not None:
            return name, read(folder, listing)
    return None


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
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise NotValid(f"{place} is not an empty folder; name a new one", code="folder_not_empty")
    if not samples:
        raise NotValid("there are no samples to write; choose other ones", code="data_empty")
    place.mkdir(parents=True, exist_ok=True)
    return WRITERS[form](samples, place)


__all__ = ["READERS", "WRITERS", "Written", "read_foreign", "write_dataset"]
