"""What a device tells of a day without telling of any frame: sums and counts that add up exactly.

A sketch holds whole numbers only, so that hours, days, devices and sites are sums without rounding. Its bytes are at
most `SKETCH_BYTES_MAX`; what does not fit is left out by a fixed order and never cut in half.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Self

from pydantic import Field, model_validator

from edgewise.wire._record import Record
from edgewise.wire.errors import NotValid

DIMENSIONS = 16
UNITS = 32  # one deviation of a dimension is so many units; values are rounded to a unit before they are summed
CLIP = 8.0  # deviations; one frame can move a sum by CLIP * UNITS at most
CLASSES_MAX = 16
STEPS = 7  # of novelty: how far a frame is from what its class was in training
BINS = 12  # of confidence
COUNT_MAX = 2**27  # frames of a sketch: 1,500 a second for a day
SKETCH_BYTES_MAX = 144
VERSION, VERSION_WITH_LIGHT = 1, 2
BRIGHTNESS_UNITS = 1024  # white is so many
CONTRAST_MAX = 10  # halvings of a picture's deviation, which are counted in UNITS
Light = tuple[int, int, int]  # frames looked at, sum of their brightness, sum of the halvings of their deviation
_Count = Annotated[int, Field(ge=0, le=COUNT_MAX)]


class DaySketch(Record):
    """Sums over the frames of a day, or of any number of days and devices of one bundle.

    Attributes:
        count: frames.
        sums: of the embedding in 16 fixed directions, in units of 1/32 of a deviation; clipped frame by frame.
        classes: frames by decided class, in the order of the bundle's labels; those from the 16th on are together in
            the last. Empty where the policy hides small counts, or it did not fit.
        novelty: frames by distance from their class; the least novel first.
        confidence: frames by the confidence of their decision, on a logarithmic scale. Left out first.
        light: of some of the frames: how many, the sum of their mean brightness (white is 1024), and of how often their
            deviation halves from 1 (in units of 1/32). None for what is no picture.

    >>> day = DaySketch(count=2, sums=(32,) * 16, classes=(1, 1))
    >>> (day + day).count, len(day.encode()), DaySketch.decode(day.encode()) == day
    (4, 22, True)
    """

    count: int = Field(ge=1, le=COUNT_MAX)
    sums: tuple[int, ...] = Field(min_length=DIMENSIONS, max_length=DIMENSIONS)
    classes: tuple[_Count, ...] = Field((), max_length=CLASSES_MAX)
    novelty: tuple[_Count, ...] = Field((), max_length=STEPS)
    confidence: tuple[_Count, ...] = Field((), max_length=BINS)
    light: Light | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        for name in ("classes", "novelty", "confidence"):
            counts = getattr(self, name)
            if counts and sum(counts) != self.count:
                raise ValueError(f"{name} add up to {sum(counts)}, needs {self.count}, the frames of the sketch")
        bound = int(CLIP * UNITS) * self.count
        if any(abs(one) > bound for one in self.sums):
            raise ValueError(f"a sum is over {bound}, more than {self.count} frames can make")
        if self.light is not None:
            looked, brightness, contrast = self.light
            most = BRIGHTNESS_UNITS * looked, int(CONTRAST_MAX * UNITS) * looked
            if not (1 <= looked <= self.count and 0 <= brightness <= most[0] and 0 <= contrast <= most[1]):
                raise ValueError(f"light {self.light} is not of 1 to {self.count} frames, or more than they can make")
        return self

    def __add__(self, other: DaySketch) -> DaySketch:
        """The sketch of the frames of both; a part that only one has, or that differs in length, is left out.

        Raises:
            NotValid: the two hold more frames than a sketch may.
        """
        if self.count + other.count > COUNT_MAX:
            raise NotValid(
                f"two sketches hold {self.count + other.count} frames, a sketch holds {COUNT_MAX} at most",
                code="sketch_too_large",
            )
        return DaySketch(
            count=self.count + other.count,
            sums=_added(self.sums, other.sums),
            classes=_added(self.classes, other.classes),
            novelty=_added(self.novelty, other.novelty),
            confidence=_added(self.confidence, other.confidence),
            light=_lit(self.light, other.light),
        )

    def encode(self) -> bytes:
        """Its bytes, 20 to SKETCH_BYTES_MAX; what does not fit is left out: confidence, then classes, then novelty."""
        left = self
        for name in ("confidence", "classes", "novelty"):
            made = _bytes(left)
            if len(made) <= SKETCH_BYTES_MAX:
                return made
            left = left.model_copy(update={name: ()})
        return _bytes(left)

    def text(self) -> str:
        """Its bytes in base64 without padding."""
        return base64.b64encode(self.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, data: bytes) -> DaySketch:
        """The sketch of such bytes.

        Raises:
            NotValid: they are none, are cut, or do not hold together.
        """
        if not 4 < len(data) <= SKETCH_BYTES_MAX or data[0] not in (VERSION, VERSION_WITH_LIGHT):
            raise NotValid(
                f"{len(data)} bytes of version {data[0] if data else 'none'} are no sketch; needs version {VERSION} or "
                f"{VERSION_WITH_LIGHT} and at most {SKETCH_BYTES_MAX} bytes",
                code="sketch_invalid",
            )
        lit = 3 if data[0] == VERSION_WITH_LIGHT else 0
        lengths = data[1], data[2] >> 4, data[2] & 15
        if lengths[0] > CLASSES_MAX or lengths[1] > STEPS or lengths[2] > BINS:
            raise NotValid(f"a sketch of {lengths} counts; it has too many", code="sketch_invalid")
        numbers = _numbers(data[3:], 1 + DIMENSIONS + sum(lengths) + lit)
        at = 1 + DIMENSIONS
        parts = []
        for length in lengths:
            parts.append(tuple(numbers[at : at + length]))
            at += length
        try:
            return cls(
                count=numbers[0],
                sums=tuple(_unfolded(one) for one in numbers[1 : 1 + DIMENSIONS]),
                classes=parts[0],
                novelty=parts[1],
                confidence=parts[2],
                light=(numbers[at], numbers[at + 1], numbers[at + 2]) if lit else None,
            )
        except ValueError as error:
            raise NotValid(f"a sketch does not hold together: {error}", code="sketch_invalid") from error

    @classmethod
    def of_text(cls, text: str) -> DaySketch:
        """The sketch of `text()`; raises as `decode` does."""
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise NotValid(f"{text[:40]!r} is no base64 of a sketch", code="sketch_invalid") from error
        return cls.decode(data)


def _added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True)) if len(one) == len(other) else ()


def _lit(one: Light | None, other: Light | None) -> Light | None:
    """The light of both; where only one of them has any, that of some of the frames is the light of some."""
    if one is None or other is None:
        return one or other
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _bytes(sketch: DaySketch) -> bytes:
    version = VERSION if sketch.light is None else VERSION_WITH_LIGHT
    head = bytes((version, len(sketch.classes), len(sketch.novelty) << 4 | len(sketch.confidence)))
    numbers = [sketch.count, *map(_folded, sketch.sums), *sketch.classes, *sketch.novelty, *sketch.confidence]
    numbers += sketch.light or ()
    return head + b"".join(map(_varint, numbers))


def _folded(number: int) -> int:
    """Small numbers of either sign as small ones of none, as protobuf's zigzag does."""
    return number << 1 if number >= 0 else (-number << 1) - 1


def _unfolded(number: int) -> int:
    return (number >> 1) ^ -(number & 1)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, as protobuf writes them."""
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)


def _numbers(data: bytes, count: int) -> list[int]:
    found, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(number)
            number = shift = 0
        elif shift > 63:
            raise NotValid("a number of a sketch does not end", code="sketch_invalid")
    if shift or len(found) != count:
        raise NotValid(f"a sketch has {len(found)} numbers, needs {count}", code="sketch_invalid")
    return found
