"""Small generated surfaces, enough for a network to learn in seconds."""

from __future__ import annotations

import csv
import io
import random
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgewise.learn import TrainingSample

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LABELS = ("none", "scratch", "spot")
SMALL = {"seconds": 1.0}  # a budget that keeps the tests fast


def surface(label: str, seed: int, size: int = 72) -> bytes:
    """A PNG of a ground surface: plain, with a long scratch, or with a dark spot."""
    rng = np.random.default_rng([seed, LABELS.index(label)])
    rows = np.arange(size)
    picture = 120 + 25 * rng.standard_normal((size, 1)) * 0.3 + rng.normal(0, 6, (size, size)) + 20 * rng.random()
    if label == "scratch":
        slope, start = rng.uniform(-0.6, 0.6), rng.uniform(20, size - 20)
        columns = np.clip(start + slope * (rows - size / 2), 1, size - 2).astype(int)
        for aside in (-1, 0, 1):
            picture[rows, columns + aside] += 90
    if label == "spot":
        y, x = rng.uniform(15, size - 15, 2)
        across, down = np.meshgrid(rows, rows)
        picture[(across - x) ** 2 + (down - y) ** 2 < 36] -= 80
    file = io.BytesIO()
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def reader(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def surfaces(count: int, *, labels: Sequence[str] = LABELS, start: int = 0, new: bool = False) -> list[TrainingSample]:
    """`count` samples of each label in groups of three."""
    return [
        TrainingSample(
            name=f"{label}-{number}.png",
            label=label,
            group=f"{label}-{number // 3}",
            read=reader(surface(label, number)),
            media_type="image/png",
            site="north",
            new=new,
        )
        for number in range(start, start + count)
        for label in labels
    ]


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


@dataclass(frozen=True, slots=True)
class World:
    """What tests of this room share, handed to them as a fixture."""

    surface: Callable[..., bytes] = surface
    surfaces: Callable[..., list[TrainingSample]] = surfaces
    write_csv: Callable[..., None] = write_csv
    reader: Callable[[bytes], Callable[[], bytes]] = reader
    labels: tuple[str, ...] = LABELS
    now: datetime = NOW
    small: Mapping[str, float] = field(default_factory=lambda: SMALL)


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 pictures a class: images.zip beside labels.csv, with groups, a shift column and doubts."""
    folder = tmp_path_factory.mktemp("line one")
    rows = []
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for sample in surfaces(24):
            archive.writestr(sample.name, sample.read())
            number = int(sample.name.split("-")[1].split(".")[0])
            rows.append([sample.name, sample.label, sample.group, "ab"[number % 2], int(number == 5)])
    write_csv(folder / "labels.csv", ["file", "label", "part_group", "shift", "uncertain"], rows)
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder with a table: labels.csv alone, two columns that decide, one that does not, one of text."""
    rng = random.Random(4)
    rows = []
    for number in range(160):
        x, y = rng.uniform(-1, 1), rng.uniform(-1, 1)
        label = "bad" if x > 0.3 and y > -0.2 else "ok"
        rows.append([f"{x:.4f}", "" if number == 7 else f"{y:.4f}", rng.randint(0, 9), "red", label, number // 4])
    write_csv(tmp_path / "labels.csv", ["force", "speed", "noise", "paint", "label", "group"], rows)
    return tmp_path
