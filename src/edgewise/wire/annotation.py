"""What a person says about one sample beyond its one label: where in it something is, or how much."""

from __future__ import annotations

from pydantic import Field, model_validator

from edgewise.wire._record import Digest, Record, Share

BOXES_MAX = 1000
SPANS_MAX = 1000
VALUES_MAX = 4096
LABEL_CHARACTERS_MAX = 128
STEPS_MAX = 1 << 20  # of a window, as `SeriesSpec.length`


class Box(Record):
    """A rectangle in a picture, from 0 to 1 of its width and height, with the origin in the upper left corner."""

    label: str = Field(min_length=1, max_length=LABEL_CHARACTERS_MAX)
    x1: Share
    y1: Share
    x2: Share
    y2: Share

    @model_validator(mode="after")
    def _has_an_area(self) -> Box:
        if not (self.x1 < self.x2 and self.y1 < self.y2):
            raise ValueError(
                f"a box from ({self.x1:g}, {self.y1:g}) to ({self.x2:g}, {self.y2:g}) is empty; "
                "needs x1 below x2 and y1 below y2"
            )
        return self


def overlap(one: Box, other: Box) -> float:
    """Part of two boxes' union that is in both (intersection over union), 0 to 1.

    >>> one = Box(label="pit", x1=0.0, y1=0.0, x2=0.5, y2=0.5)
    >>> overlap(one, one), overlap(one, Box(label="pit", x1=0.25, y1=0.0, x2=0.75, y2=0.5)) == 1 / 3
    (1.0, True)
    """
    across, down = min(one.x2, other.x2) - max(one.x1, other.x1), min(one.y2, other.y2) - max(one.y1, other.y1)
    if across <= 0 or down <= 0:
        return 0.0
    areas = sum((box.x2 - box.x1) * (box.y2 - box.y1) for box in (one, other))
    return across * down / (areas - across * down)


class FoundBox(Box):
    """A box that a network found, with how sure it is of it."""

    score: Share


class Span(Record):
    """Steps of a window of a time series, from `start` up to and without `end`."""

    label: str = Field(min_length=1, max_length=LABEL_CHARACTERS_MAX)
    start: int = Field(ge=0, lt=STEPS_MAX)
    end: int = Field(ge=1, le=STEPS_MAX)

    @model_validator(mode="after")
    def _has_a_step(self) -> Span:
        if self.start >= self.end:
            raise ValueError(f"a span from step {self.start} to {self.end} is empty; needs start below end")
        return self


class Annotation(Record):
    """Beside the label of a sample: None says that it was not asked, an empty tuple that nothing is there.

    >>> Annotation(boxes=(Box(label="pit", x1=0.1, y1=0.1, x2=0.2, y2=0.3),)).boxes[0].label
    'pit'
    """

    boxes: tuple[Box, ...] | None = Field(None, max_length=BOXES_MAX)
    spans: tuple[Span, ...] | None = Field(None, max_length=SPANS_MAX)
    values: tuple[float, ...] | None = Field(None, max_length=VALUES_MAX)  # true values, one a target or step ahead
    mask: Digest | None = None  # of a PNG blob, 8-bit grey, as large as the picture; not 0 where the thing is
