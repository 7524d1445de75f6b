"""The plan on real photographs: three plants of `manufacturing/` (see its README.md for sources and licences)."""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from edgewise.apps.factory._plan import (
    Measure,
    Part,
    Picture,
    Plan,
    check_rounds,
    cut_reserve,
    cut_rounds,
    index_pictures,
    split_groups,
)
from edgewise.wire import NotValid

FOLDERS = {"plant-a": "plant_a_ballscrew", "plant-b": "plant_b_magnetic_tile", "plant-c": "plant_c_hot_strip"}
PLANTS = tuple(FOLDERS)
GOOD_LABELS = ("none", "free")
POSITIONS_FIRST = 5  # positions on A's spindle whose zoom2 pictures train the first network
KGT1_HOLDOUT_SHARE = 1 / 3
BLOCK = 10  # neighbouring numbers of plant C's file names that may come from one sheet
ZOOM1_SIZE = (616, 258)
# The data names no time for KGT1, B and C: they get one minute a picture, after the last time that it does name.
UNTIMED_FROM = datetime(2020, 10, 1, 6, 0, tzinfo=UTC)
TEXT = (
    "REAL photographs: ball-screw spindles (plant-a: Schlagenhauf and Landwehr 2021, CC BY-SA 4.0), magnetic tiles "
    "(plant-b: Huang, Qiu and Yuan 2020), hot-rolled strip (plant-c: Song and Yan 2013)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """One line of a labels.csv with the bytes that it names."""

    file: str
    label: str
    data: bytes
    group: str
    uncertain: bool
    zoom: str
    taken_at: datetime | None


def find_data(data_root: Path | str) -> Path:
    """The folder with the three plants: the data root's `manufacturing`, or the folder itself.

    Raises:
        NotValid: neither holds all three; the message says what was looked for.
    """
    root = Path(data_root)
    for folder in (root / "manufacturing", root):
        if all((folder / plant / "labels.csv").is_file() for plant in FOLDERS.values()):
            return folder
    seen = "there is no such folder" if not root.is_dir() else "it holds none or not all of them"
    raise NotValid(
        f"{root} is not the factory's data: {seen}; name the folder that holds {', '.join(FOLDERS.values())} "
        "(each with labels.csv and images.zip), or the folder above it, or leave --data out for generated pictures",
        code="data_missing",
    )


def real_plan(data_root: Path | str, seed: int, rounds: int) -> Plan:
    """The plan on real photographs.

    The seed chooses the five positions of plant A whose pictures are learned from (the other five are hold-out), the
    hold-out groups of B and C, and the order of their groups. Plant A's stream is in time order with KGT1 after it.

    Args:
        data_root: the data root or its `manufacturing` folder.
        seed: the run's seed.
        rounds: parts that each stream is cut into.
    Raises:
        NotValid: the data is not there, or not as its README says; or a wrong number of rounds.
    """
    check_rounds(rounds)
    folder = find_data(data_root)
    rng = np.random.Generator(np.random.PCG64([seed, 20]))
    first, stream_a, holdout_a = _plant_a(_read_plant(folder, "plant-a"), rng)
    sides = {name: split_groups(_read_plant(folder, name), _group, _label, rng) for name in PLANTS[1:]}
    streams = {"plant-a": stream_a} | {name: kept for name, (kept, _) in sides.items()}
    pictures = {name: _pictures(name, "stream", rows) for name, rows in streams.items()}
    held = {"plant-a": _pictures("plant-a", "holdout", holdout_a)} | {
        name: _pictures(name, "holdout", part) for name, (_, part) in sides.items()
    }
    cut = {name: cut_reserve(items) for name, items in pictures.items()}
    learned = _pictures("plant-a", "first", first)
    zooms = {row.file: row.zoom for row in holdout_a}
    return Plan(
        data="real",
        text=TEXT,
        seed=seed,
        rounds=rounds,
        plants=PLANTS,
        good_labels=GOOD_LABELS,
        first=learned,
        stream={name: cut_rounds(rest, rounds) for name, (rest, _) in cut.items()},
        reserve={name: reserve for name, (_, reserve) in cut.items()},
        measures=_measures(held, zooms),
        data_root=Path(data_root),
        by_name=index_pictures(learned, *pictures.values(), *held.values()),
    )


def _plant_a(rows: list[_Row], rng: np.random.Generator) -> tuple[list[_Row], list[_Row], list[_Row]]:
    """(first, stream, hold-out) of plant A."""
    rig = sorted((row for row in rows if row.taken_at), key=lambda row: (row.taken_at or UNTIMED_FROM, row.file))
    spindles = sorted((row for row in rows if not row.taken_at), key=lambda row: row.file)
    positions = sorted({row.group for row in rig})
    if len(positions) <= POSITIONS_FIRST or not spindles:
        raise NotValid(
            f"plant_a_ballscrew has {len(positions)} rig1 sequences and {len(spindles)} KGT1 pictures, needs more than "
            f"{POSITIONS_FIRST} and at least one; take a whole copy of the data",
            code="data_incomplete",
        )
    ours = {positions[index] for index in rng.permutation(len(positions))[:POSITIONS_FIRST]}
    order = [spindles[index] for index in rng.permutation(len(spindles))]
    held = round(len(order) * KGT1_HOLDOUT_SHARE)
    first = [row for row in rig if row.group in ours and row.zoom == "zoom2" and not row.uncertain]
    stream = [row for row in rig if row.group in ours and row.zoom == "zoom1"] + order[held:]
    return first, stream, [row for row in rig if row.group not in ours] + order[:held]


def _measures(held: Mapping[str, tuple[Picture, ...]], zooms: Mapping[str, str]) -> tuple[Measure, ...]:
    certain = tuple(picture for picture in held["plant-a"] if not picture.uncertain)
    unsure = tuple(picture for picture in held["plant-a"] if picture.uncertain)
    zoom2 = tuple(picture for picture in certain if zooms[picture.source] == "zoom2")
    zoom1 = tuple(picture for picture in certain if zooms[picture.source] == "zoom1")
    kgt1 = tuple(picture for picture in certain if zooms[picture.source] == "part")
    scale_note = (
        "the same pictures at the new camera's pixel count; a network whose input has a fixed size sees them scaled "
        "back, so this can only show what the enlarging itself changes"
    )
    return (
        Measure(
            name="a_zoom2", title="Plant A, first camera", plant="plant-a", metric="balanced_accuracy", pictures=zoom2,
        ),
        Measure(
            name="a_zoom1_scale", title="Plant A, first camera enlarged to the new one's size", plant="plant-a",
            metric="balanced_accuracy", pictures=zoom2, enlarge=ZOOM1_SIZE, note=scale_note,
        ),
        Measure(
            name="a_zoom1_pitting", title="Plant A, new camera: pitting found", plant="plant-a", metric="recall",
            pictures=zoom1, of_label="pitting", note="too few good pictures were taken with this camera to say more",
        ),
        Measure(
            name="b", title="Plant B, magnetic tiles", plant="plant-b", metric="balanced_accuracy",
            pictures=held["plant-b"],
        ),
        Measure(
            name="b_auc", title="Plant B, ranking of good and defective", plant="plant-b", metric="auc",
            pictures=held["plant-b"],
        ),
        Measure(
            name="c", title="Plant C, hot strip", plant="plant-c", metric="macro_recall", pictures=held["plant-c"],
            note="there are no good parts in this data",
        ),
        Measure(
            name="a_kgt1_pitting", title="Plant A, KGT1 spindles: pitting found", plant="plant-a", metric="recall",
            pictures=kgt1, of_label="pitting", beside=True,
        ),
        Measure(
            name="a_uncertain", title="Plant A, pictures whose label is in doubt: called defective", plant="plant-a",
            metric="called_defective", pictures=unsure, note="neither high nor low is right here", beside=True,
        ),
    )  # fmt: skip


def _read_plant(folder: Path, plant: str) -> list[_Row]:
    """The plant's rows in the order of its list.

    Raises:
        NotValid: a list or archive that cannot be read, a missing column or picture.
    """
    place = folder / FOLDERS[plant]
    try:
        text = (place / "labels.csv").read_text(encoding="utf-8")
        with zipfile.ZipFile(place / "images.zip") as archive:
            return [_row(plant, line, archive) for line in csv.DictReader(io.StringIO(text))]
    except KeyError as error:
        raise NotValid(
            f"{place}: labels.csv and images.zip do not fit, {error} is missing; take a whole copy of the data",
            code="data_incomplete",
        ) from error
    except (OSError, UnicodeDecodeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise NotValid(
            f"{place} cannot be read: {error}; take a whole copy of the data", code="data_unreadable"
        ) from error


def _row(plant: str, line: Mapping[str, str], archive: zipfile.ZipFile) -> _Row:
    file = line["file"]
    if plant == "plant-a":
        group = line["sequence"]
    elif plant == "plant-b":
        group = line["part_group"]
    else:
        group = _block(file, line["label"])
    time = line.get("time", "")
    return _Row(
        file=file,
        label=line["label"],
        data=archive.read(file),
        group=group,
        uncertain=line.get("uncertain", "0") == "1",
        zoom=line.get("camera_zoom", ""),
        taken_at=datetime.fromisoformat(time).replace(tzinfo=UTC) if time else None,
    )


def _block(file: str, label: str) -> str:
    """The group of a plant C picture: ten neighbouring numbers of its class.

    >>> _block("crazing_117.jpg", "crazing")
    'crazing-11'
    """
    number = re.search(r"(\d+)\.\w+$", file)
    if number is None:
        raise ValueError(f"the file name {file} does not end in a number")
    return f"{label}-{int(number[1]) // BLOCK}"


def _pictures(plant: str, part: Part, rows: Sequence[_Row]) -> tuple[Picture, ...]:
    return tuple(
        Picture(
            name=f"{plant}-{part}-{index:05d}.jpg",
            plant=plant,
            data=row.data,
            label=row.label,
            group=row.group,
            taken_at=row.taken_at or UNTIMED_FROM + timedelta(minutes=index),
            uncertain=row.uncertain,
            part=part,
            source=row.file,
        )
        for index, row in enumerate(rows)
    )


def _group(row: _Row) -> str:
    return row.group


def _label(row: _Row) -> str:
    return row.label
