"""A made-up plant whose power follows the sun and passing clouds, recorded every quarter of an hour."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

START = datetime(2026, 3, 2, tzinfo=UTC)
STEP_S = 900
COLUMNS = ("power", "light", "clock.day_sin", "clock.day_cos")


def rows(days: int, *, seed: int = 0, size: float = 40.0) -> Iterator[tuple[datetime, float, float]]:
    """Time, light and power. A cloud comes and goes within hours, so the next hours follow the last ones in part."""
    rng = np.random.default_rng(seed)
    cloud = 0.0
    for number in range(days * 86_400 // STEP_S):
        at = START + timedelta(seconds=number * STEP_S)
        cloud = 0.97 * cloud + 0.12 * rng.normal()
        sun = max(0.0, np.sin(2 * np.pi * (at.hour + at.minute / 60 - 6) / 24))
        light = sun * (0.7 + 0.3 * np.tanh(cloud))
        yield at, round(float(light * 1000), 2), round(float(light * size + 0.2 * rng.normal() * (light > 0)), 3)


def write(path: Path, days: int, *, seed: int = 0, leave_out: Sequence[int] = ()) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "light", "power"])
        for number, (at, light, power) in enumerate(rows(days, seed=seed)):
            if number not in leave_out:
                writer.writerow([at.isoformat(), light, power])
