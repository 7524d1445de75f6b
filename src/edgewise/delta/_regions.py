"""What the encoder knows of a file: which byte ranges hold numbers, and of which type."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from mmap import mmap

from edgewise.delta._numbers import NumberType

ByteData = bytes | bytearray | memoryview | mmap


class RegionKind(Enum):
    """How the bytes of a region are to be read."""

    LITERAL = "literal"  # anything: graph structure, names, unknown formats
    TENSOR = "tensor"  # an array of numbers, little-endian, nothing between them
    TAGGED_FLOATS = "tagged floats"  # a tag byte before each float32 (Protocol Buffers, repeated and not packed)
    TAGGED_INTEGERS = "tagged integers"  # a tag byte before each varint (likewise)


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """One byte range of a file.

    Attributes:
        start, stop: the range, in bytes.
        name: what the region is called in its format; the encoder pairs regions of two versions by it.
        number_type: of a TENSOR; None elsewhere.
        channels: of a TENSOR: size of its first axis, the output channels; 1 where there is only one axis.
    """

    start: int
    stop: int
    kind: RegionKind
    name: str = ""
    number_type: NumberType | None = None
    channels: int = 1

    @property
    def size_bytes(self) -> int:
        """Length of the range."""
        return self.stop - self.start


def with_literals(regions: list[Region], size_bytes: int) -> list[Region]:
    """The same regions in order with literal regions in every gap, so that they cover the file once.

    Raises:
        ValueError: two regions overlap, or one ends behind the file.
    """
    covered: list[Region] = []
    position = 0
    for region in sorted(regions, key=lambda each: each.start):
        if region.start < position or region.stop > size_bytes:
            raise ValueError("regions overlap")
        if region.start > position:
            covered.append(Region(start=position, stop=region.start, kind=RegionKind.LITERAL))
        covered.append(region)
        position = region.stop
    if position < size_bytes:
        covered.append(Region(start=position, stop=size_bytes, kind=RegionKind.LITERAL))
    return covered
