"""A list of labels beside the files: `labels.csv`, or the same as `labels.parquet`; rows of numbers stay in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewise.learn._dataset import MEDIA_TYPES, ROW_MEDIA_TYPE, ROWS_MAX, TrainingSample
from edgewise.learn._formats._files import FACTS, Written, contents_of, facts_of, made, time_of, write_contents
from edgewise.wire import Annotation, NotValid, canonical, decode, digest, encode, loads

PARQUET = "labels.parquet"
MASKS = "masks"
FILE_COLUMNS = ("file", "label", *FACTS, "id", "annotation")


def write_csv(samples: Sequence[TrainingSample], folder: Path) -> Written:
    """`labels.csv`, the pictures in `images/`, masks in `masks/`; rows of numbers as columns."""
    rows, columns, written = _rows(samples, folder)
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (folder / "labels.csv").write_text(out.getvalue(), encoding="utf-8")
    return written


def write_parquet(samples: Sequence[TrainingSample], folder: Path) -> Written:
    """The same list as `labels.parquet`.

    Raises:
        NotValid: pyarrow is not installed.
    """
    parquet, arrow = _pyarrow()
    rows, columns, written = _rows(samples, folder)
    numbers = {name for name in columns if all(isinstance(row.get(name, 0.0), float) for row in rows)}
    table = {
        name: arrow.array(
            [row.get(name) for row in rows], arrow.float64() if name in numbers else arrow.string(), from_pandas=True
        )
        for name in columns
    }
    parquet.write_table(arrow.table(table), folder / PARQUET)
    return written


def find_parquet(folder: Path) -> Path | None:
    path = folder / PARQUET
    return path if path.is_file() else None


def read_parquet(folder: Path, listing: Path) -> list[TrainingSample]:
    """The samples of `labels.parquet`: of `file` where there is that column, else of its numeric columns."""
    parquet, _ = _pyarrow()
    try:
        file = parquet.ParquetFile(listing)
        if file.metadata.num_rows > ROWS_MAX:
            raise NotValid(f"{listing} has more than {ROWS_MAX} rows; split it", code="data_too_large")
        rows: list[dict[str, Any]] = file.read().to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are children of these two
        raise NotValid(f"{listing} is not readable Parquet: {error}; write it again", code="labels_invalid") from error
    if rows and "label" not in rows[0]:
        raise NotValid(
            f"{listing} has no column `label`; its columns are {', '.join(rows[0])}; add the column",
            code="column_missing",
        )
    return samples_of(folder, listing, rows)


def samples_of(folder: Path, listing: Path, rows: Sequence[Mapping[str, Any]]) -> list[TrainingSample]:
    """The samples that the rows of a list name or hold.

    Raises:
        NotValid: an empty label, or a file that is not there.
    """
    files = contents_of(folder)
    found = []
    for number, row in enumerate(rows, 1):
        label = str(row.get("label") or "").strip()
        if not label:
            raise NotValid(f"{listing} row {number} has an empty label; fill it in or remove it", code="labels_invalid")
        if row.get("file"):
            found.append(_of_file(folder, listing, row, label, files))
        else:
            found.append(_of_numbers(listing, row, label, number))
    return found


def _of_file(
    folder: Path, listing: Path, row: Mapping[str, Any], label: str, files: Mapping[str, Path]
) -> TrainingSample:
    name = str(row["file"])
    if name not in files:
        raise NotValid(
            f"{listing} names {name!r}, which is not in {folder}; put the files beside it or into images/",
            code="picture_missing",
        )
    annotation = annotation_of(row.get("annotation"), f"{listing}, {name}")
    mask = _mask_of(folder, annotation, f"{listing}, {name}")
    return made(
        str(row.get("id") or name),
        label,
        files[name].read_bytes,
        media_type=MEDIA_TYPES[files[name].suffix.lower()],
        facts={key: value for key, value in row.items() if key not in ("file", "label", "annotation", "id")},
        annotation=annotation,
        mask=mask,
        where=str(listing),
    )


def told(folder: Path, listing: Path, row: Mapping[str, str]) -> dict[str, Any]:
    """What a row of labels.csv says beyond its label, as fields of a sample.

    Raises:
        NotValid: a time, an annotation or a mask that is none.
    """
    where = f"{listing}, {row['file']}"
    annotation = annotation_of(row.get("annotation"), where)
    mask = _mask_of(folder, annotation, where)
    taken_at = time_of(row.get("taken_at"), where)
    about = {"annotation": annotation, "taken_at": taken_at, "device": row.get("device") or None}
    return about | {"mask": None if mask is None else lambda: mask}


def _mask_of(folder: Path, annotation: Annotation | None, where: str) -> bytes | None:
    if annotation is None or annotation.mask is None:
        return None
    place = folder / MASKS / f"{annotation.mask}.png"
    mask = place.read_bytes() if place.is_file() else b""
    if digest(mask) != annotation.mask:
        raise NotValid(
            f"{where}: mask {annotation.mask[:12]}… is not whole in {folder / MASKS}; copy that folder too",
            code="mask_invalid",
        )
    return mask


def _of_numbers(listing: Path, row: Mapping[str, Any], label: str, number: int) -> TrainingSample:
    known = {*FILE_COLUMNS, "label"}
    values = {
        name: float(value)
        for name, value in row.items()
        if name not in known and isinstance(value, int | float) and not isinstance(value, bool)
    }
    if not values:
        raise NotValid(
            f"{listing} row {number} names no file and holds no number; add a column `file` or numbers",
            code="column_missing",
        )
    body = canonical(values)
    name = str(row.get("id") or f"row {number}")
    facts = {key: value for key, value in row.items() if key in FACTS}
    annotation = annotation_of(row.get("annotation"), f"{listing}, {name}")
    return made(
        name, label, lambda: body, media_type=ROW_MEDIA_TYPE, facts=facts, annotation=annotation, where=str(listing)
    )


def annotation_of(text: Any, where: str) -> Annotation | None:
    """An annotation from the text of a cell.

    Raises:
        NotValid: it is none.
    """
    if text in (None, ""):
        return None
    try:
        return decode(Annotation, str(text).encode())
    except NotValid as error:
        raise NotValid(f"{where}: the annotation is not valid: {error}", code="labels_invalid") from error


def _rows(samples: Sequence[TrainingSample], folder: Path) -> tuple[list[dict[str, Any]], list[str], Written]:
    numbers = {index: held for index, sample in enumerate(samples) if (held := _numbers(sample)) is not None}
    rest = [index for index in range(len(samples)) if index not in numbers]
    names, failed = write_contents([samples[index] for index in rest], folder / "images")
    placed = {rest[place]: name for place, name in names.items()}
    rows: list[dict[str, Any]] = []
    for index, sample in enumerate(samples):
        if index not in numbers and index not in placed:
            continue
        row: dict[str, Any] = {"label": sample.label, "id": sample.name, **facts_of(sample)}
        if sample.annotation is not None:
            row["annotation"] = encode(sample.annotation).decode()
        if sample.mask is not None:
            data = sample.mask()
            (folder / MASKS).mkdir(exist_ok=True)
            (folder / MASKS / f"{digest(data)}.png").write_bytes(data)
        row.update(numbers[index] if index in numbers else {"file": placed[index]})
        rows.append(row)
    columns = [name for name in FILE_COLUMNS if any(name in row for row in rows)]
    columns += sorted({name for row in rows for name in row} - set(columns))
    return rows, columns, Written(count=len(rows), left_out=tuple(failed))


def _numbers(sample: TrainingSample) -> dict[str, float] | None:
    """A row of plain numbers; None for anything else, which becomes a file of its own."""
    if sample.media_type != ROW_MEDIA_TYPE:
        return None
    try:
        row = loads(sample.read())
    except (NotValid, OSError):
        return None
    plain = isinstance(row, dict) and row and all(type(value) in (int, float) for value in row.values())
    return {name: float(value) for name, value in row.items()} if plain and not {*row} & {*FILE_COLUMNS} else None


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise NotValid(
            "Parquet needs the package pyarrow, which is not installed; install edgewise[hub] or use csv",
            code="format_not_installed",
        ) from error
    return parquet, pyarrow
