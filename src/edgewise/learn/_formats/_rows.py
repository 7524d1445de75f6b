"""Samples from the rows of a list, of labels.csv or labels.parquet: a row names a file, or holds numbers itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgewise.learn._dataset import GROUP_COLUMNS, MEDIA_TYPES, NOT_FEATURES, ROW_MEDIA_TYPE, TrainingSample
from edgewise.learn._formats._archive import zip_readers
from edgewise.learn._formats._reading import Found, Reading, made, read_bounded, text_of
from edgewise.wire import Annotation, NotValid, canonical, decode, digest

MASKS = "masks"
INDEX_COLUMNS = ("", "Unnamed: 0", "__index_level_0__")  # what pandas writes where nobody told it not to
Cells = Mapping[str, Any]  # text from CSV; text, numbers and nothing from Parquet


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A list as it was read.

    Attributes:
        first: number of the first row, as people count: 2 for the line after a heading.
        number_of: the number in a cell; None for an empty one, NaN for what is no number.
    """

    path: Path
    columns: Sequence[str]
    rows: Sequence[Cells]
    unit: str
    first: int
    number_of: Callable[[Any], float | None]

    def place(self, index: int) -> str:
        return f"{self.unit} {index + self.first}"


def samples_of(listed: Listed, reading: Reading) -> Found:
    """The samples that the rows of a list name or hold.

    Raises:
        NotValid: a column is missing, a label is empty, a file is not there, or a cell is not what its column needs.
    """
    _check_columns(listed, reading)
    if reading.target is not None:
        listed = _aimed(listed, reading.target)
    for index, row in enumerate(listed.rows):
        if not _label(row):
            raise NotValid(
                f"{listed.path} {listed.place(index)} has an empty label; fill it in or remove it",
                code="labels_invalid",
            )
    if numbering := [name for name in listed.columns if name in INDEX_COLUMNS]:
        reading.notes.count("columns that only number the rows were left out", repr(numbering[0]), len(numbering))
    group = _group_column(listed, reading.group)
    bare = [index for index, row in enumerate(listed.rows) if not _cell(row, "file")]
    features = _features(listed, bare, group, reading.target) if bare else ()
    if bare and "file" in listed.columns:
        reading.notes.count("rows name no file and were read as numbers", listed.place(bare[0]), len(bare))
    work = _Rows(listed=listed, reading=reading, features=features, group=group or "group")
    found = [
        work.of_file(row) if _cell(row, "file") else work.of_numbers(index, row)
        for index, row in enumerate(listed.rows)
    ]
    return Found(found, group)


def _check_columns(listed: Listed, reading: Reading) -> None:
    columns = listed.columns
    if len(columns) > reading.bounds.columns_max:
        raise NotValid(
            f"{listed.path} has {len(columns)} columns, at most {reading.bounds.columns_max} can be read; split it",
            code="data_too_large",
        )
    twice = next((name for place, name in enumerate(columns) if name in columns[:place]), None)
    if twice is not None:
        raise NotValid(f"{listed.path} has two columns {twice!r}; rename one of them", code="labels_invalid")
    if reading.target is not None and reading.target not in columns:
        raise NotValid(
            f"{listed.path} has no column {reading.target!r} to be the target; its columns are {', '.join(columns)}; "
            "name one of them",
            code="column_missing",
        )
    if "label" not in columns and reading.target is None:
        raise NotValid(
            f"{listed.path} has no column `label`; its columns are {', '.join(columns) or 'none at all'}; add the "
            "column",
            code="column_missing",
        )


def _aimed(listed: Listed, target: str) -> Listed:
    """The list with the target's numbers as its labels.

    Raises:
        NotValid: a cell of the target holds no finite number.
    """
    rows = []
    for index, row in enumerate(listed.rows):
        number = listed.number_of(row.get(target))
        if number is None or not math.isfinite(number):
            seen = "empty" if number is None else repr(text_of(row.get(target)))
            raise NotValid(
                f"{listed.path} {listed.place(index)}: the target {target} is {seen}, needs to be a finite number; "
                "fill it in or remove it",
                code="value_invalid",
            )
        rows.append({**row, "label": repr(number)})
    return replace(listed, rows=rows)


def _group_column(listed: Listed, wanted: str | None) -> str | None:
    if wanted is None:
        return next((name for name in GROUP_COLUMNS if name in listed.columns), None)
    if wanted not in listed.columns:
        raise NotValid(
            f"{listed.path} has no column {wanted!r} to group by; its columns are {', '.join(listed.columns)}",
            code="column_missing",
        )
    return wanted


def _features(listed: Listed, bare: Sequence[int], group: str | None, target: str | None) -> tuple[str, ...]:
    """The columns with nothing but numbers in the rows that name no file."""
    found = []
    for name in listed.columns:
        if name in NOT_FEATURES or name in INDEX_COLUMNS or name in (group, target):
            continue
        numbers = [listed.number_of(listed.rows[index].get(name)) for index in bare]
        finite = all(number is None or math.isfinite(number) for number in numbers)
        if finite and any(number is not None for number in numbers):
            found.append(name)
    if not found:
        raise NotValid(
            f"{listed.path} {listed.place(bare[0])} names no file, and there is no numeric column (a table); add a "
            "column `file` (pictures), or numbers",
            code="column_missing",
        )
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    listed: Listed
    reading: Reading
    features: Sequence[str]
    group: str

    @cached_property
    def _archive(self) -> Mapping[str, Callable[[], bytes]] | None:
        path = self.reading.path("images.zip")
        return None if path is None else zip_readers(path, self.reading.bounds)

    def of_file(self, row: Cells) -> TrainingSample:
        name = _cell(row, "file")
        ending = Path(name).suffix.lower()
        where = f"{self.listed.path}, {name}"
        read = self._opener(name)
        if ending not in MEDIA_TYPES:
            raise NotValid(
                f"{where} is of no kind that can be read; these are {', '.join(MEDIA_TYPES)}", code="picture_unreadable"
            )
        annotation = annotation_of(row.get("annotation"), where)
        return made(
            _cell(row, "id") or name,
            _label(row),
            read,
            media_type=MEDIA_TYPES[ending],
            facts=_facts(row),
            annotation=annotation,
            mask=self._mask(annotation, where),
            where=str(self.listed.path),
            group=self.group,
        )

    def _opener(self, name: str) -> Callable[[], bytes]:
        if self._archive is None:
            found = self.reading.tree.need(name, str(self.listed.path))
            return self.reading.opener(self.reading.tree.files[found])
        if name not in self._archive:
            raise NotValid(
                f"{self.listed.path} names {name!r}, which is not in images.zip; put it there, under this name",
                code="picture_missing",
            )
        return self._archive[name]

    def of_numbers(self, index: int, row: Cells) -> TrainingSample:
        """A row of numbers: its bytes are the canonical JSON of the columns that are features."""
        numbers = {name: self.listed.number_of(row.get(name)) for name in self.features}
        body = canonical({name: value for name, value in numbers.items() if value is not None})
        name = _cell(row, "id") or self.listed.place(index)
        return made(
            name,
            _label(row),
            lambda: body,
            media_type=ROW_MEDIA_TYPE,
            facts=_facts(row),
            annotation=annotation_of(row.get("annotation"), f"{self.listed.path}, {name}"),
            where=str(self.listed.path),
            group=self.group,
        )

    def _mask(self, annotation: Annotation | None, where: str) -> bytes | None:
        if annotation is None or annotation.mask is None:
            return None
        place = self.reading.path(f"{MASKS}/{annotation.mask}.png")
        mask = b"" if place is None else read_bounded(place, self.reading.bounds.file_bytes_max)
        if digest(mask) != annotation.mask:
            raise NotValid(
                f"{where}: mask {annotation.mask[:12]}… is not whole in {self.reading.folder / MASKS}; copy that "
                "folder too",
                code="mask_invalid",
            )
        return mask


def _facts(row: Cells) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in INDEX_COLUMNS}


def _cell(row: Cells, name: str) -> str:
    value = row.get(name)
    return "" if value is None else text_of(value)


def _label(row: Cells) -> str:
    """The label: one that is a number is that number, as people write it.

    >>> _label({"label": 0}), _label({"label": 1.0}), _label({"label": " pit "})
    ('0', '1', 'pit')
    """
    value = row.get("label")
    if isinstance(value, float):
        value = None if math.isnan(value) else int(value) if value.is_integer() else value
    return "" if value is None else str(value).strip()


def annotation_of(text: Any, where: str) -> Annotation | None:
    """An annotation from the text of a cell.

    Raises:
        NotValid: it is none.
    """
    if text in (None, ""):
        return None
    try:
        return decode(Annotation, str(text).encode("utf-8", "replace"))
    except NotValid as error:
        raise NotValid(f"{where}: the annotation is not valid: {error}", code="labels_invalid") from error
