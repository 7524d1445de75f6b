"""How much a reader of labelled data takes: a folder from elsewhere may hold anything."""

from __future__ import annotations

from dataclasses import dataclass

from edgewise.frames import IMAGE_BYTES_MAX, PIXELS_MAX


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadBounds:
    """What is beyond one of these is refused with its place; a list that is longer is a mistake, or a job for the hub.

    Attributes:
        rows_max: samples that one list names.
        columns_max: of one list.
        list_bytes_max: of labels.csv and labels.parquet.
        cell_characters_max: of one cell of labels.csv; an annotation of 1,000 boxes has about 130,000.
        json_bytes_max: of one file of COCO or Label Studio.
        objects_max: in one picture, or in one task.
        files_max: below the folder, or in images.zip.
        file_bytes_max: of one picture or row, read when it is asked for.
        pixels_max: of a picture that a mask is drawn for.
        kinds_said_max: sentences about what was left out.
    """

    rows_max: int = 2_000_000
    columns_max: int = 10_000
    list_bytes_max: int = 512_000_000
    cell_characters_max: int = 4_000_000
    json_bytes_max: int = 1 << 30
    objects_max: int = 100_000
    files_max: int = 4_000_000
    file_bytes_max: int = IMAGE_BYTES_MAX
    pixels_max: int = PIXELS_MAX
    kinds_said_max: int = 50


BOUNDS = ReadBounds()
