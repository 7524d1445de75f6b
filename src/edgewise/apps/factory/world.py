"""Generated plants: machined surfaces with micro-cracks and other defects, and a different drift in three of the four.

Nothing here is a photograph. The surfaces follow how machining and cameras work (feed marks, branching cracks, light
that falls off, focus that drifts), so that a network meets the difficulties of the real task; figures made on them say
how the loop behaves, not how well a defect is found in a real plant.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from PIL import Image, ImageFilter

from edgewise.apps.factory._surface import ALUMINIUM, DEFECTS, STEEL, Field, Material, add_dust, make_spot, make_surface
from edgewise.wire import NotValid

START = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)
SECONDS_PER_FRAME = 20
SHAKE_PX = 6  # a part moves by at most this much between two frames of it
PICTURES_MAX = 100_000  # of one plant


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantWorld:
    """One plant: what it makes, what goes wrong there, and how its camera and light see it.

    Attributes:
        defects: share of parts with each defect; the rest is good (`none`).
        blur_px: smallest and largest standard deviation of the lens blur; it grows over the run as focus drifts.
        dark_field: the light comes flat from the side. A flat surface then sends it away from the camera and stays
            dark, while cracks, pores and scratches scatter it and shine: contrast turns over, and so does every
            grain of dust, which shines on good parts too. The lamp's own diodes mirror in the metal as a row of spots.
        gain, slope: exposure, and how much brighter one side is than the other.
        noise: standard deviation of the sensor's noise at mid grey.
    """

    name: str
    material: Material
    width: int
    height: int
    defects: Mapping[str, float]
    blur_px: tuple[float, float] = (0.35, 0.45)
    dark_field: bool = False
    gain: float = 1.0
    slope: float = 0.12
    noise: float = 0.018
    jpeg_quality: int = 85
    drift: str = "none"


KNOWN = {"crack": 0.17, "pores": 0.14, "scratch": 0.14}
PLANTS: tuple[PlantWorld, ...] = (
    PlantWorld(name="north", material=STEEL, width=128, height=80, defects=KNOWN),
    PlantWorld(
        name="east", material=STEEL, width=128, height=80, defects=KNOWN, blur_px=(0.9, 1.4), noise=0.026,
        jpeg_quality=75, drift="the camera loses focus: everything is blurred, more from week to week",
    ),
    PlantWorld(
        name="south", material=STEEL, width=144, height=96, defects=KNOWN, dark_field=True, slope=0.3, noise=0.012,
        drift="dark-field light from the side replaced bright-field light: defects shine on a dark, uneven ground",
    ),
    PlantWorld(
        name="west", material=ALUMINIUM, width=112, height=80, defects=KNOWN | {"chatter": 0.16},
        drift="another material (milled aluminium) and a defect that nobody labelled before: chatter",
    ),
)  # fmt: skip
NAMES = tuple(plant.name for plant in PLANTS)
GOOD = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """One frame as the plant's camera took it.

    Attributes:
        data: a grey JPEG.
        label: `none` or the part's one defect.
        group: the part; it is seen in 1 to 3 consecutive frames, which are near-copies of each other.
    """

    data: bytes
    label: str
    group: str
    taken_at: datetime


def make_plants(seed: int, pictures_per_plant: int | Mapping[str, int]) -> dict[str, list[Shot]]:
    """The pictures of all four plants in the order of time; the same seed gives the same bytes.

    A plant's pictures do not depend on how many another plant makes.

    Args:
        seed: any non-negative number.
        pictures_per_plant: one number for all, or one a plant; a plant left out makes none.
    Raises:
        NotValid: a plant that does not exist, or a number out of bounds.

    >>> plants = make_plants(7, 2)
    >>> list(plants), len(plants["north"]), plants["north"][0].data[:2]
    (['north', 'east', 'south', 'west'], 2, b'\\xff\\xd8')
    >>> make_plants(7, {"east": 2})["east"] == plants["east"]
    True
    """
    counts = (
        dict.fromkeys(NAMES, pictures_per_plant) if isinstance(pictures_per_plant, int) else dict(pictures_per_plant)
    )
    unknown = sorted(set(counts) - set(NAMES))
    if unknown:
        raise NotValid(
            f"there is no generated plant {', '.join(unknown)}; known are {', '.join(NAMES)}", code="no_plant"
        )
    for name, count in counts.items():
        if not 0 <= count <= PICTURES_MAX:
            raise NotValid(f"{name} would make {count} pictures, needs 0 to {PICTURES_MAX}", code="bad_count")
    return {
        plant.name: _make_plant(seed, index, plant, counts[plant.name])
        for index, plant in enumerate(PLANTS)
        if plant.name in counts
    }


def _make_plant(seed: int, index: int, plant: PlantWorld, count: int) -> list[Shot]:
    rng = np.random.Generator(np.random.PCG64([seed, index]))
    shots: list[Shot] = []
    part = 0
    while len(shots) < count:
        label = _draw_label(rng, plant)
        part += 1
        surface, angle = make_surface(rng, plant.material, height=plant.height + SHAKE_PX, width=plant.width + SHAKE_PX)
        if label != GOOD:
            surface = DEFECTS[label](rng, surface, angle)
        if plant.dark_field:
            surface = add_dust(rng, surface, int(rng.integers(4, 14)))
        for _ in range(rng.integers(1, 4)):
            age = len(shots) / max(count, 1)
            shots.append(
                Shot(
                    data=_photograph(rng, plant, surface, age),
                    label=label,
                    group=f"{plant.name}-part-{part:05d}",
                    taken_at=START + timedelta(seconds=SECONDS_PER_FRAME * len(shots)),
                )
            )
    return shots[:count]


def _draw_label(rng: np.random.Generator, plant: PlantWorld) -> str:
    draw = rng.random()
    for label, share in plant.defects.items():
        if draw < share:
            return label
        draw -= share
    return GOOD


def _photograph(rng: np.random.Generator, plant: PlantWorld, surface: Field, age: float) -> bytes:
    """One JPEG of the part: shifted a little, lit, blurred by the lens, noisy.

    Args:
        age: 0 at the first picture of the plant, 1 at its last.
    """
    top, left = rng.integers(0, SHAKE_PX + 1, 2)
    seen = surface[top : top + plant.height, left : left + plant.width]
    if plant.dark_field:
        # What differs from the mean reflectance is what scatters; flat metal only gives a low floor of stray light.
        relief = seen - plant.material.reflectance
        seen = 0.2 + 1.3 * np.abs(relief) - 0.2 * relief + _lamp_mirrored(rng, plant.height, plant.width)
    light = plant.gain * rng.uniform(0.94, 1.06) * (1 + plant.slope * np.linspace(-1, 1, plant.width, dtype=np.float32))
    light = light * (1 - 0.12 * np.linspace(-1, 1, plant.height, dtype=np.float32)[:, None] ** 2)
    lit = np.clip(seen * light * 255, 0, 255).astype(np.uint8)
    low, high = plant.blur_px
    blur = low + (high - low) * age + rng.uniform(-0.05, 0.05)
    blurred = np.asarray(Image.fromarray(lit).filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32)
    # Shot noise grows with the root of the light, so that dark pictures keep a little more contrast against it.
    noise = rng.standard_normal(blurred.shape, dtype=np.float32) * (plant.noise * np.sqrt(blurred / 127 + 0.1) * 255)
    file = io.BytesIO()
    Image.fromarray(np.clip(blurred + noise, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=plant.jpeg_quality)
    return file.getvalue()


def _lamp_mirrored(rng: np.random.Generator, height: int, width: int) -> Field:
    """The row of diodes of a side lamp, mirrored in polished metal: near one place of the picture, not of the part."""
    field = np.zeros((height, width), dtype=np.float32)
    middle_y, bend = height * rng.uniform(0.25, 0.35), rng.uniform(2, 6)
    for x in np.arange(0.08, 1.0, 0.12) * width + rng.uniform(-4, 4):
        y = middle_y + bend * np.sin(np.pi * x / width)
        radius = rng.uniform(0.9, 1.6)
        field += np.float32(rng.uniform(0.1, 0.28)) * make_spot(
            height, width, x, y, radius, radius * rng.uniform(0.9, 1.8)
        )
    return field
