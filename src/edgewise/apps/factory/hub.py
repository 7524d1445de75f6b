"""The factory's page on the console: a pure function from the hub's numbers to blocks that one generic page draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One thing on the page.

    Attributes:
        kind: `number` shows `rows[0]` large, `table` shows all rows under `columns`, `text` the rows as paragraphs.
        columns: names of the columns of a table.
    """

    kind: Literal["number", "table", "text"]
    title: str
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantNumbers:
    """What the hub knows about one plant in the window that the page shows.

    Attributes:
        decisions: by label.
        rejected: decisions that took a part out.
        labelled, wrong: samples that a person labelled, and those whose decision was another label.
    """

    plant: str
    decisions: Mapping[str, int]
    rejected: int
    labelled: int
    wrong: int
    release: str | None


def blocks(plants: Sequence[PlantNumbers], *, good_labels: Sequence[str]) -> tuple[Block, ...]:
    """The page: totals, one row a plant, and the defects that were found.

    >>> north = PlantNumbers(plant="north", decisions={"none": 90, "crack": 10}, rejected=9, labelled=4, wrong=1,
    ...                      release="surface-inspection@3")
    >>> [block.title for block in blocks([north], good_labels=["none"])]
    ['Parts decided on', 'Plants', 'Defects found']
    >>> blocks([north], good_labels=["none"])[1].rows
    (('north', 'surface-inspection@3', '100', '9.0 %', '1 of 4'),)
    """
    total = sum(sum(one.decisions.values()) for one in plants)
    return (
        Block(kind="number", title="Parts decided on", rows=((str(total),),)),
        Block(
            kind="table",
            title="Plants",
            columns=("plant", "release", "decisions", "taken out", "wrong of those labelled"),
            rows=tuple(_plant_row(one) for one in plants),
        ),
        Block(
            kind="table",
            title="Defects found",
            columns=("plant", "defect", "parts"),
            rows=_defects(plants, good_labels),
        ),
    )


def _plant_row(one: PlantNumbers) -> tuple[str, ...]:
    total = sum(one.decisions.values())
    share = f"{100 * one.rejected / total:.1f} %" if total else "–"
    return (one.plant, one.release or "–", str(total), share, f"{one.wrong} of {one.labelled}")


def _defects(plants: Sequence[PlantNumbers], good_labels: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """(plant, defect, parts), most frequent first within a plant."""
    return tuple(
        (one.plant, label, str(count))
        for one in plants
        for label, count in sorted(one.decisions.items(), key=lambda item: (-item[1], item[0]))
        if label not in good_labels and count
    )
