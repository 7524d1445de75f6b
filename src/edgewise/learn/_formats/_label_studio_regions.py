"""What the regions of a task say as a label and an annotation. Places are in percent of the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgewise.learn._formats._reading import Notes
from edgewise.wire import Annotation, Box, NotValid, Span
from edgewise.wire.codec import explain

Points = Sequence[tuple[float, float]]  # from 0 to 1 of width and height


class _Foreign(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False, extra="ignore", frozen=True)


class Result(_Foreign):
    """One choice or region."""

    type: str
    value: dict[str, Any] = Field(default_factory=dict)
    original_width: float | None = Field(None, gt=0)
    original_height: float | None = Field(None, gt=0)


class _Choices(_Foreign):
    choices: list[str] = Field(min_length=1)


class _Rectangle(_Foreign):
    x: float
    y: float
    width: float
    height: float
    rotation: float = 0.0  # degrees, clockwise about the upper left corner
    rectanglelabels: list[str] = Field(min_length=1)


class _Polygon(_Foreign):
    points: list[tuple[float, float]] = Field(min_length=3)
    polygonlabels: list[str] = Field(min_length=1)


class _Ellipse(_Foreign):
    x: float
    y: float
    radiusX: float = Field(gt=0)  # noqa: N815 – Label Studio's name
    radiusY: float = Field(gt=0)  # noqa: N815
    rotation: float = 0.0
    ellipselabels: list[str] = Field(min_length=1)


class _Steps(_Foreign):
    start: int
    end: int
    timeserieslabels: list[str] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Said:
    label: str | None
    annotation: Annotation | None


def said_in(results: Iterable[Result], asked: Sequence[str], where: str, notes: Notes) -> Said:
    """The label and the annotation that the results of a task say.

    Args:
        asked: what a person was asked for, `boxes` or `spans`: without a region of that kind, none is there.
    Raises:
        NotValid: two choices, or a region that is empty, outside or not what its kind needs.
    """
    work = _Work(where=where, notes=notes, choices=[], boxes=[], spans=[])
    for item in results:
        try:
            work.take(item)
        except ValidationError as error:
            raise NotValid(f"{where}: a region of kind {item.type}: {explain(error)}", code="labels_invalid") from error
    if len(set(work.choices)) > 1:
        raise NotValid(
            f"{where} has {len(work.choices)} choices, {', '.join(work.choices)}; a sample has one label",
            code="two_labels",
        )
    boxes = tuple(work.boxes) if work.boxes or "boxes" in asked else None
    spans = tuple(work.spans) if work.spans or "spans" in asked else None
    try:
        said = None if boxes is None and spans is None else Annotation(boxes=boxes, spans=spans)
    except ValidationError as error:
        raise NotValid(f"{where}: {explain(error)}", code="labels_invalid") from error
    return Said(work.label, said)


@dataclass(frozen=True, kw_only=True)
class _Work:
    where: str
    notes: Notes
    choices: list[str]
    boxes: list[Box]
    spans: list[Span]

    @property
    def label(self) -> str | None:
        """The choice, else the label of most regions."""
        marked = [*(box.label for box in self.boxes), *(span.label for span in self.spans)]
        return self.choices[0] if self.choices else max(sorted(marked), key=marked.count) if marked else None

    def take(self, item: Result) -> None:
        if item.type == "choices":
            self.choices.extend(_Choices.model_validate(item.value).choices)
        elif item.type == "timeserieslabels":
            steps = _Steps.model_validate(item.value)
            self.spans.append(Span(label=self._one(steps.timeserieslabels), start=steps.start, end=steps.end))
        elif item.type in REGIONS:
            points, labels = REGIONS[item.type](self, item)
            if points:
                self._box(points, labels)
        else:
            self.notes.count(f"regions of kind {item.type[:40]!r} were left out", self.where)

    def rectangle(self, item: Result) -> tuple[Points, list[str]]:
        said = _Rectangle.model_validate(item.value)
        if said.rotation % 360 == 0:
            corners = [(said.x, said.y), (said.x + said.width, said.y + said.height)]
            return _shares(corners), said.rectanglelabels
        return self._turned(item, (said.x, said.y), said.rotation, [
            (0, 0), (said.width, 0), (0, said.height), (said.width, said.height)
        ]), said.rectanglelabels  # fmt: skip

    def polygon(self, item: Result) -> tuple[Points, list[str]]:
        said = _Polygon.model_validate(item.value)
        self.notes.count("polygons became the boxes around them", self.where)
        return _shares(said.points), said.polygonlabels

    def ellipse(self, item: Result) -> tuple[Points, list[str]]:
        said = _Ellipse.model_validate(item.value)
        self.notes.count("ellipses became the boxes around them", self.where)
        if said.rotation % 180 == 0:
            across, down = said.radiusX, said.radiusY
            return _shares([(said.x - across, said.y - down), (said.x + across, said.y + down)]), said.ellipselabels
        round_about = [math.radians(angle) for angle in range(0, 360, 5)]
        edge = [(said.radiusX * math.cos(one), said.radiusY * math.sin(one)) for one in round_about]
        return self._turned(item, (said.x, said.y), said.rotation, edge), said.ellipselabels

    def _turned(self, item: Result, about: tuple[float, float], degrees: float, away: Points) -> Points:
        """Points, told from `about`, turned clockwise about it; none where the picture's size is not told: an angle is
        one of pixels, not of percent."""
        if item.original_width is None or item.original_height is None:
            self.notes.count("turned regions of a picture whose size is not told were left out", self.where)
            return []
        self.notes.count("turned regions became the upright boxes around them", self.where)
        aspect = item.original_height / item.original_width
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turned = [(x * cos - y * aspect * sin, x * sin / aspect + y * cos) for x, y in away]
        return _shares([(about[0] + x, about[1] + y) for x, y in turned])

    def _box(self, points: Points, labels: list[str]) -> None:
        xs, ys = [x for x, _ in points], [y for _, y in points]
        corners = [min(1.0, max(0.0, one)) for one in (min(xs), min(ys), max(xs), max(ys))]
        if not (corners[0] < corners[2] and corners[1] < corners[3]):
            raise NotValid(
                f"{self.where}: a region at {min(xs):.0%}, {min(ys):.0%} is empty or outside; correct it",
                code="box_outside",
            )
        if min(*xs, *ys) < -0.01 or max(*xs, *ys) > 1.01:
            self.notes.count("regions that reach out of their picture were cut at its border", self.where)
        x1, y1, x2, y2 = corners
        self.boxes.append(Box(label=self._one(labels), x1=x1, y1=y1, x2=x2, y2=y2))

    def _one(self, labels: list[str]) -> str:
        if len(labels) > 1:
            self.notes.count("regions with several labels count by their first", self.where)
        return labels[0]


REGIONS: dict[str, Callable[[_Work, Result], tuple[Points, list[str]]]] = {
    "rectanglelabels": _Work.rectangle,
    "polygonlabels": _Work.polygon,
    "ellipselabels": _Work.ellipse,
}


def _shares(points: Points) -> Points:
    return [(x / 100, y / 100) for x, y in points]
