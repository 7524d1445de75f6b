"""How a machined surface and its defects look under a camera: reflectance fields made from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Field = npt.NDArray[np.float32]  # (H, W), reflectance, about 0..1
Points = npt.NDArray[np.float64]  # (N, 2), x and y in pixels
SUPERSAMPLE = 3  # lines are drawn this many times larger and averaged down, so that a crack can be thinner than a pixel


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What the surface is made of and how it was cut.

    Attributes:
        lay: `turned` leaves parallel feed marks, `milled` leaves arcs of the cutter's path.
        feed_px: distance between two feed marks.
        roughness: standard deviation of the reflectance that the marks cause.
        reflectance: mean of the surface, 0 to 1.
        grain: standard deviation of the fine, directionless part.
    """

    lay: Literal["turned", "milled"]
    feed_px: float
    roughness: float
    reflectance: float
    grain: float


STEEL = Material(lay="turned", feed_px=3.6, roughness=0.055, reflectance=0.52, grain=0.022)
ALUMINIUM = Material(lay="milled", feed_px=6.5, roughness=0.085, reflectance=0.68, grain=0.034)


def make_surface(rng: np.random.Generator, material: Material, *, height: int, width: int) -> tuple[Field, float]:
    """A good surface, and the angle of its lay in radians (0 is horizontal).

    The profile across the feed marks is a periodic wave whose depth changes from mark to mark (tool wear, chips),
    looked up along a straight line for turning and along a radius for milling. Stains, dust and single deep tool
    marks are on good parts too: a network that calls every dark line a crack must lose.
    """
    angle = float(rng.uniform(-0.12, 0.12))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    if material.lay == "turned":
        across = rows * np.cos(angle) + columns * np.sin(angle)
    else:
        centre_x, centre_y = width * rng.uniform(-0.6, 1.6), height * rng.uniform(2.2, 3.2)
        across = np.hypot(columns - centre_x, rows - centre_y)
    surface = material.reflectance + material.roughness * _profile(rng, across, material.feed_px)
    surface += material.grain * rng.standard_normal((height, width), dtype=np.float32)
    surface += 0.05 * _cloud(rng, height, width)
    for _ in range(rng.integers(0, 3)):
        surface += _tool_mark(rng, across)
    return add_dust(rng, surface.astype(np.float32), int(rng.integers(0, 4))), angle


def _float32(values: npt.NDArray[np.floating]) -> Field:
    return np.asarray(values, dtype=np.float32)


def _profile(rng: np.random.Generator, across: Field, feed_px: float) -> Field:
    grid = np.arange(np.floor(across.min()) - 1, np.ceil(across.max()) + 2, 0.5)
    phase = np.cumsum(rng.normal(1.0, 0.12, grid.size)) * (0.5 * 2 * np.pi / feed_px)
    depth = np.repeat(rng.uniform(0.4, 1.6, grid.size // 8 + 1), 8)[: grid.size]
    wave = np.sin(phase) * depth + 0.5 * rng.standard_normal(grid.size)
    return np.interp(across, grid, wave).astype(np.float32)


def _cloud(rng: np.random.Generator, height: int, width: int) -> Field:
    """Oil film and stains: a smooth random field of unit deviation."""
    coarse = rng.standard_normal((4, 6)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def _tool_mark(rng: np.random.Generator, across: Field) -> Field:
    at = rng.uniform(across.min(), across.max())
    mark = np.exp(-(((across - at) / rng.uniform(0.5, 0.9)) ** 2))
    return _float32(rng.choice([-1.0, 1.0]) * rng.uniform(0.05, 0.16) * mark)


def add_dust(rng: np.random.Generator, surface: Field, grains: int) -> Field:
    """Grains of dust: spots of less than a pixel, brighter or darker than the metal."""
    height, width = surface.shape
    for _ in range(grains):
        x, y, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.4, 0.9)
        brightness = np.float32(rng.uniform(-0.15, 0.22))
        surface = surface + brightness * make_spot(height, width, x, y, radius, radius * rng.uniform(0.7, 1.4))
    return _float32(surface)


def draw_lines(height: int, width: int, lines: list[tuple[Points, float]]) -> Field:
    """Coverage 0..1 of lines given as (points, width in pixels), smoothed at the edges."""
    canvas = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE))
    pen = ImageDraw.Draw(canvas)
    for points, line_width in lines:
        flat = [float(value) for value in (points * SUPERSAMPLE).ravel()]
        pen.line(flat, fill=255, width=max(1, round(line_width * SUPERSAMPLE)))
    return np.asarray(canvas.reduce(SUPERSAMPLE), dtype=np.float32) / np.float32(255)


def make_spot(height: int, width: int, x: float, y: float, radius_x: float, radius_y: float) -> Field:
    """Coverage of one soft spot; only the box around it is computed."""
    field = np.zeros((height, width), dtype=np.float32)
    reach = int(3 * max(radius_x, radius_y)) + 2
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    rows, columns = np.mgrid[top : min(height, int(y) + reach), left : min(width, int(x) + reach)]
    distance = ((columns - x) / radius_x) ** 2 + ((rows - y) / radius_y) ** 2
    field[rows, columns] = np.exp(-(distance**1.5) / 2)
    return field


def _walk(rng: np.random.Generator, start: Points, heading: float, steps: int) -> Points:
    """A crack's path: short steps whose direction wanders, as a crack follows grain boundaries."""
    headings = heading + np.cumsum(rng.normal(0, 0.34, steps))
    lengths = rng.uniform(1.2, 2.8, steps)
    moves = np.stack([lengths * np.cos(headings), lengths * np.sin(headings)], axis=1)
    return np.vstack([start, start + np.cumsum(moves, axis=0)])


def add_crack(rng: np.random.Generator, surface: Field, _angle: float) -> Field:
    """A micro-crack: a thin, branching, dark line with one bright lip where its edge catches the light."""
    height, width = surface.shape
    start = np.array([rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height])
    trunk = _walk(rng, start, rng.uniform(0, 2 * np.pi), int(rng.integers(12, 30)))
    thickness = rng.uniform(0.45, 1.0)
    lines = [(trunk, thickness)]
    for _ in range(rng.integers(0, 4)):
        knot = int(rng.integers(3, len(trunk) - 1))
        towards = trunk[knot] - trunk[knot - 1]
        heading = float(np.arctan2(towards[1], towards[0]) + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1))
        lines.append((_walk(rng, trunk[knot], heading, int(rng.integers(4, 12))), thickness * 0.7))
    contrast = rng.uniform(0.18, 0.42)
    lip = draw_lines(height, width, [(points + 0.9, line_width) for points, line_width in lines[:1]])
    return _float32(surface - contrast * draw_lines(height, width, lines) + 0.3 * contrast * lip)


def add_pores(rng: np.random.Generator, surface: Field, _angle: float) -> Field:
    """Gas pores: small dark holes in a loose cluster, each with a bright rim on the side away from the lamp."""
    height, width = surface.shape
    centre_x, centre_y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
    for _ in range(rng.integers(1, 5)):
        x, y = centre_x + rng.normal(0, 7), centre_y + rng.normal(0, 5)
        radius = rng.uniform(0.9, 2.4)
        stretch = rng.uniform(0.7, 1.4)
        depth = rng.uniform(0.2, 0.45)
        surface = surface + 0.35 * depth * make_spot(
            height, width, x + 0.8, y + 0.8, radius * 1.25, radius * stretch * 1.25
        )
        surface = surface - depth * make_spot(height, width, x, y, radius, radius * stretch)
    return surface.astype(np.float32)


def add_scratch(rng: np.random.Generator, surface: Field, angle: float) -> Field:
    """A handling scratch: long, nearly straight, bright, and across the lay (along it, it would be a tool mark)."""
    height, width = surface.shape
    heading = angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.3)
    length = rng.uniform(0.45, 1.0) * width
    along = np.linspace(-0.5, 0.5, 12) * length
    bow = rng.uniform(-0.08, 0.08) * (along**2) / max(length, 1)
    direction = np.array([np.cos(heading), np.sin(heading)])
    normal = np.array([-direction[1], direction[0]])
    middle = np.array([rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height])
    points = middle + along[:, None] * direction + bow[:, None] * normal
    contrast, thickness = rng.uniform(0.12, 0.32), rng.uniform(0.6, 1.3)
    ridge = draw_lines(height, width, [(points + normal * 0.9, thickness)])
    scratch = draw_lines(height, width, [(points, thickness)])
    return _float32(surface + contrast * scratch - 0.5 * contrast * ridge)


def add_chatter(rng: np.random.Generator, surface: Field, angle: float) -> Field:
    """Chatter: the tool vibrated, which leaves regular shallow waves across the lay in a part of the picture."""
    height, width = surface.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    heading = angle + rng.uniform(-0.35, 0.35)
    along = columns * np.cos(heading) + rows * np.sin(heading)
    wave = np.sin(along * 2 * np.pi / rng.uniform(7.0, 12.0) + rng.uniform(0, 2 * np.pi))
    x, y = rng.uniform(0.25, 0.75) * width, rng.uniform(0.25, 0.75) * height
    window = np.exp(-(((columns - x) / (0.34 * width)) ** 2) - ((rows - y) / (0.4 * height)) ** 2)
    return _float32(surface + rng.uniform(0.06, 0.13) * wave * window)


DEFECTS: dict[str, Callable[[np.random.Generator, Field, float], Field]] = {
    "crack": add_crack,
    "pores": add_pores,
    "scratch": add_scratch,
    "chatter": add_chatter,
}
