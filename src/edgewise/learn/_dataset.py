"""Labelled samples: read from a folder a person made, or from a dataset revision of the hub.

Nothing is decoded here. A sample knows how to read its bytes, so that a folder of a million pictures costs a list.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from edgewise.frames import IMAGE_BYTES_MAX
from edgewise.wire import Annotation, NotValid, canonical

GOOD_WORDS = ("none", "free", "good", "ok", "normal")
GROUP_COLUMNS = ("group", "sequence", "part_group", "patient")
PICTURE_ENDINGS = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
}
ROW_MEDIA_TYPE = "application/json"
MEDIA_TYPES = PICTURE_ENDINGS | {".json": ROW_MEDIA_TYPE}  # of a row or window that is a file of its own
NOT_FEATURES = frozenset(
    {"file", "id", "label", "uncertain", "weight", "inclusion_probability", "annotation", *GROUP_COLUMNS}
)
ROWS_MAX = 2_000_000  # a list of labels longer than this is a mistake, or a job for the hub
CSV_BYTES_MAX = 512_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSample:
    """One labelled picture or row, its bytes read only when asked for.

    Attributes:
        name: file name, or sample id of the hub.
        group: samples of one group are near-copies (one part, one position): never split over two sides.
        uncertain: the label is in doubt; not trained on, scored apart.
        new: labelled since the base was trained; the new and the rest are trained half and half.
        columns: every column of the list of labels, as text.
        mask: reads the PNG that `annotation.mask` names.
    """

    name: str
    label: str
    group: str
    read: Callable[[], bytes]
    media_type: str = "image/jpeg"
    site: str = ""
    uncertain: bool = False
    new: bool = False
    weight: float = 1.0
    columns: Mapping[str, str] = field(default_factory=dict)
    annotation: Annotation | None = None
    mask: Callable[[], bytes] | None = None
    taken_at: datetime | None = None
    device: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Labelled samples with what is known about them as a whole."""

    source: str
    samples: tuple[TrainingSample, ...]
    good_labels: tuple[str, ...] = ()
    group_column: str | None = None

    @property
    def certain(self) -> tuple[TrainingSample, ...]:
        """Samples whose label is not in doubt: the ones to train on."""
        return tuple(sample for sample in self.samples if not sample.uncertain)

    @property
    def uncertain(self) -> tuple[TrainingSample, ...]:
        return tuple(sample for sample in self.samples if sample.uncertain)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({sample.label for sample in self.samples}))

    @property
    def is_table(self) -> bool:
        return bool(self.samples) and self.samples[0].media_type == ROW_MEDIA_TYPE


def good_labels_of(labels: Iterable[str], declared: Sequence[str] = ()) -> tuple[str, ...]:
    """The labels that mean a good part: the declared ones, else those with a usual name, else none.

    Raises:
        NotValid: a declared label does not occur.

    >>> good_labels_of(["crack", "free", "none"])
    ('free', 'none')
    >>> good_labels_of(["crack", "fine"], ["fine"])
    ('fine',)
    >>> good_labels_of(["crack", "scratch"])
    ()
    """
    known = sorted(set(labels))
    for label in declared:
        if label not in known:
            raise NotValid(
                f"the good label {label!r} does not occur; the labels are {', '.join(known)}; name one of these",
                code="good_label_unknown",
            )
    return tuple(declared) if declared else tuple(label for label in known if label.casefold() in GOOD_WORDS)


def read_dataset(data_dir: Path | str, *, good: Sequence[str] = (), group: str | None = None) -> Dataset:
    """The labelled samples of a folder.

    Shapes that are read: ``labels.csv`` beside ``images.zip`` or beside the pictures (also in ``images/``), columns
    `file` and `label` at least; ``labels.csv`` alone with numeric columns and `label` (a table); one folder per class.
    So are the formats of other tools: ``labels.parquet``, COCO, an export of Label Studio (docs/data.md).

    Args:
        data_dir: the folder.
        good: labels of good parts; by default those named none, free, good, ok or normal, as far as they occur.
        group: column that says which samples are near-copies; by default the first of `group`, `sequence`,
            `part_group`, `patient`. Without one each sample is a group of its own.
    Raises:
        NotValid: no such folder, no labelled samples in it, a column or a file missing.
    """
    folder = Path(data_dir)
    if not folder.is_dir():
        raise NotValid(
            f"{folder} is not a folder; give the folder that holds the labelled pictures", code="data_missing"
        )
    listing = folder / "labels.csv"
    foreign = None if listing.is_file() else foreign_samples(folder, group)
    if listing.is_file():
        samples, group_column = _read_listed(folder, listing, group)
    elif foreign is not None:
        samples, group_column = foreign, group
    else:
        samples, group_column = _read_class_folders(folder, group), None
    if not samples:
        raise NotValid(f"{folder} holds no labelled samples; at least one is needed", code="data_empty")
    labels = {sample.label for sample in samples}
    return Dataset(
        source=folder.name,
        samples=tuple(samples),
        good_labels=good_labels_of(labels, good),
        group_column=group_column,
    )


def foreign_samples(folder: Path, group: str | None) -> list[TrainingSample] | None:
    """The samples of a folder in another tool's format, grouped by this fact where one is named; None without one."""
    from edgewise.learn._formats import read_foreign  # late: the formats are made of what this module defines

    found = read_foreign(folder)
    if found is None:
        return None
    form, samples = found
    if group is None:
        return samples
    if not any(group in sample.columns for sample in samples):
        known = sorted({name for sample in samples for name in sample.columns})
        raise NotValid(
            f"{folder} ({form}) tells no {group!r} to group by; it tells {', '.join(known) or 'nothing beside labels'}",
            code="column_missing",
        )
    return [replace(sample, group=sample.columns.get(group, "") or sample.name) for sample in samples]


def _read_rows(listing: Path) -> tuple[list[str], list[dict[str, str]]]:
    size_bytes = listing.stat().st_size
    if size_bytes > CSV_BYTES_MAX:
        raise NotValid(f"{listing} has {size_bytes} bytes, at most {CSV_BYTES_MAX} can be read", code="data_too_large")
    try:
        text = listing.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotValid(f"{listing} is not UTF-8 text ({error}); save it as UTF-8", code="labels_invalid") from error
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True)
        columns = list(reader.fieldnames or ())
        rows: list[dict[str, str]] = []
        for row in reader:
            if None in row or any(value is None for value in row.values()):
                raise NotValid(
                    f"{listing} line {reader.line_num} has not the first line's {len(columns)} columns; correct it",
                    code="labels_invalid",
                )
            rows.append(row)
            if len(rows) > ROWS_MAX:
                raise NotValid(f"{listing} has more than {ROWS_MAX} rows; split it", code="data_too_large")
    except csv.Error as error:
        raise NotValid(f"{listing} is not a valid CSV file: {error}", code="labels_invalid") from error
    if "label" not in columns:
        raise NotValid(
            f"{listing} has no column `label`; its columns are {', '.join(columns) or 'none at all'}; add the column",
            code="column_missing",
        )
    empty = next((number for number, row in enumerate(rows, start=2) if not row["label"].strip()), None)
    if empty is not None:
        raise NotValid(
            f"{listing} line {empty} has an empty label; fill it in or remove the line", code="labels_invalid"
        )
    return columns, rows


def _group_column(columns: Sequence[str], wanted: str | None, where: Path) -> str | None:
    if wanted is None:
        return next((name for name in GROUP_COLUMNS if name in columns), None)
    if wanted not in columns:
        raise NotValid(
            f"{where} has no column {wanted!r} to group by; its columns are {', '.join(columns)}", code="column_missing"
        )
    return wanted


def _read_listed(folder: Path, listing: Path, group: str | None) -> tuple[list[TrainingSample], str | None]:
    columns, rows = _read_rows(listing)
    group_column = _group_column(columns, group, listing)
    if "file" not in columns:
        return _table_samples(listing, columns, rows, group_column), group_column
    reader_of = _picture_readers(folder)
    missing = [row["file"] for row in rows if row["file"] not in reader_of]
    if missing:
        raise NotValid(
            f"{listing} names {missing[0]!r}, which is not in {folder}"
            + (f" (and {len(missing) - 1} more files)" if len(missing) > 1 else "")
            + "; put the pictures into images.zip or beside labels.csv, under these names",
            code="picture_missing",
        )
    from edgewise.learn._formats._listed import told  # late, as above

    samples = [
        TrainingSample(
            name=row.get("id") or row["file"],
            label=row["label"].strip(),
            group=(row[group_column] if group_column else "") or row["file"],
            read=reader_of[row["file"]],
            media_type=MEDIA_TYPES.get(Path(row["file"]).suffix.lower(), "application/octet-stream"),
            site=row.get("site", ""),
            uncertain=_is_true(row.get("uncertain", "")),
            columns=row,
            **told(folder, listing, row),
        )
        for row in rows
    ]
    return samples, group_column


def _is_true(text: str) -> bool:
    return text.strip().casefold() in {"1", "true", "yes"}


def _picture_readers(folder: Path) -> dict[str, Callable[[], bytes]]:
    """How to read each picture, by its name relative to the folder, to ``images/`` or inside ``images.zip``."""
    archive = folder / "images.zip"
    if archive.is_file():
        try:
            with zipfile.ZipFile(archive) as bundle:
                names = [item.filename for item in bundle.infolist() if not item.is_dir()]
        except (zipfile.BadZipFile, OSError) as error:
            raise NotValid(
                f"{archive} is not a readable zip file: {error}; make it again", code="zip_unreadable"
            ) from error
        shared = _Archive(archive)
        readers = {name: _bind(shared.read, name) for name in names}
        return {name.removeprefix("images/"): read for name, read in readers.items()} | readers
    found: dict[str, Callable[[], bytes]] = {}
    for base in (folder, folder / "images"):
        for path in base.rglob("*") if base.is_dir() else ():
            if path.suffix.lower() in MEDIA_TYPES and path.is_file():
                found[path.relative_to(base).as_posix()] = path.read_bytes
    return found


def _bind(read: Callable[[str], bytes], name: str) -> Callable[[], bytes]:
    return lambda: read(name)


class _Archive:
    """Pictures in a zip file, opened at the first read and then kept open: 0.05 ms a picture instead of 5."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip: zipfile.ZipFile | None = None

    def read(self, name: str) -> bytes:
        try:
            if self._zip is None:
                self._zip = zipfile.ZipFile(self._path)
            size_bytes = self._zip.getinfo(name).file_size
            if size_bytes > IMAGE_BYTES_MAX:
                raise NotValid(
                    f"{name} in {self._path} has {size_bytes} bytes unpacked, at most {IMAGE_BYTES_MAX} are allowed",
                    code="picture_unreadable",
                )
            return self._zip.read(name)
        except (zipfile.BadZipFile, OSError, KeyError, EOFError) as error:
            raise NotValid(
                f"{name} in {self._path} cannot be read: {error}; put a whole copy there", code="picture_unreadable"
            ) from error


def _table_samples(
    listing: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]], group_column: str | None
) -> list[TrainingSample]:
    """Rows of numbers as samples: each row's bytes are the canonical JSON of its numeric columns."""
    features = [
        name
        for name in columns
        if name not in NOT_FEATURES and name != group_column and all(_is_number(row[name]) for row in rows)
    ]
    if not features:
        raise NotValid(
            f"{listing} has neither a column `file` (pictures) nor a numeric column (a table); add one",
            code="column_missing",
        )
    samples = []
    for number, row in enumerate(rows, start=2):
        values = {name: float(row[name]) for name in features if row[name].strip()}
        body = canonical(values)
        samples.append(
            TrainingSample(
                name=f"line {number}",
                label=row["label"].strip(),
                group=(row[group_column] if group_column else "") or f"line {number}",
                read=_constant(body),
                media_type=ROW_MEDIA_TYPE,
                site=row.get("site", ""),
                uncertain=_is_true(row.get("uncertain", "")),
                columns=row,
            )
        )
    return samples


def _constant(body: bytes) -> Callable[[], bytes]:
    return lambda: body


def _is_number(text: str) -> bool:
    try:
        return not text.strip() or abs(float(text)) < float("inf")
    except ValueError:
        return False


def _read_class_folders(folder: Path, group: str | None) -> list[TrainingSample]:
    if group is not None:
        raise NotValid(
            f"{folder} has no labels.csv, so no column {group!r} to group by; add labels.csv or leave --group out",
            code="column_missing",
        )
    samples = [
        TrainingSample(
            name=path.relative_to(folder).as_posix(),
            label=path.relative_to(folder).parts[0],
            group=path.relative_to(folder).as_posix(),
            read=path.read_bytes,
            media_type=PICTURE_ENDINGS[path.suffix.lower()],
        )
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURE_ENDINGS and path.is_file() and path.parent != folder
    ]
    if not samples:
        raise NotValid(
            f"{folder} has neither labels.csv nor one folder of pictures per class; "
            "put labels.csv there (columns file and label) beside the pictures or images.zip",
            code="data_missing",
        )
    return samples


def grouped_part(samples: Sequence[TrainingSample], *, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices (kept, part): about `share` of the samples, whole groups only, each label represented where it can be.

    A label that lives in one group stays wholly on the kept side: what is not trained on cannot be learned.

    >>> from functools import partial
    >>> one = partial(TrainingSample, read=bytes)
    >>> made = [one(name=str(n), label="ab"[n % 2], group=str(n // 4)) for n in range(20)]
    >>> kept, part = grouped_part(made, share=0.2, seed=1)
    >>> len(kept), len(part)
    (16, 4)
    """
    import random

    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group, []).append(index)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    total = Counter(sample.label for sample in samples)
    left, taken = Counter(total), Counter[str]()
    part: list[int] = []
    for name in order:
        inside = Counter(samples[index].label for index in groups[name])
        wanted = sum(min(count, share * total[label] - taken[label]) for label, count in inside.items())
        fits = len(part) + len(groups[name]) <= max(1.5 * share * len(samples), 1)
        # A group is taken when it brings labels that the part still lacks and leaves some of each label to learn from.
        if wanted > 0 and fits and all(left[label] - count >= 2 for label, count in inside.items()):
            part += groups[name]
            taken += inside
            left -= inside
    chosen = set(part)
    return [index for index in range(len(samples)) if index not in chosen], sorted(part)
