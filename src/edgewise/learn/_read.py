"""The labelled samples of a folder that a person made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgewise.learn._dataset import Dataset, good_labels_of
from edgewise.learn._formats import BOUNDS, ReadBounds, Reading, read_folder
from edgewise.wire import NotValid


def read_dataset(
    data_dir: Path | str,
    *,
    good: Sequence[str] = (),
    group: str | None = None,
    target: str | None = None,
    bounds: ReadBounds = BOUNDS,
) -> Dataset:
    """The labelled samples of a folder.

    Shapes that are read: ``labels.csv`` beside ``images.zip`` or beside the pictures (also in ``images/``), columns
    `file` and `label` at least; ``labels.csv`` alone with numeric columns and `label` (a table); one folder per class,
    also below one per split. So are the formats of other tools: ``labels.parquet``, COCO, an export of Label Studio
    (docs/data.md). What a reader leaves out or does not understand is in `Dataset.said`.

    Args:
        data_dir: the folder.
        good: labels of good parts; by default those named none, free, good, ok or normal, as far as they occur.
        group: column that says which samples are near-copies; by default the first of `group`, `sequence`,
            `part_group`, `patient`. Without one each sample is a group of its own.
        target: column of a table whose numbers are the labels; it is no feature then.
        bounds: how much is read.
    Raises:
        NotValid: no such folder, no labelled samples in it, a column or a file missing, a link that leads out of it,
            or more than `bounds` allow.
    """
    folder = Path(data_dir)
    if not folder.is_dir():
        raise NotValid(
            f"{folder} is not a folder; give the folder that holds the labelled pictures", code="data_missing"
        )
    reading = Reading(folder=folder, group=group, target=target, bounds=bounds)
    found = read_folder(reading)
    if not found.samples:
        why = f" ({'; '.join(reading.notes.said)})" if reading.notes.said else ""
        raise NotValid(f"{folder} holds no labelled samples{why}; at least one is needed", code="data_empty")
    return Dataset(
        source=folder.name,
        samples=tuple(found.samples),
        good_labels=good_labels_of({sample.label for sample in found.samples}, good),
        group_column=found.group_column,
        said=reading.notes.said,
    )
