"""Pairs regions of two versions of a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgewise.delta._numbers import NumberType
from edgewise.delta._regions import Region, RegionKind


class Partners:
    """Finds the region of the base that a region of the target was probably made from."""

    def __init__(self, base: Sequence[Region], target: Sequence[Region]) -> None:
        self._named: dict[object, Region] = {}
        for region in base:
            self._named.setdefault(_name(region), region)
        self._placed = dict(_in_places(base))
        self._place_of = {region.start: place for place, region in _in_places(target)}

    def find(self, region: Region) -> Region | None:
        """The region of the same name and type, else the one at the same place among those of its type and size."""
        named = self._named.get(_name(region))
        if named is not None and (region.kind is not RegionKind.TENSOR or named.size_bytes == region.size_bytes):
            return named
        return self._placed.get(self._place_of.get(region.start))


def _name(region: Region) -> tuple[str, RegionKind, NumberType | None]:
    return region.name, region.kind, region.number_type


def _in_places(regions: Sequence[Region]) -> Iterator[tuple[object, Region]]:
    """Tensors with their place: type, size and how many like it came before."""
    counts: dict[object, int] = {}
    for region in regions:
        if region.kind is RegionKind.TENSOR:
            sort = (region.number_type, region.size_bytes, region.channels)
            counts[sort] = counts.get(sort, 0) + 1
            yield (sort, counts[sort]), region


def pairs(base: Sequence[Region], target: Sequence[Region]) -> Iterator[tuple[Region, Region]]:
    """Tensors of the target, each with its partner of the same size in the base."""
    partners = Partners(base, target)
    for region in target:
        partner = partners.find(region) if region.kind is RegionKind.TENSOR else None
        if partner is not None:
            yield partner, region
